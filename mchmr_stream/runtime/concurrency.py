"""Execution of stages on threads that run a bounded number of items ahead.

Stages are plain generators; `Workers.ahead` adds a thread boundary from outside. Guarantees: order and completeness; at most `size`
finished items are queued, and with size 0 the next one is not begun before this one is taken; an error upstream arrives after the last good
item; an early exit joins every thread and closes the upstream; with `drop_oldest` the newest item is kept.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from statistics import median
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Channel(Generic[T]):
    """Queue of at most `size` items between two threads. With size 0 `put` returns once the item is taken."""

    def __init__(self, size: int, *, drop_oldest: bool = False) -> None:
        if size < (1 if drop_oldest else 0):
            raise ValueError(f"size must be at least {1 if drop_oldest else 0}, got {size}")
        self._size, self._drop_oldest = size, drop_oldest
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self.dropped = 0
        self.highest = 0
        """Largest number of queued items so far."""

    def put(self, item: T) -> bool:
        """Append an item, blocking while the queue is full unless the oldest items are dropped.

        Args:
            item: The item.

        Returns:
            False once the channel is closed.
        """
        with self._changed:
            while len(self._items) >= max(1, self._size) and not self._closed:
                if self._drop_oldest:
                    self._items.popleft()
                    self.dropped += 1
                else:
                    self._changed.wait()
            if self._closed:
                return False
            self._items.append(item)
            self.highest = max(self.highest, len(self._items))
            self._changed.notify_all()
            if self._size == 0:
                self._changed.wait_for(lambda: not self._items or self._closed)
                return not self._closed
            return True

    def end(self, error: BaseException | None = None) -> None:
        """Mark the end of the items; the reader gets `error` after the last item."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """Stop both sides; queued items are discarded."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._ended or self._closed)
                if self._closed:
                    return
                if not self._items:
                    if self._error is not None:
                        raise self._error
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item


_LIVE: weakref.WeakSet[Workers] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """Stop running threads at exit: threads inside native code would otherwise abort the process."""
    for workers in list(_LIVE):
        workers.stop()


class Workers:
    """Threads of one run. The end of the `with` block, or of the program, stops and joins them all."""

    def __init__(self) -> None:
        self._channels: list[Channel] = []
        self._threads: list[threading.Thread] = []
        self._wake_ups: list[Callable[[], object]] = []

    def __enter__(self) -> Workers:
        _LIVE.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop all threads and join them."""
        _LIVE.discard(self)
        for channel in self._channels:
            channel.close()
        for wake_up in self._wake_ups:
            wake_up()
        for thread in self._threads:
            thread.join()

    def before_joining(self, wake_up: Callable[[], object]) -> None:
        """Register a function called at the stop, which has to wake a thread that blocks on something other than a channel."""
        self._wake_ups.append(wake_up)

    def ahead(self, upstream: Iterable[T], size: int, *, name: str, drop_oldest: bool = False) -> Iterator[T]:
        """Iterate over `upstream` on a separate thread.

        Args:
            upstream: The items.
            size: Maximum number of finished items ahead.
            name: Name of the thread.
            drop_oldest: Drop the oldest item of a full queue instead of blocking.

        Returns:
            An iterator over the items.
        """
        channel: Channel[T] = Channel(size, drop_oldest=drop_oldest)
        thread = threading.Thread(target=_pump, args=(upstream, channel), name=name, daemon=True)
        self._channels.append(channel)
        self._threads.append(thread)
        thread.start()
        return iter(channel)


class BackgroundWriter(Generic[T]):
    """Calls `consume` for each item on a separate thread, with at most `size` items queued.

    The end of the `with` block waits until all items are consumed. An error of `consume` stops the writer and is raised by the next `put`,
    or at the end of the block.
    """

    def __init__(self, consume: Callable[[T], object], size: int, *, name: str) -> None:
        self._channel: Channel[T] = Channel(size)
        self._consume = consume
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> BackgroundWriter[T]:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._channel.end()
        self._thread.join()
        if self._error is not None and kind is None:
            raise self._error

    def put(self, item: T) -> None:
        """Queue an item; blocks while the queue is full."""
        if not self._channel.put(item) and self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            for item in self._channel:
                self._consume(item)
        except BaseException as error:  # noqa: BLE001 - handed to the other thread, which raises it
            self._error = error
            self._channel.close()


class DroppingWriter(Generic[T]):
    """Calls `consume` for each item on a separate thread and never blocks: of more than `size` queued items the oldest are dropped.

    `finish` is called on that thread after the last item, also after an error. An error of either is raised by the next `put`, or by
    `close`.
    """

    def __init__(self, consume: Callable[[T], object], finish: Callable[[], object], size: int, *, name: str) -> None:
        self._channel: Channel[T] = Channel(size, drop_oldest=True)
        self._consume, self._finish = consume, finish
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Number of items dropped for newer ones."""
        return self._channel.dropped

    def put(self, item: T) -> None:
        """Queue an item."""
        if not self._channel.put(item) and self._error is not None:
            raise self._error

    def close(self, patience_s: float) -> bool:
        """Wait for the queued items to be consumed.

        Args:
            patience_s: Maximum time to wait, seconds.

        Returns:
            False if it was too short; the thread is then abandoned.
        """
        self._channel.end()
        self._thread.join(patience_s)
        self._channel.close()
        if self._error is not None:
            raise self._error
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            try:
                for item in self._channel:
                    self._consume(item)
            finally:
                self._finish()
        except BaseException as error:  # noqa: BLE001 - handed to the other thread, which raises it
            self._error = error
            self._channel.close()


R = TypeVar("R")


class RequestBatcher(Generic[R, T]):
    """Processes requests of several threads in batches, by `answer` on a separate thread.

    After the first request of a batch the other members have `wait_s` to join it; the batch starts at once when all have. `members` is the
    number of requesting threads.
    """

    def __init__(self, answer: Callable[[list[R]], list[T]], members: int, wait_s: float, *, name: str) -> None:
        self._answer, self._members, self._wait_s = answer, members, wait_s
        self._pending: deque[tuple[R, Future[T]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def request(self, request: R) -> T:
        """Block until the result is available; an error of `answer` is raised to each thread of the batch."""
        future: Future[T] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("asked after the end")
            self._pending.append((request, future))
            self._changed.notify_all()
        return future.result()

    def close(self) -> None:
        """Process the pending requests, and stop."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending or self._closed)
                if not self._pending:
                    return
                self._changed.wait_for(lambda: len(self._pending) >= self._members or self._closed, self._wait_s)
                batch = list(self._pending)
                self._pending.clear()
            try:
                answers = self._answer([request for request, _ in batch])
            except BaseException as error:  # noqa: BLE001 - handed to the requesting threads
                for _, future in batch:
                    future.set_exception(error)
            else:
                for (_, future), answer in zip(batch, answers, strict=True):
                    future.set_result(answer)


class RaisingThread:
    """Runs a function on a separate thread, started at once."""

    def __init__(self, work: Callable[[], object], *, name: str) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for the end of the function; an error that it raised is raised here."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - handed to the thread that joins
            self._error = error


class Stopwatch:
    """Working time of each stage per item, seconds; stages run on different threads. With `last` only so many items are kept."""

    def __init__(self, last: int | None = None) -> None:
        self._lock = threading.Lock()
        self._last = last
        self._seconds: dict[str, deque[float]] = {}

    @property
    def seconds(self) -> dict[str, list[float]]:
        """Times of each stage, in order."""
        with self._lock:
            return {stage: list(kept) for stage, kept in self._seconds.items()}

    @property
    def latest(self) -> dict[str, float]:
        """Time of the last item of each stage."""
        with self._lock:
            return {stage: kept[-1] for stage, kept in self._seconds.items()}

    def lines(self) -> list[str]:
        """Summary of each stage as text."""
        text = "{}: {} times, {:.1f} ms each (median), {:.1f} at most, {:.1f} s in all"
        return [
            text.format(stage, len(took), 1000 * median(took), 1000 * max(took), sum(took)) for stage, took in self.seconds.items() if took
        ]

    def add(self, stage: str, seconds: float) -> None:
        with self._lock:
            self._seconds.setdefault(stage, deque(maxlen=self._last)).append(seconds)

    def timed(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Iterate over `items` and measure the time of each."""
        iterator = iter(items)
        try:
            while True:
                start = time.perf_counter()
                try:
                    item = next(iterator)
                except StopIteration:
                    return
                self.add(stage, time.perf_counter() - start)
                yield item
        finally:
            _close(iterator)

    def call(self, stage: str, function: Callable[..., T], *args: object) -> T:
        """Call a function and measure its time."""
        start = time.perf_counter()
        try:
            return function(*args)
        finally:
            self.add(stage, time.perf_counter() - start)


def _pump(upstream: Iterable[T], channel: Channel[T]) -> None:
    items = iter(upstream)
    try:
        for item in items:
            if not channel.put(item):
                break
    except BaseException as error:  # noqa: BLE001 - handed to the reader, who raises it
        channel.end(error)
    else:
        channel.end()
    finally:
        _close(items)


def _close(iterator: object) -> None:
    close = getattr(iterator, "close", None)
    if close is not None:
        close()
