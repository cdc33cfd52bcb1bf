"""Errors of predicted joints in millimetres, as defined in the field.

Joints are (frames, joints, 3) metres in camera axes. A frame without a prediction is NaN and is left out of the means; `found` is the
share of frames with a prediction. `valid` (frames, joints) marks joints with ground truth; None marks all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

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
LEFT_SHOULDER, RIGHT_SHOULDER = 0, 1
"""Among the twelve limbs."""
LEFT_HIP, RIGHT_HIP = 6, 7
"""Among the twelve limbs."""
LEAST_LIMBS = 4
"""Least number of valid limbs (of twelve) for a frame to count."""
LEAST_ALIGNED = 5
"""Least number of points for a similarity alignment; fewer points fit almost anything."""


@dataclass(frozen=True)
class PoseErrors:
    """Mean errors over frames in mm; `acceleration` in mm per frame squared."""

    found: float
    """share of the counted frames that have a prediction"""
    mpjpe: float
    pa_mpjpe: float
    acceleration: float


def centred_on_hips(limbs: Array) -> Array:
    """Subtract the middle of the hips from (T, 12, 3) limbs."""
    return limbs - limbs[:, [LEFT_HIP, RIGHT_HIP]].mean(1, keepdims=True)


def anchored(limbs: Array, valid: Mask) -> Array:
    """Subtract the middle of the hips, or of the shoulders where a hip is not valid.

    Args:
        limbs: (T, 12, 3) m.
        valid: (T, 12) which limbs are valid.

    Returns:
        (T, 12, 3) m; NaN in frames where neither pair is valid.
    """
    hips, shoulders = _anchors(valid)
    hip, shoulder = (limbs[:, list(pair)].mean(1) for pair in (_HIPS, _SHOULDERS))
    middle = np.where(hips[:, None], hip, np.where(shoulders[:, None], shoulder, np.nan))
    return limbs - middle[:, None]


def similarity_aligned(points: Array, target: Array, valid: Mask | None = None) -> Array:
    """Align each frame's points to the target with a similarity transform (Procrustes, Umeyama 1991).

    Args:
        points: (T, J, 3) predicted points.
        target: (T, J, 3) true points.
        valid: (T, J) points that take part in the fit; the others are only transformed. None for all.

    Returns:
        (T, J, 3) rotated, scaled and translated points.
    """
    weight = np.ones(points.shape[:2]) if valid is None else valid.astype(np.float64)
    total = np.maximum(weight.sum(1), 1)[:, None, None]
    fitted, known = (np.where(weight[..., None] > 0, one, 0) for one in (points, target))
    middle_p, middle_t = fitted.sum(1, keepdims=True) / total, known.sum(1, keepdims=True) / total
    p, t = ((one - middle) * weight[..., None] for one, middle in ((fitted, middle_p), (known, middle_t)))
    u, s, vt = np.linalg.svd(np.einsum("tja,tjb->tab", p, t))
    sign = np.ones_like(s)
    sign[:, 2] = np.sign(np.linalg.det(u @ vt))
    scale = (s * sign).sum(1) / np.maximum((p**2).sum((1, 2)), 1e-12)
    return scale[:, None, None] * ((points - middle_p) @ ((u * sign[:, None]) @ vt)) + middle_t


def per_joint_mm(points: Array, target: Array) -> Array:
    """Distances in mm, (T, J), of points in metres."""
    return np.linalg.norm(points - target, axis=-1) * 1e3


def mean_where(values: Array, counted: Mask, axis: int = -1) -> Array:
    """Mean of the counted values along an axis; NaN where none is counted."""
    total = counted.sum(axis)
    return np.where(total > 0, np.where(counted, values, 0).sum(axis) / np.maximum(total, 1), np.nan)


def errors_by_frame(predicted: Array, target: Array, valid: Mask | None = None) -> tuple[Array, Array]:
    """Compute MPJPE and PA-MPJPE of each frame.

    Args:
        predicted: (T, 12, 3) limbs, m; NaN in a frame without a prediction.
        target: (T, 12, 3) m.
        valid: (T, 12) which of `target` are known; None for all.

    Returns:
        (T,) mm with both sides `anchored`, and (T,) mm after a similarity of the valid joints. NaN without a prediction, where
        less than `LEAST_LIMBS` are valid, and, of the second, where less than `LEAST_ALIGNED` are.
    """
    valid = np.ones(target.shape[:2], np.bool_) if valid is None else valid
    ok = _compared(predicted, valid)
    centred, aligned = np.full(len(ok), np.nan), np.full(len(ok), np.nan)
    p, t, v = predicted[ok], np.where(valid[..., None], target, np.nan)[ok], valid[ok]
    centred[ok] = mean_where(per_joint_mm(anchored(p, v), anchored(t, v)), v & np.logical_or(*_anchors(v))[:, None])
    fitted = mean_where(per_joint_mm(similarity_aligned(p, t, v), t), v)
    aligned[ok] = np.where(v.sum(1) >= LEAST_ALIGNED, fitted, np.nan)
    return centred, aligned


def joint_means_mm(predicted: Array, target: Array, valid: Mask | None = None) -> Array:
    """Compute the mean error of each limb.

    Args:
        predicted: (T, 12, 3) limbs, m; NaN in a frame without a prediction.
        target: (T, 12, 3) m.
        valid: (T, 12) which of `target` are known; None for all.

    Returns:
        (12,) mm, both sides `anchored`. NaN for a joint that was never compared.
    """
    valid = np.ones(target.shape[:2], np.bool_) if valid is None else valid
    ok = _compared(predicted, valid)
    distances = per_joint_mm(anchored(predicted[ok], valid[ok]), anchored(target[ok], valid[ok]))
    return mean_where(distances, valid[ok] & np.isfinite(distances), axis=0)


def right_points(points_px: Array, target_px: Array, threshold: float, counted: Mask | None = None) -> Array:
    """Compute the share of correct keypoints (PCK) of each frame.

    Args:
        points_px: (T, J, 2) predicted points. A point without a prediction (NaN) is wrong.
        target_px: (T, J, 2) true points. NaN points do not extend the box.
        threshold: largest distance of a correct point, as a share of the longer side of the box around all true points.
        counted: (T, J) points that count; None for all.

    Returns:
        (T,) share of correct points; NaN where no point counts.
    """
    counted = np.ones(points_px.shape[:2], np.bool_) if counted is None else counted
    known = np.isfinite(target_px)
    side = (np.where(known, target_px, -np.inf).max(1) - np.where(known, target_px, np.inf).min(1)).max(-1)
    with np.errstate(invalid="ignore"):  # A comparison with NaN is False: the point counts as wrong.
        right = np.linalg.norm(points_px - target_px, axis=-1) <= threshold * side[:, None]
    total = counted.sum(1)
    return np.where(total > 0, (right & counted).sum(1) / np.maximum(total, 1), np.nan)


def pose_errors(predicted: Array, target: Array, valid: Mask | None = None, frame: NDArray[np.int64] | None = None) -> PoseErrors:
    """Compute mean errors over the frames of a clip.

    Args:
        predicted: (T, 12, 3) limbs, m; NaN in a frame without a prediction.
        target: (T, 12, 3) m.
        valid: (T, 12) which of `target` are known; None for all. Frames with less than `LEAST_LIMBS` of them do not count.
        frame: (T,) numbers of the frames in the video; None for frames in a row.

    Returns:
        MPJPE with both sides `anchored`, PA-MPJPE, and the acceleration error: the mean length of the difference of second
        differences, over joints that are valid in three frames in a row with the same anchor.
    """
    valid = np.ones(target.shape[:2], np.bool_) if valid is None else valid
    counted = valid.sum(1) >= LEAST_LIMBS
    ok = _compared(predicted, valid)
    if not ok.any():
        return PoseErrors(0.0 if counted.any() else float("nan"), float("nan"), float("nan"), float("nan"))
    centred, aligned = errors_by_frame(predicted, target, valid)
    hips, shoulders = _anchors(valid)
    usable = ok & (hips | shoulders)
    run = usable[2:] & usable[1:-1] & usable[:-2] & (hips[2:] == hips[1:-1]) & (hips[1:-1] == hips[:-2])
    if frame is not None and len(frame) > 2:
        step = np.median(np.diff(frame))
        run &= (np.diff(frame)[1:] == step) & (np.diff(frame)[:-1] == step)
    difference = anchored(predicted, valid) - anchored(target, valid)
    second = np.linalg.norm(difference[2:] - 2 * difference[1:-1] + difference[:-2], axis=-1) * 1e3
    acceleration = mean_where(second, valid[2:] & valid[1:-1] & valid[:-2])[run]
    mean = lambda values: float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
    return PoseErrors(float(ok.sum() / counted.sum()), mean(centred), mean(aligned), mean(acceleration))


_HIPS, _SHOULDERS = (LEFT_HIP, RIGHT_HIP), (LEFT_SHOULDER, RIGHT_SHOULDER)


def _anchors(valid: Mask) -> tuple[Mask, Mask]:
    """For each frame (T,), (T,): whether both hips are valid, and whether both shoulders are."""
    hips, shoulders = (np.asarray(valid[:, list(pair)].all(1)) for pair in (_HIPS, _SHOULDERS))
    return hips, shoulders


def _compared(predicted: Array, valid: Mask) -> Mask:
    """(T,) frames that count and have a prediction."""
    return np.asarray(np.isfinite(predicted).all((1, 2))) & (valid.sum(1) >= LEAST_LIMBS)
