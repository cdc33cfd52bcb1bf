"""A table on disk while it grows: one file per column in a folder, so that memory stays small however long the video is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.motion.motion import Column


class ColumnSpool:
    """Columns that grow at their end. `views` is V, the length of what has none in its `Column`. Raises OSError when the disk refuses."""

    def __init__(self, folder: Path, columns: Mapping[str, Column], views: int) -> None:
        self._folder, self._views = folder, views
        self._columns: dict[str, Column] = {}
        self._files: dict[str, IO[bytes]] = {}
        self.add(columns)

    def add(self, columns: Mapping[str, Column]) -> None:
        """Further columns, empty."""
        for name, column in columns.items():
            self._columns[name] = column
            self._files[name] = (self._folder / name).open("wb")

    def append(self, name: str, values: NDArray) -> None:
        """Rows of one column; the caller keeps columns equally long."""
        self._files[name].write(np.ascontiguousarray(values, self._columns[name].dtype).tobytes())

    def sync(self) -> None:
        """All rows are on the disk, whatever happens to this process or to the system."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def shape(self, name: str, rows: int) -> tuple[int, ...]:
        return (rows, *(self._views if length is None else length for length in self._columns[name].shape))

    def path(self, name: str) -> Path:
        return self._folder / name

    def column(self, name: str, rows: int) -> NDArray:
        """The first `rows` of a column, on disk: what is written there is kept."""
        self._files[name].flush()
        shape, dtype = self.shape(name, rows), self._columns[name].dtype
        return np.memmap(self.path(name), dtype, "r+", shape=shape) if rows else np.zeros(shape, dtype)
