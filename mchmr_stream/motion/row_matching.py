"""Rows of a table that a second pass replaces."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datatypes import Bodies


def rows_of(bodies: Bodies, frame: NDArray[np.int64], track_id: NDArray[np.int64]) -> tuple[Bodies, NDArray[np.int64]]:
    """Find the people of one frame in a table.

    Args:
        bodies: Bodies of one frame.
        frame: (N,) of the table's rows, rising.
        track_id: (N,) of the table's rows.

    Returns:
        The n bodies that have a row, and the indices (n,) of their rows.
    """
    first, end = np.searchsorted(frame, [bodies.frame, bodies.frame + 1])
    is_same = bodies.track_id[:, None] == track_id[first:end]
    known, row = np.nonzero(is_same)
    return bodies.rows(known), first + row
