"""The record of one labelled person, independent of the data set, and the protocol of readers.

Conventions are those of `records`: pixels with the centre of the top-left one at (0, 0), OpenCV's camera axes, metres. Unknown labels
are marked by a flag or a confidence of 0, and the value is then zero, never NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datasets.points import POINT_COUNT
from mchmr_stream.datatypes import Float
from mchmr_stream.geometry.camera import Intrinsics

Gender = Literal["female", "male", "neutral"]
BodyKind = Literal["smpl", "smplx", "free"]


def _zeros(*shape: int) -> Float:
    return np.zeros(shape, np.float32)


@dataclass(frozen=True, eq=False)
class LabelledPerson:
    """Labels of one person in one picture."""

    dataset: str
    """short name: h36m, 3dhp, coco, mpii, 3dpw, bedlam, agora, or the user's own"""
    image: str
    """path of the picture below the data set's picture folder, with forward slashes"""
    centre_px: Float
    """(2,) of the person's box"""
    side_px: float
    """b of the base box: SPIN's `scale` times 200, about 1.2 times the longer side of the tight box. Crop views are laid out from it"""
    K: NDArray[np.float64] | None = None
    """(3, 3) in the pixels of the picture; None if only a focal length or nothing is known"""
    focal_px: float | None = None
    """used if K is None; the principal point is then the middle of the picture"""
    points_px: Float = field(default_factory=lambda: _zeros(POINT_COUNT, 3))
    """(48, 3): x, y, confidence in [0, 1], in the order of `points.POINT_NAMES`; confidence 0: not labelled"""
    points_m: Float = field(default_factory=lambda: _zeros(POINT_COUNT, 4))
    """(48, 4): x, y, z in camera axes, confidence. Their common position is arbitrary: align both sides before comparing"""
    pose: Float = field(default_factory=lambda: _zeros(24, 3))
    """(24, 3) axis-angle: global_orient in camera axes, then body_pose"""
    betas: Float = field(default_factory=lambda: _zeros(10))
    """(10,)"""
    transl_m: Float | None = None
    """(3,) SMPL's transl in the camera; None if the body's position is not known"""
    has_pose: bool = False
    has_betas: bool = False
    body: BodyKind = "smpl"
    """body model of pose and betas. SMPL-X has other betas than SMPL; pose is the same except for the hands"""
    gender: Gender = "neutral"
    """of the body model of the betas"""
    sequence: str = ""
    """frames of one sequence and person can be compared in time; empty for single pictures"""
    frame: int = 0
    person: int = 0
    """number of the person in the sequence"""

    @property
    def body_pose(self) -> Float:
        """Rotations of the joints without the root, (23, 3) axis-angle."""
        return self.pose[1:]

    @property
    def has_points_m(self) -> bool:
        """Whether any 3D point is labelled."""
        return bool((self.points_m[:, 3] > 0).any())

    def camera(self, width: int, height: int) -> Intrinsics:
        """Return the picture's camera: K if known; else the focal length, else sqrt(W^2 + H^2), with the principal point in the middle."""
        if self.K is not None:
            return Intrinsics.from_matrix(self.K)
        if self.focal_px is not None:
            return Intrinsics.from_focal(width, height, self.focal_px)
        return Intrinsics.assumed(width, height)


class LabelReader(Protocol):
    """Reader of one data set on disk. Labels are in memory, pictures are read on access; any order, any number of times.

    `label` and `image` may be called from several processes: a reader can be pickled and holds no open file.
    """

    name: str

    def __len__(self) -> int:
        """Return the number of people; one picture may hold several."""
        ...

    def label(self, index: int) -> LabelledPerson:
        """Return the labels of person `index`, 0 to len - 1. Never raises for a label that the data set lacks."""
        ...

    def image(self, index: int) -> NDArray[np.uint8]:
        """Read the full picture of that person: (height, width, 3) RGB.

        Raises:
            InputError: it is missing or damaged.
        """
        ...
