"""Measurements of the keypoint networks for a fit: positions with covariances, in pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evidence:
    """K measured points of n people in one camera."""

    points_px: Array
    """(n, K, 2) picture pixels; anything finite where `precision` is 0"""
    precision: Array
    """(n, K, 2, 2) inverse covariance, 1 / px^2; 0 for points that are not measured"""
    focal_px: Array
    """(n, 2) fx, fy"""
    centre_px: Array
    """(n, 2) cx, cy"""

    def root_precision(self) -> Array:
        """(n, K, 2, 2) upper triangular W with W^T W = precision."""
        a, b, c = self.precision[..., 0, 0], self.precision[..., 0, 1], self.precision[..., 1, 1]
        first = np.sqrt(np.maximum(a, 0))
        mixed = np.divide(b, first, out=np.zeros_like(b), where=first > 0)
        root = np.zeros_like(self.precision)
        root[..., 0, 0], root[..., 0, 1] = first, mixed
        root[..., 1, 1] = np.sqrt(np.maximum(c - mixed**2, 0))
        return root
