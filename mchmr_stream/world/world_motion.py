"""World-grounded motion of a file's people. Contacts, floor and paths are estimated alternately, each given the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mchmr_stream.body.model import BodyModel, forward_kinematics, rest_pelvis
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.motion.motion import Motion, Track, World, WorldTrack
from mchmr_stream.world.doubts import WorldEvidence, warnings_of
from mchmr_stream.world.foot_chains import Array, Walker, posed, soles_of, walkers_of
from mchmr_stream.world.foot_contacts import Stance, flags_of, likely, likely_stances, speeds_m_s, stances_of
from mchmr_stream.world.foot_locking import Locked, anchored, lock
from mchmr_stream.world.foot_skating import Skating, skating_of
from mchmr_stream.world.gravity import balance_of, trunk_up
from mchmr_stream.world.trajectories import Path, Strand, solve

_ROUNDS = 3
_STEEP = 0.1
"""Below this horizontal part of the viewing direction, the picture's upper border defines "ahead"."""


def ground(motion: Motion, body: BodyModel) -> Motion:
    """Estimate world-grounded motion. The camera columns stay as they are.

    Args:
        motion: One shot of a camera that does not move.
        body: The body model that it was made with.

    Returns:
        The motion with `world` set on it and on each track.

    Raises:
        UsageError: `body` is another body model.
        InputError: No person is seen standing, so that nothing can be estimated.
    """
    if body.sha256 != motion.body_model_sha256:
        raise UsageError(
            f"the file was made with the body model {motion.body_model}, got {body.name}; give the same with --set body.model=FILE"
        )
    body = body.to(device="cpu")
    walkers = walkers_of(motion, body)
    found = _estimate(walkers)
    standing = {person.walker.track_id: person for person in found.people}
    tracks = {}
    for identity, track in motion.tracks.items():
        tracks[identity] = dataclasses.replace(track, world=_world_track(track, standing.get(identity), found.pose, body))
    return dataclasses.replace(motion, tracks=tracks, world=World(found.pose, _info(motion, tracks, found)))


def in_a_line(world: World) -> str:
    """Summarise a world in one line for the user."""
    info = world.info
    skating = info["skating_mm_per_contact_frame"]
    return (
        f"world (an estimate): camera {info['camera_height_m']:.2f} m over the floor, up known to {info['up_sd_deg']:.1f} degrees at best, "
        f"from {info['steps']} steps; feet slide {skating['before']:.1f} mm per contact frame before, {skating['after']:.1f} mm after"
    )


@dataclass(frozen=True, eq=False)
class _StandingFeet:
    """Result of one walker."""

    walker: Walker
    height_m: float | None
    stances: list[Stance]
    locked: Locked
    skating: Skating


@dataclass(frozen=True, eq=False)
class _Found:
    """The estimated world and the people in it."""

    pose: Array
    """(4, 4) world_from_camera"""
    up_sd_deg: float
    tilt_deg: float
    """angle between floor normal and trunks"""
    people: list[_StandingFeet]


def _estimate(walkers: Sequence[Walker]) -> _Found:
    if not walkers:
        raise InputError("nobody stands in the world without bodies: the file holds no person with two usable rows")
    up = trunk_up(walkers)
    people = [_GroundedPerson.first(walker, up) for walker in walkers]
    if not any(person.stances for person in people):
        raise InputError(
            "no foot is seen standing still in the picture, so neither gravity nor the floor can be estimated; "
            "--static-camera needs people whose feet are in the picture and a camera that does not move"
        )
    pose, sd_deg = _pose(up, 0.0), 0.0
    for _ in range(_ROUNDS):
        strands = [person.strand(pose) for person in people]
        first_up = pose[:3, :3] @ trunk_up(walkers)
        solution = solve(strands, pose[:3, 3], first_up, floor="free")
        up, sd_deg = pose[:3, :3].T @ solution.up, solution.up_sd_deg
        camera_height = float(pose[:3, 3] @ solution.up) - solution.height_m
        new_from_old = _pose(up, camera_height) @ np.linalg.inv(pose)
        pose = _pose(up, camera_height)
        for person, path in zip(people, solution.paths, strict=True):
            person.update_contacts(pose, path.moved_by(new_from_old))
        if not any(person.stances for person in people):
            raise InputError("no step holds still once the floor is known; does the camera move? --static-camera is for one that does not")
    solution = solve([person.strand(pose) for person in people], pose[:3, 3], np.array([0.0, 1.0, 0.0]), floor="fixed")
    standing = [person.locked(pose, path) for person, path in zip(people, solution.paths, strict=True)]
    tilt_deg = float(np.degrees(np.arccos(np.clip(pose[1, :3] @ trunk_up(walkers), -1, 1))))
    return _Found(pose, sd_deg, tilt_deg, standing)


@dataclass(eq=False)
class _GroundedPerson:
    """Current estimate of one walker."""

    walker: Walker
    contact: Array
    """(F, 4) in [0, 1]"""
    stances: list[Stance]
    up: Array
    """(3,) approximate up direction, camera axes"""
    height_m: float | None
    """of the resting soles over the camera, by the first estimate of up"""

    @staticmethod
    def first(walker: Walker, up: Array) -> _GroundedPerson:
        contact = likely(walker, up)
        stances = likely_stances(walker, contact)
        heights = ((walker.pelvis_m[:, None] + walker.soles_m) @ up)[flags_of(stances, len(walker))]
        return _GroundedPerson(walker, contact, stances, up, float(np.median(heights)) if len(heights) else None)

    def strand(self, pose: Array) -> Strand:
        turn = pose[:3, :3]
        direction, seconds = balance_of(self.walker, self.contact, self.up)
        pelvis = self.walker.pelvis_m @ turn.T + pose[:3, 3]
        return Strand(self.walker, pelvis, self.walker.soles_m @ turn.T, self.stances, turn @ direction, seconds)

    def update_contacts(self, pose: Array, path: Path) -> None:
        """Recompute contacts from the corrected path in the world. Heights are relative to the person's own steps, whatever their shoes."""
        soles = path.pelvis_m[:, None] + self.walker.soles_m @ pose[:3, :3].T
        heights = path.anchors_m[..., 1]
        lowest = np.where(np.isnan(heights), np.inf, heights).min(1)
        level = float(np.median(lowest)) if len(lowest) else 0.0
        self.stances = stances_of(self.walker, path.pelvis_m, soles, soles[..., 1] - level)
        self.contact, self.up = flags_of(self.stances, len(self.walker)).astype(np.float64), pose[1, :3]

    def locked(self, pose: Array, path: Path) -> _StandingFeet:
        walker = self.walker
        locked = lock(walker, pose[:3, :3], path.pelvis_m, self.stances, anchored(walker, self.stances, path.anchors_m))
        before = (walker.pelvis_m[:, None] + walker.soles_m) @ pose[:3, :3].T + pose[:3, 3]
        after = locked.pelvis_m[:, None] + soles_of(*posed(walker.rest_joints_m, locked.rotations), walker.soles_rest_m)
        return _StandingFeet(walker, self.height_m, self.stances, locked, skating_of(before, after, self.stances))


def _pose(up: Array, height_m: float) -> Array:
    """(4, 4) world_from_camera: y up, the camera above the origin, facing -z as far as it does not face down."""
    ahead = np.array([0.0, 0.0, 1.0]) - up[2] * up
    if np.linalg.norm(ahead) < _STEEP:
        ahead = np.array([0.0, -1.0, 0.0]) + up[1] * up
    back = -ahead / np.linalg.norm(ahead)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([np.cross(up, back), up, back])
    pose[1, 3] = height_m
    return pose


def _world_track(track: Track, person: _StandingFeet | None, pose: Array, body: BodyModel) -> WorldTrack:
    """Rows without a valid body, and people without a walker, are only rotated into the world."""
    turn = pose[:3, :3]
    orient, body_pose = turn @ track.global_orient.astype(np.float64), track.body_pose.astype(np.float64)
    betas, pelvis = track.betas.astype(np.float64), track.joints_m[:, 0] @ turn.T + pose[:3, 3]
    contact = np.zeros((len(track), 4), np.bool_)
    if person is not None:
        walker = person.walker
        betas = np.tile(walker.betas, (len(track), 1))
        orient[walker.rows], body_pose[walker.rows] = person.locked.rotations[:, 0], person.locked.rotations[:, 1:]
        pelvis[walker.rows] = person.locked.pelvis_m
        contact[walker.rows] = flags_of(person.stances, len(walker))
    transl = pelvis - rest_pelvis(body, torch.from_numpy(betas)).double().numpy()
    rotations = torch.from_numpy(np.concatenate([orient[:, None], body_pose], 1))
    joints = forward_kinematics(body, rotations, torch.from_numpy(betas), torch.from_numpy(transl))[0].numpy()
    as_file = lambda values: values.astype(np.float32)
    return WorldTrack(as_file(orient), as_file(body_pose), as_file(betas), as_file(transl), as_file(joints), contact)


def _info(motion: Motion, tracks: dict[int, Track], found: _Found) -> dict[str, Any]:
    skating = Skating.together([person.skating for person in found.people])
    shifts = {identity: _shift_in_picture(motion, track, found.pose) for identity, track in tracks.items()}
    shift_px, share = (np.concatenate([np.zeros(0), *columns]) for columns in zip(*shifts.values(), strict=True))
    people = [_evidence(person, *shifts[person.walker.track_id]) for person in found.people]
    return {
        "what": "an estimate from the people alone, for one shot of a camera that does not move",
        "camera_height_m": round(float(found.pose[1, 3]), 4),
        "up_sd_deg": round(found.up_sd_deg, 2),
        "tilt_deg": round(found.tilt_deg, 2),
        "steps": sum(len(person.stances) for person in found.people),
        "skating_mm_per_contact_frame": {"before": round(skating.before_mm, 3), "after": round(skating.after_mm, 3)},
        "contact_frames": skating.frames,
        "moved_in_picture": {
            "median_px": round(_quantile(shift_px, 0.5), 2),
            "p95_px": round(_quantile(shift_px, 0.95), 2),
            "median_share_of_box": round(_quantile(share, 0.5), 4),
            "p95_share_of_box": round(_quantile(share, 0.95), 4),
        },
        "people": [person.as_info() for person in people],
        "warnings": warnings_of(people, found.tilt_deg, found.up_sd_deg),
    }


def _evidence(person: _StandingFeet, shift_px: Array, share: Array) -> WorldEvidence:
    walker = person.walker
    soles = walker.pelvis_m[:, None] + walker.soles_m
    speed = np.where(np.repeat(walker.seen, 2, axis=1), speeds_m_s(walker, soles, across=True), np.inf).min(1)
    x, y, z = np.median(walker.pelvis_m, axis=0).tolist()
    return WorldEvidence(
        track_id=walker.track_id,
        steps=len(person.stances),
        height_m=person.height_m,
        pelvis_m=(x, y, z),
        seen_s=float(walker.share_s[walker.seen.any(1)].sum()),
        sole_m_s=_quantile(speed[np.isfinite(speed)], 0.5, nothing=float("nan")),
        off_share=_quantile(share, 0.5),
        often_off_share=_quantile(share, 0.95),
        off_px=_quantile(shift_px, 0.5),
    )


def _quantile(values: Array, share: float, nothing: float = 0.0) -> float:
    return float(np.quantile(values, share)) if len(values) else nothing


def _shift_in_picture(motion: Motion, track: Track, pose: Array) -> tuple[Array, Array]:
    """Distance of the world's projected joints from those of the file: px, and as a share of the box's longer side."""
    assert track.world is not None
    camera = (track.world.world_joints_m - pose[:3, 3]) @ pose[:3, :3]
    seen = camera @ motion.K.T
    off = np.linalg.norm(seen[..., :2] / seen[..., 2:] - track.joints_px, axis=-1)
    side = (track.box_xyxy_px[:, 2:] - track.box_xyxy_px[:, :2]).max(1)
    good = np.isfinite(off).all(1) & (side > 0)
    return off[good].ravel(), (off[good] / side[good, None]).ravel()
