"""Kalman filter and Rauch-Tung-Striebel smoother for the rotations of one person, on the tangent space of SO(3).

Every joint has a rotation R and an angular velocity w (body axes, rad/s) that is driven by white angular acceleration of
spectral density q. What is uncertain is a small turn on the right, R exp(d), and the velocity: an error state of 2 x 3 numbers
(Sola et al., "A micro Lie theory for state estimation in robotics", 2018). Noise is the same about every axis, so the three
axes share one 2 x 2 covariance and the result turns with its input on either side. All joints are computed at once.

A measurement of a rotation is worth the time it stands for: its variance is `rho` divided by those seconds. So the same motion
filmed at 12, 30 or 60 frames per second is smoothed alike, with the time constant (rho / q) ** (1/4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.geometry.rotation import exp_so3, geodesic_rad, log_so3

Array = NDArray[np.float64]

RHO = 0.05**2 / 30
"""rad^2 s: a network that is off by 0.05 rad in each of 30 independent frames a second. Only its relation to the velocities at the
start and to the limits of `surprise` counts; how much is smoothed is set by the time constants."""
_START_SPEED = 3.0
"""Standard deviation of the angular velocity of a joint just seen, rad/s."""


@dataclass(frozen=True, eq=False)
class RotationStep:
    """What the filter knew after one frame, and what the smoother needs to come back to it. J joints."""

    rotations: Array
    """(J, 3, 3)"""
    turning: Array
    """(J, 3) rad/s"""
    covariance: Array
    """(J, 2, 2)"""
    correction: Array
    """(J, 2, 3): by how much the measurement moved turn and velocity"""
    moved_back: Array
    """(J, 3, 3): from the axes of this frame, as expected, to those of the one before"""
    gain: Array
    """(J, 2, 2): of the smoother, from this frame to the one before"""


def start(rotations: Array, stands_for_s: float, noise: Array) -> RotationStep:
    """First frame: (J, 3, 3), the seconds it stands for, and (J,) by what factor its variance is larger than usual."""
    joints = len(rotations)
    covariance = np.zeros((joints, 2, 2))
    covariance[:, 0, 0] = RHO * noise / stands_for_s
    covariance[:, 1, 1] = _START_SPEED**2
    same = np.broadcast_to(np.eye(3), (joints, 3, 3))
    return RotationStep(rotations, np.zeros((joints, 3)), covariance, np.zeros((joints, 2, 3)), same, np.zeros((joints, 2, 2)))


def predict(before: RotationStep, dt_s: float, drive: Array) -> RotationStep:
    """`dt_s` seconds on without a measurement. `drive` (J,) is q, rad^2 / s^3."""
    moved = exp_so3(before.turning * dt_s)
    step = np.array([[1.0, dt_s], [0.0, 1.0]])
    carried = before.covariance @ step.T
    covariance = step @ carried + drive[:, None, None] * white_noise(dt_s)
    return RotationStep(
        before.rotations @ moved,
        before.turning,
        covariance,
        np.zeros_like(before.correction),
        np.ascontiguousarray(_transposed(moved)),
        carried @ np.linalg.inv(covariance),
    )


def white_noise(dt_s: float) -> Array:
    """(2, 2) covariance of position and velocity after `dt_s` of white acceleration, for a spectral density of 1."""
    return np.array([[dt_s**3 / 3, dt_s**2 / 2], [dt_s**2 / 2, dt_s]])


def surprise(predicted: RotationStep, rotations: Array, stands_for_s: float) -> Array:
    """(J,): squared angle between prediction and measurement, over its expected value."""
    expected = 3 * (predicted.covariance[:, 0, 0] + RHO / stands_for_s)
    return np.asarray(geodesic_rad(predicted.rotations, rotations) ** 2 / expected)


def update(predicted: RotationStep, rotations: Array, stands_for_s: float, noise: Array) -> RotationStep:
    """Take in a measurement (J, 3, 3); `noise` (J,) multiplies its variance, infinity leaves it out."""
    covariance = predicted.covariance
    share = covariance[:, :, 0] / (covariance[:, 0, 0] + RHO * noise / stands_for_s)[:, None]
    turn = log_so3(_transposed(predicted.rotations) @ rotations)
    correction = share[:, :, None] * turn[:, None]
    return RotationStep(
        predicted.rotations @ exp_so3(correction[:, 0]),
        predicted.turning + correction[:, 1],
        covariance - share[:, :, None] * covariance[:, None, 0, :],
        correction,
        predicted.moved_back,
        predicted.gain,
    )


def smoothed(steps: list[RotationStep], count: int) -> Array:
    """(count, J, 3, 3): the first `count` steps from all of them: what came later corrects what was known before."""
    error = np.zeros_like(steps[-1].correction)
    errors = [error]
    for after in reversed(steps[1:]):
        # Both as seen from the prediction, turned into the axes of the frame before.
        error = after.gain @ ((error + after.correction) @ after.moved_back)
        errors.append(error)
    turns = np.array(errors[: -count - 1 : -1])[:, :, 0]
    return np.stack([one.rotations for one in steps[:count]]) @ exp_so3(turns)


def _transposed(rotations: Array) -> Array:
    return np.swapaxes(rotations, -1, -2)
