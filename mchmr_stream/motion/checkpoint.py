"""The checkpoint in a run's hidden folder: the part of the table that is safely on disk, for the case that the run is killed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.errors import InputError
from mchmr_stream.files.atomic import atomic_file
from mchmr_stream.files.safe_npz import read_npz
from mchmr_stream.motion.motion import COLUMNS, FRAME_COLUMNS, HEADER, MADE_OF

NAME = "checkpoint.npz"
_COUNTS = ("rows", "frame_count", "views")


def save(folder: Path, header: Mapping[str, NDArray], *, rows: int, frames: int, views: int) -> None:
    """Record that so many rows and frames of the columns in `folder` are complete.

    Args:
        folder: The run's hidden folder, which holds one file per column.
        header: The arrays of `HEADER`.
        rows: Complete rows.
        frames: Complete frames.
        views: V, crops per person.

    Raises:
        OSError: The disk is full or not writable.
    """
    counts = dict(zip(_COUNTS, (rows, frames, views), strict=True))
    with atomic_file(folder / NAME) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **dict(header), **{name: np.array(count) for name, count in counts.items()})


def read(folder: Path) -> dict[str, NDArray]:
    """Read the arrays of a STEM.npz as far as they were recorded; columns stay on disk.

    Args:
        folder: The run's hidden folder.

    Returns:
        Arrays by name.

    Raises:
        InputError: The checkpoint is damaged.
    """
    kept = read_npz(folder / NAME, [*HEADER, *_COUNTS], optional=[MADE_OF], what="a checkpoint")
    rows, frames, views = (int(kept.pop(name)) for name in _COUNTS)
    for name, column in (COLUMNS | FRAME_COLUMNS).items():
        shape = (frames if name in FRAME_COLUMNS else rows, *(views if length is None else length for length in column.shape))
        try:
            kept[name] = np.memmap(folder / name, column.dtype, "r", shape=shape) if shape[0] else np.zeros(shape, column.dtype)
        except (OSError, ValueError) as error:
            raise InputError(f"{folder} lacks rows of {name} ({error})") from error
    return kept
