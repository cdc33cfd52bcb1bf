"""A window in seconds that slides over the frames and sees as far ahead as behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.smoothing.segments import NOT_SMOOTHED, Sample

Array = NDArray[np.float64]

_TOLERANCE_S = 1e-6
_LONGEST_S = 0.3
"""A frame stands for no more than this to either side."""
_NARROWEST = 1 / 3
"""Near the ends of a stretch the window shrinks, so that it stays even; but not below this share: one wrong frame may be the end."""


@dataclass(frozen=True, eq=False)
class Around:
    """Everyone in the middle frame through the whole window of w frames."""

    offsets_s: Array
    """(w,) from the middle"""
    weights: Array
    """(w, n): 0 where a person is not there"""
    rotations: Array
    """(w, n, 24, 3, 3)"""
    place_m: Array
    """(w, n, 3)"""


class CentredWindow:
    """Gives `change` a frame and what is within `half_s` around it; hands the changed frame on once that is known.

    The weight of a sample is its own times the time it stands for, half of that to either neighbour, so that a varying
    frame rate or equal timestamps give no moment more say than another.
    """

    def __init__(self, half_s: float, change: Callable[[Sample, Around], Sample]) -> None:
        self._half_s = half_s
        self._change = change
        self._samples: deque[Sample] = deque()
        self._done = 0

    def push(self, sample: Sample) -> list[Sample]:
        """Samples must come in order of time."""
        self._samples.append(sample)
        ready = []
        while self._done < len(self._samples) and self._samples[self._done].time_s + self._half_s <= sample.time_s + _TOLERANCE_S:
            ready.append(self._finish_next())
        return ready

    def flush(self) -> list[Sample]:
        """What is left, from what is known; the window is empty afterwards."""
        ready = []
        while self._done < len(self._samples):
            ready.append(self._finish_next())
        self._samples.clear()
        self._done = 0
        return ready

    def _finish_next(self) -> Sample:
        middle = self._samples[self._done]
        while self._samples[0].time_s < middle.time_s - self._half_s - _TOLERANCE_S:
            self._samples.popleft()
            self._done -= 1
        self._done += 1
        if not len(middle.stretch):
            return middle
        window = [one for one in self._samples if one.time_s <= middle.time_s + self._half_s + _TOLERANCE_S]
        return self._change(middle, _gather(middle, window, self._half_s))


def _gather(middle: Sample, window: list[Sample], half_s: float) -> Around:
    count = len(middle.stretch)
    weights = np.zeros((len(window), count))
    rotations = np.repeat(middle.rotations[None], len(window), 0)
    place_m = np.repeat(middle.place_m[None], len(window), 0)
    # All rows of all frames under each other; which frame each is of, and who in the middle.
    stacked = lambda name: np.concatenate([getattr(one, name) for one in window])
    known = np.where(middle.stretch != NOT_SMOOTHED, middle.stretch, NOT_SMOOTHED - 1)
    rows, people = np.nonzero(stacked("stretch")[:, None] == known)
    frames = np.repeat(np.arange(len(window)), [len(one.stretch) for one in window])[rows]
    weights[frames, people] = 1 / stacked("place_noise")[rows]
    rotations[frames, people] = stacked("rotations")[rows]
    place_m[frames, people] = stacked("place_m")[rows]

    offsets_s = np.array([one.time_s for one in window]) - middle.time_s
    there = weights > 0
    behind = -np.where(there, offsets_s[:, None], 0).min(0)
    ahead = np.where(there, offsets_s[:, None], 0).max(0)
    reach = np.maximum(np.minimum(behind, ahead), _NARROWEST * half_s) + _TOLERANCE_S
    there &= np.abs(offsets_s)[:, None] <= reach
    weights = np.where(there, weights * _durations(offsets_s, there), 0)
    weights = np.where(weights.sum(0) > 0, weights, (offsets_s == 0)[:, None])
    return Around(offsets_s, weights, rotations, place_m)


def _durations(offsets: Array, there: NDArray[np.bool_]) -> Array:
    """(w, n) the time every sample stands for: half of that to the neighbours in which the same person is. Only where they are `there`."""
    times, nobody = offsets[:, None], np.full((1, there.shape[1]), np.inf)
    before = np.maximum.accumulate(np.where(there, times, -np.inf))[:-1]
    after = np.minimum.accumulate(np.where(there, times, np.inf)[::-1])[-2::-1]
    to_last, to_next = times - np.concatenate([-nobody, before]), np.concatenate([after, nobody]) - times
    # the ends stand for as much on their far side as on their near one
    to_last, to_next = np.where(np.isinf(to_last), to_next, to_last), np.where(np.isinf(to_next), to_last, to_next)
    return np.where(np.isinf(to_last), 0, np.minimum(to_last, _LONGEST_S) + np.minimum(to_next, _LONGEST_S)) / 2
