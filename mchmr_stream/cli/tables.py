"""Tables on standard output. Numbers are never truncated: a table is at least as wide as they need, in files as wide as all text."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

_FILE_COLUMNS = 10_000
"""Width for a file or a pipe, for which rich assumes a narrow terminal: no line is wrapped."""


class TableConsole(Console):
    """Prints tables with unbroken words and numbers. Columns with `overflow="fold"` may break anywhere."""

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
