"""A sliding window in seconds, centred on each frame."""

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
"""A frame represents at most this time to either side."""
_NARROWEST = 1 / 3
"""Near the ends of a segment the window shrinks, so that it stays symmetric, but not below this share: the end itself may be an outlier."""


@dataclass(frozen=True, eq=False)
class Window:
    """The middle frame's people through the whole window of w frames."""

    offsets_s: Array
    """(w,) relative to the middle frame"""
    weights: Array
    """(w, n): 0 where a person is absent"""
    rotations: Array
    """(w, n, 24, 3, 3)"""
    transl_m: Array
    """(w, n, 3)"""


class CentredWindow:
    """Call a function with each frame and its window, once the window is complete.

    A sample's weight is its own times the time it represents, half of the distance to either neighbour. A varying frame rate or equal
    timestamps thus give no moment more weight than another.

    Args:
        half_s: Half width of the window, seconds.
        change: The function; it returns the changed frame.
    """

    def __init__(self, half_s: float, change: Callable[[Sample, Window], Sample]) -> None:
        self._half_s = half_s
        self._change = change
        self._samples: deque[Sample] = deque()
        self._done = 0

    def push(self, sample: Sample) -> list[Sample]:
        """Add the next sample, in order of time; return the samples whose windows are complete."""
        self._samples.append(sample)
        ready = []
        while self._done < len(self._samples) and self._samples[self._done].time_s + self._half_s <= sample.time_s + _TOLERANCE_S:
            ready.append(self._finish_next())
        return ready

    def flush(self) -> list[Sample]:
        """Process the remaining samples with the frames available; the window is empty afterwards."""
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
        if not len(middle.segment):
            return middle
        window = [one for one in self._samples if one.time_s <= middle.time_s + self._half_s + _TOLERANCE_S]
        return self._change(middle, _gather(middle, window, self._half_s))


def _gather(middle: Sample, window: list[Sample], half_s: float) -> Window:
    count = len(middle.segment)
    weights = np.zeros((len(window), count))
    rotations = np.repeat(middle.rotations[None], len(window), 0)
    transl_m = np.repeat(middle.transl_m[None], len(window), 0)
    # All rows of all frames stacked: the frame of each, and the matching person of the middle frame.
    stacked = lambda name: np.concatenate([getattr(one, name) for one in window])
    known = np.where(middle.segment != NOT_SMOOTHED, middle.segment, NOT_SMOOTHED - 1)
    rows, people = np.nonzero(stacked("segment")[:, None] == known)
    frames = np.repeat(np.arange(len(window)), [len(one.segment) for one in window])[rows]
    weights[frames, people] = 1 / stacked("transl_noise")[rows]
    rotations[frames, people] = stacked("rotations")[rows]
    transl_m[frames, people] = stacked("transl_m")[rows]

    offsets_s = np.array([one.time_s for one in window]) - middle.time_s
    present = weights > 0
    behind = -np.where(present, offsets_s[:, None], 0).min(0)
    ahead = np.where(present, offsets_s[:, None], 0).max(0)
    reach = np.maximum(np.minimum(behind, ahead), _NARROWEST * half_s) + _TOLERANCE_S
    present &= np.abs(offsets_s)[:, None] <= reach
    weights = np.where(present, weights * sample_durations(offsets_s, present), 0)
    weights = np.where(weights.sum(0) > 0, weights, (offsets_s == 0)[:, None])
    return Window(offsets_s, weights, rotations, transl_m)


def sample_durations(offsets: Array, present: NDArray[np.bool_]) -> Array:
    """(w, n) time that each sample represents: half of that to the neighbours where the person is `present`."""
    times, absent = offsets[:, None], np.full((1, present.shape[1]), np.inf)
    before = np.maximum.accumulate(np.where(present, times, -np.inf))[:-1]
    after = np.minimum.accumulate(np.where(present, times, np.inf)[::-1])[-2::-1]
    to_last, to_next = times - np.concatenate([-absent, before]), np.concatenate([after, absent]) - times
    # the ends represent as much time on their outer side as on their inner one
    to_last, to_next = np.where(np.isinf(to_last), to_next, to_last), np.where(np.isinf(to_next), to_last, to_next)
    return np.where(np.isinf(to_last), 0, np.minimum(to_last, _LONGEST_S) + np.minimum(to_next, _LONGEST_S)) / 2
