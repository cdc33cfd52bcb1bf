"""Appearance of people from a distance: the colours of the upper body and of the legs.

Position and motion cannot distinguish people who meet and part again; their clothes mostly can. Both halves are sampled along the keypoints
or, without keypoints, where an upright person has them within the box. The colours of the samples are counted in soft histograms. Samples
inside another person's box get a low weight, since they may show that person. Nothing is learned, and no feature of the face is used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datatypes import KEYPOINT_NAMES
from mchmr_stream.detection.person_similarity import VISIBLE_SCORE
from mchmr_stream.geometry.camera import roll_matrix

Array = NDArray[np.float64]

HALVES = 2
"""Upper body and legs."""
_BINS = np.array([7, 6, 6])
"""Lightness, red against green, yellow against blue."""
_STRIDES = np.array([36, 6, 1])
COLOURS = 7 * 6 * 6
_STRONGEST = 0.35
"""Colours at least this far from grey are not distinguished further."""
_DARKEST = 0.15
"""Added to lightness before division by it: colours in the dark are noise."""
_OTHERS_SHARE = 0.15
"""Weight of a sample in another person's box."""

_TRUNK = [KEYPOINT_NAMES.index(name) for name in ("left_shoulder", "right_shoulder", "left_hip", "right_hip")]
_LEG_BONES = np.array(
    [
        [KEYPOINT_NAMES.index(f"{side}_{joint}") for joint in bone]
        for side in ("left", "right")
        for bone in (("hip", "knee"), ("knee", "ankle"))
    ]
)
_ALONG, _ACROSS = np.linspace(0.1, 0.9, 8), np.linspace(-1, 1, 9)
_ALONG_LEG, _ACROSS_LEG = np.linspace(0.1, 0.9, 6), np.linspace(-1, 1, 3)
_TRUNK_HALF_WIDTH, _LEG_HALF_WIDTH = 0.4, 0.1
"""In shares of the trunk's width and of a bone's length: narrower than the body, so that samples lie on the person."""
_LEAST_TRUNK_WIDTH = 0.35
"""In shares of the trunk's length: seen from the side both shoulders coincide."""
_IN_BOX = (((-0.18, 0.18), (-0.3, -0.02)), ((-0.15, 0.15), (0.05, 0.38)))
"""Position of the two halves of an upright person in the box, from its middle, in shares of its sides: (left, right), (top, bottom)."""

_LIKELIHOOD = (np.array([0.0, 0.3, 0.6, 0.75, 0.9, 1.0]), np.array([-2.5, -2.0, -1.0, 0.0, 0.8, 1.0]))
"""Overlap of two histograms -> log likelihood ratio of one person against two people.

On filmed people half of all pairs of one person one or two seconds apart have an overlap above 0.87, half of those of two people one below
0.4.
"""


@dataclass(frozen=True, eq=False)
class Appearance:
    """Appearance of n people."""

    colours: Array
    """(n, HALVES, COLOURS) shares that sum to 1"""
    seen: Array
    """(n, HALVES) 0 to 1: share of each half that is in the picture and in no other person's box"""

    def rows(self, which: NDArray[np.int64]) -> Appearance:
        """Select rows."""
        return Appearance(self.colours[which], self.seen[which])

    @staticmethod
    def unknown(count: int) -> Appearance:
        """Appearance of people without a picture: all colours are equally frequent, and nothing is seen."""
        return Appearance(np.full((count, HALVES, COLOURS), 1 / COLOURS), np.zeros((count, HALVES)))


def appearance_of(rgb: NDArray[np.uint8], boxes_xyxy_px: Array, keypoints_px: Array, up_rad: float = 0.0) -> Appearance:
    """Measure the appearance of people.

    Args:
        rgb: (H, W, 3) picture.
        boxes_xyxy_px: (n, 4).
        keypoints_px: (n, 17, 3).
        up_rad: Up direction of the picture.

    Returns:
        Appearance of the n people.
    """
    if not len(boxes_xyxy_px):
        return Appearance.unknown(0)
    points = _samples(boxes_xyxy_px, keypoints_px, up_rad)  # (n, HALVES, S, 2)
    size = np.array([rgb.shape[1], rgb.shape[0]])
    inside = ((points >= 0) & (points <= size - 1)).all(-1)
    of_others = _in_boxes_of_others(points, boxes_xyxy_px)
    weight = np.asarray(inside * np.where(of_others, _OTHERS_SHARE, 1.0))
    pixel = np.clip(np.rint(points), 0, size - 1).astype(np.int64)
    colours = _histograms(rgb[pixel[..., 1], pixel[..., 0]].astype(np.float64) / 255, weight)
    return Appearance(colours, (inside & ~of_others).mean(-1))


def log_likelihood_ratio(found: Appearance, known: Appearance) -> Array:
    """Compare the people of a frame (n) with known ones (m).

    Args:
        found: Appearance of the n people.
        known: Appearance of the m people.

    Returns:
        (n, m) logarithm of the likelihood ratio of one person against two; 0 is no evidence.
    """
    overlap = np.einsum("nhc,mhc->nmh", np.sqrt(found.colours), np.sqrt(known.colours))
    log_ratio = np.interp(overlap, *_LIKELIHOOD)
    return np.asarray((log_ratio * found.seen[:, None] * known.seen[None]).sum(-1))


def _samples(boxes: Array, keypoints: Array, up_rad: float) -> Array:
    """(n, HALVES, 72, 2) sample positions in the picture."""
    seen = (keypoints[..., 2] >= VISIBLE_SCORE) & np.isfinite(keypoints).all(-1)
    positions = np.where(seen[..., None], keypoints[..., :2], 0)
    trunk, legs = _along_trunk(positions[:, _TRUNK]), _along_legs(positions, seen)
    upper_known, legs_known = seen[:, _TRUNK].all(-1), seen[:, _LEG_BONES].all(-1).sum(-1) >= 2
    upper_box, legs_box = (_in_the_box(boxes, up_rad, part) for part in _IN_BOX)
    choose = lambda known, own, of_box: np.where(known[:, None, None], own, of_box)
    return np.stack([choose(upper_known, trunk, upper_box), choose(legs_known, legs, legs_box)], 1)


def _along_trunk(positions: Array) -> Array:
    """Shoulders and hips (n, 4, 2) -> (n, 72, 2) positions between them."""
    shoulders, hips = positions[:, :2].mean(1), positions[:, 2:].mean(1)
    axis = hips - shoulders
    length = np.maximum(np.linalg.norm(axis, axis=-1, keepdims=True), 1e-6)
    widths = np.linalg.norm(positions[:, [0, 2]] - positions[:, [1, 3]], axis=-1).max(1, keepdims=True)
    across = np.stack([-axis[:, 1], axis[:, 0]], -1) / length * _TRUNK_HALF_WIDTH * np.maximum(widths, _LEAST_TRUNK_WIDTH * length)
    grid = shoulders[:, None, None] + _ALONG[:, None, None] * axis[:, None, None] + _ACROSS[:, None] * across[:, None, None]
    return grid.reshape(len(positions), -1, 2)


def _along_legs(positions: Array, seen: NDArray[np.bool_]) -> Array:
    """(n, 17, 2) -> (n, 72, 2) positions on thighs and shanks; an invisible bone is replaced by a visible one."""
    known = seen[:, _LEG_BONES].all(-1)
    order = np.where(known, np.arange(len(_LEG_BONES)), known.argmax(-1)[:, None])
    bones = np.take_along_axis(positions[:, _LEG_BONES], order[..., None, None], 1)  # (n, 4, 2, 2)
    start, axis = bones[:, :, 0], bones[:, :, 1] - bones[:, :, 0]
    across = np.stack([-axis[..., 1], axis[..., 0]], -1) * _LEG_HALF_WIDTH
    along = _ALONG_LEG[:, None, None] * axis[:, :, None, None]
    return (start[:, :, None, None] + along + _ACROSS_LEG[:, None] * across[:, :, None, None]).reshape(len(positions), -1, 2)


def _in_the_box(boxes: Array, up_rad: float, part: tuple[tuple[float, float], tuple[float, float]]) -> Array:
    """(n, 72, 2) positions in a part of each box."""
    (left, right), (top, bottom) = part
    across, down = np.meshgrid(np.linspace(left, right, len(_ACROSS)), np.linspace(top, bottom, len(_ALONG)))
    shares = np.stack([across.ravel(), down.ravel()], -1) @ roll_matrix(np.array(up_rad))[:2, :2].T
    return np.asarray((boxes[:, None, :2] + boxes[:, None, 2:]) / 2 + shares * (boxes[:, None, 2:] - boxes[:, None, :2]))


def _in_boxes_of_others(points: Array, boxes: Array) -> NDArray[np.bool_]:
    """(n, HALVES, S) whether each sample lies in another person's box."""
    within = ((points[:, None] >= boxes[None, :, None, None, :2]) & (points[:, None] <= boxes[None, :, None, None, 2:])).all(-1)
    others = ~np.eye(len(boxes), dtype=np.bool_)
    return np.asarray((within & others[:, :, None, None]).any(1))


def _histograms(rgb: Array, weight: Array) -> Array:
    """Colours (n, HALVES, S, 3) in 0 to 1 -> shares (n, HALVES, COLOURS); each is distributed over the eight nearest bins."""
    red, green, blue = np.moveaxis(rgb, -1, 0)
    light = (red + green + blue) / 3
    strength = (2 * light + _DARKEST) * _STRONGEST
    chroma = np.clip(np.stack([red - green, (red + green) / 2 - blue], -1) / strength[..., None], -1, 1)
    position = np.concatenate([np.sqrt(light)[..., None], (chroma + 1) / 2], -1) * (_BINS - 1)
    lower = np.minimum(position.astype(np.int64), _BINS - 2)
    share = position - lower
    first = np.arange(weight.shape[0] * weight.shape[1]).reshape(*weight.shape[:2], 1) * COLOURS + lower @ _STRIDES
    total = np.zeros(weight.shape[0] * weight.shape[1] * COLOURS)
    for corner in np.ndindex(2, 2, 2):
        counts = weight * np.where(corner, share, 1 - share).prod(-1)
        total += np.bincount((first + int(np.dot(corner, _STRIDES))).ravel(), counts.ravel(), len(total))
    total = total.reshape(*weight.shape[:2], COLOURS)
    sums = total.sum(-1, keepdims=True)
    return np.where(sums > 0, total / np.where(sums > 0, sums, 1), 1 / COLOURS)
