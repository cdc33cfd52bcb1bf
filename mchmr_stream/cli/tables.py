"""Tables on standard output. Numbers are never cut: a table is as wide as they need, in a file as wide as all of it needs."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

_FILE_COLUMNS = 10_000
"""Width of a file or a pipe, which rich takes for a narrow terminal: nothing is wrapped there."""


class TableConsole(Console):
    """Prints tables so that words and numbers stay whole. Columns with `overflow="fold"` may be broken anywhere."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if not self.is_terminal:
            self.width = _FILE_COLUMNS

    def print(self, *objects: Any, **options: Any) -> None:
        before = self.width
        self.width = max(before, *(_keep_words(self, table) for table in objects if isinstance(table, Table)), 0)
        try:
            super().print(*objects, **options)
        finally:
            self.width = before


def _keep_words(console: Console, table: Table) -> int:
    """Give columns the width of their longest words, and return the least width of the table."""
    wide = console.options.update(width=_FILE_COLUMNS)
    for column in table.columns:
        if column.overflow == "fold":
            continue
        cells = [Measurement.get(console, wide, cell) for cell in (column.header, *column.cells) if cell != ""]
        column.min_width = max((cell.maximum if column.no_wrap else cell.minimum for cell in cells), default=0)
    return Measurement.get(console, wide, table).minimum
