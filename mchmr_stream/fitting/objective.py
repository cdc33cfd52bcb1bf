"""The negative log posterior and its second-order model: keypoints, the network's body, and soft joint limits.

With W_k the root precision of a keypoint z_k, e the deviation from the network's body in tangent coordinates, S its covariance:

    cost = sum_k rho(|W_k (project(p_k) - z_k)|^2) + e^T S^-1 e + limits,    rho(s) = (nu + 2) log(1 + s / nu)

rho is twice the negative log likelihood of Student's t distribution with nu degrees of freedom in two dimensions, so that the influence
of a keypoint on another person does not grow with its distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.fitting.evidence import Evidence
from mchmr_stream.fitting.joint_limits import JointLimits
from mchmr_stream.fitting.point_kinematics import BETAS, FREE_JOINTS, PLACE, ROTATION_SIZE, SIZE, Kinematics, State, cross
from mchmr_stream.geometry.rotation import log_so3

Array = NDArray[np.float64]

_NEAREST_M = 0.05
"""Points closer to the camera's plane are not projected: they are not in the picture."""


@dataclass(frozen=True, eq=False)
class Prior:
    """The network's bodies and their covariance."""

    mean: State
    information: Array
    """(n, SIZE, SIZE) inverse covariance of the deviation, in `axes`"""
    axes: Array
    """(n, 3, 3) rotation from camera axes to the axes of rotations and bearings (the person's rolled camera)"""
    shape: Array
    """(n, 10) betas estimated from other frames"""
    shape_precision: Array
    """(n,) 1 / variance of each of them; 0 without other frames"""


@dataclass(frozen=True, eq=False)
class Quadratic:
    """Second-order model around a state: cost + 2 step . gradient + step . hessian . step."""

    cost: Array
    """(n,)"""
    gradient: Array
    """(n, SIZE)"""
    hessian: Array
    """(n, SIZE, SIZE) positive semidefinite (Gauss-Newton)"""


class Objective:
    """The objective of n people.

    Args:
        kinematics: Body model and points.
        evidence: Measured keypoints.
        prior: The network's bodies.
        limits: Joint limits.
        freedom: nu, degrees of freedom of the t distribution.
    """

    def __init__(self, kinematics: Kinematics, evidence: Evidence, prior: Prior, limits: JointLimits, freedom: float) -> None:
        self._kinematics, self._evidence, self._prior, self._limits = kinematics, evidence, prior, limits
        self._freedom = freedom
        self._root = evidence.root_precision()

    def cost(self, state: State) -> Array:
        """(n,) costs."""
        points = self._kinematics.place(state)
        squared = (self._whitened(points) ** 2).sum(-1)
        deviation = self._deviation(state)[0]
        prior = np.einsum("ni,nij,nj->n", deviation, self._prior.information, deviation)
        return np.asarray(self._rho(squared).sum(-1) + prior + self._shape_cost(state) + self._limits.cost(state))

    def quadratic(self, state: State) -> Quadratic:
        """Value, gradient and Gauss-Newton Hessian, with analytic derivatives."""
        n = len(state.betas)
        points, levers, beta_slopes = self._kinematics.place_with_slopes(state)
        residual = self._whitened(points)
        squared = (residual**2).sum(-1)
        per_metre = self._root @ self._projection_slopes(points)  # (n, K, 2, 3)
        slopes = np.empty((n, points.shape[1], 2, SIZE))
        # (d x m) . p = d . (m x p)
        turned = cross(levers[:, :, None], per_metre[:, :, :, None])
        slopes[..., :ROTATION_SIZE] = turned.reshape(*turned.shape[:3], -1)
        slopes[..., BETAS] = per_metre @ beta_slopes
        slopes[..., PLACE] = per_metre
        weight = (self._freedom + 2) / (self._freedom + squared)
        flat = slopes.reshape(n, -1, SIZE)
        weighted = (slopes * weight[..., None, None]).reshape(n, -1, SIZE)
        weighted_t = np.swapaxes(weighted, -1, -2)
        gradient = (weighted_t @ residual.reshape(n, -1, 1))[..., 0]
        hessian = weighted_t @ flat

        deviation, jacobian = self._deviation(state)
        informed = self._prior.information @ jacobian
        gradient += (np.swapaxes(informed, -1, -2) @ deviation[..., None])[..., 0]
        hessian += np.swapaxes(jacobian, -1, -2) @ informed
        cost = self._rho(squared).sum(-1) + np.einsum("ni,nij,nj->n", deviation, self._prior.information, deviation)
        held = self._prior.shape_precision
        gradient[:, BETAS] += held[:, None] * (state.betas - self._prior.shape)
        hessian[:, range(BETAS.start, BETAS.stop), range(BETAS.start, BETAS.stop)] += held[:, None]
        cost += self._shape_cost(state)
        cost += self._limits.add_to(state, gradient, hessian)
        return Quadratic(cost, gradient, hessian)

    def point_distances(self, state: State) -> Array:
        """(n, K) Mahalanobis distances of the points from their measurements."""
        return np.sqrt((self._whitened(self._kinematics.place(state)) ** 2).sum(-1))

    def _shape_cost(self, state: State) -> Array:
        return np.asarray(self._prior.shape_precision * ((state.betas - self._prior.shape) ** 2).sum(-1))

    def _rho(self, squared: Array) -> Array:
        return (self._freedom + 2) * np.log1p(squared / self._freedom)

    def _whitened(self, points: Array) -> Array:
        depth = np.maximum(points[..., 2:], _NEAREST_M)
        seen = self._evidence
        off = points[..., :2] / depth * seen.focal_px[:, None] + seen.centre_px[:, None] - seen.points_px
        return (self._root @ off[..., None])[..., 0]

    def _projection_slopes(self, points: Array) -> Array:
        """(n, K, 2, 3) pixels per metre."""
        depth = np.maximum(points[..., 2], _NEAREST_M)
        focal = self._evidence.focal_px[:, None]
        slopes = np.zeros((*points.shape[:2], 2, 3))
        slopes[..., 0, 0] = focal[..., 0] / depth
        slopes[..., 1, 1] = focal[..., 1] / depth
        slopes[..., 2] = -points[..., :2] / depth[..., None] ** 2 * focal
        return slopes

    def _deviation(self, state: State) -> tuple[Array, Array]:
        """(n, SIZE) deviation from the network's body, and its derivative (n, SIZE, SIZE)."""
        axes = self._prior.axes
        off, turns = _deviation(state, self._prior.mean, axes)
        jacobian = np.zeros((len(off), SIZE, SIZE))
        blocks = axes[:, None] @ _inverse_left_jacobian(turns)
        for number in range(len(FREE_JOINTS)):
            rows = slice(3 * number, 3 * number + 3)
            jacobian[:, rows, rows] = blocks[:, number]
        jacobian[:, BETAS, BETAS] = np.eye(10)
        jacobian[:, PLACE, PLACE] = _bearing_slopes(state.pelvis, axes)
        return off, jacobian


def deviation(state: State, mean: State, axes: Array) -> Array:
    """Deviation between bodies in tangent coordinates.

    Args:
        state: n bodies.
        mean: n other bodies.
        axes: (n, 3, 3) axes of rotations and bearings, see `Prior`.

    Returns:
        (n, SIZE).
    """
    return _deviation(state, mean, axes)[0]


def _deviation(state: State, mean: State, axes: Array) -> tuple[Array, Array]:
    """Also the rotations in camera axes, (n, 20, 3)."""
    joints = list(FREE_JOINTS)
    turns = log_so3(state.rotations[:, joints] @ np.swapaxes(mean.rotations[:, joints], -1, -2))
    off = np.empty((len(state.betas), SIZE))
    off[:, :ROTATION_SIZE] = (turns @ np.swapaxes(axes, -1, -2)).reshape(len(off), -1)
    off[:, BETAS] = state.betas - mean.betas
    off[:, PLACE] = _bearing(state.pelvis, axes) - _bearing(mean.pelvis, axes)
    return off, turns


def _bearing(place: Array, axes: Array) -> Array:
    """(n, 3): x / z, y / z and log z of a position, rotated into `axes`: errors are alike at every distance."""
    turned = (axes @ place[..., None])[..., 0]
    depth = np.maximum(turned[:, 2:], _NEAREST_M)
    return np.concatenate([turned[:, :2] / depth, np.log(depth)], -1)


def _bearing_slopes(place: Array, axes: Array) -> Array:
    turned = (axes @ place[..., None])[..., 0]
    depth = np.maximum(turned[:, 2], _NEAREST_M)
    slopes = np.zeros((len(place), 3, 3))
    slopes[:, 0, 0] = slopes[:, 1, 1] = slopes[:, 2, 2] = 1 / depth
    slopes[:, :2, 2] = -turned[:, :2] / depth[:, None] ** 2
    return slopes @ axes


def _inverse_left_jacobian(turns: Array) -> Array:
    """(..., 3) -> (..., 3, 3): derivative of log(exp(d) R) by d, up to third order of the rotation (Sola 2018, equation 146)."""
    cross = np.zeros((*turns.shape, 3))
    x, y, z = np.moveaxis(turns, -1, 0)
    cross[..., 0, 1], cross[..., 0, 2], cross[..., 1, 2] = -z, y, -x
    cross[..., 1, 0], cross[..., 2, 0], cross[..., 2, 1] = z, -y, x
    return np.eye(3) - cross / 2 + cross @ cross / 12
