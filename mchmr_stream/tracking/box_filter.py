"""Kalman filter of a person's box. It works in seconds, so that its results do not depend on the frame rate."""

from __future__ import annotations

import math

import numpy as np
from filterpy.kalman import KalmanFilter
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]

# Distances are in person's lengths, so that near and distant people are treated alike.
_CENTRE_NOISE = 0.05
"""Measurement noise of a detected centre, standard deviation, person's lengths."""
_SIDE_NOISE = 0.08
"""Measurement noise of the logarithm of a detected side, standard deviation."""
_CENTRE_DRIVE = 2.0
"""Spectral density of the centre's acceleration, lengths^2 / s^3: walking, turning, jumping."""
_SIDE_DRIVE = 6.0
"""The same for the logarithm of a side, 1 / s^3: spreading arms, crouching."""
_CENTRE_MEMORY_S = 1.0
"""Time constant of velocity: it halves in 0.7 s, as people do not walk on in a straight line."""
_SIDE_MEMORY_S = 0.15
"""The same for sides: a box that grows now soon stops growing; a long prediction would explode otherwise."""
_START_SPEED = 1.0
"""Standard deviation of the velocity of a new track, lengths per second and 1 / s."""
_CENTRE, _CENTRE_VELOCITY = [0, 2], [1, 3]


class BoxFilter:
    """Filters the centre and the logarithms of the sides, each with a decaying velocity, which keeps long predictions bounded.

    The velocity is an Ornstein-Uhlenbeck process, whose exact transition composes: two steps of dt/2 equal one of dt. `predict` with 0
    seconds changes nothing.
    """

    def __init__(self, box_xyxy_px: FloatArray, length_px: float, noise_scale: float = 1.0) -> None:
        """Start at a measured box.

        Args:
            box_xyxy_px: (4,) first detection.
            length_px: Stature of the person in pixels; limits of motion scale with it. It may be set again at any time.
            noise_scale: Standard deviation relative to a good detection.
        """
        measured = _centre_and_log_sides(box_xyxy_px)
        self.length_px = length_px
        self._filter = KalmanFilter(dim_x=8, dim_z=4)
        self._filter.x = np.stack([measured, np.zeros(4)], -1).reshape(8, 1)
        self._filter.H = np.eye(8)[::2]
        noise = self._noise_std(noise_scale)
        speed = _START_SPEED * np.array([length_px, length_px, 1, 1])
        self._filter.P = np.diag(np.stack([noise, speed], -1).reshape(8) ** 2)

    def predict(self, dt_s: float) -> None:
        """Advance by `dt_s` seconds, 0 or more."""
        centre, side = _transition(dt_s, _CENTRE_MEMORY_S), _transition(dt_s, _SIDE_MEMORY_S)
        centre_noise = _process_noise(dt_s, _CENTRE_MEMORY_S, _CENTRE_DRIVE * self.length_px**2)
        side_noise = _process_noise(dt_s, _SIDE_MEMORY_S, _SIDE_DRIVE)
        self._filter.predict(F=_blocks(centre, centre, side, side), Q=_blocks(centre_noise, centre_noise, side_noise, side_noise))

    def update(self, box_xyxy_px: FloatArray, noise_scale: float = 1.0) -> None:
        """Add a measured box; `noise_scale` is its standard deviation relative to a good detection."""
        measured = _centre_and_log_sides(box_xyxy_px)
        self._filter.update(measured.reshape(4, 1), R=np.diag(self._noise_std(noise_scale) ** 2))

    @property
    def box_xyxy_px(self) -> NDArray[np.float64]:
        """Box of the current state, (4,)."""
        centre, half = self._filter.x[_CENTRE, 0], np.exp(self._filter.x[[4, 6], 0]) / 2
        return np.concatenate([centre - half, centre + half])

    @property
    def size_px(self) -> float:
        """Longer side of the box."""
        return math.exp(self._filter.x[[4, 6], 0].max())

    @property
    def centre_px(self) -> NDArray[np.float64]:
        """Centre of the box, (2,)."""
        return self._filter.x[_CENTRE, 0].copy()

    @property
    def velocity_px_s(self) -> NDArray[np.float64]:
        """Velocity of the centre, (2,)."""
        return self._filter.x[_CENTRE_VELOCITY, 0].copy()

    def centre_std_px(self, noise_scale: FloatArray) -> NDArray[np.float64]:
        """Standard deviation of detected centres around the predicted one, the same in x and y; shape of `noise_scale`."""
        return np.sqrt(self._filter.P[0, 0] + (_CENTRE_NOISE * self.length_px * noise_scale) ** 2)

    def state(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and covariance, for `restore`."""
        return self._filter.x.copy(), self._filter.P.copy()

    def restore(self, state: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
        self._filter.x, self._filter.P = state[0].copy(), state[1].copy()

    def _noise_std(self, noise_scale: float) -> NDArray[np.float64]:
        centre = _CENTRE_NOISE * self.length_px
        return noise_scale * np.array([centre, centre, _SIDE_NOISE, _SIDE_NOISE])


def _centre_and_log_sides(box_xyxy_px: FloatArray) -> NDArray[np.float64]:
    box = np.asarray(box_xyxy_px, np.float64)
    return np.concatenate([(box[:2] + box[2:]) / 2, np.log(np.maximum(box[2:] - box[:2], 1.0))])


def _transition(dt_s: float, memory_s: float) -> NDArray[np.float64]:
    """(2, 2) transition of position and decaying velocity over dt."""
    kept = math.exp(-dt_s / memory_s)
    return np.array([[1, -memory_s * math.expm1(-dt_s / memory_s)], [0, kept]])


def _process_noise(dt_s: float, memory_s: float, density: float) -> NDArray[np.float64]:
    """(2, 2) covariance that white acceleration of this spectral density adds in dt (Bar-Shalom et al., 2001, section 8.2)."""
    lost = -math.expm1(-dt_s / memory_s)
    lost_twice = -math.expm1(-2 * dt_s / memory_s)
    position = memory_s**2 * (dt_s - 2 * memory_s * lost + memory_s / 2 * lost_twice)
    both = memory_s**2 / 2 * lost**2
    velocity = memory_s / 2 * lost_twice
    return density * np.array([[max(position, 0.0), both], [both, velocity]])


def _blocks(*parts: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = np.zeros((8, 8))
    for i, part in enumerate(parts):
        matrix[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = part
    return matrix
