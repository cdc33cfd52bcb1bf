"""The network's answer for the tracker: it arrives, or a stop ends the waiting; never both, never an error where it comes from."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from types import FrameType
from typing import Any

import pytest

from mchmr_stream.pipeline.feedback import Feedback


def test_an_answer_comes_to_whoever_waits_for_that_frame() -> None:
    feedback: Feedback[str] = Feedback()
    first, second = feedback.expect(), feedback.expect()
    feedback.resolve(first, "old")
    threading.Timer(0.02, feedback.resolve, (second, "new")).start()
    assert feedback.wait() == "new"
    assert feedback.wait() == "new", "it may be asked for again"
    third = feedback.expect()
    feedback.resolve(second, "late")
    feedback.resolve(third, "newest")
    assert feedback.wait() == "newest"


def test_a_stop_ends_the_waiting_for_good() -> None:
    feedback: Feedback[str] = Feedback()
    frame = feedback.expect()
    threading.Timer(0.02, feedback.cancel).start()
    with pytest.raises(CancelledError):
        feedback.wait()
    feedback.resolve(frame, "too late")
    feedback.resolve(feedback.expect(), "later still")
    with pytest.raises(CancelledError):
        feedback.wait()


def test_a_stop_at_any_moment_does_no_harm() -> None:
    """The answer and the stop come at once from two threads, which change over after every line, while a third waits.

    A check whether there was a stop, and then setting the result of a Future, fails here in every second turn.
    """
    errors: list[BaseException] = []
    ends: set[str] = set()

    def change_over(frame: FrameType, event: str, arg: object) -> Any:
        time.sleep(1e-5)
        return change_over

    def wait(feedback: Feedback[str]) -> None:
        try:
            ends.add(feedback.wait())
        except CancelledError:
            ends.add("stopped")

    def line_by_line(function: Callable[..., None], *args: object) -> None:
        sys.settrace(change_over)
        try:
            function(*args)
        except BaseException as error:  # noqa: BLE001 - looked at below
            errors.append(error)
        finally:
            sys.settrace(None)

    for turn in range(200):
        feedback: Feedback[str] = Feedback()
        frame = feedback.expect()
        jobs = [(feedback.resolve, frame, "answer"), (feedback.cancel,)][:: 1 if turn % 2 else -1]
        threads = [threading.Thread(target=line_by_line, args=job, daemon=True) for job in [(wait, feedback), *jobs]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
    assert errors == []
    assert "stopped" in ends
