"""Each person of a file as a kinematic chain with two points under each sole, in camera axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mchmr_stream.body.kinematics import global_rotations, joints_around_pelvis
from mchmr_stream.body.model import BodyModel, rest_joints
from mchmr_stream.body.shape import robust_shape
from mchmr_stream.motion.motion import Motion, Track

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

ANKLES, TOES = (7, 8), (10, 11)
SOLES = ("left_heel", "left_ball", "right_heel", "right_ball")
"""The sole points, in order; the ankle carries both points of its foot."""
_SOLE_M = 0.008
"""Vertices of the foot up to this height above its lowest one belong to the sole."""
_HEEL_SHARE = 0.25
"""Share of the sole's length that is the heel."""
_BALL_M = 0.02
"""The ball is the sole up to this distance in front of and behind the toe joint."""
_SEEN_SCORE = 0.15
"""Least score of the detector's ankle, where it has one."""
_LONGEST_GAP_S = 0.5
"""After a longer gap in a person's rows their path in between is unknown."""

_BODY_MASSES = {0: 0.28, 3: 0.10, 6: 0.10, 9: 0.10, 15: 0.08, 1: 0.06, 2: 0.06, 4: 0.06, 5: 0.06, 16: 0.03, 17: 0.03, 20: 0.02, 21: 0.02}
"""Joint -> share of the body's mass that is assigned to it: trunk, head, thighs, shanks, arms."""


@dataclass(frozen=True, eq=False)
class Walker:
    """F valid rows of one person: finite, in front of the camera. Camera axes, metres."""

    track_id: int
    rows: NDArray[np.int64]
    """(F,) indices of these rows in the track"""
    time_s: Array
    """(F,) rising"""
    rotations: Array
    """(F, 24, 3, 3) root first, then each joint relative to its parent"""
    betas: Array
    """(10,) one shape for all rows"""
    rest_joints_m: Array
    """(24, 3) of the rest pose, body axes"""
    pelvis_m: Array
    """(F, 3) as in the file"""
    joints_m: Array
    """(F, 24, 3) relative to the pelvis, with the one shape"""
    outer: Array
    """(F, 24, 3, 3) global rotation of each joint, camera axes"""
    soles_rest_m: Array
    """(4, 3) relative to the ankle that carries them, body axes, rest pose"""
    soles_m: Array
    """(F, 4, 3) relative to the pelvis"""
    seen: Flags
    """(F, 2) whether the left and the right foot are visible; False in interpolated rows"""
    segment: NDArray[np.int64]
    """(F,) segment of each row; there is no long gap within a segment"""

    def __len__(self) -> int:
        return len(self.time_s)

    @property
    def mass_m(self) -> Array:
        """(F, 3) approximate centre of mass, relative to the pelvis."""
        joints, shares = list(_BODY_MASSES), np.array(list(_BODY_MASSES.values()))
        return np.einsum("fjc,j->fc", self.joints_m[:, joints], shares / shares.sum())

    @property
    def share_s(self) -> Array:
        """(F,) seconds that each row represents."""
        steps = np.diff(self.time_s)
        steps = np.where(np.diff(self.segment) == 0, steps, 0.0)
        return np.maximum((np.concatenate([[0.0], steps]) + np.concatenate([steps, [0.0]])) / 2, 1e-4)


def walkers_of(motion: Motion, body: BodyModel) -> list[Walker]:
    """Convert all people with at least two valid rows.

    Args:
        motion: The content of a file.
        body: The body model that it was made with.

    Returns:
        One walker per person, in order of the tracks.
    """
    exact = body.to(device="cpu", dtype=torch.float64)
    walkers = (_walker(motion, track, exact) for track in motion.tracks.values())
    return [walker for walker in walkers if walker is not None]


def _walker(motion: Motion, track: Track, body: BodyModel) -> Walker | None:
    rotations = track.rotations.astype(np.float64)
    numbers = (rotations, track.transl, track.betas, track.time_s, track.joints_px)
    good: Flags = np.logical_and.reduce([np.isfinite(values).reshape(len(track), -1).all(1) for values in numbers])
    good &= np.concatenate([[True], np.diff(np.maximum.accumulate(track.time_s)) > 0])
    good &= track.joints_m[:, 0, 2] > 0
    if good.sum() < 2:
        return None
    known = good & ~track.interpolated if (good & ~track.interpolated).any() else good
    betas = robust_shape(track.betas[known].astype(np.float64), np.clip(track.confidence[known].astype(np.float64), 0.05, 1))
    rotations, time_s = rotations[good], track.time_s[good]
    rest = rest_joints(body, torch.from_numpy(betas)[None])[0].numpy()
    soles_rest = _soles_rest_m(body, betas, rest)
    joints_m, outer = posed(rest, rotations)
    return Walker(
        track_id=track.track_id,
        rows=np.flatnonzero(good),
        time_s=time_s,
        rotations=rotations,
        betas=betas,
        rest_joints_m=rest,
        pelvis_m=track.joints_m[good, 0].astype(np.float64),
        joints_m=joints_m,
        outer=outer,
        soles_rest_m=soles_rest,
        soles_m=soles_of(joints_m, outer, soles_rest),
        seen=_feet_seen(motion, track)[good],
        segment=np.concatenate([[0], np.cumsum(np.diff(time_s) > _LONGEST_GAP_S)]),
    )


def posed(rest_joints_m: Array, rotations: Array) -> tuple[Array, Array]:
    """Forward kinematics relative to the pelvis.

    Args:
        rest_joints_m: (24, 3) joints of the rest pose.
        rotations: (F, 24, 3, 3), root first, then each joint relative to its parent.

    Returns:
        Joints relative to the pelvis (F, 24, 3), and the global rotation of each joint (F, 24, 3, 3).
    """
    outer = global_rotations(rotations)
    return joints_around_pelvis(rest_joints_m, outer), outer


def soles_of(joints_m: Array, outer: Array, soles_rest_m: Array) -> Array:
    """Pose the soles.

    Args:
        joints_m: (F, 24, 3).
        outer: (F, 24, 3, 3) global rotations.
        soles_rest_m: (4, 3) relative to the ankles, rest pose.

    Returns:
        (F, 4, 3) heels and balls, in the axes of `joints_m`.
    """
    carriers = [ANKLES[0], ANKLES[0], ANKLES[1], ANKLES[1]]
    return joints_m[:, carriers] + np.einsum("fkij,kj->fki", outer[:, carriers], soles_rest_m)


def sole_vertices(body: BodyModel) -> list[NDArray[np.int64]]:
    """Find the vertices around each sole point: the lowest of heel and ball in the rest pose.

    Args:
        body: The body model.

    Returns:
        Vertex indices for each of `SOLES`.
    """
    vertices, joints, carrier = body.v_template.numpy(), body.j_template.numpy(), body.weights.argmax(1).numpy()
    found = []
    for ankle, toes in zip(ANKLES, TOES, strict=True):
        foot = np.flatnonzero((carrier == ankle) | (carrier == toes))
        sole = foot[vertices[foot, 1] < vertices[foot, 1].min() + _SOLE_M]
        back, front = vertices[sole, 2].min(), vertices[sole, 2].max()
        found.append(sole[vertices[sole, 2] < back + _HEEL_SHARE * (front - back)])
        from_joint = np.abs(vertices[sole, 2] - joints[toes, 2])
        found.append(sole[from_joint < max(_BALL_M, from_joint.min() + 1e-6)])
    return found


def _soles_rest_m(body: BodyModel, betas: Array, rest_joints_m: Array) -> Array:
    points = []
    for number, vertices in enumerate(sole_vertices(body)):
        shaped = body.v_template.numpy()[vertices] + body.shapedirs.numpy()[vertices] @ betas
        points.append(shaped.mean(0) - rest_joints_m[ANKLES[number // 2]])
    return np.stack(points)


def _feet_seen(motion: Motion, track: Track) -> Flags:
    ankles_px = track.joints_px[:, list(ANKLES)]
    x, y = ankles_px[..., 0], ankles_px[..., 1]
    inside = (x > 0) & (y > 0) & (x < motion.width - 1) & (y < motion.height - 1)
    scores = track.keypoints_px[..., 2]
    ankle_scores = scores[:, [motion.keypoint_names.index(f"{side}_ankle") for side in ("left", "right")]]
    has_scores = scores.max(1, initial=0) > _SEEN_SCORE  # detectors without keypoints give no evidence
    return inside & ((ankle_scores > _SEEN_SCORE) | ~has_scores[:, None]) & ~track.interpolated[:, None]
