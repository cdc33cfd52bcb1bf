"""When a frame was taken, and whether anyone asked for it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mchmr_stream.config import SourceSettings
from mchmr_stream.errors import UsageError

ROUNDING_S = 0.0005
"""Matroska and others round times to milliseconds: a frame of 1/3 s says 0.333."""

MAX_JUMP_S = 10.0
"""Longer jumps in a broadcast stream come from joining recordings, not from a slow camera (ffmpeg uses the same limit)."""

MAX_REORDERED = 16
"""No codec shows a picture more than so many places after its turn (H.264 and HEVC; others fewer)."""


@dataclass(frozen=True)
class Window:
    """The part of a source that is wanted: start_s <= time < end_s, then each `every`-th frame, the first included."""

    start_s: float
    end_s: float
    every: int

    @staticmethod
    def of(settings: SourceSettings) -> Window:
        """Raises UsageError when the end does not come after the start."""
        start_s = settings.start_s or 0.0
        end_s = math.inf if settings.end_s is None else settings.end_s
        if end_s <= start_s:
            raise UsageError(f"source.end_s is {end_s:g}, expected a time after source.start_s, {start_s:g}")
        return Window(start_s, end_s, settings.every)

    def is_before(self, time_s: float) -> bool:
        return time_s < self.start_s - ROUNDING_S

    def is_after(self, time_s: float) -> bool:
        return time_s >= self.end_s - ROUNDING_S

    def count(self, total: int | None, fps: float) -> int | None:
        """How many of `total` frames at a constant rate are wanted; None when the total is unknown."""
        if total is None:
            return None
        first = math.ceil((self.start_s - ROUNDING_S) * fps)
        last = total if math.isinf(self.end_s) else min(total, math.ceil((self.end_s - ROUNDING_S) * fps))
        return max(0, math.ceil((last - max(first, 0)) / self.every))


class BestStamps:
    """Which of a picture's two timestamps holds: when it is shown, or when its packet was decoded.

    Containers now and then give times of decoding for those of showing. The choice is FFmpeg's for `best_effort_timestamp`: the kind that
    has failed to grow less often so far, and the time of showing where both failed equally often.
    """

    def __init__(self) -> None:
        self._shown, self._decoded = _Growing(), _Growing()

    def of(self, pts: int | None, dts: int | None) -> int | None:
        """For the next picture in order of showing; None where it has none that can be believed."""
        self._decoded.note(dts, pts)
        self._shown.note(pts, dts)
        return pts if self.shown_are_sound and pts is not None else dts

    @property
    def shown_are_sound(self) -> bool:
        """Whether times of showing are believed."""
        return self._shown.failures <= self._decoded.failures


@dataclass
class _Growing:
    """How often timestamps of one kind did not grow."""

    failures: int = 0
    last: int | None = None

    def note(self, stamp: int | None, instead: int | None) -> None:
        """`instead`: the other kind's, from which the next one has to grow where there is no `stamp`."""
        if stamp is not None and self.last is not None and stamp <= self.last:
            self.failures += 1
        self.last = next((one for one in (stamp, instead) if one is not None), self.last)


class Clock:
    """Turns timestamps into seconds from the first frame that never run backwards.

    A few that lie before their turn are given times of their own, and those that come after them keep theirs. Where timestamps run
    backwards for good (joined recordings, a counter that starts again), all later ones are moved so that the next frame comes one nominal
    step after the last one.
    """

    def __init__(self, fps: float, *, first_s: float | None = None, max_jump_s: float | None = None) -> None:
        """`first_s`: stamp of the stream's first frame, which is time 0; None: the first stamp that comes.

        `max_jump_s`: longer steps forward are taken for broken too; None: any step is believed.
        """
        self._step_s = 1.0 / fps
        self._max_jump_s = math.inf if max_jump_s is None else max_jump_s
        self._offset_s = None if first_s is None else -first_s
        self._last_s: float | None = None
        self._before_turn = 0
        """frames in a row whose timestamp did not grow"""
        self.jumped_at_s: float | None = None
        """When timestamps were first found broken; None while they are fine."""

    def time_s(self, stamp_s: float | None) -> float:
        """Time of the next frame in order; `stamp_s` None: the container gives none, frames follow at the nominal rate."""
        expected_s = 0.0 if self._last_s is None else self._last_s + self._step_s
        if stamp_s is None:
            self._last_s = expected_s
            return expected_s
        if self._offset_s is None:
            self._offset_s = -stamp_s
        time_s = stamp_s + self._offset_s
        if self._last_s is None or self._last_s < time_s <= self._last_s + self._max_jump_s:
            self._before_turn = 0
        elif 0 <= self._last_s - time_s <= MAX_REORDERED * self._step_s and self._before_turn < MAX_REORDERED:
            self._before_turn += 1
            time_s = self._last_s + self._step_s / 2  # half a step: those after it keep their times, or get back to them
        else:
            self.jumped_at_s = expected_s if self.jumped_at_s is None else self.jumped_at_s
            self._before_turn = 0
            self._offset_s += expected_s - time_s
            time_s = expected_s
        self._last_s = time_s
        return time_s
