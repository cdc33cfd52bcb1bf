"""Points of posed bodies and their derivatives, for many bodies at once.

A pose is represented by the *global* rotations G (camera axes) of the 24 joints. A step rotates each of them on the left, exp(d_j) G_j,
in camera axes. A joint then moves only its own bones, so that derivatives are sums of single terms. The uncertainty about the camera's
axes has a simple form: small about the line of sight, large across it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.body.model import PARENTS, BodyModel
from mchmr_stream.fitting.body_points import BodyPoints
from mchmr_stream.geometry.rotation import exp_so3

Array = NDArray[np.float64]

JOINTS = len(PARENTS)
FREE_JOINTS = tuple(joint for joint in range(JOINTS) if joint not in (10, 11, 22, 23))
"""Joints that a fit rotates. Toes and fingers carry no point: they follow the joint above."""
ROTATION_SIZE = 3 * len(FREE_JOINTS)
BETAS, PLACE = slice(ROTATION_SIZE, ROTATION_SIZE + 10), slice(ROTATION_SIZE + 10, ROTATION_SIZE + 13)
SIZE = ROTATION_SIZE + 13
"""Length of a step: 20 rotations, 10 betas, 3 metres of the pelvis."""

_ANCESTORS = np.array(PARENTS)
_NO_BONE = JOINTS


@dataclass(frozen=True, eq=False)
class State:
    """n bodies in camera axes."""

    rotations: Array
    """(n, 24, 3, 3) global: from each joint's axes to the camera's"""
    betas: Array
    """(n, 10)"""
    pelvis: Array
    """(n, 3) metres"""

    def choose(self, better: NDArray[np.bool_], other: State) -> State:
        """Choose between two states, per body.

        Args:
            better: (n,) where `other` is taken.
            other: The other state.

        Returns:
            The chosen bodies.
        """
        return State(
            np.where(better[:, None, None, None], other.rotations, self.rotations),
            np.where(better[:, None], other.betas, self.betas),
            np.where(better[:, None], other.pelvis, self.pelvis),
        )


class Kinematics:
    """Kinematics of one body model with K points on it.

    Args:
        body: The body model.
        points: The points.
    """

    def __init__(self, body: BodyModel, points: BodyPoints) -> None:
        template, of_betas = body.joints_float64
        joint_dirs = of_betas.T.reshape(JOINTS, 3, -1)
        self.points = points
        self._bones = np.zeros((JOINTS, 3))
        self._bone_dirs = np.zeros((JOINTS, 3, 10))
        self._bones[1:] = template[1:] - template[_ANCESTORS[1:]]
        self._bone_dirs[1:] = joint_dirs[1:] - joint_dirs[_ANCESTORS[1:]]
        on_path = np.zeros((JOINTS, JOINTS))
        for joint in range(1, JOINTS):
            on_path[joint] = on_path[PARENTS[joint]]
            on_path[joint, joint] = 1
        self._on_path = on_path
        self._point_on_path = on_path[points.anchor]
        # For each point and joint: the bone on the path to the point that starts at that joint.
        self._joint_hanging = np.full((JOINTS, JOINTS), _NO_BONE)
        for end in range(JOINTS):
            joint = end
            while joint > 0:
                self._joint_hanging[end, PARENTS[joint]] = joint
                joint = PARENTS[joint]
        self._joint_hanging = self._joint_hanging[:, FREE_JOINTS]
        self._hanging = self._joint_hanging[points.anchor]
        self._carries = np.zeros((len(points), JOINTS))
        self._carries[np.arange(len(points)), points.bone] = 1
        self._carries = self._carries[:, FREE_JOINTS]
        self._parents = np.maximum(_ANCESTORS, 0)

    def bones(self, state: State) -> Array:
        """(n, 24, 3) metres, camera axes: from each joint's parent to the joint; 0 for the root."""
        rest = self._bones + (state.betas @ self._bone_dirs.reshape(-1, 10).T).reshape(-1, JOINTS, 3)
        return (state.rotations[:, self._parents] @ rest[..., None])[..., 0]

    def joints(self, state: State) -> Array:
        """(n, 24, 3) joints, metres, camera axes."""
        return np.asarray(state.pelvis[:, None] + self._on_path @ self.bones(state))

    def place(self, state: State) -> Array:
        """(n, K, 3) points, metres, camera axes."""
        return self._place(state, self.bones(state))[0]

    def place_with_slopes(self, state: State) -> tuple[Array, Array, Array]:
        """Compute the points and their derivatives.

        Args:
            state: n bodies.

        Returns:
            (n, K, 3) points; (n, K, 20, 3) levers m: a rotation d of a joint moves the point by d x m; (n, K, 3, 10) metres per unit of
            beta.
        """
        n = len(state.betas)
        bones = self.bones(state)
        points, carried = self._place(state, bones)
        with_none = np.concatenate([bones, np.zeros((n, 1, 3))], 1)
        levers = with_none[:, self._hanging] + self._carries[..., None] * carried[:, :, None]
        bone_slopes = (state.rotations[:, self._parents] @ self._bone_dirs).reshape(n, JOINTS, 30)
        slopes = (self._point_on_path @ bone_slopes).reshape(n, -1, 3, 10) + state.rotations[:, self.points.bone] @ self.points.shapedirs
        return points, levers, slopes

    def joint_slopes(self, state: State) -> Array:
        """(n, 24, 3, SIZE): derivatives of the joints relative to the pelvis by a step, metres."""
        n = len(state.betas)
        bones = np.concatenate([self.bones(state), np.zeros((n, 1, 3))], 1)
        levers = bones[:, self._joint_hanging]  # (n, 24, 20, 3)
        slopes = np.zeros((n, JOINTS, 3, SIZE))
        x, y, z = np.moveaxis(levers, -1, 0)
        turns = slopes[..., :ROTATION_SIZE].reshape(n, JOINTS, 3, len(FREE_JOINTS), 3)
        # The columns of d -> d x m.
        turns[:, :, 0, :, 1], turns[:, :, 0, :, 2] = z, -y
        turns[:, :, 1, :, 0], turns[:, :, 1, :, 2] = -z, x
        turns[:, :, 2, :, 0], turns[:, :, 2, :, 1] = y, -x
        slopes[..., :ROTATION_SIZE] = turns.reshape(n, JOINTS, 3, ROTATION_SIZE)
        bone_slopes = (state.rotations[:, self._parents] @ self._bone_dirs).reshape(n, JOINTS, 30)
        slopes[..., BETAS] = (self._on_path @ bone_slopes).reshape(n, JOINTS, 3, 10)
        return slopes

    def _place(self, state: State, bones: Array) -> tuple[Array, Array]:
        offsets = self.points.rest + (state.betas @ self.points.shapedirs.reshape(-1, 10).T).reshape(-1, len(self.points), 3)
        carried = (state.rotations[:, self.points.bone] @ offsets[..., None])[..., 0]
        return state.pelvis[:, None] + self._point_on_path @ bones + carried, carried


def cross(a: Array, b: Array) -> Array:
    """Cross product; several times faster than `numpy.cross`, which checks and moves axes.

    Args:
        a: (..., 3).
        b: (..., 3), broadcast.

    Returns:
        (..., 3).
    """
    product = np.empty(np.broadcast_shapes(a.shape, b.shape))
    ax, ay, az = a[..., 0], a[..., 1], a[..., 2]
    bx, by, bz = b[..., 0], b[..., 1], b[..., 2]
    product[..., 0] = ay * bz - az * by
    product[..., 1] = az * bx - ax * bz
    product[..., 2] = ax * by - ay * bx
    return product


def stepped(state: State, step: Array) -> State:
    """Apply a step. Toes and fingers rotate with the joint above them.

    Args:
        state: n bodies.
        step: (n, SIZE).

    Returns:
        The moved bodies.
    """
    n = len(step)
    turns = exp_so3(step[:, :ROTATION_SIZE].reshape(n, -1, 3))
    rotations = state.rotations.copy()
    rotations[:, FREE_JOINTS] = turns @ rotations[:, FREE_JOINTS]
    for joint in range(JOINTS):
        if joint not in FREE_JOINTS:
            above = FREE_JOINTS.index(PARENTS[joint])
            rotations[:, joint] = turns[:, above] @ state.rotations[:, joint]
    return State(rotations, state.betas + step[:, BETAS], state.pelvis + step[:, PLACE])


def global_from_relative(relative: Array) -> Array:
    """Convert relative to global rotations.

    Args:
        relative: (n, 24, 3, 3), root first, then each joint relative to its parent.

    Returns:
        (n, 24, 3, 3).
    """
    turned = np.array(relative, np.float64)
    for joint in range(1, JOINTS):
        turned[:, joint] = turned[:, PARENTS[joint]] @ turned[:, joint]
    return turned


def relative_from_global(rotations: Array) -> Array:
    """Inverse of `global_from_relative`."""
    parents = np.array(PARENTS[1:])
    relative = rotations.copy()
    relative[:, 1:] = np.swapaxes(rotations[:, parents], -1, -2) @ rotations[:, 1:]
    return relative
