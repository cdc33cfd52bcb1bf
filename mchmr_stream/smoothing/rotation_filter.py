"""Kalman filter and Rauch-Tung-Striebel smoother for the rotations of one person, on the tangent space of SO(3).

Each joint has a rotation R and an angular velocity w (body axes, rad/s), driven by white angular acceleration of spectral density q.
The error state is a small rotation on the right, R exp(d), and the error of the velocity: 2 x 3 numbers (Sola et al., "A micro Lie
theory for state estimation in robotics", 2018). The noise is isotropic, so the three axes share one 2 x 2 covariance, and the result is
equivariant under rotations on either side. All joints are computed at once.

The variance of a measurement is `rho` divided by the seconds it represents. The same motion filmed at 12, 30 or 60 frames per second is
smoothed alike, with the time constant (rho / q) ** (1/4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.geometry.rotation import exp_so3, geodesic_rad, log_so3

Array = NDArray[np.float64]

RHO = 0.05**2 / 30
"""rad^2 s: an error of 0.05 rad in each of 30 independent frames a second. Only its ratio to the initial velocities and to the innovation
gates matters; the time constants set the smoothing.
"""
_START_SPEED = 3.0
"""Standard deviation of the initial angular velocity of a joint, rad/s."""


@dataclass(frozen=True, eq=False)
class RotationStep:
    """State after one frame, and what the backward pass needs. J joints."""

    rotations: Array
    """(J, 3, 3)"""
    turning: Array
    """(J, 3) rad/s"""
    covariance: Array
    """(J, 2, 2)"""
    correction: Array
    """(J, 2, 3): the measurement's correction of rotation and velocity"""
    moved_back: Array
    """(J, 3, 3): from the predicted axes of this frame to those of the previous one"""
    gain: Array
    """(J, 2, 2): smoother gain, from this frame to the previous one"""


def start(rotations: Array, duration_s: float, noise: Array) -> RotationStep:
    """Initialise from the first frame.

    Args:
        rotations: (J, 3, 3).
        duration_s: Seconds that the frame represents.
        noise: (J,) variance factors.

    Returns:
        The first step.
    """
    joints = len(rotations)
    covariance = np.zeros((joints, 2, 2))
    covariance[:, 0, 0] = RHO * noise / duration_s
    covariance[:, 1, 1] = _START_SPEED**2
    same = np.broadcast_to(np.eye(3), (joints, 3, 3))
    return RotationStep(rotations, np.zeros((joints, 3)), covariance, np.zeros((joints, 2, 3)), same, np.zeros((joints, 2, 2)))


def predict(before: RotationStep, dt_s: float, spectral_density: Array) -> RotationStep:
    """Predict the state without a measurement.

    Args:
        before: The last step.
        dt_s: Seconds to predict.
        spectral_density: (J,) spectral density q, rad^2 / s^3.

    Returns:
        The predicted step.
    """
    moved = exp_so3(before.turning * dt_s)
    step = np.array([[1.0, dt_s], [0.0, 1.0]])
    carried = before.covariance @ step.T
    covariance = step @ carried + spectral_density[:, None, None] * white_noise(dt_s)
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


def squared_innovation(predicted: RotationStep, rotations: Array, duration_s: float) -> Array:
    """Squared angle between prediction and measurement, relative to its expected value.

    Args:
        predicted: The predicted step.
        rotations: (J, 3, 3) measured rotations.
        duration_s: Seconds that the measurement represents.

    Returns:
        (J,).
    """
    expected = 3 * (predicted.covariance[:, 0, 0] + RHO / duration_s)
    return np.asarray(geodesic_rad(predicted.rotations, rotations) ** 2 / expected)


def update(predicted: RotationStep, rotations: Array, duration_s: float, noise: Array) -> RotationStep:
    """Correct the prediction by a measurement.

    Args:
        predicted: The predicted step.
        rotations: (J, 3, 3) measured rotations.
        duration_s: Seconds that the measurement represents.
        noise: (J,) variance factors; infinity ignores the measurement.

    Returns:
        The corrected step.
    """
    covariance = predicted.covariance
    share = covariance[:, :, 0] / (covariance[:, 0, 0] + RHO * noise / duration_s)[:, None]
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
    """Smooth by the Rauch-Tung-Striebel pass.

    Args:
        steps: All steps.
        count: Number of the first steps that are returned.

    Returns:
        (count, J, 3, 3) rotations, given all steps.
    """
    error = np.zeros_like(steps[-1].correction)
    errors = [error]
    for after in reversed(steps[1:]):
        # Both relative to the prediction, rotated into the axes of the previous frame.
        error = after.gain @ ((error + after.correction) @ after.moved_back)
        errors.append(error)
    turns = np.array(errors[: -count - 1 : -1])[:, :, 0]
    return np.stack([one.rotations for one in steps[:count]]) @ exp_so3(turns)


def _transposed(rotations: Array) -> Array:
    return np.swapaxes(rotations, -1, -2)
