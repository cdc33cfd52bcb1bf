"""Prediction of the invisible part of a person: behind a desk, behind another person, beyond the picture's border.

The keypoint networks are trained on crops that contain the whole body. In a crop around the visible half they place the other half inside
it. Invisible keypoints are therefore predicted from visible ones: a standing figure is fitted to the trunk and the head, in the size of the
visible bones, and the crop covers the whole figure. The part outside the picture is black.

All decisions are smooth functions of the keypoints' weights, so that boxes do not jump when a score crosses a threshold.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datatypes import KEYPOINT_NAMES

Array = NDArray[np.float64]

STANDING = np.array(
    [
        [0.0, 0.091], [0.018, 0.064], [-0.018, 0.064], [0.051, 0.066], [-0.051, 0.066], [0.101, 0.186], [-0.101, 0.186], [0.144, 0.351],
        [-0.144, 0.351], [0.18, 0.507], [-0.18, 0.507], [0.055, 0.466], [-0.055, 0.466], [0.081, 0.708], [-0.081, 0.708],
        [0.085, 0.944], [-0.085, 0.944],
    ]
)  # fmt: skip
"""(17, 2) COCO keypoints of the free body, standing, arms down, seen from the front, in statures: x to the body's left, y down from the
crown. A person who faces the camera has the left side at larger x.
"""

_index = KEYPOINT_NAMES.index
_FACE = [_index(name) for name in ("nose", "left_eye", "right_eye", "left_ear", "right_ear")]
_SHOULDERS, _HIPS = [_index("left_shoulder"), _index("right_shoulder")], [_index("left_hip"), _index("right_hip")]
_KNEES, _ANKLES = [_index("left_knee"), _index("right_knee")], [_index("left_ankle"), _index("right_ankle")]

_BONES = (
    (_FACE, _SHOULDERS), (_SHOULDERS, _HIPS), (_HIPS[:1], _KNEES[:1]), (_HIPS[1:], _KNEES[1:]), (_KNEES[:1], _ANKLES[:1]),
    (_KNEES[1:], _ANKLES[1:]), (_SHOULDERS[:1], _SHOULDERS[1:]),
)  # fmt: skip
"""From the middle of some keypoints to the middle of others."""
_BONE_SHARES = [float(np.linalg.norm(STANDING[start].mean(0) - STANDING[end].mean(0))) for start, end in _BONES]
_POWER = 8
"""Weight exponent of the statures of the bones: foreshortening only shortens a bone, so the longest count most."""
_PROFILE = 0.05
"""Width of the shoulders over the stature at which a person is halfway to profile."""
_LEAST_WEIGHT = 1e-3


def predicted_from_visible(points: Array, weights: Array) -> tuple[Array, Array]:
    """Predict invisible keypoints from a standing body.

    Args:
        points: (n, 17, 2), finite, in a plane in which the trunk points up (y down); any unit.
        weights: (n, 17) in [0, 1]: visibility of each keypoint.

    Returns:
        (n, 17, 2) keypoints: visible ones stay, invisible ones are predicted, with a linear mix in between. (n,) in [0, 1]: confidence in
        the prediction; 0 if neither head and shoulders nor hips are visible.
    """
    stature = _stature(points, weights)
    figure = STANDING * stature[:, None, None]
    figure[..., 0] *= _facing(points, weights, stature)[:, None]
    predicted = np.empty_like(points)
    anchors = _anchor_weights(weights)
    total = np.maximum(anchors.sum(1), _LEAST_WEIGHT)
    trunk = ((points - figure) * anchors[..., None]).sum(1) / total[:, None]
    predicted[:] = figure + trunk[:, None]
    # From the hips down each joint is placed below the one above it, which may be visible where the trunk is not.
    mixed = points.copy()
    above = None
    for joints in (_HIPS, _KNEES, _ANKLES):
        if above is not None:
            predicted[:, joints] = mixed[:, above] + figure[:, joints] - figure[:, above]
        seen = weights[:, joints, None]
        mixed[:, joints] = seen * points[:, joints] + (1 - seen) * predicted[:, joints]
        above = joints
    rest = _FACE + _SHOULDERS
    mixed[:, rest] = weights[:, rest, None] * points[:, rest] + (1 - weights[:, rest, None]) * predicted[:, rest]
    return mixed, _trust(weights, stature)


def _stature(points: Array, weights: Array) -> Array:
    """(n,) crown to sole: a soft maximum over the visible bones, each divided by its share of a standing body's height."""
    estimates, known = [], []
    for (start, end), share in zip(_BONES, _BONE_SHARES, strict=True):
        at_start, start_known = _middle(points, weights, start)
        at_end, end_known = _middle(points, weights, end)
        estimates.append(np.linalg.norm(at_start - at_end, axis=-1) / share)
        known.append(start_known * end_known)
    values, shares = np.stack(estimates, 1), np.stack(known, 1)
    relative = values / np.maximum(values.max(1, keepdims=True), 1e-9)
    pull = shares * relative**_POWER
    return np.asarray((values * pull).sum(1) / np.maximum(pull.sum(1), 1e-12))


def _middle(points: Array, weights: Array, joints: list[int]) -> tuple[Array, Array]:
    """Weighted mean of some keypoints (n, 2) and its visibility (n,)."""
    chosen = weights[:, joints]
    total = np.maximum(chosen.sum(1, keepdims=True), _LEAST_WEIGHT)
    middle = (points[:, joints] * chosen[..., None]).sum(1) / total
    # The face is known by any of its points, a pair of joints by both.
    known = chosen.max(1) if len(joints) > 2 else chosen.min(1)
    return middle, known


def _facing(points: Array, weights: Array, stature: Array) -> Array:
    """(n,) towards 1 facing the camera, towards -1 seen from behind, 0 in profile, by the order of the shoulders and hips."""
    wide = np.zeros(len(points))
    for left, right in (_SHOULDERS, _HIPS):
        wide += weights[:, left] * weights[:, right] * (points[:, left, 0] - points[:, right, 0])
    return wide / np.maximum(np.abs(wide) + _PROFILE * stature, 1e-9)


def _anchor_weights(weights: Array) -> Array:
    """(n, 17): weights of the fit. Shoulders and hips, and the face with a low weight, because heads lean."""
    anchors = np.zeros_like(weights)
    anchors[:, _SHOULDERS + _HIPS] = weights[:, _SHOULDERS + _HIPS]
    anchors[:, _FACE] = weights[:, _FACE] * 0.2
    return anchors


def _trust(weights: Array, stature: Array) -> Array:
    face, shoulders, hips = weights[:, _FACE].max(1), weights[:, _SHOULDERS].min(1), weights[:, _HIPS].min(1)
    legs = np.minimum(hips, weights[:, _KNEES].min(1))
    return np.where(stature > 0, np.maximum.reduce([face * shoulders, shoulders * hips, legs]), 0.0)
