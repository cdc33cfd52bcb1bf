"""Results of an evaluation: named tables of numbers and their description. The model card reads them as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mchmr_stream.errors import InputError

Row = dict[str, float]
"""Metric, with its unit in the name -> value; NaN without a value."""
Table = dict[str, Row]
"""Name of what was measured -> its row."""


@dataclass(frozen=True, eq=False)
class Results:
    """Tables of one evaluation."""

    kind: str
    about: dict[str, Any]
    """weights, data and settings behind the numbers; JSON values"""
    tables: dict[str, Table] = field(default_factory=dict)

    def to_json(self) -> str:
        """JSON text; a value that is not finite becomes null."""
        tables = {name: {row: _finite(values) for row, values in table.items()} for name, table in self.tables.items()}
        return json.dumps({"kind": self.kind, "about": self.about, "tables": tables}, indent=2, allow_nan=False)


def read_results(path: Path) -> Results:
    """Read the JSON file of `Results.to_json`.

    Raises:
        InputError: the file is something else.
    """
    try:
        data = json.loads(path.read_text())
        tables = {
            str(name): {str(row): {str(key): _number(value) for key, value in values.items()} for row, values in table.items()}
            for name, table in data["tables"].items()
        }
        return Results(str(data["kind"]), dict(data["about"]), tables)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"cannot read results {path}: {error}; expected the output of `mchmr evaluate ... --json`") from error


def _finite(row: Mapping[str, float]) -> dict[str, float | None]:
    return {name: float(value) if math.isfinite(value) else None for name, value in row.items()}


def _number(value: object) -> float:
    if value is None:
        return math.nan
    if not isinstance(value, int | float):
        raise ValueError(f"{value!r} is no number")
    return float(value)
