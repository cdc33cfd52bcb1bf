"""Metrics of stored predictions on rendered people. No network runs here."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from mchmr_stream.body.files import load_body
from mchmr_stream.datatypes import JOINT_NAMES
from mchmr_stream.evaluation.camera_consistency import averaged, camera_spread
from mchmr_stream.evaluation.results import Results, Row, Table
from mchmr_stream.evaluation.synthetic_predictions import KNOWN, UNKNOWN_FAMILY, Columns, SyntheticPredictions
from mchmr_stream.metrics.joint_errors import LIMBS_IN_SMPL, errors_by_frame, per_joint_mm, right_points
from mchmr_stream.metrics.surface_errors import body_mass_index, stature_m, vertex_error_mm

Mask = NDArray[np.bool_]
PerPerson = dict[str, NDArray[np.float64]]
"""Metric -> (N,), one value per person"""

_LEAST_DEPTH_M = 0.15
"""Joints nearer than this, or behind the camera, are projected at this depth."""
_MARGIN = 1.35
"""Side of the base box over the extent of the keypoints, in the layout used in training"""
_MEDIAN = ("depth error %",)
"""Metrics averaged by the median: a few people with a wrong depth would dominate a mean."""


def evaluate(predictions: SyntheticPredictions) -> Results:
    """Compute tables of errors: found and all people, known and assumed focal length, groups, joints, confidence."""
    truth = predictions.truth
    found = truth["found"] > 0
    errors: Table = {}
    joints: Table = {name: {} for name in JOINT_NAMES[1:]}
    measured = {kind: per_person(bodies, truth, assumed=kind != KNOWN) for kind, bodies in predictions.predicted.items()}
    for group, mask in (("found", found), ("all", np.ones_like(found))):
        for kind, values in measured.items():
            errors[f"{group}, {kind}"] = _row(values, mask)
            distances = per_joint_mm(*(part["joints_m"][mask].astype(np.float64) for part in (predictions.predicted[kind], truth)))
            for joint, name in enumerate(JOINT_NAMES):
                if name in joints:
                    joints[name][f"{group}, {kind}"] = float(distances[:, joint].mean()) if mask.any() else np.nan
    groups = {name: _row(measured[KNOWN], mask & found) for name, mask in _groups(predictions).items()}
    exact = truth["betas_exact"]
    about = predictions.about | {
        "found by the detector": int(found.sum()),
        "true betas exact": int(np.nansum(exact)) if np.isfinite(exact).any() else None,
    }
    sure = {f"found, {kind}": _confidence_row(predictions.predicted[kind], values, found) for kind, values in measured.items()}
    tables = {"errors": errors, "groups (found, known focal)": groups, "per joint, mm": joints, "confidence": sure}
    return Results("synthetic", about, tables)


def per_person(bodies: Columns, truth: Columns, *, assumed: bool) -> PerPerson:
    """Compute all metrics of each person.

    Args:
        bodies: predicted columns.
        truth: true columns.
        assumed: the prediction used the assumed focal length.
    """
    limbs = list(LIMBS_IN_SMPL)
    centred, aligned = errors_by_frame(bodies["joints_m"][:, limbs].astype(np.float64), truth["joints_m"][:, limbs].astype(np.float64))
    model = load_body("free")
    tensors = [torch.from_numpy(part[name]) for part in (bodies, truth) for name in ("rotations", "betas")]
    stature_error = stature_m(model, tensors[1]) - stature_m(model, tensors[3])
    place = averaged(bodies["transl_m"])
    used_focal = truth["assumed_focal_px" if assumed else "focal_px"]
    pixels = _projected(bodies["joints_m"][:, limbs] + place[:, None], used_focal)
    target = _projected(truth["joints_m"][:, limbs] + truth["pelvis_m"][:, None], truth["focal_px"])
    inside = truth["inside"] > 0
    return {
        "MPJPE mm": centred,
        "PA-MPJPE mm": aligned,
        "PVE mm": vertex_error_mm(model, *tensors),
        "stature cm": np.abs(stature_error) * 100,
        "stature bias cm": stature_error * 100,
        "PCK@0.1 %": right_points(pixels, target, 0.1, inside) * 100,
        "PCK@0.05 %": right_points(pixels, target, 0.05, inside) * 100,
        "depth error %": np.abs(place[:, 2] / truth["pelvis_m"][:, 2] - 1) * 100,
        "camera spread %": camera_spread(bodies["transl_m"]).astype(np.float64) * 100,
    }


def _projected(points_m: NDArray[np.floating], focal_px: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, J, 3) -> (N, J, 2) px from the principal point."""
    return np.asarray(points_m[..., :2] / np.maximum(points_m[..., 2:], _LEAST_DEPTH_M) * focal_px[:, None, None], np.float64)


def _row(values: PerPerson, mask: Mask) -> Row:
    row: Row = {"people": float(mask.sum())}
    for name, value in values.items():
        chosen = value[mask & np.isfinite(value)]
        mean = np.median if name in _MEDIAN else np.mean
        row[name] = float(mean(chosen)) if len(chosen) else np.nan
    return row


def _confidence_row(bodies: Columns, values: PerPerson, mask: Mask) -> Row:
    """Errors of the people with the highest and the lowest confidence: a measure of whether the network's confidence is useful."""
    expected, actual = bodies["sigma_m"].mean(1)[mask], values["MPJPE mm"][mask]
    quarter = len(expected) // 4
    if quarter == 0:
        return {"people": float(len(expected))}
    order = np.argsort(expected)
    return {
        "people": float(len(expected)),
        "rank correlation": float(spearmanr(expected, actual).statistic),
        "MPJPE mm, surest quarter": float(actual[order[:quarter]].mean()),
        "MPJPE mm, least sure quarter": float(actual[order[-quarter:]].mean()),
    }


def _groups(predictions: SyntheticPredictions) -> dict[str, Mask]:
    """Masks of people by group; each person is in one group of each kind."""
    truth = predictions.truth
    groups: dict[str, Mask] = {}

    def split(kind: str, value: NDArray, limits: tuple[float, ...], label: Callable[[float], str]) -> None:
        edges = (-np.inf, *limits, np.inf)
        for low, high in pairwise(edges):
            name = (
                f"under {label(high)}"
                if low == -np.inf
                else f"{label(low)} and more"
                if high == np.inf
                else f"{label(low)} to {label(high)}"
            )
            groups[f"{kind}: {name}"] = (value >= low) & (value < high)

    groups["truncation: none"] = truth["truncated"] < 0.01
    groups["truncation: under 25 %"] = (truth["truncated"] >= 0.01) & (truth["truncated"] < 0.25)
    groups["truncation: 25 % and more"] = truth["truncated"] >= 0.25
    split("size in the picture", truth["base_px"][:, 2] / _MARGIN, (150, 300, 450), lambda px: f"{px:.0f} px")
    groups |= {"sex: female": truth["female"] > 0, "sex: male": truth["female"] <= 0}
    for tone in np.unique(truth["skin_tone"]).tolist():
        groups[f"skin tone: {tone:.0f} (0 light, 5 dark)"] = truth["skin_tone"] == tone
    model, betas = load_body("free"), torch.from_numpy(truth["betas"])
    split("stature", stature_m(model, betas), (1.6, 1.8), lambda metres: f"{metres:.2f} m")
    split("body mass index", body_mass_index(model, betas), (20, 27), lambda index: f"{index:.0f}")
    exact = truth["betas_exact"]
    if np.isfinite(exact).any():
        groups |= {"bones: as the betas say": exact > 0, "bones: stretched, true betas fitted": exact <= 0}
    for family in sorted(set(predictions.family.tolist()) - {UNKNOWN_FAMILY}):
        groups[f"pose: {family}"] = predictions.family == family
    return groups
