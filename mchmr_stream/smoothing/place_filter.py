"""Kalman filter and Rauch-Tung-Striebel smoother for where a person is, in metres.

Where somebody is across the line of sight is read off the picture; how far away they are follows from their size alone and
is known ten times worse. So the noise of a measurement is small across and large along the line of sight, and grows with the
distance; people themselves move alike in all directions. Depth is smoothed more because it is known less, not by a
filter of its own, and steady motion is followed without lag because velocity is part of the state.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from filterpy.common import Q_continuous_white_noise
from filterpy.kalman import KalmanFilter, rts_smoother
from numpy.typing import NDArray

Array = NDArray[np.float64]

_ACROSS = 0.004
_ALONG = 0.04
"""Standard deviations over the distance, for 30 independent frames a second."""
_NOISE_RATE_HZ = 30.0
_START_SPEED_M_S = 1.5
"""Standard deviation of the velocity of somebody just seen."""
_REJECTED = 1e9
"""Times the usual variance: as good as not measured."""


@dataclass(frozen=True, eq=False)
class PlaceStep:
    """What the filter knew after one frame."""

    mean: Array
    """(6, 1): x, y, z in metres, then their velocities"""
    covariance: Array
    transition: Array
    """(6, 6) on the way to this frame"""
    noise: Array
    """(6, 6) that was added on the way"""

    @property
    def place_m(self) -> Array:
        """(3,)"""
        return self.mean[:3, 0]


def start(place_m: Array, stands_for_s: float, noise: float) -> PlaceStep:
    """First frame: (3,) metres, the seconds it stands for, and by what factor its variance is larger than usual."""
    covariance = np.diag(np.full(6, _START_SPEED_M_S**2))
    covariance[:3, :3] = _measured(place_m, stands_for_s, noise)
    return PlaceStep(np.concatenate([place_m, np.zeros(3)])[:, None], covariance, np.eye(6), np.zeros((6, 6)))


def predict(before: PlaceStep, dt_s: float, drive: float) -> PlaceStep:
    """`dt_s` seconds on; `drive` is the spectral density of the acceleration, m^2 / s^3."""
    transition = np.eye(6)
    transition[:3, 3:] = dt_s * np.eye(3)
    noise = np.kron(Q_continuous_white_noise(2, dt_s, drive), np.eye(3))
    mean = transition @ before.mean
    return PlaceStep(mean, transition @ before.covariance @ transition.T + noise, transition, noise)


def surprise(predicted: PlaceStep, place_m: Array, stands_for_s: float) -> float:
    """Squared distance between prediction and measurement, over its expected value."""
    off = place_m - predicted.place_m
    expected = predicted.covariance[:3, :3] + _measured(place_m, stands_for_s, 1.0)
    return float(off @ np.linalg.solve(expected, off)) / 3


def update(predicted: PlaceStep, place_m: Array, stands_for_s: float, noise: float) -> PlaceStep:
    """Take in a measured place; `noise` multiplies its variance, infinity leaves it out."""
    kalman = KalmanFilter(dim_x=6, dim_z=3)
    kalman.x, kalman.P = predicted.mean, predicted.covariance
    kalman.H = np.eye(3, 6)
    kalman.update(place_m[:, None], R=_measured(place_m, stands_for_s, min(noise, _REJECTED)))
    return PlaceStep(kalman.x, kalman.P, predicted.transition, predicted.noise)


def smoothed(steps: list[PlaceStep]) -> list[Array]:
    """(3,) of every step, from all of them."""
    if len(steps) == 1:
        return [steps[0].place_m]
    # At k stands the step from k to k + 1.
    transitions = [*(one.transition for one in steps[1:]), np.eye(6)]
    noises = [*(one.noise for one in steps[1:]), np.zeros((6, 6))]
    means, *_ = rts_smoother(np.stack([one.mean for one in steps]), np.stack([one.covariance for one in steps]), transitions, noises)
    return list(means[:, :3, 0])


def _measured(place_m: Array, stands_for_s: float, noise: float) -> Array:
    """(3, 3) covariance of a measured place."""
    distance = max(float(np.linalg.norm(place_m)), 1e-3)
    sight = place_m / distance
    along = np.outer(sight, sight)
    per_frame = noise / (_NOISE_RATE_HZ * stands_for_s)
    return distance**2 * per_frame * (_ACROSS**2 * (np.eye(3) - along) + _ALONG**2 * along)
