"""Kalman filter and Rauch-Tung-Striebel smoother for where a person is, in metres.

Where somebody is across the line of sight is read off the picture; how far away they are follows from their size alone and
is known ten times worse. So the noise of a measurement is small across and large along the line of sight, and grows with the
distance; people themselves move alike in all directions. Depth is smoothed more because it is known less, not by a
filter of its own, and steady motion is followed without lag because velocity is part of the state.
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
"""Standard deviations over the distance, for 30 independent frames a second."""
_NOISE_RATE_HZ = 30.0
_START_SPEED_M_S = 1.5
"""Standard deviation of the velocity of somebody just seen."""
_REJECTED = 1e9
"""Times the usual variance: as good as not measured."""
_AXES = np.eye(3)


@dataclass(frozen=True, eq=False)
class TranslationStep:
    """What the filter knew after one frame, and what the smoother needs to come back to it."""

    mean: Array
    """(6,): x, y, z in metres, then their velocities"""
    covariance: Array
    """(6, 6)"""
    predicted: Array
    """(6,): the mean before the measurement"""
    gain: Array
    """(6, 6): of the smoother, from this frame to the one before"""

    @property
    def place_m(self) -> Array:
        """(3,)"""
        return self.mean[:3]


def start(place_m: Array, stands_for_s: float, noise: float) -> TranslationStep:
    """First frame: (3,) metres, the seconds it stands for, and by what factor its variance is larger than usual."""
    covariance = np.diag(np.full(6, _START_SPEED_M_S**2))
    covariance[:3, :3] = _measured(place_m, stands_for_s, noise)
    mean = np.concatenate([place_m, np.zeros(3)])
    return TranslationStep(mean, covariance, mean, np.zeros((6, 6)))


def predict(before: TranslationStep, dt_s: float, drive: float) -> TranslationStep:
    """`dt_s` seconds on; `drive` is the spectral density of the acceleration, m^2 / s^3."""
    transition = np.eye(6)
    transition[:3, 3:] = dt_s * _AXES
    carried = before.covariance @ transition.T
    noise = (drive * white_noise(dt_s)[:, None, :, None] * _AXES[:, None]).reshape(6, 6)
    covariance = transition @ carried + noise
    mean = transition @ before.mean
    return TranslationStep(mean, covariance, mean, carried @ np.linalg.inv(covariance))


def surprise(predicted: TranslationStep, place_m: Array, stands_for_s: float) -> float:
    """Squared distance between prediction and measurement, over its expected value."""
    off = place_m - predicted.place_m
    expected = predicted.covariance[:3, :3] + _measured(place_m, stands_for_s, 1.0)
    return float(off @ np.linalg.solve(expected, off)) / 3


def update(predicted: TranslationStep, place_m: Array, stands_for_s: float, noise: float) -> TranslationStep:
    """Take in a measured place; `noise` multiplies its variance, infinity leaves it out."""
    measured = _measured(place_m, stands_for_s, min(noise, _REJECTED))
    gain = predicted.covariance[:, :3] @ np.linalg.inv(predicted.covariance[:3, :3] + measured)
    kept = np.eye(6)
    kept[:, :3] -= gain
    covariance = kept @ predicted.covariance @ kept.T + gain @ measured @ gain.T  # Joseph's form: it stays positive
    return TranslationStep(predicted.mean + gain @ (place_m - predicted.place_m), covariance, predicted.predicted, predicted.gain)


def smoothed(steps: list[TranslationStep], count: int) -> Array:
    """(count, 3): the first `count` steps from all of them."""
    means = [steps[-1].mean]
    for before, after in zip(reversed(steps[:-1]), reversed(steps[1:]), strict=True):
        means.append(before.mean + after.gain @ (means[-1] - after.predicted))
    return np.array(means[: -count - 1 : -1])[:, :3]


def _measured(place_m: Array, stands_for_s: float, noise: float) -> Array:
    """(3, 3) covariance of a measured place."""
    distance = max(math.sqrt(place_m @ place_m), 1e-3)
    sight = place_m / distance
    along = sight[:, None] * sight
    per_frame = noise / (_NOISE_RATE_HZ * stands_for_s)
    return distance**2 * per_frame * (_ACROSS**2 * (_AXES - along) + _ALONG**2 * along)
