"""From a tracked person to the base box of the views, and how far the crops are turned.

Why turning a crop is exact: a picture turned about its *principal point* is the picture of a camera rolled about its
optical axis. The rolled camera has the same focal length, so the network's cameras hold in it without approximation, and
``camera_from_rolled = Rz(roll)`` takes bodies back. Turning about the person's own centre would not be any camera's view.

The rule `keypoints`, as in training: take the twelve limb joints and the nose, turn them by -roll about the principal
point, put a square of 1.35 times the longer extent around their bounds. Here keypoints may be missing or wrong, so every
decision fades with the keypoints' scores instead of switching: boxes and angles of a video then never jump because a score
crossed a threshold.
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
"""What a standing figure says where it is not seen. Arms are left where they are: they end within the body's square."""
_IS_PREDICTED = np.isin(np.arange(len(KEYPOINT_NAMES)), _PREDICTED)

_FADES_OUTSIDE = 0.05
"""Over this share of the longer side of a person's box a keypoint outside of the picture ceases to count."""

_SCORE_UNSEEN, _SCORE_SEEN = 0.1, 0.3
"""A keypoint counts for nothing below the first score, in full above the second."""

_POINTS_NONE, _POINTS_ENOUGH = 6.0, 11.0
"""Keypoint weights summed: below the first the tracker's box decides alone, above the second the keypoints do."""

_TRUNK_SHORT, _TRUNK_LONG = 0.12, 0.35
"""Trunk length over the distance of the farthest keypoint from their middle. A trunk seen end-on is short and its direction noise."""

KEYPOINTS_OVER_BOX = 0.82
"""Longer extent of the keypoints over the longer side of the tracker's box, which includes scalp, hands and feet.

Measured on MoveNet's boxes of whole people in three clips: medians 0.80 to 0.83.
"""

_MIN_SIDE_PX, _MAX_PX = 8.0, 1e5
_PAPER_ASPECT = 4 / 3


def base_boxes(
    tracks: Tracks, intrinsics: Intrinsics, layout: Layout, upright: bool = True, picture_wh: tuple[int, int] | None = None
) -> tuple[Float, Float]:
    """The square that holds the whole of each person, also the part that the picture does not show.

    Args:
        tracks: n people; `landmarks_px` decide, the boxes where keypoints are too few.
        intrinsics: of the picture.
        layout: its rule `keypoints` or `box`, and its factor. Only layouts with the rule `keypoints` are ever turned.
        upright: turn the plane so that the trunk points up.
        picture_wh: width and height of the picture; keypoints outside of it count as unseen. None: not known.

    Returns:
        (n, 3) centre x, centre y and side in each person's rolled plane, sides at least 8 px; and the roll, (n,) radians. A person of
        whom neither the box nor any keypoint is finite gets the smallest box at the principal point, with a warning: the
        crops then hold nobody, which the network reports as absence.
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
    """The rule `keypoints` itself, on points of the plane.

    Args:
        plane: (n, 17, 2) keypoints, finite.
        weights: (n, 17) in [0, 1]: how far each counts for the direction of the trunk.
        shown: (n, 17) in [0, 1]: how far each counts for the extent; less than `weights` outside of the picture.
        corners: (n, 2, 2) the tracker's box, top left and bottom right; may be anything where it is not known.
        layout: its factor.
        up_rad: where up is, for trunks that are not seen.
        upright: turn the plane so that the trunk points up.

    Returns:
        (n, 3) base boxes in each person's rolled plane, and the rolls (n,). A side of 0 is a person of whom nothing is known.
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
    # Where the box is unusable the keypoints must do, however few they are, and the other way round.
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
    """(n, 17, 3) -> positions (n, 17, 2), finite, and how far each counts (n, 17) in [0, 1]."""
    positions = np.asarray(keypoints[..., :2], np.float64)
    finite = np.all(np.isfinite(keypoints) & (abs(keypoints) < _MAX_PX), axis=-1)
    weights = np.where(finite, smoothstep(np.where(finite, keypoints[..., 2], 0), _SCORE_UNSEEN, _SCORE_SEEN), 0)
    return np.where(finite[..., None], positions, 0), weights


def _within(points_px: np.ndarray, boxes_xyxy_px: Float, picture_wh: tuple[int, int]) -> np.ndarray:
    """(n, 17, 2) -> (n, 17): 1 inside of the picture, fading to 0 over a small share of the person's box outside of it."""
    outside = np.maximum(np.maximum(-points_px, points_px - (np.array(picture_wh) - 1)), 0).max(-1)
    size = np.nan_to_num(abs(boxes_xyxy_px[:, 2:] - boxes_xyxy_px[:, :2]).max(-1).astype(np.float64), nan=0.0, posinf=0.0)
    return (1 - outside / np.maximum(_FADES_OUTSIDE * size, 1)[:, None]).clip(0, 1)


def _roll(plane: np.ndarray, weights: np.ndarray, up_rad: float) -> np.ndarray:
    """Angle (n,) by which the trunk, hips to shoulders, is turned away from the picture's top; towards `up_rad` as it becomes unknown.

    The unit vector of the trunk is blended with "up", not the angles: an upside-down trunk then passes from +pi to -pi
    without a jump.
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
    """Centre (n, 2) and longer extent (n,) of weighted points (n, k, 2); an unseen point sits in the middle of the others."""
    total = np.maximum(weights.sum(1)[:, None], 1e-9)
    middle = (weights[..., None] * points).sum(1) / total
    drawn_in = middle[:, None] + weights[..., None] * (points - middle[:, None])
    low, high = drawn_in.min(1), drawn_in.max(1)
    return (low + high) / 2, (high - low).max(-1)


def _usable(base: np.ndarray) -> Float:
    """Finite boxes of at least the smallest side; says so where there was nothing to make one of."""
    lost = ~np.isfinite(base).all(1) | (base[:, 2] <= 0)
    if lost.any():
        log.warning("%d of %d people have neither a usable box nor keypoints; their crops show nobody", lost.sum(), len(base))
    base = np.where(lost[:, None], 0, base)
    base[:, :2] = base[:, :2].clip(-_MAX_PX, _MAX_PX)
    base[:, 2] = base[:, 2].clip(_MIN_SIDE_PX, _MAX_PX)
    return base.astype(np.float32)
