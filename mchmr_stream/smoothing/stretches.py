"""What every smoother keeps per person: unbroken stretches of a track, what is smoothed of a body, and the mean shape."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.records import Bodies

Array = NDArray[np.float64]

MAX_GAP_S = 0.3
"""Over a longer gap in a track nothing is averaged: the person has moved on in a way that nobody saw."""
_FORGET_S = 10.0
"""Shapes of people not seen for this long are dropped: identities do not come back after so long."""
_MIN_WEIGHT = 0.05
_UNSEEN_WEIGHT = 0.2
"""Least weight of a row, and the factor for rows without picture evidence."""
NOT_SMOOTHED = -1
"""Stretch of rows that hold something not finite or lie behind the camera: they are handed on untouched."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One frame's people as they are smoothed."""

    bodies: Bodies
    stretch: NDArray[np.int64]
    """(n,) rows of different frames belong together when their numbers are equal; `NOT_SMOOTHED` never do"""
    weight: Array
    """(n,) how much to trust the row"""
    rotations: Array
    """(n, 24, 3, 3)"""
    position: Array
    """(n, 3): x / z, y / z and log z of `transl`: where in the picture, and how far, which is far less certain"""

    @property
    def time_s(self) -> float:
        return self.bodies.time_s

    def with_smoothed(self, rotations: Array, position: Array) -> Sample:
        return replace(self, rotations=rotations, position=position)

    def to_bodies(self, betas: Array) -> Bodies:
        """The record again, with its smoothed numbers; rows that were not smoothed keep theirs."""
        smooth = self.stretch != NOT_SMOOTHED
        depth = np.exp(self.position[:, 2:])
        transl = np.concatenate([self.position[:, :2] * depth, depth], -1)
        bodies = self.bodies
        return replace(
            bodies,
            global_orient=_choose(smooth, self.rotations[:, 0], bodies.global_orient),
            body_pose=_choose(smooth, self.rotations[:, 1:], bodies.body_pose),
            transl=_choose(smooth, transl, bodies.transl),
            betas=_choose(smooth, betas, bodies.betas),
        )


class Stretches:
    """Numbers the unbroken stretches of every track. A frame of an earlier time than the last begins them all anew."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[float, int]] = {}
        self._next = 0

    @property
    def alive(self) -> set[int]:
        """Stretches that may still go on."""
        return {stretch for _, stretch in self._last.values()}

    def sample(self, bodies: Bodies) -> Sample:
        """The next frame's people, ready to be smoothed."""
        usable = _usable(bodies)
        self._last = {track: seen for track, seen in self._last.items() if 0 <= bodies.time_s - seen[0] <= MAX_GAP_S}
        stretch = np.full(len(bodies), NOT_SMOOTHED, np.int64)
        for row in np.flatnonzero(usable):
            track = int(bodies.track_id[row])
            if track not in self._last:
                self._next += 1
            stretch[row] = self._last[track][1] if track in self._last else self._next
            self._last[track] = (bodies.time_s, int(stretch[row]))

        rotations = np.concatenate([bodies.global_orient[:, None], bodies.body_pose], 1).astype(np.float64)
        transl = np.where(usable[:, None], bodies.transl, [0, 0, 1]).astype(np.float64)
        weight = np.clip(np.nan_to_num(bodies.confidence.astype(np.float64)), _MIN_WEIGHT, 1)
        return Sample(
            bodies,
            stretch,
            np.where(bodies.interpolated, weight * _UNSEEN_WEIGHT, weight),
            np.where(usable[:, None, None, None], rotations, np.eye(3)),
            np.concatenate([transl[:, :2] / transl[:, 2:], np.log(transl[:, 2:])], -1),
        )


class MeanShape:
    """Betas do not change while somebody is filmed: their weighted mean so far, per track."""

    def __init__(self) -> None:
        self._sums: dict[int, tuple[float, Array, float]] = {}

    def add(self, sample: Sample) -> None:
        for row in np.flatnonzero(sample.stretch != NOT_SMOOTHED):
            track = int(sample.bodies.track_id[row])
            weight, total, _ = self._sums.get(track, (0.0, np.zeros(10), 0.0))
            added = float(sample.weight[row])
            self._sums[track] = (weight + added, total + added * sample.bodies.betas[row], sample.time_s)
        self._sums = {track: kept for track, kept in self._sums.items() if abs(sample.time_s - kept[2]) <= _FORGET_S}

    def of(self, bodies: Bodies) -> Array:
        """(n, 10)"""
        betas = bodies.betas.astype(np.float64)
        for row, track in enumerate(bodies.track_id):
            if int(track) in self._sums:
                weight, total, _ = self._sums[int(track)]
                betas[row] = total / weight
        return betas


def _usable(bodies: Bodies) -> NDArray[np.bool_]:
    finite = np.isfinite(bodies.transl).all(-1) & np.isfinite(bodies.betas).all(-1) & np.isfinite(bodies.global_orient).all((-2, -1))
    return finite & np.isfinite(bodies.body_pose).all((-3, -2, -1)) & (np.where(finite, bodies.transl[:, 2], 0) > 0)


def _choose(smooth: NDArray[np.bool_], new: Array, old: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(smooth.reshape(-1, *[1] * (old.ndim - 1)), new, old).astype(np.float32)
