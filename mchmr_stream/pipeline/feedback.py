"""The way back from the network to the tracker: one result per frame, from thread to thread."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from typing import Generic, TypeVar, cast

T = TypeVar("T")


class Feedback(Generic[T]):
    """Hands the network's result for a frame from the thread that computes it to the thread that tracks.

    The tracker needs the result of the last frame only where it may lose a person (`Tracker.needs_confirmation`). It then calls `wait`;
    otherwise it is a frame ahead of the network, and the result is dropped.

    Determinism: whether the tracker waits depends on its own state and on the detections, never on whether the result has arrived already.
    If it waits, it gets the result of exactly one frame, the last expected one, however late that arrives. So the bodies of a video do not
    depend on the speed of the threads.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._expected = self._resolved = -1
        self._answer: T | None = None
        self._cancelled = False

    def expect(self) -> int:
        """Register the next frame and return its number."""
        with self._changed:
            self._expected += 1
            return self._expected

    def resolve(self, frame: int, answer: T) -> None:
        """Store the result of a frame. May be called from any thread, in any order, and after `cancel`.

        Args:
            frame: Number from `expect`. Results of other frames than the last expected one are dropped.
            answer: The result.
        """
        with self._changed:
            if frame == self._expected and not self._cancelled:
                self._resolved, self._answer = frame, answer
                self._changed.notify_all()

    def wait(self) -> T:
        """Block until the result of the last expected frame has arrived, and return it.

        Raises:
            CancelledError: `cancel` was called.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._resolved == self._expected or self._cancelled)
            if self._cancelled:
                raise CancelledError
            return cast(T, self._answer)

    def cancel(self) -> None:
        """End all waiting, now and later."""
        with self._changed:
            self._cancelled = True
            self._answer = None
            self._changed.notify_all()
