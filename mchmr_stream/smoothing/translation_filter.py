"""Kalman filter and Rauch-Tung-Striebel smoother for a person's translation, in metres.

The position across the line of sight is measured in the picture. The distance follows from the person's size alone and is ten times
less certain. So the measurement noise is small across and large along the line of sight, and grows with the distance; the motion noise
is isotropic. Depth is smoothed more because its noise is larger, not by a separate filter. The velocity is part of the state, so steady
motion is followed without lag.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.smoothing.rotation_filter import white_noise

Array = NDArray[np.float64]

_ACROSS = 0.004
_ALONG = 0.04
"""Standard deviations relative to the distance, for 30 independent frames a second."""
_NOISE_RATE_HZ = 30.0
_START_SPEED_M_S = 1.5
"""Standard deviation of a new person's velocity."""
_REJECTED = 1e9
"""Variance factor that makes a measurement negligible."""
_AXES = np.eye(3)


@dataclass(frozen=True, eq=False)
class TranslationStep:
    """State after one frame, and what the backward pass needs."""

    mean: Array
    """(6,): x, y, z in metres, then their velocities"""
    covariance: Array
    """(6, 6)"""
    predicted: Array
    """(6,): the mean before the measurement"""
    gain: Array
    """(6, 6): smoother gain, from this frame to the previous one"""

    @property
    def transl_m(self) -> Array:
        """(3,) translation, metres."""
        return self.mean[:3]


def start(transl_m: Array, duration_s: float, noise: float) -> TranslationStep:
    """Initialise from the first frame.

    Args:
        transl_m: (3,) translation, metres.
        duration_s: Seconds that the frame represents.
        noise: Variance factor.

    Returns:
        The first step.
    """
    covariance = np.diag(np.full(6, _START_SPEED_M_S**2))
    covariance[:3, :3] = _measured(transl_m, duration_s, noise)
    mean = np.concatenate([transl_m, np.zeros(3)])
    return TranslationStep(mean, covariance, mean, np.zeros((6, 6)))


def predict(before: TranslationStep, dt_s: float, spectral_density: float) -> TranslationStep:
    """Predict the state without a measurement.

    Args:
        before: The last step.
        dt_s: Seconds to predict.
        spectral_density: Spectral density of the acceleration, m^2 / s^3.

    Returns:
        The predicted step.
    """
    transition = np.eye(6)
    transition[:3, 3:] = dt_s * _AXES
    carried = before.covariance @ transition.T
    noise = (spectral_density * white_noise(dt_s)[:, None, :, None] * _AXES[:, None]).reshape(6, 6)
    covariance = transition @ carried + noise
    mean = transition @ before.mean
    return TranslationStep(mean, covariance, mean, carried @ np.linalg.inv(covariance))


def squared_innovation(predicted: TranslationStep, transl_m: Array, duration_s: float) -> float:
    """Squared distance between prediction and measurement, relative to its expected value.

    Args:
        predicted: The predicted step.
        transl_m: (3,) measured translation, metres.
        duration_s: Seconds that the measurement represents.

    Returns:
        The ratio.
    """
    off = transl_m - predicted.transl_m
    expected = predicted.covariance[:3, :3] + _measured(transl_m, duration_s, 1.0)
    return float(off @ np.linalg.solve(expected, off)) / 3


def update(predicted: TranslationStep, transl_m: Array, duration_s: float, noise: float) -> TranslationStep:
    """Correct the prediction by a measurement.

    Args:
        predicted: The predicted step.
        transl_m: (3,) measured translation, metres.
        duration_s: Seconds that the measurement represents.
        noise: Variance factor; infinity ignores the measurement.

    Returns:
        The corrected step.
    """
    measured = _measured(transl_m, duration_s, min(noise, _REJECTED))
    gain = predicted.covariance[:, :3] @ np.linalg.inv(predicted.covariance[:3, :3] + measured)
    kept = np.eye(6)
    kept[:, :3] -= gain
    covariance = kept @ predicted.covariance @ kept.T + gain @ measured @ gain.T  # Joseph's form, which stays positive definite
    return TranslationStep(predicted.mean + gain @ (transl_m - predicted.transl_m), covariance, predicted.predicted, predicted.gain)


def smoothed(steps: list[TranslationStep], count: int) -> Array:
    """Smooth by the Rauch-Tung-Striebel pass.

    Args:
        steps: All steps.
        count: Number of the first steps that are returned.

    Returns:
        (count, 3) translations, given all steps.
    """
    means = [steps[-1].mean]
    for before, after in zip(reversed(steps[:-1]), reversed(steps[1:]), strict=True):
        means.append(before.mean + after.gain @ (means[-1] - after.predicted))
    return np.array(means[: -count - 1 : -1])[:, :3]


def _measured(transl_m: Array, duration_s: float, noise: float) -> Array:
    """(3, 3) covariance of a measured translation."""
    distance = max(math.sqrt(transl_m @ transl_m), 1e-3)
    sight = transl_m / distance
    along = sight[:, None] * sight
    per_frame = noise / (_NOISE_RATE_HZ * duration_s)
    return distance**2 * per_frame * (_ACROSS**2 * (_AXES - along) + _ALONG**2 * along)
