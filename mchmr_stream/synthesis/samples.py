"""What the generator yields: a picture and what is known exactly of everyone in it."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mchmr_stream.datatypes import Float
from mchmr_stream.geometry.camera import Intrinsics


@dataclass(frozen=True, eq=False)
class PersonLabel:
    """One person. Camera axes are those of `mchmr_stream.datatypes`: OpenCV, metres."""

    rotations: Float
    """(24, 3, 3): root in camera axes, each other joint relative to its parent"""
    betas: Float
    """(10,) of the shipped free body"""
    betas_exact: bool
    """False where bones were stretched, as in sets of before: then `joints_m` are the truth and the betas' joints differ a little"""
    transl: Float
    """(3,) m, SMPL's: posed pelvis = rest pelvis(betas) + transl"""
    joints_m: Float
    """(24, 3) the true joints"""
    joints_px: Float
    """(24, 2)"""
    keypoints_px: Float
    """(17, 3): COCO's keypoints (joints, and nose, eyes, ears on the skin); third number 1 where seen, 0 where hidden or outside"""
    box_xyxy_px: Float
    """(4,) of everything drawn of the person inside the picture, hidden or not"""
    visible_fraction: float
    """of the silhouette inside the picture, how much is not hidden by someone or something else"""
    truncated_fraction: float
    """of the skin's area, how much lies outside the picture"""
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
    """the picture as it would come from a camera, compressed; decode this, so that its artefacts are seen"""
    width: int
    height: int
    intrinsics: Intrinsics
    people: tuple[PersonLabel, ...]
    background: str
    shot: str

    def rgb(self) -> np.ndarray:
        """(height, width, 3) uint8."""
        with Image.open(io.BytesIO(self.jpeg)) as picture:
            return np.array(picture.convert("RGB"))
