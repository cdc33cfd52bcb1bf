"""What the network saw, on its way back to the tracker, which waits for it on another thread; a stop ends the waiting."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from typing import Generic, TypeVar, cast

T = TypeVar("T")


class Feedback(Generic[T]):
    """One answer for each frame. Whoever waits does so for the frame that was expected last; of others the answer is dropped."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._expected = self._resolved = -1
        self._answer: T | None = None
        self._cancelled = False

    def expect(self) -> int:
        """The number of the next frame."""
        with self._changed:
            self._expected += 1
            return self._expected

    def resolve(self, frame: int, answer: T) -> None:
        """The answer for a frame is there. May be called from any thread, in any order, and also after a stop."""
        with self._changed:
            if frame == self._expected and not self._cancelled:
                self._resolved, self._answer = frame, answer
                self._changed.notify_all()

    def wait(self) -> T:
        """The answer for the frame that was expected last. Raises CancelledError where a stop comes first."""
        with self._changed:
            self._changed.wait_for(lambda: self._resolved == self._expected or self._cancelled)
            if self._cancelled:
                raise CancelledError
            return cast(T, self._answer)

    def cancel(self) -> None:
        """No answer is waited for any more."""
        with self._changed:
            self._cancelled = True
            self._answer = None
            self._changed.notify_all()
