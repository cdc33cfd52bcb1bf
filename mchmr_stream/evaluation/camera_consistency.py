"""Consistency of the V crop cameras of a person (arXiv 2402.02074, section 3.3).

Each crop view gives a translation. Their spread, in units of depth, is what the camera consistency loss minimises; it does not show
whether their mean is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.config import CropSettings, settings_from
from mchmr_stream.cropping.crop_layouts import layout
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.evaluation.results import Results, Row, Table
from mchmr_stream.evaluation.synthetic_predictions import SyntheticPredictions
from mchmr_stream.motion.motion import Motion, load

Array = NDArray[np.floating]


def averaged(transl_m: Array) -> NDArray[np.float64]:
    """Average (N, V, 3) translations of the views to (N, 3) by bearing and log depth, as `placing.place_in_image` does."""
    positive = np.maximum(np.asarray(transl_m, np.float64), [-np.inf, -np.inf, 1e-3])
    depth = np.exp(np.log(positive[..., 2]).mean(1, keepdims=True))
    bearing = (positive[..., :2] / positive[..., 2:]).mean(1)
    return np.concatenate([bearing * depth, depth], -1)


def camera_spread(transl_m: Array) -> NDArray[np.float64]:
    """Spread of (N, V, 3) translations -> (N,): root mean square distance from their mean, divided by its depth. 0 for V = 1."""
    middle = transl_m.mean(1, keepdims=True)
    return np.sqrt(np.square(transl_m - middle).sum(-1).mean(1)) / middle[:, 0, 2]


def depth_spread(depth: Array) -> NDArray[np.float64]:
    """Standard deviation of (N, V) depths, in any unit, divided by their mean -> (N,)."""
    return depth.std(1) / depth.mean(1)


def evaluate_predictions(predictions: SyntheticPredictions) -> Results:
    """Compute the table `consistency`: translations and depths of rendered people that the detector found."""
    found = predictions.truth["found"] > 0
    rows: Table = {}
    for kind, bodies in predictions.predicted.items():
        transl = bodies["transl_m"][found]
        rows[f"translation, {kind}"] = _row(camera_spread(transl))
        rows[f"depth alone, {kind}"] = _row(depth_spread(transl[..., 2]))
    return Results("consistency", predictions.about, {"consistency": rows})


def evaluate_files(files: Sequence[Path]) -> Results:
    """Compute the table `consistency`: the spread of the depths in files of `mchmr video`.

    Such a file holds the views' cameras but not the crops' positions, so translations cannot be compared. Depths can: a view's depth is
    2 f / (b s), its side b is the layout's scale times the base side, and base side and focal length f are the same for all views of a
    person. So the depths, up to a common factor, are 1 / (scale x s).
    """
    rows: Table = {}
    weights: dict[str, str] = {}
    for file in files:
        motion = load(file)
        weights[motion.weights_sha256] = motion.weights
        rows[f"depth alone, {file}"] = _row(_depth_spread_of(motion, file))
    return Results("consistency", {"weights": " ".join(weights.values()), "weights_sha256": " ".join(weights)}, {"consistency": rows})


def _depth_spread_of(motion: Motion, file: Path) -> NDArray[np.float64]:
    crops = _crop_settings(motion, file)
    views = layout(crops.layout, crops.views, crops.custom).views
    found = [np.zeros(0)]
    for track in motion.tracks.values():
        cameras = track.views_cam[~track.interpolated]
        if cameras.shape[1] != len(views):
            raise InputError(f"{file} has {cameras.shape[1]} cameras a person, but its settings speak of {len(views)} views")
        found.append(depth_spread(1 / (views[:, 2] * cameras[..., 0])))
    return np.concatenate(found)


def _crop_settings(motion: Motion, file: Path) -> CropSettings:
    try:
        return settings_from({"crops": motion.settings.get("crops", {})}).crops
    except UsageError as error:
        raise InputError(f"{file}: its crop settings are those of another version: {error}") from error


def _row(spread: NDArray[np.float64]) -> Row:
    if not len(spread):
        return {"rows": 0.0}
    percent = spread * 100
    return {
        "median %": float(np.median(percent)),
        "mean %": float(percent.mean()),
        "p90 %": float(np.percentile(percent, 90)),
        "rows": float(len(percent)),
    }
