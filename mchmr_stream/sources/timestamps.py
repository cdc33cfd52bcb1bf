"""Times of frames, and selection of the requested part of a source."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mchmr_stream.config import SourceSettings
from mchmr_stream.errors import UsageError

ROUNDING_S = 0.0005
"""Matroska and others round times to milliseconds: a time of 1/3 s reads 0.333."""

MAX_JUMP_S = 10.0
"""Longer jumps in a broadcast stream come from joined recordings, not from a slow camera (ffmpeg uses the same limit)."""

MAX_REORDERED = 16
"""Maximum delay of a picture's presentation relative to its decoding, pictures (H.264 and HEVC; others less)."""


@dataclass(frozen=True)
class TimeWindow:
    """Selected part of a source: start_s <= time < end_s, then each `every`-th frame from the first one on."""

    start_s: float
    end_s: float
    every: int

    @staticmethod
    def of(settings: SourceSettings) -> TimeWindow:
        """Window of these settings. Raises UsageError if the end does not follow the start."""
        start_s = settings.start_s or 0.0
        end_s = math.inf if settings.end_s is None else settings.end_s
        if end_s <= start_s:
            raise UsageError(f"source.end_s is {end_s:g}, expected a time after source.start_s, {start_s:g}")
        return TimeWindow(start_s, end_s, settings.every)

    def is_before(self, time_s: float) -> bool:
        return time_s < self.start_s - ROUNDING_S

    def is_after(self, time_s: float) -> bool:
        return time_s >= self.end_s - ROUNDING_S

    def count(self, total: int | None, fps: float) -> int | None:
        """Number of selected frames of `total` at a constant rate; None if the total is unknown."""
        if total is None:
            return None
        first = math.ceil((self.start_s - ROUNDING_S) * fps)
        last = total if math.isinf(self.end_s) else min(total, math.ceil((self.end_s - ROUNDING_S) * fps))
        return max(0, math.ceil((last - max(first, 0)) / self.every))


class BestStamps:
    """Selects the valid one of a picture's two timestamps, presentation or decoding time.

    Some containers store decoding times in place of presentation times. The choice is that of FFmpeg's `best_effort_timestamp`: the kind
    that failed to increase less often so far, and the presentation time if both failed equally often.
    """

    def __init__(self) -> None:
        self._shown, self._decoded = _Growing(), _Growing()

    def of(self, pts: int | None, dts: int | None) -> int | None:
        """Timestamp of the next picture in order of presentation; None if it has no valid one."""
        self._decoded.note(dts, pts)
        self._shown.note(pts, dts)
        return pts if self.shown_are_sound and pts is not None else dts

    @property
    def shown_are_sound(self) -> bool:
        """Whether presentation times are valid so far."""
        return self._shown.failures <= self._decoded.failures


@dataclass
class _Growing:
    """Number of timestamps of one kind that did not increase."""

    failures: int = 0
    last: int | None = None

    def note(self, stamp: int | None, instead: int | None) -> None:
        """Add a timestamp; `instead` is the other kind's, the reference for the next one if there is no `stamp`."""
        if stamp is not None and self.last is not None and stamp <= self.last:
            self.failures += 1
        self.last = next((one for one in (stamp, instead) if one is not None), self.last)


class Clock:
    """Converts timestamps to seconds from the first frame that never decrease.

    Up to a few early timestamps are replaced by interpolated times, and later ones are kept. If timestamps step back permanently (joined
    recordings, a counter restart), all later ones are shifted so that the next frame follows one nominal step after the last one.
    """

    def __init__(self, fps: float, *, first_s: float | None = None, max_jump_s: float | None = None) -> None:
        """Start the clock.

        Args:
            fps: Nominal frame rate.
            first_s: Timestamp of the stream's first frame, which is time 0; None: the first timestamp seen.
            max_jump_s: Longer steps forward are invalid, too; None: any step is valid.
        """
        self._step_s = 1.0 / fps
        self._max_jump_s = math.inf if max_jump_s is None else max_jump_s
        self._offset_s = None if first_s is None else -first_s
        self._last_s: float | None = None
        self._before_turn = 0
        """Number of consecutive frames whose timestamp did not increase"""
        self.jumped_at_s: float | None = None
        """Time at which timestamps were first found invalid; None while they are valid."""

    def time_s(self, stamp_s: float | None) -> float:
        """Time of the next frame; `stamp_s` None: it has no timestamp and follows at the nominal rate."""
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
            time_s = self._last_s + self._step_s / 2  # half a step: later frames keep their times, or return to them
        else:
            self.jumped_at_s = expected_s if self.jumped_at_s is None else self.jumped_at_s
            self._before_turn = 0
            self._offset_s += expected_s - time_s
            time_s = expected_s
        self._last_s = time_s
        return time_s
