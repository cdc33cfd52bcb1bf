"""Run stages on threads that stay a bounded number of items ahead. Here the stages of the pipeline get their threads.

Stages are plain generators; a thread boundary is put in from outside with `Workers.ahead`. What holds:
order and completeness; never more than `size` finished items wait, and with size 0 the next one is not begun before this one
was taken; an error upstream arrives after the last good item; leaving early joins every thread and closes the upstream; with
`drop_oldest` the newest item is kept.
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
    """Hand items from one thread to the next, holding at most `size`. Size 0: `put` returns once the item was taken."""

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
        """The most items that ever waited."""

    def put(self, item: T) -> bool:
        """Add `item`, waiting for room unless the oldest are dropped. False once the reader has gone."""
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
        """Say that no more items come; `error` is raised to the reader after the last item."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """Wake and stop both sides; what is held is discarded."""
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
    """A program may end in the middle of a run that nobody closed; threads inside native code would then abort it."""
    for workers in list(_LIVE):
        workers.stop()


class Workers:
    """The threads of one run. Leaving the `with` block stops and joins them all; the end of the program does too."""

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
        """End all threads and wait for them."""
        _LIVE.discard(self)
        for channel in self._channels:
            channel.close()
        for wake_up in self._wake_ups:
            wake_up()
        for thread in self._threads:
            thread.join()

    def before_joining(self, wake_up: Callable[[], object]) -> None:
        """Call this when the threads are to end: a thread that waits for something else than a channel must be woken."""
        self._wake_ups.append(wake_up)

    def ahead(self, upstream: Iterable[T], size: int, *, name: str, drop_oldest: bool = False) -> Iterator[T]:
        """Iterate `upstream` on its own thread, at most `size` finished items ahead."""
        channel: Channel[T] = Channel(size, drop_oldest=drop_oldest)
        thread = threading.Thread(target=_pump, args=(upstream, channel), name=name, daemon=True)
        self._channels.append(channel)
        self._threads.append(thread)
        thread.start()
        return iter(channel)


class BackgroundWriter(Generic[T]):
    """Hand items to `consume` on a thread of its own, at most `size` waiting.

    Leaving the `with` block waits until everything handed over was consumed. An error of `consume` stops it and is raised
    by the next `put`, or when the block is left.
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
        """Hand over; waits for room."""
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
    """Hand items to `consume` on a thread of its own and never wait: the oldest of more than `size` waiting items are dropped.

    `finish` is called on that thread after the last item, also after an error. An error of either is raised by the next `put`, or
    by `close`.
    """

    def __init__(self, consume: Callable[[T], object], finish: Callable[[], object], size: int, *, name: str) -> None:
        self._channel: Channel[T] = Channel(size, drop_oldest=True)
        self._consume, self._finish = consume, finish
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many items gave way to newer ones."""
        return self._channel.dropped

    def put(self, item: T) -> None:
        """Hand over."""
        if not self._channel.put(item) and self._error is not None:
            raise self._error

    def close(self, patience_s: float) -> bool:
        """Give what waits so long to be consumed. False where it was not: then the thread is left to itself."""
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
    """Requests of several threads answered together by `answer`, on a thread of its own: one of each that asks in time.

    After the first request of a round the others have `wait_s` to join it; the round begins at once when all have.
    `members`: how many ask.
    """

    def __init__(self, answer: Callable[[list[R]], list[T]], members: int, wait_s: float, *, name: str) -> None:
        self._answer, self._members, self._wait_s = answer, members, wait_s
        self._asked: deque[tuple[R, Future[T]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def ask(self, request: R) -> T:
        """Wait for the answer; what `answer` raises is raised to everybody whose request it had."""
        future: Future[T] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("asked after the end")
            self._asked.append((request, future))
            self._changed.notify_all()
        return future.result()

    def close(self) -> None:
        """Answer what was asked, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._asked or self._closed)
                if not self._asked:
                    return
                self._changed.wait_for(lambda: len(self._asked) >= self._members or self._closed, self._wait_s)
                round_ = list(self._asked)
                self._asked.clear()
            try:
                answers = self._answer([request for request, _ in round_])
            except BaseException as error:  # noqa: BLE001 - handed to those who asked
                for _, future in round_:
                    future.set_exception(error)
            else:
                for (_, future), answer in zip(round_, answers, strict=True):
                    future.set_result(answer)


class RaisingThread:
    """A function on a thread of its own, begun at once."""

    def __init__(self, work: Callable[[], object], *, name: str) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for its end; an error that it ended with is raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - handed to the thread that joins
            self._error = error


class Stopwatch:
    """Seconds that each stage spent working, per item; stages run on different threads. `last`: keep only so many items."""

    def __init__(self, last: int | None = None) -> None:
        self._lock = threading.Lock()
        self._last = last
        self._seconds: dict[str, deque[float]] = {}

    @property
    def seconds(self) -> dict[str, list[float]]:
        """Of each stage, in order."""
        with self._lock:
            return {stage: list(kept) for stage, kept in self._seconds.items()}

    @property
    def latest(self) -> dict[str, float]:
        """Of each stage, the last item's."""
        with self._lock:
            return {stage: kept[-1] for stage, kept in self._seconds.items()}

    def lines(self) -> list[str]:
        """How long each stage worked, in words."""
        text = "{}: {} times, {:.1f} ms each (median), {:.1f} at most, {:.1f} s in all"
        return [
            text.format(stage, len(took), 1000 * median(took), 1000 * max(took), sum(took)) for stage, took in self.seconds.items() if took
        ]

    def add(self, stage: str, seconds: float) -> None:
        with self._lock:
            self._seconds.setdefault(stage, deque(maxlen=self._last)).append(seconds)

    def timed(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Pass `items` on and note how long each took to come."""
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
        """Call and note how long it took."""
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
