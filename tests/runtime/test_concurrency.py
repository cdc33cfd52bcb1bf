"""Threads between stages: what users of a stage may rely on."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time

import pytest

from mchmr_stream.runtime.concurrency import BackgroundWriter, Channel, Stopwatch, Workers


def test_every_item_arrives_once_and_in_order():
    with Workers() as workers:
        doubled = (2 * x for x in workers.ahead(range(500), 3, name="source"))
        assert list(workers.ahead(doubled, 2, name="double")) == list(range(0, 1000, 2))


def test_upstream_never_runs_more_than_size_plus_one_ahead():
    made = []

    def source():
        for i in range(50):
            made.append(i)
            yield i

    with Workers() as workers:
        for taken, _ in enumerate(workers.ahead(source(), 4, name="source"), start=1):
            time.sleep(0.002)
            assert len(made) - taken <= 4 + 1


def test_an_error_upstream_arrives_after_the_last_good_item():
    def source():
        yield from range(5)
        raise OSError("disk gone")

    got: list[int] = []
    with Workers() as workers, pytest.raises(OSError, match="disk gone"):
        got.extend(workers.ahead(source(), 2, name="source"))
    assert got == [0, 1, 2, 3, 4]


def test_leaving_early_joins_the_threads_and_closes_the_source():
    closed = threading.Event()

    def source():
        try:
            yield from itertools.count()
        finally:
            closed.set()

    before = threading.active_count()
    with Workers() as workers:
        for item in workers.ahead(workers.ahead(source(), 2, name="source"), 2, name="next"):
            if item == 10:
                break
    assert closed.is_set()
    assert threading.active_count() == before


def test_an_error_of_the_reader_stops_everything():
    def divide_until_it_fails():
        with Workers() as workers:
            for item in workers.ahead(itertools.count(), 2, name="source"):
                1 / (3 - item)

    with pytest.raises(ZeroDivisionError):
        divide_until_it_fails()
    assert not [t for t in threading.enumerate() if t.name == "source"]


def test_dropping_channel_keeps_the_newest_and_counts_the_rest():
    channel: Channel[int] = Channel(1, drop_oldest=True)
    for i in range(10):
        channel.put(i)
    channel.end()
    assert list(channel) == [9]
    assert channel.dropped == 9


def test_put_says_so_when_the_reader_has_gone():
    channel: Channel[int] = Channel(1)
    channel.close()
    assert channel.put(1) is False


def test_a_channel_without_room_is_refused():
    with pytest.raises(ValueError, match="at least 0"):
        Channel(-1)
    with pytest.raises(ValueError, match="at least 1"):
        Channel(0, drop_oldest=True)


def test_without_room_the_next_item_is_begun_only_when_the_one_before_was_taken():
    begun = []

    def source():
        for i in range(5):
            begun.append(i)
            yield i

    with Workers() as workers:
        for item in workers.ahead(source(), 0, name="source"):
            time.sleep(0.02)
            assert begun[-1] <= item + 1
    assert begun == [0, 1, 2, 3, 4]


def test_a_stopwatch_may_forget():
    watch = Stopwatch(last=2)
    for seconds in (1.0, 2.0, 3.0):
        watch.add("network", seconds)
    assert watch.seconds == {"network": [2.0, 3.0]}


def test_stopwatch_counts_work_and_not_waiting_downstream(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("mchmr_stream.runtime.concurrency.time.perf_counter", lambda: clock[0])
    watch = Stopwatch()

    def slow():
        for i in range(3):
            clock[0] += 2.0
            yield i

    for _ in watch.timed("make", slow()):
        clock[0] += 5.0
    assert watch.seconds["make"] == [2.0, 2.0, 2.0]


def test_behind_consumes_everything_in_order_before_the_block_is_left():
    got: list[int] = []
    with BackgroundWriter(got.append, 2, name="write") as writer:
        for i in range(100):
            writer.put(i)
    assert got == list(range(100))


def test_behind_raises_its_own_error_and_stops():
    def consume(item):
        if item == 3:
            raise OSError("disk full")

    def produce():
        with BackgroundWriter(consume, 1, name="write") as writer:
            for i in itertools.count():
                writer.put(i)

    with pytest.raises(OSError, match="disk full"):
        produce()
    assert not [thread for thread in threading.enumerate() if thread.name == "write"]


def test_behind_still_consumes_what_was_handed_over_when_the_producer_fails():
    got: list[int] = []

    def produce():
        with BackgroundWriter(got.append, 10, name="write") as writer:
            for i in range(5):
                writer.put(i)
            raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        produce()
    assert got == [0, 1, 2, 3, 4]


def test_a_program_that_ends_in_the_middle_of_a_run_closes_its_source():
    program = """
import itertools
from mchmr_stream.runtime.concurrency import Workers

def source():
    try:
        yield from itertools.count()
    finally:
        print("closed")

workers = Workers()
items = workers.__enter__().ahead(source(), 2, name="source")
next(items)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "closed\n"), done.stderr
