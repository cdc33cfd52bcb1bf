"""Times of a live source: from its own timestamps while they make sense, from the clock on the wall where they do not."""

from __future__ import annotations

from collections import deque

MAX_DISAGREEMENT_S = 5.0
"""Timestamps that part from the wall clock by more since the last frame are taken as started anew."""
SMALLEST_STEP_S = 0.001
MEASURED_STEPS = 300


class MeasuredRate:
    """Pictures per second, from the steps between the last ones."""

    def __init__(self) -> None:
        self._steps_s: deque[float] = deque(maxlen=MEASURED_STEPS)
        self._last_s: float | None = None

    def note(self, time_s: float) -> None:
        """The time of the next picture, later than those before."""
        if self._last_s is not None:
            self._steps_s.append(time_s - self._last_s)
        self._last_s = time_s

    def reconnected(self) -> None:
        """The way to the next picture is no step."""
        self._last_s = None

    @property
    def fps(self) -> float | None:
        """None before the second picture."""
        return len(self._steps_s) / sum(self._steps_s) if self._steps_s else None


class LiveClock:
    """Seconds since the first frame, always growing, over any number of connections.

    Within a connection frames keep the distances that their timestamps have; between connections lies the time that really passed.
    """

    def __init__(self) -> None:
        self._offset_s: float | None = None
        self._last_s: float | None = None
        self._last_arrived_s = 0.0
        self._soonest_s = 0.0
        """least (arrival - timestamp) of this connection"""

    def reconnected(self) -> None:
        """Timestamps start anew with the next frame."""
        self._offset_s = None

    def time_s(self, stamp_s: float | None, arrived_s: float) -> float:
        """Time of the next frame in order, which arrived at `arrived_s` (any clock that runs evenly). `stamp_s` None: it says nothing."""
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
        """How much later than the soonest frame of this connection the last one came, by its own timestamp; 0 where it has none."""
        return 0.0 if stamp_s is None else max(0.0, arrived_s - stamp_s - self._soonest_s)
