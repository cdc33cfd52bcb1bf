"""People detected in each frame of a video, in one form for the pipeline, for files of `mchmr video` and for MediaPipe."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from mchmr_stream.body.coco_points import coco_points
from mchmr_stream.body.face_points import face_points
from mchmr_stream.body.files import FREE_BODY, load_body
from mchmr_stream.body.model import BodyModel
from mchmr_stream.config import SourceSettings
from mchmr_stream.datatypes import Scene
from mchmr_stream.detection.mediapipe_detector import MediaPipeReference
from mchmr_stream.errors import InputError
from mchmr_stream.geometry.camera import Intrinsics, project
from mchmr_stream.metrics.joint_errors import LIMBS_IN_BLAZEPOSE, LIMBS_IN_SMPL
from mchmr_stream.motion.motion import Motion
from mchmr_stream.sources import open_source

Array = NDArray[np.float64]

FACE_IN_BLAZEPOSE = (0, 2, 5, 7, 8)
"""Nose, eyes, ears, left before right, among MediaPipe's 33 landmarks."""
_LEAST_SIDE_PX = 1.0


@dataclass(frozen=True, eq=False)
class SeenPeople:
    """The n people of one frame. NaN for values that a method does not provide."""

    limbs_m: Array
    """(n, 12, 3) COCO's points; camera axes for this pipeline, MediaPipe's own axes for MediaPipe"""
    limbs_px: Array
    """(n, 12, 2) this pipeline's points projected, or MediaPipe's picture landmarks"""
    joints_m: Array
    """(n, 24, 3) SMPL joints, camera axes"""
    joints_px: Array
    """(n, 24, 2)"""
    face_px: Array
    """(n, 5, 2) nose, eyes, ears"""
    confidence: Array
    """(n,)"""
    boxes_xyxy_px: Array
    """(n, 4)"""

    def __len__(self) -> int:
        return len(self.confidence)

    @property
    def size_wh_px(self) -> Array:
        """(n, 2) width and height of the boxes."""
        return np.maximum(self.boxes_xyxy_px[:, 2:] - self.boxes_xyxy_px[:, :2], _LEAST_SIDE_PX)

    @property
    def matched_px(self) -> Array:
        """(n, 12, 2) points used for matching: the SMPL joints where they exist, else the limbs."""
        joints = self.joints_px[:, list(LIMBS_IN_SMPL)]
        return np.where(np.isfinite(joints), joints, self.limbs_px)


class EvaluatedPoints:
    """COCO's points on bodies: the free body's own; for any other body (None) the SMPL joints, without a face."""

    def __init__(self, body: BodyModel | None) -> None:
        self._limbs, self._face = (None, None) if body is None else (coco_points(body), face_points(body))

    def limbs_m(self, joints_m: NDArray, rotations: NDArray) -> Array:
        """Compute the limbs: (n, 24, 3) joints and (n, 24, 3, 3) relative rotations -> (n, 12, 3)."""
        if self._limbs is None:
            return np.asarray(joints_m, np.float64)[:, list(LIMBS_IN_SMPL)]
        return self._limbs.place(joints_m, rotations)

    def face_m(self, rotations: NDArray, betas: NDArray, transl_m: NDArray) -> Array:
        """Compute nose, eyes and ears, (n, 5, 3); NaN where the body has no known face."""
        if self._face is None:
            return np.full((len(rotations), 5, 3), np.nan)
        return self._face.place(rotations, betas, transl_m)


def seen_in_scenes(scenes: Iterable[Scene], body: str) -> dict[int, SeenPeople]:
    """Collect the people of scenes by frame number; frames without people are left out.

    `body` is the body model's name or file.
    """
    points = EvaluatedPoints(load_body(body))
    found = {}
    for scene in scenes:
        bodies = scene.bodies
        if not len(scene):
            continue
        rotations = bodies.rotations
        limbs = points.limbs_m(scene.joints_m, rotations)
        face = points.face_m(rotations, bodies.betas, bodies.transl)
        found[scene.frame.index] = SeenPeople(
            limbs, project(limbs, scene.intrinsics), _float64(scene.joints_m), _float64(scene.joints_px), project(face, scene.intrinsics),
            _float64(bodies.confidence), _float64(bodies.boxes_xyxy_px),
        )  # fmt: skip
    return found


def seen_in_motion(motion: Motion) -> dict[int, SeenPeople]:
    """Collect the people of a file of `mchmr video`, as `seen_in_scenes` does.

    Raises:
        InputError: the file was made with another version of the free body.
    """
    camera = Intrinsics.from_matrix(motion.K)
    points = points_of(motion)
    by_frame: dict[int, list[SeenPeople]] = {}
    for track in motion.tracks.values():
        rotations = track.rotations
        limbs, face = points.limbs_m(track.joints_m, rotations), points.face_m(rotations, track.betas, track.transl)
        all_people = SeenPeople(
            limbs, project(limbs, camera), _float64(track.joints_m), _float64(track.joints_px), project(face, camera),
            _float64(track.confidence), _float64(track.box_xyxy_px),
        )  # fmt: skip
        for row, frame in enumerate(track.frame.tolist()):
            by_frame.setdefault(frame, []).append(SeenPeople(**{name: value[row : row + 1] for name, value in vars(all_people).items()}))
    return {frame: _together(people) for frame, people in by_frame.items()}


def points_of(motion: Motion) -> EvaluatedPoints:
    """Return the points of the body with which a file was made.

    Raises:
        InputError: that was another version of the free body.
    """
    if motion.body_model != FREE_BODY:
        return EvaluatedPoints(None)
    body = load_body(FREE_BODY)
    if motion.body_model_sha256 != body.sha256:
        raise InputError(
            f"the bodies were made with another version of the free body ({motion.body_model_sha256[:12]}), expected {body.sha256[:12]}; "
            "run `mchmr video` again"
        )
    return EvaluatedPoints(body)


def seen_by_mediapipe(video: Path, model: Path | None) -> dict[int, SeenPeople]:
    """Run MediaPipe on a video and collect its one person of each frame.

    The box is the one around its landmarks, clipped to the picture.

    Args:
        video: the video file.
        model: MediaPipe's model file; None for the one that ships.

    Raises:
        MissingPart: MediaPipe is not installed.
    """
    reference = MediaPipeReference(model)
    source = open_source(video, SourceSettings())
    found = {}
    try:
        for frame in source.frames():
            landmarks = reference.landmarks(frame.rgb, frame.time_s)
            if landmarks is None:
                continue
            world, picture = (_float64(one)[None] for one in landmarks)
            height, width = frame.rgb.shape[:2]
            corners = np.concatenate([picture[..., :2].min(1), picture[..., :2].max(1)], 1)
            found[frame.index] = SeenPeople(
                world[:, list(LIMBS_IN_BLAZEPOSE)], picture[:, list(LIMBS_IN_BLAZEPOSE), :2], np.full((1, 24, 3), np.nan),
                np.full((1, 24, 2), np.nan), picture[:, list(FACE_IN_BLAZEPOSE), :2], np.full(1, np.nan),
                corners.clip(0, [width - 1, height - 1, width - 1, height - 1]),
            )  # fmt: skip
    finally:
        source.close()
        reference.close()
    return found


def smoothed_alone(seen: dict[int, SeenPeople], frames: float) -> dict[int, SeenPeople]:
    """Smooth the points of a single person with a Gaussian of `frames`; gaps are closed up."""
    if not seen:
        return {}
    all_frames = _together(list(seen.values()))
    blur = lambda points: gaussian_filter1d(points, frames, axis=0, mode="nearest")
    all_frames = replace(all_frames, **{name: blur(getattr(all_frames, name)) for name in ("limbs_m", "limbs_px", "face_px")})
    rows = lambda row: {name: value[row : row + 1] for name, value in vars(all_frames).items()}
    return {frame: SeenPeople(**rows(row)) for row, frame in enumerate(seen)}


def _together(people: list[SeenPeople]) -> SeenPeople:
    return SeenPeople(**{name: np.concatenate([vars(one)[name] for one in people]) for name in vars(people[0])})


def _float64(values: NDArray) -> Array:
    return np.asarray(values, np.float64)
