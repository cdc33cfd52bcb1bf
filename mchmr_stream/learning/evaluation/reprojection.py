"""How far projected bodies are from the detector's own keypoints, on any video: no ground truth is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.learning.evaluation.results import Results, Row, Table
from mchmr_stream.learning.metrics import LIMBS_IN_COCO, LIMBS_IN_SMPL
from mchmr_stream.motion import Motion, load


def evaluate(files: Sequence[Path], min_score: float = 0.3) -> Results:
    """A row per file, and one over all keypoints of all files when there are several."""
    rows: Table = {}
    distances = []
    weights: dict[str, str] = {}
    for file in files:
        motion = load(file)
        weights[motion.weights_sha256] = motion.weights
        distances.append(distances_percent(motion, min_score))
        rows[str(file)] = _row(distances[-1])
    if len(files) > 1:
        rows["all files"] = _row(np.concatenate(distances))
    about = {"weights": " ".join(weights.values()), "weights_sha256": " ".join(weights), "min_score": min_score}
    return Results("reprojection", about, {"reprojection": rows})


def distances_percent(motion: Motion, min_score: float) -> NDArray[np.float64]:
    """(keypoints,): distance of each confident limb keypoint from the projected joint, percent of the box's height."""
    found = [np.zeros(0)]
    for track in motion.tracks.values():
        keypoints = track.keypoints_px[:, list(LIMBS_IN_COCO)]
        joints = track.joints_px[:, list(LIMBS_IN_SMPL)]
        height = (track.box_xyxy_px[:, 3] - track.box_xyxy_px[:, 1])[:, None]
        distance = np.linalg.norm(joints - keypoints[..., :2], axis=-1) / height * 100
        found.append(distance[keypoints[..., 2] >= min_score])
    return np.concatenate(found)


def _row(distances: NDArray[np.float64]) -> Row:
    if not len(distances):
        return {"keypoints": 0.0}
    return {
        "median %": float(np.median(distances)),
        "mean %": float(distances.mean()),
        "p90 %": float(np.percentile(distances, 90)),
        "keypoints": float(len(distances)),
    }
