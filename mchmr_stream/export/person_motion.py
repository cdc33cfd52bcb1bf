"""One person in the form that all formats need: one shape, one skeleton, rotating joints, a path of the pelvis.

Skeletons of other programs have bones of fixed length. A file of a run has one shape per person; a file with several shapes is reduced
to the median over the frames. The pelvis keeps its position in each frame; `joint_differences_m` is the resulting deviation of the
other joints.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mchmr_stream.body.model import BodyModel, forward_kinematics, rest_joints
from mchmr_stream.body.model import skin as skin_body
from mchmr_stream.errors import InputError
from mchmr_stream.motion.motion import WORLD_COLUMNS, Track

Array = NDArray[np.float64]

Y_UP_FROM_CAMERA: Array = np.diag([1.0, -1.0, -1.0])
"""x right, y up, z towards the viewer: the axes of glTF, BVH, USD and `.smpl`. The camera looks along -z, as in glTF and USD."""
Z_UP_FROM_Y_UP: Array = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
"""From y up (x right, z towards the viewer) to z up (x right, y away from the viewer): AMASS's axes."""

log = logging.getLogger(__name__)

_LEAST_DETERMINANT = 0.5
"""Least determinant of a rotation, which should be 1."""


@dataclass(frozen=True, eq=False)
class ExportedPerson:
    """F frames of one person, in the axes of `world_from_camera`."""

    track_id: int
    time_s: Array
    """(F,) rising"""
    rotations: Array
    """(F, 24, 3, 3): root first, world axes from body axes; then each joint relative to its parent"""
    pelvis_m: Array
    """(F, 3) world axes"""
    betas: Array
    """(10,)"""
    rest_joints_m: Array
    """(24, 3): joints of the T-pose, body axes (x to the body's left, y up, z forward)"""
    joints_m: Array
    """(F, 24, 3) world axes, as in the file: with the shape of each frame"""

    def __len__(self) -> int:
        return len(self.time_s)

    @property
    def transl_m(self) -> Array:
        """(F, 3): SMPL's translation of the body with `betas`."""
        return self.pelvis_m - self.rest_joints_m[0]


def usable_rows(track: Track) -> Track:
    """Drop rows that are not finite or hold no rotations, with a warning.

    Args:
        track: The track.

    Returns:
        The valid rows.

    Raises:
        InputError: Two rows have the same time, or times decrease.
    """
    rotations = track.rotations
    numbers: list[NDArray] = [rotations, track.joints_m, track.betas, track.transl, track.time_s]
    if track.world is not None:
        numbers += [getattr(track.world, name) for name in WORLD_COLUMNS]
    good = np.logical_and.reduce([np.isfinite(values).all(tuple(range(1, values.ndim))) for values in numbers])
    good[good] = (np.linalg.det(rotations[good].astype(np.float64)) > _LEAST_DETERMINANT).all(1)
    if not good.all():
        first = track.frame[np.flatnonzero(~good)[0]]
        log.warning("person %d: %d rows are no bodies and left out, the first at frame %d", track.track_id, (~good).sum(), first)
        track = track.only(good)
    again = np.flatnonzero(np.diff(track.time_s) <= 0)
    if len(again):
        raise InputError(
            f"person {track.track_id} has two rows at {track.time_s[again[0] + 1]:.3f} s or goes back in time, expected rising times"
        )
    return track


def in_world(track: Track, body: BodyModel, axes: Array) -> ExportedPerson:
    """Convert a track to world axes (y up, floor at 0) where the file has a world, else to y-up axes of the camera.

    Args:
        track: The track.
        body: The body model.
        axes: (3, 3) rotation from y-up axes to those of the format.

    Returns:
        The person.

    Raises:
        ValueError: The track has no rows.
    """
    world = track.world
    if world is None:
        return person_of(track, body, axes @ Y_UP_FROM_CAMERA)
    standing = dataclasses.replace(
        track,
        global_orient=world.world_global_orient,
        body_pose=world.world_body_pose,
        betas=world.world_betas,
        transl=world.world_transl,
        joints_m=world.world_joints_m,
    )
    return person_of(standing, body, axes)


def person_of(track: Track, body: BodyModel, world_from_camera: Array) -> ExportedPerson:
    """Convert a track.

    Args:
        track: The track, camera axes.
        body: The body model.
        world_from_camera: (3, 3) rotation.

    Returns:
        The person.

    Raises:
        ValueError: The track has no rows.
    """
    if not len(track):
        raise ValueError(f"person {track.track_id} has no rows")
    betas = np.median(track.betas.astype(np.float64), axis=0)
    rotations = track.rotations.astype(np.float64)
    rotations[:, 0] = world_from_camera @ rotations[:, 0]
    joints_m = track.joints_m @ world_from_camera.T
    return ExportedPerson(
        track_id=track.track_id,
        time_s=track.time_s,
        rotations=rotations,
        pelvis_m=joints_m[:, 0],
        betas=betas,
        rest_joints_m=rest_joints(body, torch.from_numpy(betas)[None])[0].double().numpy(),
        joints_m=joints_m,
    )


def rest_vertices_m(person: ExportedPerson, body: BodyModel) -> Array:
    """Vertices of the T-pose.

    Args:
        person: The person.
        body: The body model.

    Returns:
        (V, 3) body axes.
    """
    identity = torch.eye(3).expand(1, 24, 3, 3)
    return skin_body(body, identity, torch.from_numpy(person.betas)[None])[0][0].double().numpy()


def posed_joints_m(person: ExportedPerson, body: BodyModel) -> Array:
    """(F, 24, 3) world axes: the joints with the one shape."""
    betas = torch.from_numpy(person.betas).expand(len(person), -1)
    joints = forward_kinematics(body, torch.from_numpy(person.rotations), betas, torch.from_numpy(person.transl_m))[0]
    return joints.double().numpy()


def joint_differences_m(person: ExportedPerson, body: BodyModel) -> Array:
    """Distance of the joints with the one shape from the file's.

    Args:
        person: The person, F frames.
        body: The body model.

    Returns:
        (F, 24) metres.
    """
    return np.linalg.norm(posed_joints_m(person, body) - person.joints_m, axis=-1)
