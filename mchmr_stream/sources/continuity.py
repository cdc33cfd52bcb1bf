"""Share of a picture that is new: neither at the same position in the previous one nor moved."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

THUMBNAIL_PX = 128
"""Longer side of the compared pictures."""
_BLOCK_PX = 8
_REACH_PX = 8
"""Maximum motion of a block: a sixteenth of the picture."""
_NEW_LEVELS = 20.0
"""A block is new if it differs from each position within reach by a higher mean of 255 levels."""


def unexplained_share(grey: NDArray[np.float32], before: NDArray[np.float32]) -> float:
    """Compute the share of blocks of `grey` (h, w) that are new since `before` (h, w); 0 for pictures smaller than a block."""
    rows, columns = grey.shape[0] // _BLOCK_PX, grey.shape[1] // _BLOCK_PX
    if not rows * columns:
        return 0.0
    blocks = _blocks(grey[: rows * _BLOCK_PX, : columns * _BLOCK_PX])
    around = np.pad(before[: rows * _BLOCK_PX, : columns * _BLOCK_PX], _REACH_PX, mode="edge")
    moved = sliding_window_view(around, (rows * _BLOCK_PX, columns * _BLOCK_PX))
    least = np.full((rows, columns), np.inf)
    for y, x in np.ndindex(*moved.shape[:2]):
        least = np.minimum(least, np.abs(blocks - _blocks(moved[y, x])).mean((1, 3)))
    return float((least > _NEW_LEVELS).mean())


def _blocks(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """(h, w) -> (h / 8, 8, w / 8, 8)."""
    height, width = grey.shape
    return grey.reshape(height // _BLOCK_PX, _BLOCK_PX, width // _BLOCK_PX, _BLOCK_PX)
