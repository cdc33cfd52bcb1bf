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


class Clock:
    """Turns timestamps into seconds from the first frame that never run backwards.

    Where they do run backwards (joined recordings, a counter that starts again), all later ones are moved so that the
    next frame comes one nominal step after the last one.
    """

    def __init__(self, fps: float, *, first_s: float | None = None, max_jump_s: float | None = None) -> None:
        """`first_s`: stamp of the stream's first frame, which is time 0; None: the first stamp that comes.

        `max_jump_s`: longer steps forward are taken for broken too; None: any step is believed.
        """
        self._step_s = 1.0 / fps
        self._max_jump_s = math.inf if max_jump_s is None else max_jump_s
        self._offset_s = None if first_s is None else -first_s
        self._last_s: float | None = None
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
        if self._last_s is not None and not self._last_s < time_s <= self._last_s + self._max_jump_s:
            if self.jumped_at_s is None:
                self.jumped_at_s = expected_s
            self._offset_s += expected_s - time_s
            time_s = expected_s
        self._last_s = time_s
        return time_s
