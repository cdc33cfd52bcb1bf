"""Assignment of a method's detections to the people of the ground truth, in the picture and frame by frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from mchmr_stream.metrics.joint_errors import LEAST_LIMBS

MATCH = 0.35
"""Largest mean distance of the valid limbs between a row and a person, in longer sides of the row's box."""
_NEVER = 9.0


def match_people(points_px: NDArray[np.floating], side_px: NDArray[np.floating], target_px: NDArray[np.floating]) -> NDArray[np.int64]:
    """Assign rows to people one to one with the least sum of distances (Hungarian method).

    Args:
        points_px: (n, 12, 2) limbs of the n rows of a frame.
        side_px: (n,) longer side of each row's box.
        target_px: (P, 12, 2) true limbs of P people; NaN where a joint is not valid.

    Returns:
        (P,) the row of each person; -1 for a person with fewer than `LEAST_LIMBS` valid limbs or without a row nearer than `MATCH`.
    """
    rows = np.full(len(target_px), -1, np.int64)
    valid = np.isfinite(target_px).all(-1)
    cost = np.full((len(target_px), len(points_px)), _NEVER)
    for person in np.flatnonzero(valid.sum(1) >= LEAST_LIMBS):
        v = valid[person]
        distance = np.linalg.norm(points_px[:, v] - target_px[person, v], axis=-1).mean(1) / side_px
        cost[person] = np.minimum(np.nan_to_num(distance, nan=_NEVER), _NEVER)
    for person, row in zip(*linear_sum_assignment(cost), strict=True):
        if cost[person, row] < MATCH:
            rows[person] = row
    return rows
