"""What every smoother keeps per person: unbroken stretches of a track, what is smoothed of a body, and how far it is trusted."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datatypes import Bodies

Array = NDArray[np.float64]

NOT_SMOOTHED = -1
"""Stretch of rows that hold something not finite or lie behind the camera: they are handed on untouched."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One frame's people as they are smoothed."""

    bodies: Bodies
    stretch: NDArray[np.int64]
    """(n,) rows of different frames belong together when their numbers are equal; `NOT_SMOOTHED` never do"""
    noise: Array
    """(n, 24) variance of the rotations over that of a usual row; infinite where they are rejected"""
    place_noise: Array
    """(n,) the same for the place"""
    rotations: Array
    """(n, 24, 3, 3)"""
    place_m: Array
    """(n, 3): `transl`"""

    @property
    def time_s(self) -> float:
        return self.bodies.time_s

    def to_bodies(self, rotations: Array, place_m: Array, betas: Array) -> Bodies:
        """The record again, with smoothed numbers (n, ...); rows that were not smoothed keep theirs.

        A row of which nothing was believed is marked `interpolated`: what it holds comes from other frames.
        """
        smooth = self.stretch != NOT_SMOOTHED
        bodies = self.bodies
        return replace(
            bodies,
            global_orient=_choose(smooth, rotations[:, 0], bodies.global_orient),
            body_pose=_choose(smooth, rotations[:, 1:], bodies.body_pose),
            transl=_choose(smooth, place_m, bodies.transl),
            betas=_choose(smooth, betas, bodies.betas),
            interpolated=bodies.interpolated | (smooth & np.isinf(self.noise).all(-1)),
        )


class TrackSegments:
    """Numbers the unbroken stretches of every track. A frame of an earlier time than the last begins them all anew.

    Over a gap longer than `max_gap_s` nothing is averaged: the person has moved on in a way that nobody saw.
    """

    def __init__(self, max_gap_s: float) -> None:
        self._max_gap_s = max_gap_s
        self._last: dict[int, tuple[float, int]] = {}
        self._next = 0

    @property
    def alive(self) -> set[int]:
        """Stretches that may still go on."""
        return {stretch for _, stretch in self._last.values()}

    def sample(self, bodies: Bodies, noise: Array, joint_noise: Array) -> Sample:
        """The next frame's people, ready to be smoothed; `noise` is (n,), `joint_noise` (n, 24) comes on top for rotations."""
        usable = bodies.usable()
        self._last = {track: seen for track, seen in self._last.items() if 0 <= bodies.time_s - seen[0] <= self._max_gap_s + 1e-6}
        stretch = np.full(len(bodies), NOT_SMOOTHED, np.int64)
        for row in np.flatnonzero(usable):
            track = int(bodies.track_id[row])
            if track not in self._last:
                self._next += 1
            stretch[row] = self._last[track][1] if track in self._last else self._next
            self._last[track] = (bodies.time_s, int(stretch[row]))

        rotations = bodies.rotations.astype(np.float64)
        return Sample(
            bodies,
            stretch,
            noise[:, None] * joint_noise,
            noise,
            np.where(usable[:, None, None, None], rotations, np.eye(3)),
            np.where(usable[:, None], bodies.transl, [0, 0, 1]).astype(np.float64),
        )


def _choose(smooth: NDArray[np.bool_], new: Array, old: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(smooth.reshape(-1, *[1] * (old.ndim - 1)), new, old).astype(np.float32)
