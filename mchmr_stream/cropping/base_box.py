"""Base box of a person's views, from a track, and the roll of the crops.

Rotating a crop is exact: a picture rotated about its *principal point* is the picture of a camera rolled about its optical axis. The rolled
camera has the same focal length, so the network's cameras hold in it without approximation, and ``camera_from_rolled = Rz(roll)``
transforms bodies back. A rotation about the person's own centre would not be the view of any camera.

The rule `keypoints`, as in training: take the twelve limb joints and the nose, rotate them by -roll about the principal point, and put a
square of 1.35 times the longer extent around their bounds. Here keypoints may be missing or wrong, so every decision is a smooth function
of the keypoints' scores: boxes and angles of a video do not jump when a score crosses a threshold.
"""

from __future__ import annotations

import logging

import numpy as np

from mchmr_stream.cropping.crop_layouts import Layout
from mchmr_stream.cropping.whole_body import predicted_from_visible
from mchmr_stream.datatypes import KEYPOINT_NAMES, Float, Tracks
from mchmr_stream.geometry.camera import Intrinsics, plane_from_image, turn
from mchmr_stream.geometry.easing import smoothstep

log = logging.getLogger(__name__)

_BOX_POINTS = [KEYPOINT_NAMES.index(name) for name in KEYPOINT_NAMES if "eye" not in name and "ear" not in name]
_SHOULDERS = [KEYPOINT_NAMES.index("left_shoulder"), KEYPOINT_NAMES.index("right_shoulder")]
_HIPS = [KEYPOINT_NAMES.index("left_hip"), KEYPOINT_NAMES.index("right_hip")]

_PREDICTED = [i for i in _BOX_POINTS if "elbow" not in KEYPOINT_NAMES[i] and "wrist" not in KEYPOINT_NAMES[i]]
"""Keypoints predicted from a standing figure where they are invisible. Arms are excluded: they end within the body's square."""
_IS_PREDICTED = np.isin(np.arange(len(KEYPOINT_NAMES)), _PREDICTED)

_FADES_OUTSIDE = 0.05
"""Distance outside the picture over which a keypoint's weight decreases to 0, as a share of the longer side of the person's box."""

_SCORE_UNSEEN, _SCORE_SEEN = 0.1, 0.3
"""A keypoint has weight 0 below the first score and 1 above the second."""

_POINTS_NONE, _POINTS_ENOUGH = 6.0, 11.0
"""Sum of the keypoint weights: below the first value only the tracker's box decides, above the second only the keypoints."""

_TRUNK_SHORT, _TRUNK_LONG = 0.12, 0.35
"""Trunk length over the distance of the farthest keypoint from their middle. A foreshortened trunk is short and its direction is noise."""

KEYPOINTS_OVER_BOX = 0.82
"""Longer extent of the keypoints over the longer side of the tracker's box, which includes scalp, hands and feet.

Measured on MoveNet's boxes of fully visible people in three clips: medians 0.80 to 0.83.
"""

_MIN_SIDE_PX, _MAX_PX = 8.0, 1e5
_PAPER_ASPECT = 4 / 3


def base_boxes(
    tracks: Tracks, intrinsics: Intrinsics, layout: Layout, upright: bool = True, picture_wh: tuple[int, int] | None = None
) -> tuple[Float, Float]:
    """Compute the square that contains the whole person, including the part outside the picture.

    A person with neither a finite box nor a finite keypoint gets the smallest box at the principal point, with a warning; the crops then
    show no person, which the network reports as absence.

    Args:
        tracks: n people. `landmarks_px` decide, or the boxes where keypoints are too few.
        intrinsics: Camera of the picture.
        layout: Its rule `keypoints` or `box`, and its factor. Only layouts with the rule `keypoints` are rotated.
        upright: Rotate the plane so that the trunk points up.
        picture_wh: Width and height of the picture; keypoints outside it count as invisible. None: unknown.

    Returns:
        (n, 3) centre x, centre y and side in each person's rolled plane, sides at least 8 px; and the roll, (n,) radians.
    """
    if layout.base == "box":
        return _base_from_boxes(tracks.boxes_xyxy_px, intrinsics, layout), np.zeros(len(tracks), np.float32)
    points_px, weights = weighted(tracks.landmarks_px)
    inside = 1.0 if picture_wh is None else _within(points_px, tracks.boxes_xyxy_px, picture_wh)
    corners = plane_from_image(np.asarray(tracks.boxes_xyxy_px, np.float64).reshape(-1, 2, 2), intrinsics)
    base, roll = base_of_plane(plane_from_image(points_px, intrinsics), weights, weights * inside, corners, layout, tracks.up_rad, upright)
    return _usable(base), roll.astype(np.float32)


def base_of_plane(
    plane: np.ndarray,
    weights: np.ndarray,
    shown: np.ndarray,
    corners: np.ndarray,
    layout: Layout,
    up_rad: float = 0.0,
    upright: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Apply the rule `keypoints` to points of the plane.

    Args:
        plane: (n, 17, 2) keypoints, finite.
        weights: (n, 17) in [0, 1]: weight for the direction of the trunk.
        shown: (n, 17) in [0, 1]: weight for the extent; less than `weights` outside the picture.
        corners: (n, 2, 2) the tracker's box, top left and bottom right; arbitrary where unknown.
        layout: Its factor is used.
        up_rad: Up direction, for invisible trunks.
        upright: Rotate the plane so that the trunk points up.

    Returns:
        (n, 3) base boxes in each person's rolled plane, and the rolls (n,). Side 0 marks a person without any information.
    """
    roll = _roll(plane, weights, up_rad) if upright else np.zeros(len(plane))
    rolled = turn(plane, -roll[:, None])
    completed, whole = predicted_from_visible(rolled, shown)
    counted = shown.copy()
    counted[:, _PREDICTED] = np.maximum(counted[:, _PREDICTED], whole[:, None])
    mixed = np.where(_IS_PREDICTED[:, None], whole[:, None, None] * completed + (1 - whole[:, None, None]) * rolled, rolled)
    seen = counted[:, _BOX_POINTS]
    extent_centre, extent = _bounds(mixed[:, _BOX_POINTS], seen)

    box_extent = KEYPOINTS_OVER_BOX * abs(corners[:, 1] - corners[:, 0]).max(-1)
    # If the box is unusable only the keypoints count, however few, and vice versa.
    box_known = np.all(np.isfinite(corners), axis=(1, 2)) & (np.nan_to_num(box_extent) > 0)
    box_centre = turn(np.where(box_known[:, None], corners.mean(1), 0), -roll)
    trust = np.where(box_known, smoothstep(seen.sum(1), _POINTS_NONE, _POINTS_ENOUGH), extent > 0)
    centre = trust[:, None] * extent_centre + (1 - trust[:, None]) * box_centre
    side = layout.base_factor * (trust * extent + (1 - trust) * np.where(box_known, box_extent, 0))
    return np.concatenate([centre, side[:, None]], 1), roll


def _base_from_boxes(boxes_xyxy_px: Float, intrinsics: Intrinsics, layout: Layout) -> Float:
    """The paper's rule: centre of the box, side 1.2 * max(4/3 width, height)."""
    low, high = np.moveaxis(plane_from_image(np.asarray(boxes_xyxy_px, np.float64).reshape(-1, 2, 2), intrinsics), 1, 0)
    size = abs(high - low)
    side = layout.base_factor * np.maximum(_PAPER_ASPECT * size[:, 0], size[:, 1])
    return _usable(np.concatenate([(low + high) / 2, side[:, None]], 1))


def weighted(keypoints: Float) -> tuple[np.ndarray, np.ndarray]:
    """(n, 17, 3) -> finite positions (n, 17, 2) and weights (n, 17) in [0, 1]."""
    positions = np.asarray(keypoints[..., :2], np.float64)
    finite = np.all(np.isfinite(keypoints) & (abs(keypoints) < _MAX_PX), axis=-1)
    weights = np.where(finite, smoothstep(np.where(finite, keypoints[..., 2], 0), _SCORE_UNSEEN, _SCORE_SEEN), 0)
    return np.where(finite[..., None], positions, 0), weights


def _within(points_px: np.ndarray, boxes_xyxy_px: Float, picture_wh: tuple[int, int]) -> np.ndarray:
    """(n, 17, 2) -> (n, 17): 1 inside the picture, decreasing to 0 over a small share of the person's box outside."""
    outside = np.maximum(np.maximum(-points_px, points_px - (np.array(picture_wh) - 1)), 0).max(-1)
    size = np.nan_to_num(abs(boxes_xyxy_px[:, 2:] - boxes_xyxy_px[:, :2]).max(-1).astype(np.float64), nan=0.0, posinf=0.0)
    return (1 - outside / np.maximum(_FADES_OUTSIDE * size, 1)[:, None]).clip(0, 1)


def _roll(plane: np.ndarray, weights: np.ndarray, up_rad: float) -> np.ndarray:
    """Angle (n,) between the trunk, hips to shoulders, and the picture's top; it approaches `up_rad` as the trunk becomes unknown.

    The unit vector of the trunk is blended with "up", not the angles: an upside-down trunk then passes from +pi to -pi without a jump.
    """
    trunk = plane[:, _SHOULDERS].mean(1) - plane[:, _HIPS].mean(1)
    length = np.linalg.norm(trunk, axis=-1)
    total = np.maximum(weights.sum(1, keepdims=True), 1e-9)
    middle = (weights[..., None] * plane).sum(1) / total
    radius = (weights * np.linalg.norm(plane - middle[:, None], axis=-1)).max(1)
    known = weights[:, _SHOULDERS + _HIPS].min(1) * smoothstep(length / np.maximum(radius, 1e-9), _TRUNK_SHORT, _TRUNK_LONG)
    up = np.array([np.sin(up_rad), -np.cos(up_rad)])
    direction = known[:, None] * trunk / np.maximum(length, 1e-9)[:, None] + (1 - known[:, None]) * up
    return np.arctan2(direction[:, 0], -direction[:, 1])


def _bounds(points: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre (n, 2) and longer extent (n,) of weighted points (n, k, 2); an invisible point counts at the mean of the others."""
    total = np.maximum(weights.sum(1)[:, None], 1e-9)
    middle = (weights[..., None] * points).sum(1) / total
    shrunk = middle[:, None] + weights[..., None] * (points - middle[:, None])
    low, high = shrunk.min(1), shrunk.max(1)
    return (low + high) / 2, (high - low).max(-1)


def _usable(base: np.ndarray) -> Float:
    """Boxes made finite and at least of the smallest side; logs a warning where no information was available."""
    lost = ~np.isfinite(base).all(1) | (base[:, 2] <= 0)
    if lost.any():
        log.warning("%d of %d people have neither a usable box nor keypoints; their crops show nobody", lost.sum(), len(base))
    base = np.where(lost[:, None], 0, base)
    base[:, :2] = base[:, :2].clip(-_MAX_PX, _MAX_PX)
    base[:, 2] = base[:, 2].clip(_MIN_SIDE_PX, _MAX_PX)
    return base.astype(np.float32)
