import logging
import threading
import time

import pytest

from mchmr_stream.runtime.backoff import Backoff, LossLog


def test_pauses_double_up_to_the_longest_and_begin_again():
    backoff = Backoff(0.5, 3.0)
    assert [backoff.next_s() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    backoff.reset()
    assert backoff.next_s() == 0.5
    assert Backoff(0.5, 3.0).pause_s(10_000) == 3.0


def test_stop_ends_a_pause():
    stop = threading.Event()
    threading.Timer(0.05, stop.set).start()
    start = time.monotonic()
    Backoff(30.0, 30.0).wait(stop)
    assert time.monotonic() - start < 20


def test_one_warning_for_each_loss(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    losses = LossLog(logging.getLogger("camera"))
    for _ in range(2):
        losses.lost("%s is lost", "camera 0")
        losses.lost("%s is lost", "camera 0")
        losses.recovered()
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.INFO] * 2
    assert caplog.records[0].getMessage() == "camera 0 is lost"
