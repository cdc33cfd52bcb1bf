"""Fusion of several readings of a person's keypoints into one reading with its covariance.

Errors that crops of the same picture share do not average out: an occluded wrist is occluded in each of them. The mean therefore has the
crops' mean covariance, not a V-th of it, plus the spread of the readings where they disagree.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


_LEAST_SCORE = 0.01


class Reading(NamedTuple):
    """V readings of n people."""

    points: Array
    """(n, V, 17, 3) x, y, score"""
    covariance: Array
    """(n, V, 17, 2, 2)"""
    presence: Array
    """(n, V)"""


def fused(reading: Reading) -> tuple[Array, Array]:
    """Fuse the readings of each person.

    Args:
        reading: V readings of n people.

    Returns:
        (n, 17, 3) means and scores, weighted by squared score and inverse covariance; (n, 17, 2, 2) mean covariance plus the spread over
        the readings.
    """
    points, covariance, _ = reading
    if points.shape[1] == 1:
        return points[:, 0], covariance[:, 0]
    score = np.maximum(points[..., 2], _LEAST_SCORE)
    information = np.linalg.inv(covariance) * (score**2)[..., None, None]
    weight = np.trace(information, axis1=-2, axis2=-1)
    weight = weight / weight.sum(1, keepdims=True)
    mean = (np.linalg.inv(information.sum(1)) @ (information @ points[..., :2, None]).sum(1))[..., 0]
    off = points[..., :2] - mean[:, None]
    spread = (weight[..., None, None] * off[..., :, None] * off[..., None, :]).sum(1)
    common = np.linalg.inv((np.linalg.inv(covariance) * weight[..., None, None]).sum(1))
    return np.concatenate([mean, (weight * points[..., 2]).sum(1)[..., None]], -1), common + spread
