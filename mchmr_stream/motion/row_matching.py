"""Rows of a table that a second pass replaces."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datatypes import Bodies


def rows_of(bodies: Bodies, frame: NDArray[np.int64], track_id: NDArray[np.int64]) -> tuple[Bodies, NDArray[np.int64]]:
    """The people of one frame who are in a table, and their rows in it.

    Args:
        bodies: of one frame.
        frame: (N,) of the table's rows, rising.
        track_id: (N,) of the table's rows.

    Returns:
        n of the bodies, and (n,) rows.
    """
    first, end = np.searchsorted(frame, [bodies.frame, bodies.frame + 1])
    is_same = bodies.track_id[:, None] == track_id[first:end]
    known, row = np.nonzero(is_same)
    return bodies.rows(known), first + row
