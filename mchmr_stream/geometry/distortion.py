"""Lens distortion: OpenCV's radial-tangential model with k1, k2, p1, p2 (Brown 1966).

With x, y = (pixel - principal point) / focal and r^2 = x^2 + y^2:
x' = x (1 + k1 r^2 + k2 r^4) + 2 p1 x y + p2 (r^2 + 2 x^2),  y' = y (1 + k1 r^2 + k2 r^4) + p1 (r^2 + 2 y^2) + 2 p2 x y.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.geometry.camera import Intrinsics

Points = NDArray[np.floating]


def distort_points(points_px: Points, intrinsics: Intrinsics, distortion: Points) -> NDArray[np.float64]:
    """(..., 2) px of the undistorted picture -> px where the lens really drew them. `distortion` (4,) = k1, k2, p1, p2."""
    x, y = _normalised(points_px, intrinsics)
    x, y, *_ = _distort(x, y, distortion)
    return _pixels(x, y, intrinsics)


def undistort_points(points_px: Points, intrinsics: Intrinsics, distortion: Points) -> NDArray[np.float64]:
    """Inverse of `distort_points`: px of the picture as filmed -> px of the undistorted one. `distortion` (4,).

    Newton's method from the distorted point. A model with strong negative k1 folds the plane over at some radius: points
    that nothing on the inner side of the fold maps to, where there is no answer, come back as NaN.
    """
    target_x, target_y = _normalised(points_px, intrinsics)
    x, y = target_x, target_y
    with np.errstate(all="ignore"):  # points without an answer run off; they are marked below
        for _ in range(20):
            found_x, found_y, xx, xy, yx, yy = _distort(x, y, distortion)
            error_x, error_y = found_x - target_x, found_y - target_y
            determinant = xx * yy - xy * yx
            x = x - (yy * error_x - xy * error_y) / determinant
            y = y - (xx * error_y - yx * error_x) / determinant
        found_x, found_y, xx, xy, yx, yy = _distort(x, y, distortion)
        close = np.hypot(found_x - target_x, found_y - target_y) < 1e-9
        # Right of the fold the Jacobian has changed sign: a solution there is not where the light came from.
        unfolded = (xx * yy - xy * yx > 0) & (xx + yy > 0)
    lost = ~(close & unfolded)
    return _pixels(np.where(lost, np.nan, x), np.where(lost, np.nan, y), intrinsics)


def _normalised(points_px: Points, intrinsics: Intrinsics) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    points = np.asarray(points_px, np.float64)
    return (points[..., 0] - intrinsics.cx) / intrinsics.fx, (points[..., 1] - intrinsics.cy) / intrinsics.fy


def _pixels(x: NDArray[np.float64], y: NDArray[np.float64], intrinsics: Intrinsics) -> NDArray[np.float64]:
    return np.stack([x * intrinsics.fx + intrinsics.cx, y * intrinsics.fy + intrinsics.cy], -1)


def _distort(x: NDArray[np.float64], y: NDArray[np.float64], distortion: Points) -> tuple[NDArray[np.float64], ...]:
    """The model on normalised points: x', y' and the Jacobian dx'/dx, dx'/dy, dy'/dx, dy'/dy."""
    k1, k2, p1, p2 = (float(value) for value in distortion)
    squared = x * x + y * y
    radial = 1 + squared * (k1 + k2 * squared)
    slope = 2 * (k1 + 2 * k2 * squared)  # derivative of the radial factor by x is slope * x
    distorted_x = x * radial + 2 * p1 * x * y + p2 * (squared + 2 * x * x)
    distorted_y = y * radial + p1 * (squared + 2 * y * y) + 2 * p2 * x * y
    xx = radial + slope * x * x + 2 * p1 * y + 6 * p2 * x
    xy = slope * x * y + 2 * p1 * x + 2 * p2 * y
    yy = radial + slope * y * y + 6 * p1 * y + 2 * p2 * x
    return distorted_x, distorted_y, xx, xy, xy, yy
