"""A growing table on disk: one file per column in a folder, so that memory stays small for any length of video."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.motion.motion import Column


class ColumnSpool:
    """Columns that grow at their end.

    Args:
        folder: An existing folder.
        columns: The columns by name.
        views: V, the length of axes that are None in a `Column`.

    Raises:
        OSError: The disk is full or not writable.
    """

    def __init__(self, folder: Path, columns: Mapping[str, Column], views: int) -> None:
        self._folder, self._views = folder, views
        self._columns: dict[str, Column] = {}
        self._files: dict[str, IO[bytes]] = {}
        self.add(columns)

    def add(self, columns: Mapping[str, Column]) -> None:
        """Add empty columns."""
        for name, column in columns.items():
            self._columns[name] = column
            self._files[name] = (self._folder / name).open("wb")

    def append(self, name: str, values: NDArray) -> None:
        """Append rows to one column; the caller keeps the columns equally long.

        Args:
            name: The column.
            values: Its rows.
        """
        self._files[name].write(np.ascontiguousarray(values, self._columns[name].dtype).tobytes())

    def sync(self) -> None:
        """Write all rows through to the disk, so that they survive a crash of the process or the system."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()

    def shape(self, name: str, rows: int) -> tuple[int, ...]:
        """Shape of a column.

        Args:
            name: The column.
            rows: Number of rows.

        Returns:
            The shape, with V for axes of any length.
        """
        return (rows, *(self._views if length is None else length for length in self._columns[name].shape))

    def path(self, name: str) -> Path:
        """File of a column."""
        return self._folder / name

    def column(self, name: str, rows: int) -> NDArray:
        """Memory-map a column, writable.

        Args:
            name: The column.
            rows: Number of its first rows.

        Returns:
            The rows.
        """
        self._files[name].flush()
        shape, dtype = self.shape(name, rows), self._columns[name].dtype
        return np.memmap(self.path(name), dtype, "r+", shape=shape) if rows else np.zeros(shape, dtype)
