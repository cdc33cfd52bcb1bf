"""Rendered people (`mchmr synth`) as a data set of labelled pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datasets.labels import LabelledPerson
from mchmr_stream.datasets.points import POINT_COUNT, POINT_NAMES
from mchmr_stream.datatypes import KEYPOINT_NAMES
from mchmr_stream.errors import InputError
from mchmr_stream.geometry.rotation import axis_angle_from_matrix
from mchmr_stream.synthesis.samples import PersonLabel, SyntheticScene
from mchmr_stream.synthesis.shards import read_shards
from mchmr_stream.training.observations.observed_people import observable

_FACE = tuple(name for name in KEYPOINT_NAMES if name in POINT_NAMES and "shoulder" not in name and "hip" not in name)
_BOX_TO_BASE = 1.2


class SyntheticReader:
    """Reader of all sufficiently visible people in the shards of some folders. Pictures stay compressed in memory."""

    def __init__(self, folders: Sequence[Path], name: str = "synthetic") -> None:
        """Raises InputError if a folder holds no shards, or no visible person."""
        self.name = name
        self._people: list[tuple[SyntheticScene, PersonLabel]] = [
            (scene, person) for folder in folders for scene in read_shards(folder) for person in scene.people if observable(person)
        ]
        if not self._people:
            raise InputError(f"no person in {', '.join(map(str, folders))} is visible enough for training; render more people")

    def __len__(self) -> int:
        return len(self._people)

    def label(self, index: int) -> LabelledPerson:
        scene, person = self._people[index]
        low, high = person.box_xyxy_px[:2], person.box_xyxy_px[2:]
        width, height = (high - low).tolist()
        points_px, points_m = np.zeros((POINT_COUNT, 3), np.float32), np.zeros((POINT_COUNT, 4), np.float32)
        points_px[:24], points_m[:24] = np.c_[person.joints_px, np.ones(24)], np.c_[person.joints_m, np.ones(24)]
        for name in _FACE:
            points_px[POINT_NAMES.index(name)] = person.keypoints_px[KEYPOINT_NAMES.index(name)]
        return LabelledPerson(
            dataset=self.name, image=f"{scene.index:06d}.jpg", centre_px=((low + high) / 2).astype(np.float32),
            side_px=_BOX_TO_BASE * max(height, 4 / 3 * width), K=scene.intrinsics.matrix, points_px=points_px, points_m=points_m,
            pose=axis_angle_from_matrix(person.rotations.astype(np.float64)).astype(np.float32), betas=person.betas.astype(np.float32),
            has_pose=True, has_betas=person.betas_exact, body="free",
        )  # fmt: skip

    def image(self, index: int) -> NDArray[np.uint8]:
        return self._people[index][0].rgb()
