"""Foot locking: hip, knee and ankle of each leg are rotated so that standing soles are exactly at their anchors.

During contact, the foot gets the smallest rotation that brings heel and ball onto their anchors (both in contact), or a translation
(one in contact). The leg follows by two-bone inverse kinematics that keeps the direction of the knee. Before and after, the change
fades over `_FADE_S`. Where a leg is too short for its anchor, the pelvis is moved towards it, smoothly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from mchmr_stream.body.model import PARENTS
from mchmr_stream.geometry.easing import smoothstep
from mchmr_stream.world.foot_chains import ANKLES, Array, Walker
from mchmr_stream.world.foot_contacts import Stance

_FADE_S = 0.15
_REACH = 0.9995
"""Largest extension of a leg, as a share of its length."""
_STRAIGHT_RAD = 0.05
"""Below this flexion the knee has no direction of its own: it bends about the thigh's x axis."""
_FARTHEST_M = 0.15
"""A contact that would move the foot farther is wrong and is released."""
_LEGS = ((1, 4, 7), (2, 5, 8))


@dataclass(frozen=True, eq=False)
class Locked:
    """Result of foot locking, world axes."""

    rotations: Array
    """(F, 24, 3, 3) as `Walker.rotations`, root in world axes"""
    pelvis_m: Array
    """(F, 3)"""


def anchored(walker: Walker, stances: Sequence[Stance], anchors_m: Array, on_floor_m: float = 0.05) -> Array:
    """Make anchors feasible: at height 0 where they are near it, and heel and ball as far apart as in the foot.

    The point with the longer contact moves less.

    Args:
        walker: The person.
        stances: Their contacts.
        anchors_m: (stances, 2, 3), world.
        on_floor_m: Anchors closer to the floor than this are put on it.

    Returns:
        Anchors (stances, 2, 3).
    """
    anchors = anchors_m.copy()
    anchors[..., 1] = np.where(np.abs(anchors[..., 1]) < on_floor_m, 0.0, anchors[..., 1])
    for number, stance in enumerate(stances):
        if np.isnan(anchors[number]).any():
            continue
        heel, ball = walker.soles_rest_m[2 * stance.foot : 2 * stance.foot + 2]
        length = float(np.linalg.norm(ball - heel))
        between = anchors[number, 1] - anchors[number, 0]
        between[1] = np.clip(between[1], -0.5 * length, 0.5 * length)
        level = np.array([between[0], 0, between[2]])
        # Only the horizontal part changes, so that points on the floor stay on it.
        horizontal_m = np.sqrt(length**2 - between[1] ** 2)
        excess = level * (1 - horizontal_m / max(float(np.linalg.norm(level)), 1e-6))
        share = walker.share_s[stance.rows] @ stance.points
        anchors[number, 0] += excess * share[1] / share.sum()
        anchors[number, 1] -= excess * share[0] / share.sum()
    return anchors


def lock(walker: Walker, world_from_camera: Array, pelvis_m: Array, stances: Sequence[Stance], anchors_m: Array) -> Locked:
    """Lock the feet to their anchors.

    Args:
        walker: The person, with F rows.
        world_from_camera: (3, 3) rotation.
        pelvis_m: (F, 3) corrected, world.
        stances: Their contacts.
        anchors_m: (stances, 2, 3) from `anchored`.

    Returns:
        Rotations and pelvis in world axes.
    """
    outer = world_from_camera @ walker.outer
    joints = walker.joints_m @ world_from_camera.T
    feet = [_foot(walker, foot, outer, joints, pelvis_m, stances, anchors_m) for foot in (0, 1)]
    pelvis = pelvis_m.copy()
    for _ in range(4):
        short = np.zeros_like(pelvis)
        for (hip, knee, ankle), (ankle_m, _) in zip(_LEGS, feet, strict=True):
            length = np.linalg.norm(joints[:, knee] - joints[:, hip], axis=1) + np.linalg.norm(joints[:, ankle] - joints[:, knee], axis=1)
            reach = ankle_m - (pelvis + joints[:, hip])
            distance = np.linalg.norm(reach, axis=1)
            lacking = np.maximum(distance - _REACH * length, 0)[:, None] * reach / np.maximum(distance, 1e-9)[:, None]
            larger = np.linalg.norm(lacking, axis=1) > np.linalg.norm(short, axis=1)
            short = np.where(larger[:, None], lacking, short)
        if not short.any():
            break
        pelvis += _spread(walker, short)
    rotations = walker.rotations.copy()
    rotations[:, 0] = outer[:, 0]
    for leg, (ankle_m, foot_outer) in zip(_LEGS, feet, strict=True):
        _bend(rotations, outer, joints, leg, ankle_m - pelvis, foot_outer)
    return Locked(rotations, pelvis)


def _foot(
    walker: Walker, foot: int, outer: Array, joints: Array, pelvis_m: Array, stances: Sequence[Stance], anchors_m: Array
) -> tuple[Array, Array]:
    """Target position of the ankle (F, 3) and rotation of the foot (F, 3, 3): the current ones plus a change that fades."""
    rows, ankle = len(walker), ANKLES[foot]
    rest = walker.soles_rest_m[2 * foot : 2 * foot + 2]
    turned, moved = np.zeros((rows, 3)), np.zeros((rows, 3))
    own = [(stance, anchors) for stance, anchors in zip(stances, anchors_m, strict=True) if stance.foot == foot]
    flat = np.zeros(rows, np.bool_)
    for stance, anchors in own:
        both = stance.first + np.flatnonzero(stance.points.all(1))
        if len(both):
            turned[both] = _aligning(outer[both, ankle] @ (rest[1] - rest[0]), anchors[1] - anchors[0])
            flat[both] = True
    turned = _faded(walker, turned, flat)
    foot_outer = Rotation.from_rotvec(turned).as_matrix() @ outer[:, ankle]
    ankle_m = pelvis_m + joints[:, ankle]
    held = np.zeros(rows, np.bool_)
    for stance, anchors in own:
        for k in (0, 1):
            standing = stance.first + np.flatnonzero(stance.points[:, k])
            moved[standing] = anchors[k] - (ankle_m[standing] + foot_outer[standing] @ rest[k])
        held[stance.rows] = stance.points.any(1)
    too_far = np.linalg.norm(moved, axis=1) > _FARTHEST_M
    moved[too_far], held[too_far] = 0, False
    return ankle_m + _faded(walker, moved, held), foot_outer


def _aligning(vectors: Array, to: Array) -> Array:
    """(n, 3) rotation vectors of the smallest rotations from each of `vectors` (n, 3) to the direction `to`, (3,) or (n, 3)."""
    cross = np.cross(vectors, to)
    sine = np.linalg.norm(cross, axis=1)
    angle = np.arctan2(sine, (vectors * to).sum(1))
    return cross * (angle / np.maximum(sine, 1e-12))[:, None]


def _faded(walker: Walker, values: Array, known: np.ndarray) -> Array:
    """(F, 3) known in some rows; elsewhere the known values before and after, each fading to zero over `_FADE_S`."""
    at = np.flatnonzero(known)
    if not len(at):
        return np.zeros_like(values)
    rows = np.arange(len(values))
    index = np.searchsorted(at, rows)
    before, after = at[np.maximum(index - 1, 0)], at[np.minimum(index, len(at) - 1)]

    def weight(other: NDArray[np.int64]) -> Array:
        near = smoothstep(1 - np.abs(walker.time_s[other] - walker.time_s) / _FADE_S)
        return np.where(walker.segment[other] == walker.segment, near, 0)

    from_before, from_after = weight(before), weight(after)
    total = np.maximum(from_before + from_after, 1)
    faded = (values[before] * from_before[:, None] + values[after] * from_after[:, None]) / total[:, None]
    return np.where(known[:, None], values, faded)


def _spread(walker: Walker, values: Array) -> Array:
    """A smooth curve (F, 3) close to `values` where they are not zero."""
    step_s = float(np.median(np.diff(walker.time_s)))
    spread = gaussian_filter1d(values, _FADE_S / 3 / step_s, axis=0, mode="nearest")
    peak = gaussian_filter1d((np.linalg.norm(values, axis=1) > 0).astype(float), _FADE_S / 3 / step_s, mode="nearest")
    return spread / np.maximum(peak, 0.2)[:, None]


def _bend(rotations: Array, outer: Array, joints: Array, leg: tuple[int, int, int], ankle_m: Array, foot_outer: Array) -> None:
    """Bend one leg in place: its ankle to `ankle_m` (F, 3) from the pelvis, its foot to `foot_outer`. Unchanged rows stay."""
    hip, knee, ankle = leg
    changed = (np.linalg.norm(ankle_m - joints[:, ankle], axis=1) > 1e-9) | (np.abs(foot_outer - outer[:, ankle]).max((1, 2)) > 1e-9)
    row = np.flatnonzero(changed)
    if not len(row):
        return
    thigh, shin = joints[row, knee] - joints[row, hip], joints[row, ankle] - joints[row, knee]
    target_m = ankle_m[row] - joints[row, hip]
    long, short = np.linalg.norm(thigh, axis=1), np.linalg.norm(shin, axis=1)
    distance = np.clip(np.linalg.norm(target_m, axis=1), np.abs(long - short) + 0.01, _REACH * (long + short))
    cosine = (distance**2 - long**2 - short**2) / (2 * long * short)
    bend_target = np.arccos(np.clip(cosine, -1, 1))
    hinge = np.cross(thigh, shin) / (long * short)[:, None]
    sideways = outer[row, hip, :, 0]
    sideways = sideways - thigh * ((sideways * thigh).sum(1) / long**2)[:, None]
    bent = np.clip(np.linalg.norm(hinge, axis=1) / np.sin(_STRAIGHT_RAD), 0, 1)[:, None]
    axis = hinge + (1 - bent) * np.sin(_STRAIGHT_RAD) * sideways
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    turns = np.tile(np.eye(3), (len(row), 1, 1))
    for _ in range(3):  # exact after one round where the shin is at right angles to the hinge
        now = np.arctan2((np.cross(thigh, shin) * axis).sum(1), (thigh * shin).sum(1))
        turn = Rotation.from_rotvec(axis * (bend_target - now)[:, None]).as_matrix()
        shin = np.einsum("fij,fj->fi", turn, shin)
        turns = turn @ turns
    swing = Rotation.from_rotvec(_aligning(thigh + shin, target_m)).as_matrix()
    thigh_outer, shin_outer = swing @ outer[row, hip], swing @ turns @ outer[row, knee]
    transposed = lambda matrices: np.swapaxes(matrices, -1, -2)
    rotations[row, hip] = transposed(outer[row, PARENTS[hip]]) @ thigh_outer
    rotations[row, knee] = transposed(thigh_outer) @ shin_outer
    rotations[row, ankle] = transposed(shin_outer) @ foot_outer[row]
