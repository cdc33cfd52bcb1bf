"""Keypoints of several crops of one person as one, with the covariance that is left.

What crops of the same picture share does not average away: a hidden wrist is hidden in each of them. So the mean has the crops' mean
covariance, not a V-th of it, and where they disagree the spread comes on top.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Reading(NamedTuple):
    """V readings of n people."""

    points: Array
    """(n, V, 17, 3) x, y, score"""
    covariance: Array
    """(n, V, 17, 2, 2)"""
    presence: Array
    """(n, V)"""


def fused(reading: Reading) -> tuple[Array, Array]:
    """One reading of each person.

    Returns:
        (n, 17, 3) means weighted by inverse covariance, mean scores; (n, 17, 2, 2) mean covariance plus the spread over the views.
    """
    points, covariance, _ = reading
    if points.shape[1] == 1:
        return points[:, 0], covariance[:, 0]
    information = np.linalg.inv(covariance)
    total = np.linalg.inv(information.sum(1))
    mean = (total @ (information @ points[..., :2, None]).sum(1))[..., 0]
    off = points[..., :2] - mean[:, None]
    spread = (off[..., :, None] * off[..., None, :]).mean(1)
    # The mean of the covariances in the sense of information: one crop that sees nothing does not blur the others.
    common = np.linalg.inv(information.mean(1))
    return np.concatenate([mean, points[..., 2:].mean(1)], -1), common + spread
