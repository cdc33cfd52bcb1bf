"""Ctrl-C and SIGTERM as a polite request: the run finishes what it has, then the command leaves."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType


class StopOnSignals:
    """Context manager: the first SIGINT or SIGTERM sets `event`; a second one ends the process at once."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.signal: int | None = None
        self._before: dict[int, object] = {}

    @property
    def exit_code(self) -> int | None:
        """128 + the signal, as shells have it; None when nothing came."""
        return None if self.signal is None else 128 + self.signal

    def __enter__(self) -> StopOnSignals:
        # Python lets only the main thread set handlers; elsewhere the caller has its own way of stopping.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None:
            # No KeyboardInterrupt here: it would run every `finally`, and waiting for those is what the user gave up on.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.signal = number
        self.event.set()
        # os.write: print() is not safe inside a signal handler that may have interrupted another print().
        os.write(2, b"mchmr: stopping, what is done is being written; once more ends at once\n")
