"""Handling of Ctrl-C, SIGTERM and SIGHUP: the run writes what is finished, then the command ends."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType

_HANG_UP = getattr(signal, "SIGHUP", None)
"""Sent when the terminal closes, as when an ssh connection breaks; not on Windows."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, *([_HANG_UP] if _HANG_UP is not None else []))


class StopOnSignals:
    """Context manager: the first SIGINT, SIGTERM or SIGHUP sets `event`; a second one ends the process at once.

    A second SIGHUP does not: both the system and the shell send one when a terminal goes. Where SIGHUP is ignored, as under nohup, it
    stays so.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self.signal: int | None = None
        self._before: dict[int, object] = {}

    @property
    def exit_code(self) -> int | None:
        """Return 128 + the signal, as shells do; None if there was none."""
        return None if self.signal is None else 128 + self.signal

    def __enter__(self) -> StopOnSignals:
        # Python allows only the main thread to set handlers; other callers stop the run themselves.
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if number == _HANG_UP and signal.getsignal(number) is signal.SIG_IGN:
                    continue
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None:
            if number == _HANG_UP:
                return
            # No KeyboardInterrupt: it would run all `finally` blocks, which a second signal must not wait for.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.signal = number
        self.event.set()
        # os.write: print() is not safe inside a signal handler that may have interrupted another print().
        _written_or_silenced(2, b"mchmr: stopping, what is done is being written; once more ends at once\n")
        _written_or_silenced(1, b"")  # fails on a closed terminal


def _written_or_silenced(number: int, text: bytes) -> None:
    """Write to a stream; if that fails, redirect it to devnull, so that later prints cannot interrupt a run."""
    try:
        os.write(number, text)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)
