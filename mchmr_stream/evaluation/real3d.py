"""Metrics of stored predictions on real clips. No network runs here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.evaluation.real_predictions import Predicted, RealPredictions
from mchmr_stream.evaluation.results import Results, Row, Table
from mchmr_stream.metrics.joint_angles import JOINTS, flexion_errors_deg
from mchmr_stream.metrics.joint_errors import (
    LEAST_LIMBS,
    LIMB_NAMES,
    LIMBS_IN_SMPL,
    joint_means_mm,
    mean_where,
    pose_errors,
    right_points,
)

SMPL_JOINTS = "SMPL joints instead of COCO's points"
ANGLES = "joint angles, degrees"


def evaluate(predictions: RealPredictions) -> Results:
    """Compute tables of errors with a row for each camera (and person) and method, and rows of means.

    Means are over the cameras of each session where there are several sessions, and over all cameras.

    Returns:
        `errors`: positions, in 3D and in the picture. `joint angles, degrees`. `SMPL joints instead of COCO's points` (the effect of the
        different joint definition; means only). `per joint, mm` has a row per joint and a column per method.
    """
    methods = predictions.methods()
    singles = {f"{one.label}: {one.method}": [one] for one in predictions.predicted}
    means = _means(predictions)
    own = {name: clips for name, clips in means.items() if any(np.isfinite(one.joints_m).any() for one in clips)}
    joints: Table = {name: {} for name in LIMB_NAMES}
    for method in methods:
        of_clips = np.array([joint_means_mm(one.limbs_m, one.target_m, one.valid) for one in predictions.of(method)])
        for name, value in zip(LIMB_NAMES, mean_where(of_clips, np.isfinite(of_clips), axis=0).tolist(), strict=True):
            joints[name][method] = value
    tables: dict[str, Table] = {
        "errors": {name: errors_row(clips) for name, clips in (singles | means).items()},
        ANGLES: {name: angles_row(clips) for name, clips in (singles | means).items()},
        "per joint, mm": joints,
    }
    if own:
        tables[SMPL_JOINTS] = {name: errors_row([_with_smpl_joints(one) for one in clips]) for name, clips in own.items()}
    frames = {one.view: len(one.frame) for one in predictions.predicted}
    return Results("real3d", predictions.about | {"frames": sum(frames.values())}, tables)


def errors_row(clips: Sequence[Predicted], pixels: bool = True) -> Row:
    """Compute means over clips with equal weights; picture errors only where `pixels` is True.

    `pixels` means that predicted and true pixels are of the same points.
    A clip without a value is left out of the mean of that column.
    """
    errors = [pose_errors(one.limbs_m, one.target_m, one.valid, one.frame) for one in clips]
    mean = lambda name: _mean([getattr(one, name) for one in errors])
    row = {
        "found %": mean("found") * 100,
        "MPJPE mm": mean("mpjpe"),
        "PA-MPJPE mm": mean("pa_mpjpe"),
        "accel mm/frame^2": mean("acceleration"),
    }
    if not pixels:
        return row
    limbs = lambda one: _percent_of_box(one.limbs_px, one.target_px, one.height_px)
    face = lambda one: _percent_of_box(one.face_px, one.target_face_px, one.height_px)
    columns: dict[str, Callable[[Predicted], float]] = {
        "PCK@0.1 %": lambda one: _right_percent(one, 0.1), "PCK@0.05 %": lambda one: _right_percent(one, 0.05),
        "2D face, % of box": face, "2D limbs, % of box": limbs,
    }  # fmt: skip
    return row | {name: _mean([column(one) for one in clips]) for name, column in columns.items()}


def angles_row(clips: Sequence[Predicted]) -> Row:
    """Compute bias and error of the flexion angles in degrees.

    The bias is the mean of predicted minus true flexion, the error the mean of its absolute value; means over clips as in `errors_row`.
    """
    errors = [flexion_errors_deg(_where_found(one), one.target_m) for one in clips]
    row: Row = {}
    for joint in JOINTS:
        row[f"{joint} bias"] = _mean([_mean(one[joint]) for one in errors])
        row[f"{joint} error"] = _mean([_mean(np.abs(one[joint])) for one in errors])
    return row


def _means(predictions: RealPredictions) -> dict[str, list[Predicted]]:
    """Clips to average over: each session's where there are several sessions, then all."""
    sessions = list(dict.fromkeys(one.session for one in predictions.predicted))
    rows: dict[str, list[Predicted]] = {}
    for session in sessions if len(sessions) > 1 else []:
        for method in predictions.methods():
            clips = [one for one in predictions.of(method) if one.session == session]
            if clips:
                rows[f"mean of {session}: {method}"] = clips
    return rows | {f"mean: {method}": predictions.of(method) for method in predictions.methods()}


def _with_smpl_joints(clip: Predicted) -> Predicted:
    limbs = list(LIMBS_IN_SMPL)
    return replace(clip, limbs_m=clip.joints_m[:, limbs], limbs_px=clip.joints_px[:, limbs])


def _where_found(clip: Predicted) -> NDArray[np.float64]:
    counted = clip.found & (clip.valid.sum(1) >= LEAST_LIMBS)
    return np.where(counted[:, None, None], clip.limbs_m, np.nan)


def _right_percent(clip: Predicted, threshold: float) -> float:
    valid = clip.valid
    counted = valid & (valid.sum(1) >= LEAST_LIMBS)[:, None]
    return _mean(right_points(clip.limbs_px, clip.target_px, threshold, counted)) * 100


def _percent_of_box(points_px: NDArray[np.float64], target_px: NDArray[np.float64], height_px: NDArray[np.float64]) -> float:
    """Mean distance of (T, J, 2) points over points, then over frames, in percent of the median height of the clip's boxes."""
    distance = np.linalg.norm(points_px - target_px, axis=-1)
    if not np.isfinite(height_px).any():
        return float("nan")
    return _mean(mean_where(distance, np.isfinite(distance))) / float(np.nanmedian(height_px)) * 100


def _mean(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Mean of the finite values; NaN without any."""
    array = np.asarray(values, np.float64)
    finite = array[np.isfinite(array)]
    return float(finite.mean()) if len(finite) else float("nan")
