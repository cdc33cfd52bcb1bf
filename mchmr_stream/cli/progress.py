"""The progress bar: frames (or other units), how many per second, time left. On stderr, and only where someone can see it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.1f} {self._unit}")


@contextmanager
def progress_bar(name: str, wanted: bool, unit: str = "fps") -> Iterator[Callable[[int, int | None], None] | None]:
    """Gives a function of (units done, units expected or None), or None when there is no terminal or it is not wanted."""
    if not wanted or not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), _Rate(unit), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None)

        def update(done: int, expected: int | None) -> None:
            bar.update(task, completed=done, total=expected)

        yield update
