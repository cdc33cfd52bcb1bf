"""What a run keeps in its hidden folder, so that little is lost should it be killed: the table as far as it is on the disk."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.errors import InputError
from mchmr_stream.files.safe_npz import read_npz
from mchmr_stream.motion.motion import COLUMNS, FRAME_COLUMNS, HEADER, MADE_OF

NAME = "checkpoint.npz"
_COUNTS = ("rows", "frame_count", "views")


def save(folder: Path, header: Mapping[str, NDArray], *, rows: int, frames: int, views: int) -> None:
    """Say that so many rows and frames of the columns in `folder` are whole. Raises OSError when the disk refuses."""
    temporary = folder / f"{NAME}.part"
    counts = dict(zip(_COUNTS, (rows, frames, views), strict=True))
    with temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **dict(header), **{name: np.array(count) for name, count in counts.items()})
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / NAME)


def read(folder: Path) -> dict[str, NDArray]:
    """The arrays of a STEM.npz as far as they were kept; columns stay on the disk. Raises InputError where they are damaged."""
    kept = read_npz(folder / NAME, [*HEADER, *_COUNTS], optional=[MADE_OF], what="a checkpoint")
    rows, frames, views = (int(kept.pop(name)) for name in _COUNTS)
    for name, column in (COLUMNS | FRAME_COLUMNS).items():
        shape = (frames if name in FRAME_COLUMNS else rows, *(views if length is None else length for length in column.shape))
        try:
            kept[name] = np.memmap(folder / name, column.dtype, "r", shape=shape) if shape[0] else np.zeros(shape, column.dtype)
        except (OSError, ValueError) as error:
            raise InputError(f"{folder} lacks rows of {name} ({error})") from error
    return kept
