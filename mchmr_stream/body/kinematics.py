"""Joints of posed bodies in numpy: for the few people of a frame several times as fast as `model.forward_kinematics`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.body.model import PARENTS, TREE_LEVELS, BodyModel

Array = NDArray[np.float64]
FloatArray = NDArray[np.floating]


def _ancestors() -> Array:
    """(24, 24): 1 where the second joint is an ancestor of the first, or the same joint."""
    is_ancestor = np.eye(len(PARENTS))
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            is_ancestor[joint] += is_ancestor[parent]
    return is_ancestor


def _slice_or_list(joints: list[int]) -> slice | list[int]:
    """Consecutive joints as a slice, which gives a view."""
    consecutive = list(range(joints[0], joints[-1] + 1))
    return slice(consecutive[0], consecutive[-1] + 1) if joints == consecutive else joints


_ANCESTORS = _ancestors()
_PARENTS = np.array(PARENTS[1:])
_LEVELS = [(_slice_or_list(list(level)), _slice_or_list([PARENTS[joint] for joint in level])) for level in TREE_LEVELS[1:]]
"""Joints of every level of the tree, and their parents. SMPL numbers its joints level by level."""


def rest_joints(body: BodyModel, betas: FloatArray) -> Array:
    """(..., 10) betas -> (..., 24, 3) joints of the T-pose, body axes, metres."""
    template, of_betas = body.joints_float64
    return template + (np.asarray(betas, np.float64) @ of_betas).reshape(*betas.shape[:-1], *template.shape)


def posed_joints(body: BodyModel, rotations: FloatArray, betas: FloatArray) -> tuple[Array, Array]:
    """Pose the skeleton. The joints of a body at `transl` are the sum of `transl` and both results.

    Args:
        body: The body.
        rotations: (n, 24, 3, 3), root first, each relative to its parent.
        betas: (..., n, 10): one or several shapes of each person.

    Returns:
        Pelvis at rest (..., n, 3), and all joints relative to the pelvis (..., n, 24, 3), metres.
    """
    rest = rest_joints(body, betas)
    return rest[..., 0, :], joints_around_pelvis(rest, global_rotations(rotations))


def global_rotations(rotations: FloatArray) -> Array:
    """Rotation of each joint in the root's outer axes (n, 24, 3, 3).

    Args:
        rotations: (n, 24, 3, 3), root first, each relative to its parent.
    """
    outer = np.array(rotations, np.float64)
    for joints, parents in _LEVELS:
        outer[:, joints] = outer[:, parents] @ outer[:, joints]
    return outer


def joints_around_pelvis(rest_joints_m: Array, outer: Array) -> Array:
    """Posed joints relative to the pelvis (..., n, 24, 3), metres.

    Args:
        rest_joints_m: (..., n, 24, 3), or (24, 3) for all: joints of the rest pose.
        outer: (n, 24, 3, 3) of `global_rotations`.
    """
    bones = np.zeros(np.broadcast_shapes(rest_joints_m.shape, outer.shape[:-1]))
    bones[..., 1:, :] = (outer[:, _PARENTS] @ (rest_joints_m[..., 1:, :] - rest_joints_m[..., _PARENTS, :])[..., None])[..., 0]
    return _ANCESTORS @ bones


def camera_joints(body: BodyModel, rotations: FloatArray, betas: FloatArray, transl: FloatArray) -> NDArray[np.float32]:
    """Joints of bodies at `transl`.

    Args:
        body: The body.
        rotations: (n, 24, 3, 3), root first, each relative to its parent.
        betas: (n, 10).
        transl: (n, 3) m.

    Returns:
        (n, 24, 3) camera axes, metres.
    """
    pelvis, around = posed_joints(body, rotations, betas)
    return ((pelvis + transl)[:, None] + around).astype(np.float32)
