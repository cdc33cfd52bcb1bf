"""Levenberg-Marquardt for many small problems in parallel: each has its own damping, and no cost increases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.fitting.objective import Objective, Quadratic
from mchmr_stream.fitting.point_kinematics import SIZE, State, stepped

Array = NDArray[np.float64]

_DAMPING_AT_FIRST, _DAMPING_UP, _DAMPING_DOWN = 1e-3, 8.0, 0.2
_DAMPING_LIMITS = (1e-7, 1e4)
_DIAGONAL_FLOOR = 1e-9
_CONVERGED = 1e-3
"""A problem has converged when its cost decreases relatively by less than this."""


@dataclass(frozen=True, eq=False)
class Minimum:
    """Result of the minimisation."""

    state: State
    cost: Array
    """(n,)"""
    cost_at_start: Array
    """(n,)"""
    hessian: Array
    """(n, SIZE, SIZE) of half the cost at the last linearisation: the inverse of the posterior covariance"""


def minimise(objective: Objective, start: State, iterations: int) -> Minimum:
    """Minimise the objective (Marquardt's scaling of the damping by the diagonal).

    Args:
        objective: The objective of n bodies.
        start: Initial state.
        iterations: Most linearisations.

    Returns:
        The best state and its Hessian.
    """
    state = start
    model = objective.quadratic(state)
    first = model.cost
    damping = np.full(len(first), _DAMPING_AT_FIRST)
    # A converged problem stops: its result must not depend on the others in the batch.
    active = np.ones(len(first), np.bool_)
    for iteration in range(iterations):
        step = _step(model, damping)
        tried = stepped(state, step)
        last = iteration == iterations - 1
        if last:
            cost = objective.cost(tried)
            better = active & (cost < model.cost)
            state = state.choose(better, tried)
            return Minimum(state, np.where(better, cost, model.cost), first, model.hessian)
        trial = objective.quadratic(tried)
        better = active & (trial.cost < model.cost)
        solved = better & (model.cost - trial.cost < _CONVERGED * np.maximum(model.cost, 1))
        state = state.choose(better, tried)
        model = Quadratic(
            np.where(better, trial.cost, model.cost),
            np.where(better[:, None], trial.gradient, model.gradient),
            np.where(better[:, None, None], trial.hessian, model.hessian),
        )
        damping = np.clip(np.where(better, damping * _DAMPING_DOWN, damping * _DAMPING_UP), *_DAMPING_LIMITS)
        active &= ~solved
        if not active.any():
            break
    return Minimum(state, model.cost, first, model.hessian)


def _step(model: Quadratic, damping: Array) -> Array:
    diagonal = np.maximum(np.einsum("nii->ni", model.hessian), _DIAGONAL_FLOOR)
    damped = model.hessian + (damping[:, None] * diagonal)[:, :, None] * np.eye(SIZE)
    return -np.linalg.solve(damped, model.gradient[..., None])[..., 0]
