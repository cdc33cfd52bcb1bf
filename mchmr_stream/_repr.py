"""Large records that print as three lines and show as a small table in notebooks, instead of as all of their numbers."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from itertools import islice

_LISTED = 4
"""Things that are named one by one; of more it is said how many there are."""


class Described:
    """Base of such a record; a dataclass has to be made with `repr=False`. Subclasses say what they are in `_lines`."""

    def _lines(self) -> tuple[str, str, str]:
        """A headline without the class's name, and two more lines."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__} " + "\n  ".join(self._lines())

    def _repr_html_(self) -> str:
        head, *others = map(escape, self._lines())
        rows = "".join(f"<tr><td style='text-align:left'>{line}</td></tr>" for line in others)
        return f"<table><tr><th style='text-align:left'>{type(self).__name__} {head}</th></tr>{rows}</table>"


def listed(texts: Iterable[str], count: int) -> str:
    """The first of `count` texts, and how many more there are."""
    more = f", and {count - _LISTED} more" if count > _LISTED else ""
    return ", ".join(islice(texts, _LISTED)) + more


def how_many(count: int, one: str, several: str) -> str:
    return f"{count:,} {one if count == 1 else several}"
