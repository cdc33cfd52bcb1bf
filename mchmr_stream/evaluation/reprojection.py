"""Distances of projected bodies from the detector's keypoints on any video. No ground truth is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.evaluation.results import Results, Row, Table
from mchmr_stream.evaluation.seen_people import EvaluatedPoints, points_of
from mchmr_stream.metrics.joint_errors import LIMBS_IN_COCO, LIMBS_IN_SMPL, mean_where
from mchmr_stream.motion.motion import Motion, Track, load

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

PARTS = {"face": (0, 1, 2, 3, 4), "arms": (5, 6, 7, 8, 9, 10), "legs": (11, 12, 13, 14, 15, 16)}
"""Keypoints of COCO: nose, eyes, ears; shoulders, elbows, wrists; hips, knees, ankles."""
GROUPS = ("whole body", "upper body", "half hidden")
VISIBLE_POINTS = "visible points"
_EVERYONE = "everyone"
_SHOULDERS, _KNEES_AND_ANKLES = (5, 6), (13, 14, 15, 16)
_WHOLE = (*_SHOULDERS, 11, 12, *_KNEES_AND_ANKLES)


def evaluate(files: Sequence[Path], min_score: float = 0.3) -> Results:
    """Compute the tables `reprojection` and `visible points`.

    `reprojection`: SMPL joints against each confident limb keypoint; a row per file, and one over all keypoints of all files when there
    are several. `visible points`: points of the body against the keypoints visible in the picture, grouped by how much of the person is
    visible; rows per file and group, and over all files when there are several.

    Args:
        files: npz files of `mchmr video`.
        min_score: least score of a keypoint.

    Raises:
        InputError: a file is not one of `mchmr video`, or was made with another version of the free body.
    """
    rows: Table = {}
    visible: Table = {}
    distances, points = [], []
    weights: dict[str, str] = {}
    for file in files:
        motion = load(file)
        weights[motion.weights_sha256] = motion.weights
        distances.append(distances_percent(motion, min_score))
        points.append(visible_distances(motion, min_score))
        rows[str(file)] = _row(distances[-1])
        visible |= _group_rows(str(file), *points[-1])
    if len(files) > 1:
        rows["all files"] = _row(np.concatenate(distances))
        visible |= _group_rows("all files", *(np.concatenate(parts) for parts in zip(*points, strict=True)))
    about = {"weights": " ".join(weights.values()), "weights_sha256": " ".join(weights), "min_score": min_score}
    return Results("reprojection", about, {"reprojection": rows, VISIBLE_POINTS: visible})


def distances_percent(motion: Motion, min_score: float) -> Array:
    """(keypoints,) distance of each confident limb keypoint from the projected joint, percent of the box's height."""
    found = [np.zeros(0)]
    for track in motion.tracks.values():
        keypoints = track.keypoints_px[:, list(LIMBS_IN_COCO)]
        joints = track.joints_px[:, list(LIMBS_IN_SMPL)]
        height = (track.box_xyxy_px[:, 3] - track.box_xyxy_px[:, 1])[:, None]
        distance = np.linalg.norm(joints - keypoints[..., :2], axis=-1) / height * 100
        found.append(distance[keypoints[..., 2] >= min_score])
    return np.concatenate(found)


def visible_distances(motion: Motion, min_score: float) -> tuple[Array, Mask]:
    """Distances of the body's points from the keypoints.

    Returns:
        (rows, 17) percent of the longer side of the person's box: COCO's points and the face's vertices of the free body; of another body
        the SMPL joints, and NaN for the face. (rows, 17) which keypoints are visible: of score `min_score` or more and inside of the
        picture.
    """
    body = points_of(motion)
    distances, visible = [np.zeros((0, 17))], [np.zeros((0, 17), np.bool_)]
    for track in motion.tracks.values():
        keypoints = track.keypoints_px.astype(np.float64)
        side = (track.box_xyxy_px[:, 2:] - track.box_xyxy_px[:, :2]).max(1).astype(np.float64)
        points = _points_px(motion, track, body)
        distances.append(np.linalg.norm(points - keypoints[..., :2], axis=-1) / side[:, None] * 100)
        # Pixel centres are integers: the picture reaches half a pixel farther.
        inside = (keypoints[..., :2] >= -0.5) & (keypoints[..., :2] <= [motion.width - 0.5, motion.height - 0.5])
        visible.append(inside.all(-1) & (keypoints[..., 2] >= min_score))
    return np.concatenate(distances), np.concatenate(visible)


def groups_of(visible: Mask) -> Mapping[str, Mask]:
    """Group rows by how much of the person is visible.

    Args:
        visible: (rows, 17) COCO's keypoints.

    Returns:
        (rows,) for each of `GROUPS`. `whole body`: shoulders, hips, knees and ankles are visible. `upper body`: both shoulders are, and
        no knee and no ankle. `half hidden`: every other row with a visible keypoint. A row without any is in no group.
    """
    whole_body = np.asarray(visible[:, list(_WHOLE)].all(1))
    upper = np.asarray(visible[:, list(_SHOULDERS)].all(1) & ~visible[:, list(_KNEES_AND_ANKLES)].any(1))
    return dict(zip(GROUPS, (whole_body, upper, np.asarray(visible.any(1)) & ~whole_body & ~upper), strict=True))


def _points_px(motion: Motion, track: Track, body: EvaluatedPoints) -> Array:
    """(rows, 17) COCO's points of the bodies, projected with the file's camera."""
    rotations = track.rotations
    face, limbs = body.face_m(rotations, track.betas, track.transl), body.limbs_m(track.joints_m, rotations)
    seen = np.concatenate([face, limbs], 1) @ motion.K.T
    return np.asarray(seen[..., :2] / seen[..., 2:], np.float64)


def _group_rows(name: str, distances: Array, visible: Mask) -> Table:
    groups = dict(groups_of(visible)) | {_EVERYONE: visible.any(1)}
    return {f"{name}: {group}": _parts_row(distances[rows], visible[rows]) for group, rows in groups.items()}


def _parts_row(distances: Array, visible: Mask) -> Row:
    """Mean over all visible points of each part, and their number."""
    counted = visible & np.isfinite(distances)
    row: Row = {"rows": float(len(distances))}
    for part, keypoints in PARTS.items():
        values, of_part = distances[:, list(keypoints)].ravel(), counted[:, list(keypoints)].ravel()
        row[f"{part} %"] = float(mean_where(values, of_part))
        row[f"{part} points"] = float(of_part.sum())
    return row


def _row(distances: Array) -> Row:
    if not len(distances):
        return {"keypoints": 0.0}
    return {
        "median %": float(np.median(distances)),
        "mean %": float(distances.mean()),
        "p90 %": float(np.percentile(distances, 90)),
        "keypoints": float(len(distances)),
    }
