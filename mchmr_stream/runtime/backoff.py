"""Back-off: growing pauses between attempts to reconnect, and one warning per loss."""

from __future__ import annotations

import logging
import threading


class Backoff:
    """Pauses that double from `first_s` up to `longest_s`, seconds."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._failures = 0

    def pause_s(self, failures: int) -> float:
        """Pause after `failures` doublings."""
        return min(self._first_s * 2.0 ** min(failures, 32), self._longest_s)

    def next_s(self) -> float:
        """Pause before the next attempt; the one after it is longer."""
        pause_s = self.pause_s(self._failures)
        self._failures += 1
        return pause_s

    def wait(self, stop: threading.Event) -> None:
        """Pause before the next attempt. Setting `stop` ends the pause."""
        stop.wait(self.next_s())

    def reset(self) -> None:
        """Begin with the first pause again."""
        self._failures = 0


class LossLog:
    """Logs the first failure of each loss as a warning and further ones as information."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self.is_lost = False

    def lost(self, message: str, *values: object) -> None:
        """Log a failed attempt."""
        self._log.log(logging.INFO if self.is_lost else logging.WARNING, message, *values)
        self.is_lost = True

    def recovered(self) -> None:
        """Mark the end of a loss: the next failure begins another one."""
        self.is_lost = False
