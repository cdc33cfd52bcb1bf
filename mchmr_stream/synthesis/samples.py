"""Records of the generator: a picture and the exact labels of all people in it."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mchmr_stream.datatypes import Float
from mchmr_stream.geometry.camera import Intrinsics


@dataclass(frozen=True, eq=False)
class PersonLabel:
    """Labels of one person. Camera axes are those of `mchmr_stream.datatypes`: OpenCV, metres."""

    rotations: Float
    """(24, 3, 3): root in camera axes, each other joint relative to its parent"""
    betas: Float
    """(10,) of the shipped free body"""
    betas_exact: bool
    """False where bones were stretched, as in earlier sets: then `joints_m` are the truth and the betas' joints differ slightly"""
    transl: Float
    """(3,) m, SMPL's: posed pelvis = rest pelvis(betas) + transl"""
    joints_m: Float
    """(24, 3) the true joints"""
    joints_px: Float
    """(24, 2)"""
    keypoints_px: Float
    """(17, 3): COCO's keypoints (joints, and nose, eyes, ears on the skin); third number 1 where visible, 0 where occluded or outside"""
    box_xyxy_px: Float
    """(4,) of all drawn parts of the person inside the picture, occluded or not"""
    visible_fraction: float
    """share of the silhouette inside the picture that is not occluded"""
    truncated_fraction: float
    """share of the skin's area outside of the picture"""
    sex: str
    skin_tone: int
    """0 light to 5 dark"""
    outfit: str
    pose_clip: str
    """`source/clip` of the pose library"""
    pose_family: str
    mirrored: bool


@dataclass(frozen=True, eq=False)
class SyntheticScene:
    """One picture with 1 to N people."""

    index: int
    jpeg: bytes
    """the picture as compressed by a camera; decode this one, so that its artefacts are included"""
    width: int
    height: int
    intrinsics: Intrinsics
    people: tuple[PersonLabel, ...]
    background: str
    shot: str

    def rgb(self) -> np.ndarray:
        """Decode the picture to (height, width, 3) uint8."""
        with Image.open(io.BytesIO(self.jpeg)) as picture:
            return np.array(picture.convert("RGB"))
