"""Times of a live source: from its own timestamps while these are plausible, else from the wall clock."""

from __future__ import annotations

from collections import deque

MAX_DISAGREEMENT_S = 5.0
"""Timestamps whose step differs from that of the wall clock by more are taken as restarted."""
SMALLEST_STEP_S = 0.001
MEASURED_STEPS = 300


class MeasuredRate:
    """Pictures per second, measured from the last steps."""

    def __init__(self) -> None:
        self._steps_s: deque[float] = deque(maxlen=MEASURED_STEPS)
        self._last_s: float | None = None

    def note(self, time_s: float) -> None:
        """Add the time of the next picture, later than those before."""
        if self._last_s is not None:
            self._steps_s.append(time_s - self._last_s)
        self._last_s = time_s

    def reconnected(self) -> None:
        """Ignore the step to the next picture."""
        self._last_s = None

    @property
    def fps(self) -> float | None:
        """The rate; None before the second picture."""
        return len(self._steps_s) / sum(self._steps_s) if self._steps_s else None


class LiveClock:
    """Seconds since the first frame, strictly increasing, over any number of connections.

    Within a connection frames keep the distances of their timestamps; between connections the time elapsed is used.
    """

    def __init__(self) -> None:
        self._offset_s: float | None = None
        self._last_s: float | None = None
        self._last_arrived_s = 0.0
        self._soonest_s = 0.0
        """Minimum of (arrival - timestamp) in this connection"""

    def reconnected(self) -> None:
        """Restart the timestamps with the next frame."""
        self._offset_s = None

    def time_s(self, stamp_s: float | None, arrived_s: float) -> float:
        """Time of the next frame.

        Args:
            stamp_s: Its timestamp; None if it has none.
            arrived_s: Its arrival on any steady clock.

        Returns:
            Seconds since the first frame.
        """
        passed_s = arrived_s - self._last_arrived_s
        by_wall_s = 0.0 if self._last_s is None else self._last_s + max(passed_s, SMALLEST_STEP_S)
        if stamp_s is None:
            stamp_s = arrived_s
        if self._offset_s is not None:
            time_s = stamp_s + self._offset_s
            if self._last_s is not None and abs((time_s - self._last_s) - passed_s) > MAX_DISAGREEMENT_S:
                self._offset_s = None
        if self._offset_s is None:
            self._offset_s = by_wall_s - stamp_s
            self._soonest_s = arrived_s - stamp_s
            time_s = by_wall_s
        if self._last_s is not None:
            time_s = max(time_s, self._last_s + SMALLEST_STEP_S)
        self._soonest_s = min(self._soonest_s, arrived_s - stamp_s)
        self._last_s, self._last_arrived_s = time_s, arrived_s
        return time_s

    def late_s(self, stamp_s: float | None, arrived_s: float) -> float:
        """Delay of the last frame relative to the fastest one of this connection, by its own timestamp; 0 without one."""
        return 0.0 if stamp_s is None else max(0.0, arrived_s - stamp_s - self._soonest_s)
