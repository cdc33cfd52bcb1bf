"""Errors of predicted bodies, in millimetres, as the field computes them.

Joints are (frames, joints, 3) metres in camera axes. A frame without a prediction is NaN and is left out of the means;
`found` says how many there were.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LIMBS_IN_SMPL = (16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8)
"""Shoulders, elbows, wrists, hips, knees, ankles, left before right, among the 24 SMPL joints."""
LIMB_NAMES = (
    "left shoulder", "right shoulder", "left elbow", "right elbow", "left wrist", "right wrist",
    "left hip", "right hip", "left knee", "right knee", "left ankle", "right ankle",
)  # fmt: skip
LIMB_BONES = ((0, 1), (6, 7), (0, 6), (1, 7), (0, 2), (2, 4), (1, 3), (3, 5), (6, 8), (8, 10), (7, 9), (9, 11))
"""Pairs among the twelve limbs, to draw them."""
LIMBS_IN_COCO = (5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)
LIMBS_IN_BLAZEPOSE = (11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)
LEFT_HIP, RIGHT_HIP = 6, 7
"""Among the twelve limbs."""


@dataclass(frozen=True)
class PoseErrors:
    """Means over frames, mm; `acceleration` is per frame squared."""

    found: float
    """share of frames with a prediction"""
    mpjpe: float
    pa_mpjpe: float
    acceleration: float


def centred_on_hips(limbs: Array) -> Array:
    """(T, 12, 3) limbs relative to the middle of the hips."""
    return limbs - limbs[:, [LEFT_HIP, RIGHT_HIP]].mean(1, keepdims=True)


def similarity_aligned(points: Array, target: Array) -> Array:
    """Each frame's points moved, turned and scaled onto the target's (Procrustes, Umeyama 1991). (T, J, 3)."""
    middle_p, middle_t = points.mean(1, keepdims=True), target.mean(1, keepdims=True)
    p, t = points - middle_p, target - middle_t
    u, s, vt = np.linalg.svd(np.einsum("tja,tjb->tab", p, t))
    sign = np.ones_like(s)
    sign[:, 2] = np.sign(np.linalg.det(u @ vt))
    scale = (s * sign).sum(1) / np.maximum((p**2).sum((1, 2)), 1e-12)
    return scale[:, None, None] * (p @ ((u * sign[:, None]) @ vt)) + middle_t


def per_joint_mm(points: Array, target: Array) -> Array:
    """(T, J) distances in mm."""
    return np.linalg.norm(points - target, axis=-1) * 1e3


def errors_by_frame(predicted: Array, target: Array) -> tuple[Array, Array]:
    """(T, 12, 3) limbs -> MPJPE centred on the hips and PA-MPJPE of every frame, (T,) mm; NaN without a prediction."""
    ok = np.asarray(np.isfinite(predicted).all((1, 2)))
    centred, aligned = np.full(len(ok), np.nan), np.full(len(ok), np.nan)
    centred[ok] = per_joint_mm(centred_on_hips(predicted[ok]), centred_on_hips(target[ok])).mean(1)
    aligned[ok] = per_joint_mm(similarity_aligned(predicted[ok], target[ok]), target[ok]).mean(1)
    return centred, aligned


def right_points(points_px: Array, target_px: Array, threshold: float, counted: NDArray[np.bool_] | None = None) -> Array:
    """PCK of each frame, (T,): the share of points within `threshold` of the longer side of the box around all true points.

    `points_px`, `target_px` (T, J, 2); `counted` (T, J) leaves points out. A point without a prediction (NaN) is wrong; a frame
    of which nothing is counted is NaN.
    """
    counted = np.ones(points_px.shape[:2], np.bool_) if counted is None else counted
    side = (target_px.max(1) - target_px.min(1)).max(-1)
    with np.errstate(invalid="ignore"):  # NaN compares as False: wrong, as it should be
        right = np.linalg.norm(points_px - target_px, axis=-1) <= threshold * side[:, None]
    total = counted.sum(1)
    return np.where(total > 0, (right & counted).sum(1) / np.maximum(total, 1), np.nan)


def pose_errors(predicted: Array, target: Array) -> PoseErrors:
    """Errors of (T, 12, 3) limbs: MPJPE centred on the hips, PA-MPJPE, acceleration error over frames in sequence."""
    ok = np.asarray(np.isfinite(predicted).all((1, 2)))
    if not ok.any():
        return PoseErrors(0.0, float("nan"), float("nan"), float("nan"))
    p, t = centred_on_hips(predicted), centred_on_hips(target)
    run = ok[2:] & ok[1:-1] & ok[:-2]
    difference = p - t
    acceleration = np.linalg.norm(difference[2:] - 2 * difference[1:-1] + difference[:-2], axis=-1)[run] * 1e3
    aligned = similarity_aligned(predicted[ok], target[ok])
    return PoseErrors(
        float(ok.mean()),
        float(per_joint_mm(p[ok], t[ok]).mean()),
        float(per_joint_mm(aligned, target[ok]).mean()),
        float(acceleration.mean()) if len(acceleration) else float("nan"),
    )
