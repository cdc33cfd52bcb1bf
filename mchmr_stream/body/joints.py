"""Where the joints of a posed body are, in numpy: for the few people of a frame several times faster than `model.forward_kinematics`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.body.body_model import PARENTS, TREE_LEVELS, BodyModel

Array = NDArray[np.float64]
FloatArray = NDArray[np.floating]


def _ancestors() -> Array:
    """(24, 24): 1 where the second joint is on the way from the root to the first, which counts as on its own way."""
    on_way = np.eye(len(PARENTS))
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            on_way[joint] += on_way[parent]
    return on_way


def _slice_or_list(joints: list[int]) -> slice | list[int]:
    """Joints one after the other as a slice, which is a view."""
    whole = list(range(joints[0], joints[-1] + 1))
    return slice(whole[0], whole[-1] + 1) if joints == whole else joints


_ON_WAY = _ancestors()
_PARENTS = np.array(PARENTS[1:])
_LEVELS = [(_slice_or_list(list(level)), _slice_or_list([PARENTS[joint] for joint in level])) for level in TREE_LEVELS[1:]]
"""The joints of every level of the tree, and their parents. SMPL numbers its joints level by level."""


def rest_joints(body: BodyModel, betas: FloatArray) -> Array:
    """(..., 10) -> (..., 24, 3): the T-pose, body axes, metres."""
    template, of_betas = body.joints_float64
    return template + (np.asarray(betas, np.float64) @ of_betas).reshape(*betas.shape[:-1], *template.shape)


def posed_joints(body: BodyModel, rotations: FloatArray, betas: FloatArray) -> tuple[Array, Array]:
    """Pelvis at rest (..., n, 3), and all joints around the pelvis (..., n, 24, 3), metres.

    `rotations` (n, 24, 3, 3): root first, each relative to its parent; `betas` (..., n, 10): one or several shapes of each person.
    Joints of a body at `transl` are the sum of all three.
    """
    rest = rest_joints(body, betas)
    outer = np.array(rotations, np.float64)
    for joints, parents in _LEVELS:
        outer[:, joints] = outer[:, parents] @ outer[:, joints]
    bones = np.zeros_like(rest)
    bones[..., 1:, :] = (outer[:, _PARENTS] @ (rest[..., 1:, :] - rest[..., _PARENTS, :])[..., None])[..., 0]
    return rest[..., 0, :], _ON_WAY @ bones


def camera_joints(body: BodyModel, rotations: FloatArray, betas: FloatArray, transl: FloatArray) -> NDArray[np.float32]:
    """(n, 24, 3) joints of bodies that stand at `transl` (n, 3), camera axes, metres. Other arguments as those of `posed_joints`."""
    pelvis, around = posed_joints(body, rotations, betas)
    return ((pelvis + transl)[:, None] + around).astype(np.float32)
