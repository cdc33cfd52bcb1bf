"""One shape per person: bone lengths converge over a track and are then fixed in the fit.

A leg that appears short may be bent, or short. Only its length from other frames resolves this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.body.shape import robust_shape, settled_shape

Array = NDArray[np.float64]

_KEPT = 48
"""Shapes kept per track. When they are full, every second one is dropped and half as many are taken from then on."""
_INDEPENDENT_S = 0.3
"""Frames within this time show the same pose and count as one."""
_LEAST_SD = 0.25
"""Lower limit of a shape's standard deviation, in betas."""
_FORGET_S = 10.0
_BLOCK = 16
"""Frames per block."""


class Shapes(Protocol):
    """Known shapes of tracks."""

    def known(self, track_id: int, frame: int) -> tuple[Array, float]:
        """Look up the shape of a track.

        Args:
            track_id: The track.
            frame: The frame that is fitted.

        Returns:
            (10,) betas and their precision, 1 / variance; 0 for an unknown track.
        """
        ...

    def add(self, track_id: int, frame: int, time_s: float, betas: Array, weight: float) -> None:
        """Add a fitted shape of one frame.

        Args:
            track_id: The track.
            frame: The frame.
            time_s: Its time.
            betas: (10,).
            weight: Visibility of the person, 0 to 1.
        """
        ...


class SettledShapes:
    """Final shapes of tracks whose frames were all processed.

    Args:
        known: Betas and their precision by track.
    """

    def __init__(self, known: Mapping[int, tuple[Array, float]]) -> None:
        self._known = known

    def known(self, track_id: int, frame: int) -> tuple[Array, float]:
        """(10,) betas and precision, the same at each frame."""
        return self._known.get(track_id, (np.zeros(10), 0.0))

    def add(self, track_id: int, frame: int, time_s: float, betas: Array, weight: float) -> None:
        """Ignore further shapes."""


def settled_shapes(track_id: NDArray[np.int64], time_s: Array, betas: NDArray[np.floating], weight: NDArray[np.floating]) -> SettledShapes:
    """Compute the shapes of all tracks from all fitted frames.

    Args:
        track_id: (N,) of each row.
        time_s: (N,), rising.
        betas: (N, 10) as fitted in each frame.
        weight: (N,) visibility of the person.

    Returns:
        The shapes.
    """
    known = {}
    usable = np.isfinite(betas).all(-1)
    for track in np.unique(track_id):
        rows = np.flatnonzero((track_id == track) & usable)
        if not len(rows):
            continue
        steps_s = np.minimum(np.diff(time_s[rows]), _INDEPENDENT_S)
        known[int(track)] = settled_shape(betas[rows], weight[rows]), _precision(float(steps_s.sum()))
    return SettledShapes(known)


def _precision(seen_s: float) -> float:
    """Precision of a shape from so many seconds."""
    return min(seen_s / _INDEPENDENT_S, 1 / _LEAST_SD**2)


@dataclass
class _Seen:
    betas: list[Array] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    every: int = 1
    count: int = 0
    seen_s: float = 0.0
    last_s: float = 0.0
    mean: Array = field(default_factory=lambda: np.zeros(10))


class TrackShapes:
    """Shapes of the people of one run.

    Shapes of a block of frames are used from the next block on, so that the result does not depend on how many frames are fitted
    together.
    """

    def __init__(self) -> None:
        self._people: dict[int, _Seen] = {}
        self._waiting: list[tuple[int, int, float, Array, float]] = []

    @staticmethod
    def block_of(frame: int) -> int:
        """Number of the block that a frame belongs to."""
        return frame // _BLOCK

    def known(self, track_id: int, frame: int) -> tuple[Array, float]:
        """Look up the shape of a track, from the blocks before this frame's.

        Args:
            track_id: The track.
            frame: The frame that is fitted.

        Returns:
            (10,) betas and their precision, 1 / variance; 0 for a new track.
        """
        self._take_in(self.block_of(frame))
        seen = self._people.get(track_id)
        if seen is None or not seen.betas:
            return np.zeros(10), 0.0
        return seen.mean, _precision(seen.seen_s)

    def add(self, track_id: int, frame: int, time_s: float, betas: Array, weight: float) -> None:
        """Add a fitted shape of one frame.

        Args:
            track_id: The track.
            frame: The frame.
            time_s: Its time.
            betas: (10,).
            weight: Visibility of the person, 0 to 1.
        """
        self._waiting.append((self.block_of(frame), track_id, time_s, np.array(betas, np.float64), weight))

    def _take_in(self, block: int) -> None:
        """Process what was added in blocks other than this one."""
        ready = [one for one in self._waiting if one[0] != block]
        self._waiting = [one for one in self._waiting if one[0] == block]
        for _, track_id, time_s, betas, weight in ready:
            self._take(track_id, time_s, betas, weight)

    def _take(self, track_id: int, time_s: float, betas: Array, weight: float) -> None:
        seen = self._people.setdefault(track_id, _Seen(last_s=time_s))
        seen.seen_s += min(max(time_s - seen.last_s, 0.0), _INDEPENDENT_S) * weight
        seen.last_s = time_s
        if seen.count % seen.every == 0:
            seen.betas.append(betas)
            seen.weights.append(max(weight, 1e-3))
            seen.mean = robust_shape(np.stack(seen.betas), np.array(seen.weights))
        seen.count += 1
        if len(seen.betas) >= _KEPT:
            seen.betas, seen.weights, seen.every = seen.betas[::2], seen.weights[::2], 2 * seen.every
        for track in [track for track, one in self._people.items() if abs(time_s - one.last_s) > _FORGET_S]:
            del self._people[track]
