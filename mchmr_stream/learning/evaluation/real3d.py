"""Metrics of predictions on real views: nothing here runs a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mchmr_stream.learning.evaluation.real_predictions import Predicted, RealPredictions
from mchmr_stream.learning.evaluation.results import Results, Row, Table
from mchmr_stream.learning.metrics import LIMB_NAMES, LIMBS_IN_SMPL, centred_on_hips, per_joint_mm, pose_errors, right_points

SMPL_JOINTS = "SMPL joints instead of COCO's points"


def evaluate(predictions: RealPredictions) -> Results:
    """Tables `errors` (a row per camera and method, and the mean over cameras), `SMPL joints instead of COCO's points` (what the
    difference in definition makes) and `per joint, mm`."""
    methods = predictions.methods()
    errors: Table = {f"{one.view}: {one.method}": errors_row([one]) for one in predictions.predicted}
    errors |= {f"mean: {method}": errors_row(predictions.of(method)) for method in methods}
    own = [method for method in methods if np.isfinite(predictions.of(method)[0].joints_m).any()]
    smpl: Table = {
        f"mean: {method}": errors_row([_with_smpl_joints(one) for one in predictions.of(method)], pixels=False) for method in own
    }
    joints: Table = {name: {} for name in LIMB_NAMES}
    for method in methods:
        means = np.mean([_joint_means(one) for one in predictions.of(method)], axis=0)
        for name, value in zip(LIMB_NAMES, means.tolist(), strict=True):
            joints[name][method] = value
    about = predictions.about | {"frames": sum(len(one.target_m) for one in predictions.of(methods[0])) if methods else 0}
    tables = {"errors": errors, "per joint, mm": joints}
    return Results("real3d", about, tables | ({SMPL_JOINTS: smpl} if smpl else {}))


def _with_smpl_joints(clip: Predicted) -> Predicted:
    return replace(clip, limbs_m=clip.joints_m[:, list(LIMBS_IN_SMPL)])


def errors_row(clips: Sequence[Predicted], pixels: bool = True) -> Row:
    """Means over clips, each clip counting alike; PCK only where `pixels` belong to the same points."""
    errors = [pose_errors(one.limbs_m, one.target_m) for one in clips]
    mean = lambda name: float(np.mean([getattr(one, name) for one in errors]))
    right = lambda threshold: float(np.mean([right_points(one.limbs_px, one.target_px, threshold).mean() for one in clips])) * 100
    row = {
        "found %": mean("found") * 100,
        "MPJPE mm": mean("mpjpe"),
        "PA-MPJPE mm": mean("pa_mpjpe"),
        "accel mm/frame^2": mean("acceleration"),
    }
    return row | ({"PCK@0.1 %": right(0.1), "PCK@0.05 %": right(0.05)} if pixels else {})


def _joint_means(clip: Predicted) -> np.ndarray:
    """(12,) mm, both sides centred on the hips; NaN where nobody was ever found."""
    found = clip.found
    if not found.any():
        return np.full(len(LIMB_NAMES), np.nan)
    return per_joint_mm(centred_on_hips(clip.limbs_m[found]), centred_on_hips(clip.target_m[found])).mean(0)
