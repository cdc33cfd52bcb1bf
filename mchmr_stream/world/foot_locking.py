"""Feet held where they stand: hip, knee and ankle of each leg turned so that standing soles are exactly at their anchors.

While a sole stands, the foot is turned about as little as brings heel and ball onto their anchors (both stand), or moved as it is (one
stands); the leg follows by two-bone inverse kinematics that keeps the direction of the knee. Before and after, the change fades over
`_FADE_S`. Where a leg is too short for its anchor the pelvis comes nearer, smoothly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from mchmr_stream.body.body_model import PARENTS
from mchmr_stream.geometry.easing import smoothstep
from mchmr_stream.world.foot_chains import ANKLES, Array, Walker
from mchmr_stream.world.foot_contacts import Stance

_FADE_S = 0.15
_REACH = 0.9995
"""Of the leg's length, how far it is stretched at most"""
_STRAIGHT_RAD = 0.05
"""Below this bend the knee has no direction of its own: it bends about the thigh's x axis."""
_FARTHEST_M = 0.15
"""A foot that would have to be moved farther was never there: it is let go."""
_LEGS = ((1, 4, 7), (2, 5, 8))


@dataclass(frozen=True, eq=False)
class Locked:
    """World axes."""

    rotations: Array
    """(F, 24, 3, 3) as `Walker.rotations`, root in the world"""
    pelvis_m: Array
    """(F, 3)"""


def anchored(walker: Walker, stances: Sequence[Stance], anchors_m: Array, on_floor_m: float = 0.05) -> Array:
    """Anchors (stances, 2, 3) that a foot can stand on: at height 0 where they are near it, heel and ball as far apart as in the foot.

    The one that stands for longer moves less.
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
        # Only the level part gives way, so that what is on the floor stays on it.
        wanted = np.sqrt(length**2 - between[1] ** 2)
        excess = level * (1 - wanted / max(float(np.linalg.norm(level)), 1e-6))
        share = walker.share_s[stance.rows] @ stance.points
        anchors[number, 0] += excess * share[1] / share.sum()
        anchors[number, 1] -= excess * share[0] / share.sum()
    return anchors


def lock(walker: Walker, world_from_camera: Array, pelvis_m: Array, stances: Sequence[Stance], anchors_m: Array) -> Locked:
    """`world_from_camera` (3, 3) turns; `pelvis_m` (F, 3) as corrected; anchors from `anchored`."""
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
    """Where the ankle should be (F, 3) and how the foot should be turned (F, 3, 3): as they are, plus a change that fades."""
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
    """(n, 3) rotation vectors of the smallest turns that bring each of `vectors` (n, 3) into the direction `to`, (3,) or (n, 3)."""
    cross = np.cross(vectors, to)
    sine = np.linalg.norm(cross, axis=1)
    angle = np.arctan2(sine, (vectors * to).sum(1))
    return cross * (angle / np.maximum(sine, 1e-12))[:, None]


def _faded(walker: Walker, values: Array, known: np.ndarray) -> Array:
    """(F, 3) known in some rows: in the others what is known before and after, each fading to nothing over `_FADE_S`."""
    at = np.flatnonzero(known)
    if not len(at):
        return np.zeros_like(values)
    rows = np.arange(len(values))
    place = np.searchsorted(at, rows)
    before, after = at[np.maximum(place - 1, 0)], at[np.minimum(place, len(at) - 1)]

    def weight(other: NDArray[np.int64]) -> Array:
        near = smoothstep(1 - np.abs(walker.time_s[other] - walker.time_s) / _FADE_S)
        return np.where(walker.stretch[other] == walker.stretch, near, 0)

    from_before, from_after = weight(before), weight(after)
    whole = np.maximum(from_before + from_after, 1)
    faded = (values[before] * from_before[:, None] + values[after] * from_after[:, None]) / whole[:, None]
    return np.where(known[:, None], values, faded)


def _spread(walker: Walker, values: Array) -> Array:
    """A smooth curve (F, 3) that is about `values` where they are not zero."""
    step_s = float(np.median(np.diff(walker.time_s)))
    spread = gaussian_filter1d(values, _FADE_S / 3 / step_s, axis=0, mode="nearest")
    peak = gaussian_filter1d((np.linalg.norm(values, axis=1) > 0).astype(float), _FADE_S / 3 / step_s, mode="nearest")
    return spread / np.maximum(peak, 0.2)[:, None]


def _bend(rotations: Array, outer: Array, joints: Array, leg: tuple[int, int, int], ankle_m: Array, foot_outer: Array) -> None:
    """Turn one leg in place: its ankle to `ankle_m` (F, 3) from the pelvis, its foot to `foot_outer`. Rows where nothing changes stay."""
    hip, knee, ankle = leg
    changed = (np.linalg.norm(ankle_m - joints[:, ankle], axis=1) > 1e-9) | (np.abs(foot_outer - outer[:, ankle]).max((1, 2)) > 1e-9)
    row = np.flatnonzero(changed)
    if not len(row):
        return
    thigh, shin = joints[row, knee] - joints[row, hip], joints[row, ankle] - joints[row, knee]
    wanted = ankle_m[row] - joints[row, hip]
    long, short = np.linalg.norm(thigh, axis=1), np.linalg.norm(shin, axis=1)
    distance = np.clip(np.linalg.norm(wanted, axis=1), np.abs(long - short) + 0.01, _REACH * (long + short))
    cosine = (distance**2 - long**2 - short**2) / (2 * long * short)
    bend_wanted = np.arccos(np.clip(cosine, -1, 1))
    hinge = np.cross(thigh, shin) / (long * short)[:, None]
    sideways = outer[row, hip, :, 0]
    sideways = sideways - thigh * ((sideways * thigh).sum(1) / long**2)[:, None]
    bent = np.clip(np.linalg.norm(hinge, axis=1) / np.sin(_STRAIGHT_RAD), 0, 1)[:, None]
    axis = hinge + (1 - bent) * np.sin(_STRAIGHT_RAD) * sideways
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    turns = np.tile(np.eye(3), (len(row), 1, 1))
    for _ in range(3):  # exact at once where the shin is at right angles to the hinge
        now = np.arctan2((np.cross(thigh, shin) * axis).sum(1), (thigh * shin).sum(1))
        turn = Rotation.from_rotvec(axis * (bend_wanted - now)[:, None]).as_matrix()
        shin = np.einsum("fij,fj->fi", turn, shin)
        turns = turn @ turns
    swing = Rotation.from_rotvec(_aligning(thigh + shin, wanted)).as_matrix()
    thigh_outer, shin_outer = swing @ outer[row, hip], swing @ turns @ outer[row, knee]
    transposed = lambda matrices: np.swapaxes(matrices, -1, -2)
    rotations[row, hip] = transposed(outer[row, PARENTS[hip]]) @ thigh_outer
    rotations[row, knee] = transposed(thigh_outer) @ shin_outer
    rotations[row, ankle] = transposed(shin_outer) @ foot_outer[row]
