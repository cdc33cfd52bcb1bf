"""Progress on stderr: a bar on a terminal, otherwise a line at intervals."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

EVERY_S = 15.0
"""Interval of lines without a terminal. Shorter runs print none."""

Update = Callable[[int, int | None], None]


class ProgressLines:
    """Prints progress, speed and remaining time at intervals. Not thread-safe."""

    def __init__(self, name: str, unit: str, every_s: float | None = None) -> None:
        self._name, self._unit = name, unit
        self._every_s = EVERY_S if every_s is None else every_s
        self._began_s = self._printed_s = time.monotonic()
        self._first: int | None = None

    def __call__(self, done: int, expected: int | None) -> None:
        now_s = time.monotonic()
        if self._first is None:  # the work of an earlier run does not count for this one's speed
            self._first, self._began_s = done, now_s
        if now_s - self._printed_s < self._every_s:
            return
        self._printed_s = now_s
        rate = (done - self._first) / (now_s - self._began_s) if now_s > self._began_s else 0.0
        of = "" if expected is None else f" of {expected}"
        left = f", {_duration((expected - done) / rate)} left" if expected is not None and rate > 0 and expected >= done else ""
        print(f"mchmr: {self._name}: {done}{of}, {rate:.3g} {self._unit}{left}", file=sys.stderr, flush=True)


@contextmanager
def progress_bar(name: str, shown: bool, unit: str = "fps") -> Iterator[Update | None]:
    """Yield a function of (units done, units expected or None), or None if `shown` is False."""
    if not shown:
        yield None
    elif sys.stderr.isatty() and find_spec("rich") is not None:  # a machine with a packed training run has no rich
        with _bar(name, unit) as update:
            yield update
    else:
        yield ProgressLines(name, unit)


@contextmanager
def _bar(name: str, unit: str) -> Iterator[Update]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:.1f} {unit}")

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None)

        def update(done: int, expected: int | None) -> None:
            bar.update(task, completed=done, total=expected)

        yield update


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
