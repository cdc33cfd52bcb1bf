"""Lens distortion: OpenCV's model with radial, tangential and thin-prism coefficients (Brown 1966; OpenCV's calib3d).

Twelve coefficients in OpenCV's order: k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4. With x, y = (pixel - principal point) /
focal, r^2 = x^2 + y^2 and radial = (1 + k1 r^2 + k2 r^4 + k3 r^6) / (1 + k4 r^2 + k5 r^4 + k6 r^6):
x' = x radial + 2 p1 x y + p2 (r^2 + 2 x^2) + s1 r^2 + s2 r^4,  y' = y radial + p1 (r^2 + 2 y^2) + 2 p2 x y + s3 r^2 + s4 r^4.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from mchmr_stream.geometry.camera import Intrinsics

Points = NDArray[np.floating]

COEFFICIENT_COUNTS = (0, 4, 5, 8, 12)
"""Numbers of coefficients that OpenCV gives; missing ones are 0."""


def all_coefficients(given: Points) -> NDArray[np.float64]:
    """Pad coefficients to twelve with zeros. Raises ValueError for a number other than 0, 4, 5, 8 or 12."""
    if np.shape(given)[0] not in COEFFICIENT_COUNTS:
        raise ValueError(f"got {np.shape(given)[0]} distortion coefficients, expected one of {COEFFICIENT_COUNTS}")
    return np.pad(np.asarray(given, np.float64), (0, 12 - len(given)))


def distort_points(points_px: Points, intrinsics: Intrinsics, distortion: Points) -> NDArray[np.float64]:
    """Distort points as the lens does.

    Args:
        points_px: (..., 2) px of the undistorted picture.
        intrinsics: K of both pictures.
        distortion: Coefficients as for `all_coefficients`.

    Returns:
        (..., 2) px of the picture as filmed.
    """
    x, y = _normalised(points_px, intrinsics)
    x, y, *_ = _distort(x, y, all_coefficients(distortion))
    return _pixels(x, y, intrinsics)


def undistort_points(points_px: Points, intrinsics: Intrinsics, distortion: Points) -> NDArray[np.float64]:
    """Inverse of `distort_points`, by Newton's method from the distorted point.

    A model with strong negative k1 folds the plane at some radius: points without a preimage on the inner side of the fold have no
    solution.

    Args:
        points_px: (..., 2) px of the picture as filmed.
        intrinsics: K of both pictures.
        distortion: Coefficients as for `all_coefficients`.

    Returns:
        (..., 2) px of the undistorted picture; NaN without a solution.
    """
    coefficients = all_coefficients(distortion)
    target_x, target_y = _normalised(points_px, intrinsics)
    x, y = target_x, target_y
    with np.errstate(all="ignore"):  # points without a solution diverge; they are marked below
        for _ in range(20):
            found_x, found_y, xx, xy, yx, yy = _distort(x, y, coefficients)
            error_x, error_y = found_x - target_x, found_y - target_y
            determinant = xx * yy - xy * yx
            x = x - (yy * error_x - xy * error_y) / determinant
            y = y - (xx * error_y - yx * error_x) / determinant
        found_x, found_y, xx, xy, yx, yy = _distort(x, y, coefficients)
        close = np.hypot(found_x - target_x, found_y - target_y) < 1e-9
        # Beyond the fold the Jacobian has changed sign: a solution there is not physical.
        unfolded = (xx * yy - xy * yx > 0) & (xx + yy > 0)
    lost = ~(close & unfolded)
    return _pixels(np.where(lost, np.nan, x), np.where(lost, np.nan, y), intrinsics)


def within_fold(points_px: Points, intrinsics: Intrinsics, distortion: Points) -> NDArray[np.bool_]:
    """Whether (..., 2) px of the undistorted picture lie where the radial model is still increasing."""
    x, y = _normalised(points_px, intrinsics)
    return np.hypot(x, y) < _fold_radius(all_coefficients(distortion))


def _fold_radius(coefficients: Points) -> float:
    """Smallest r at which r' = r radial(r) stops increasing, or has a pole; infinity if there is none."""
    k1, k2, _, _, k3, k4, k5, k6 = (float(value) for value in coefficients[:8])
    over, under = Polynomial([1, k1, k2, k3]), Polynomial([1, k4, k5, k6])  # in r^2
    slope = over * under + Polynomial([0, 2]) * (over.deriv() * under - over * under.deriv())
    roots = np.concatenate([slope.trim().roots(), under.trim().roots()])
    real = roots.real[(abs(roots.imag) < 1e-9 * (1 + abs(roots.real))) & (roots.real > 0)]
    return math.sqrt(float(real.min())) if real.size else math.inf


def _normalised(points_px: Points, intrinsics: Intrinsics) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    points = np.asarray(points_px, np.float64)
    return (points[..., 0] - intrinsics.cx) / intrinsics.fx, (points[..., 1] - intrinsics.cy) / intrinsics.fy


def _pixels(x: NDArray[np.float64], y: NDArray[np.float64], intrinsics: Intrinsics) -> NDArray[np.float64]:
    return np.stack([x * intrinsics.fx + intrinsics.cx, y * intrinsics.fy + intrinsics.cy], -1)


def _distort(x: NDArray[np.float64], y: NDArray[np.float64], coefficients: Points) -> tuple[NDArray[np.float64], ...]:
    """The model on normalised points: x', y' and the Jacobian dx'/dx, dx'/dy, dy'/dx, dy'/dy."""
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = (float(value) for value in coefficients)
    squared = x * x + y * y
    over = 1 + squared * (k1 + squared * (k2 + squared * k3))
    under = 1 + squared * (k4 + squared * (k5 + squared * k6))
    radial = over / under
    # Derivatives by r^2, times 2: the derivative by x is x times them.
    slope = 2 * ((k1 + squared * (2 * k2 + 3 * k3 * squared)) - radial * (k4 + squared * (2 * k5 + 3 * k6 * squared))) / under
    prism_x, prism_y = 2 * (s1 + 2 * s2 * squared), 2 * (s3 + 2 * s4 * squared)
    distorted_x = x * radial + 2 * p1 * x * y + p2 * (squared + 2 * x * x) + squared * (s1 + s2 * squared)
    distorted_y = y * radial + p1 * (squared + 2 * y * y) + 2 * p2 * x * y + squared * (s3 + s4 * squared)
    both = slope * x * y + 2 * p1 * x + 2 * p2 * y
    xx = radial + slope * x * x + 2 * p1 * y + 6 * p2 * x + prism_x * x
    yy = radial + slope * y * y + 6 * p1 * y + 2 * p2 * x + prism_y * y
    return distorted_x, distorted_y, xx, both + prism_x * y, both + prism_y * x, yy
