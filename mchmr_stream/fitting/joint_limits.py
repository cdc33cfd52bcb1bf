"""Soft joint limits, and priors for straight legs and an upright trunk where there is no evidence.

A hinge has two bones: the direction of the lower one, and the axes of the upper one. Its flexion to the wrong side, and a knee's to the
side, cost quadratically from a small angle on.

A network that minimises squared errors predicts the mean over all legs with this picture, which is bent; the most probable leg is
straight. Knees and hips therefore have a prior for the straight pose with heavy tails (Geman-McClure): for a joint that is clearly
bent, further flexion costs hardly more. A trunk has the same prior for the upright pose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.body.model import PARENTS, BodyModel
from mchmr_stream.datatypes import JOINT_NAMES
from mchmr_stream.fitting.point_kinematics import FREE_JOINTS, State, cross

Array = NDArray[np.float64]

_KNEES, _ELBOWS, _HIPS, _SHOULDERS = (
    tuple(JOINT_NAMES.index(f"{side}_{name}") for side in ("left", "right")) for name in ("knee", "elbow", "hip", "shoulder")
)
_HINGES = (*_KNEES, *_ELBOWS, *_HIPS, *_SHOULDERS)
_FORWARD = np.array([0.0, 0.0, 1.0])
_ANY = 2.0
"""Larger than any sine: no side of this hinge is forbidden."""


@dataclass(frozen=True)
class LimitSettings:
    """Strengths of limits and priors; angles in radians, costs as twice a negative log probability."""

    wrong_way_rad: float = 0.06
    """standard deviation of flexion to the wrong side"""
    sideways_rad: float = 0.15
    """standard deviation of a knee's flexion to the side"""
    slack: float = 0.03
    """sine of the angle to the wrong side that is free in knees and elbows"""
    hip_slack: float = 0.25
    """the same for a thigh behind the trunk"""
    straight_cost: float = 4.0
    """cost of a clearly bent knee relative to a straight one; 0: no such prior"""
    straight_rad: float = 0.4
    """flexion at which half of that cost applies"""
    hip_cost: float = 2.0
    """the same for a thigh out of line with the trunk"""
    hip_rad: float = 0.5
    upright_cost: float = 3.0
    """the same for a trunk that does not point up"""
    upright_rad: float = 0.5
    hanging_cost: float = 4.0
    """the same for an elbow and an upper arm that do not hang straight, where they are fully occluded; visible ones are free"""
    hanging_rad: float = 0.5
    unseen_factor: float = 5.0
    """factor on the costs of a bent leg and a leaning trunk where their keypoints are fully occluded"""


class JointLimits:
    """Costs of knees, elbows, hips and trunk of n bodies, and their derivatives."""

    def __init__(
        self, body: BodyModel, settings: LimitSettings | None = None, up: Array | None = None, unseen: Array | None = None
    ) -> None:
        """Set up the costs.

        Args:
            body: The body model.
            settings: Strengths.
            up: (n, 3) unit vectors of the up direction in camera axes; None: towards the picture's upper border.
            unseen: (n, 9) in [0, 1], occlusion of trunk, thighs, shanks, upper arms and forearms, left before right; None: all are
                visible.
        """
        self.settings = chosen = settings or LimitSettings()
        self._upward = np.array([[0.0, -1.0, 0.0]]) if up is None else up
        template = body.joints_float64[0]
        children = {parent: joint for joint, parent in enumerate(PARENTS)}
        self._upper_joint, self._lower_joint = [PARENTS[joint] for joint in _HINGES], list(_HINGES)
        self._upper = [FREE_JOINTS.index(joint) for joint in self._upper_joint]
        self._lower = [FREE_JOINTS.index(joint) for joint in _HINGES]
        unit = lambda vector: vector / np.linalg.norm(vector)
        self._down = np.stack([unit(template[children[joint]] - template[joint]) for joint in _HINGES])
        """the lower bone, rest axes"""
        self._above = np.stack([unit(template[joint] - template[PARENTS[joint]]) for joint in _HINGES])
        self._above[4:] = [0.0, -1.0, 0.0]
        """the upper bone; the trunk, for hips and shoulders"""
        # Forbidden: a shank in front of its thigh; a forearm or thigh behind its parent.
        forbidden = np.stack([_FORWARD] * 2 + [-_FORWARD] * 6)
        self._forbidden = forbidden - (forbidden * self._above).sum(-1, keepdims=True) * self._above
        self._sideways = np.cross(self._above, self._forbidden)
        self._side_at_rest = (self._sideways * self._down).sum(-1)
        is_knee, _, is_hip, is_shoulder = (np.repeat(np.arange(4) == kind, 2) for kind in range(4))
        self._free = np.maximum((self._forbidden * self._down).sum(-1), 0) + np.where(is_hip, chosen.hip_slack, chosen.slack)
        self._free[is_shoulder] = _ANY
        self._side_weight = is_knee / chosen.sideways_rad**2
        unseen = np.zeros((1, 9)) if unseen is None else unseen
        more = 1 + (chosen.unseen_factor - 1) * unseen
        self._upright_cost = chosen.upright_cost * more[:, 0]
        knees, hips = chosen.straight_cost * more[:, 3:5], chosen.hip_cost * more[:, 1:3]
        elbows, shoulders = chosen.hanging_cost * unseen[:, 7:9], chosen.hanging_cost * unseen[:, 5:7]
        self._straight_cost = np.concatenate([knees, elbows, hips, shoulders], 1)
        scales = (chosen.straight_rad, chosen.hanging_rad, chosen.hip_rad, chosen.hanging_rad)
        self._straight_scale = np.repeat(scales, 2) ** 2

    def cost(self, state: State) -> Array:
        """(n,) costs."""
        return np.asarray(self._terms(state)[0] + self._upright(state)[0])

    def add_to(self, state: State, gradient: Array, hessian: Array) -> Array:
        """Add first and second derivatives (Gauss-Newton) in place.

        Args:
            state: n bodies.
            gradient: (n, SIZE), changed.
            hessian: (n, SIZE, SIZE), changed.

        Returns:
            The costs (n,).
        """
        cost, residual, weight, slope = self._terms(state)
        weighted = weight[..., None] * slope
        pull = np.einsum("nthc,nth->nhc", weighted, residual)
        stiffness = np.einsum("nthc,nthd->nhcd", weighted, slope)
        # The derivative by a rotation of the lower bone is the negative of that by the upper one.
        for hinge, (above, below) in enumerate(zip(self._upper, self._lower, strict=True)):
            up, low = slice(3 * above, 3 * above + 3), slice(3 * below, 3 * below + 3)
            gradient[:, up] += pull[:, hinge]
            gradient[:, low] -= pull[:, hinge]
            hessian[:, up, up] += stiffness[:, hinge]
            hessian[:, low, low] += stiffness[:, hinge]
            hessian[:, up, low] -= stiffness[:, hinge]
            hessian[:, low, up] -= stiffness[:, hinge]
        leaning, residual, weight, slope = self._upright(state)
        weighted = weight[:, None] * slope
        gradient[:, :3] += weighted * residual[:, None]
        hessian[:, :3, :3] += weighted[:, :, None] * slope[:, None, :]
        return cost + leaning

    def _upright(self, state: State) -> tuple[Array, Array, Array, Array]:
        """Cost, residual, weight (n,) and slope (n, 3) of the pelvis' lean; the pelvis is the first free joint."""
        trunk = state.rotations[:, 0, :, 1]
        lean = np.sqrt(np.maximum(2 * (1 - (trunk * self._upward).sum(-1)), 1e-8))
        scale, cost = self.settings.upright_rad**2, self._upright_cost
        # d lean = - (d x trunk) . up / lean = - d . (trunk x up) / lean
        slope = -cross(trunk, np.broadcast_to(self._upward, trunk.shape)) / lean[:, None]
        return cost * lean**2 / (scale + lean**2), lean, cost * scale / (scale + lean**2) ** 2, slope

    def _terms(self, state: State) -> tuple[Array, Array, Array, Array]:
        """Cost (n,); residuals and weights (n, 3, 8) of flexion to the wrong side, to the side, and in total; slopes (n, 3, 8, 3)."""
        upper, lower = state.rotations[:, self._upper_joint], state.rotations[:, self._lower_joint]
        carry = lambda rotations, axis: (rotations @ axis[..., None])[..., 0]
        down = carry(lower, self._down)

        wrong_axis = carry(upper, self._forbidden)
        wrong = np.maximum((wrong_axis * down).sum(-1) - self._free, 0)
        wrong_weight = (wrong > 0) / self.settings.wrong_way_rad**2

        side_axis = carry(upper, self._sideways)
        side = (side_axis * down).sum(-1) - self._side_at_rest
        side_weight = np.broadcast_to(self._side_weight, side.shape)

        # sqrt(2 (1 - cos)) approximates the angle and has a finite slope everywhere but at 0.
        above = carry(upper, self._above)
        bend = np.sqrt(np.maximum(2 * (1 - (above * down).sum(-1)), 1e-8))
        bend_weight = self._straight_cost * self._straight_scale / (self._straight_scale + bend**2) ** 2

        cost = (wrong_weight * wrong**2 + side_weight * side**2 + self._straight_cost * bend**2 / (self._straight_scale + bend**2)).sum(-1)
        slopes = cross(np.stack([wrong_axis, side_axis, -above / bend[..., None]], 1), down[:, None])
        return cost, np.stack([wrong, side, bend], 1), np.stack([wrong_weight, side_weight, bend_weight], 1), slopes
