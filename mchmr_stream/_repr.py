"""Short representations of large records: three lines of text, and a small table in notebooks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from html import escape
from itertools import islice

_LISTED = 4
"""Number of items that are listed; of more items the rest is counted."""


class Described(ABC):
    """Base class of such records. A dataclass has to set `repr=False`. Subclasses implement `_lines`."""

    @abstractmethod
    def _lines(self) -> tuple[str, str, str]:
        """A headline without the class's name, and two more lines."""

    def __repr__(self) -> str:
        return f"{type(self).__name__} " + "\n  ".join(self._lines())

    def _repr_html_(self) -> str:
        head, *others = map(escape, self._lines())
        rows = "".join(f"<tr><td style='text-align:left'>{line}</td></tr>" for line in others)
        return f"<table><tr><th style='text-align:left'>{type(self).__name__} {head}</th></tr>{rows}</table>"


def listed(texts: Iterable[str], count: int) -> str:
    """Join the first of `count` texts, and the number of the others."""
    more = f", and {count - _LISTED} more" if count > _LISTED else ""
    return ", ".join(islice(texts, _LISTED)) + more


def how_many(count: int, one: str, several: str) -> str:
    """Format a count with its noun in the singular or plural."""
    return f"{count:,} {one if count == 1 else several}"
