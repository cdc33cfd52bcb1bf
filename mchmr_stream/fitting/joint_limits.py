"""Knees and elbows bend one way, and a leg is straight rather than bent where nothing speaks for a bend.

Each hinge has two bones: d, the direction of the lower one, and the axes of the upper one. Its bend to the wrong side and sideways costs
quadratically from a small angle on. A network that minimises squared errors says the mean over all legs with this picture,
which is bent; the most probable leg is straight. That part of the prior has heavy tails: a knee that is plainly bent pays hardly
more for being bent further.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.body.model import PARENTS, BodyModel
from mchmr_stream.fitting.kinematics import FREE_JOINTS, State
from mchmr_stream.records import JOINT_NAMES

Array = NDArray[np.float64]

_KNEES = tuple(JOINT_NAMES.index(name) for name in ("left_knee", "right_knee"))
_ELBOWS = tuple(JOINT_NAMES.index(name) for name in ("left_elbow", "right_elbow"))


@dataclass(frozen=True)
class LimitSettings:
    """Strengths; angles in radians."""

    wrong_way_rad: float = 0.06
    """standard deviation of a bend to the wrong side"""
    sideways_rad: float = 0.15
    """standard deviation of a knee's bend to the side"""
    slack: float = 0.03
    """sine of the angle that is free to the wrong side"""
    straight_cost: float = 3.0
    """what a knee that is plainly bent costs more than a straight one (twice the negative log probability); 0: no such prior"""
    straight_rad: float = 0.4
    """the bend at which half of it is due"""


class JointLimits:
    """Costs of the four hinges of n bodies and their derivatives."""

    def __init__(self, body: BodyModel, settings: LimitSettings | None = None) -> None:
        self.settings = settings or LimitSettings()
        template = body.joints_float64[0]
        children = {joint: child for child, joint in enumerate(PARENTS) if joint in (*_KNEES, *_ELBOWS)}
        hinges = (*_KNEES, *_ELBOWS)
        self._lower = [FREE_JOINTS.index(joint) for joint in hinges]
        self._upper = [FREE_JOINTS.index(PARENTS[joint]) for joint in hinges]
        self._lower_joint, self._upper_joint = list(hinges), [PARENTS[joint] for joint in hinges]
        unit = lambda vector: vector / np.linalg.norm(vector)
        self._down = np.stack([unit(template[children[joint]] - template[joint]) for joint in hinges])
        self._above = np.stack([unit(template[joint] - template[PARENTS[joint]]) for joint in hinges])
        # A shank does not come forward of its thigh, a forearm not behind its upper arm (rest axes: z forward).
        knee, elbow = np.array([0.0, 0.0, 1.0]), np.array([0.0, 0.0, -1.0])
        forbidden = np.stack([knee, knee, elbow, elbow])
        self._forbidden = forbidden - (forbidden * self._above).sum(-1, keepdims=True) * self._above
        self._sideways = np.cross(self._above, self._forbidden)
        self._free = np.maximum((self._forbidden * self._down).sum(-1), 0) + self.settings.slack
        self._is_knee = np.array([True, True, False, False])

    def cost(self, state: State) -> Array:
        """(n,)"""
        return self._terms(state)[0]

    def add_to(self, state: State, gradient: Array, hessian: Array) -> Array:
        """Add first and second derivatives (Gauss-Newton) in place; returns the cost (n,)."""
        cost, terms = self._terms(state)
        for residual, weight, at_upper, at_lower in terms:
            for hinge in range(len(self._lower)):
                up, low = 3 * self._upper[hinge], 3 * self._lower[hinge]
                slope = np.concatenate([at_upper[:, hinge], at_lower[:, hinge]], -1)
                weighted = weight[:, hinge, None] * slope
                index = np.r_[up : up + 3, low : low + 3]
                gradient[:, index] += weighted * residual[:, hinge, None]
                hessian[:, index[:, None], index] += weighted[:, :, None] * slope[:, None, :]
        return cost

    def _terms(self, state: State) -> tuple[Array, list[tuple[Array, Array, Array, Array]]]:
        """Residuals (n, 4) with weights and slopes for turns of the upper and the lower bone (n, 4, 3)."""
        chosen = self.settings
        upper, lower = state.rotations[:, self._upper_joint], state.rotations[:, self._lower_joint]
        carry = lambda rotations, axis: (rotations @ axis[..., None])[..., 0]
        down = carry(lower, self._down)
        terms = []

        wrong_axis = carry(upper, self._forbidden)
        wrong = np.maximum((wrong_axis * down).sum(-1) - self._free, 0)
        slope = np.cross(wrong_axis, down)
        weight = (wrong > 0) / chosen.wrong_way_rad**2
        cost = (weight * wrong**2).sum(-1)
        terms.append((wrong, weight, slope, -slope))

        side_axis = carry(upper, self._sideways)
        side = (side_axis * down).sum(-1) - (self._sideways * self._down).sum(-1)
        slope = np.cross(side_axis, down)
        weight = np.broadcast_to(self._is_knee / chosen.sideways_rad**2, side.shape)
        cost = cost + (weight * side**2).sum(-1)
        terms.append((side, weight, slope, -slope))

        if chosen.straight_cost > 0:
            # Geman-McClure's cost. sqrt(2 (1 - cos)) is the angle for small ones and has a slope of finite length everywhere but at 0.
            above = carry(upper, self._above)
            bend = np.sqrt(np.maximum(2 * (1 - (above * down).sum(-1)), 1e-8))
            slope = -np.cross(above, down) / bend[..., None]
            scale = chosen.straight_rad**2
            cost = cost + (self._is_knee * chosen.straight_cost * bend**2 / (scale + bend**2)).sum(-1)
            weight = self._is_knee * chosen.straight_cost * scale / (scale + bend**2) ** 2
            terms.append((bend, weight, slope, -slope))
        return cost, terms
