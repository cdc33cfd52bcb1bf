"""Coordinate transformations: picture, rolled plane, unit square of a view, pixel of its crop.

Conventions in `datatypes.py`. A view is (centre x, centre y, side) in the rolled plane; the side is the crop's *height*, and the width
follows from the crop's shape. Unit coordinates run from -1 at the left (upper) edge of the crop to +1 at the right (lower) edge; the centre
of pixel i of N is at ``2 * (i + 0.5) / N - 1``.

All functions accept numpy arrays and torch tensors. Axes of `roll_rad` (n,) and `views_px` (n, 3) or (n, V, 3) are matched with the *first*
axes of the points, (n, ..., 2) or (n, V, ..., 2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.geometry.array_library import library_of
from mchmr_stream.geometry.camera import Intrinsics, image_from_plane, plane_from_image, turn


def rolled_from_image(points_px: Any, intrinsics: Intrinsics, roll_rad: Any) -> Any:
    """(n, ..., 2) picture pixels -> rolled plane of each person, with rolls (n,). Array."""
    return turn(plane_from_image(points_px, intrinsics), -_spread(roll_rad, points_px))


def image_from_rolled(points_px: Any, intrinsics: Intrinsics, roll_rad: Any) -> Any:
    """Inverse of `rolled_from_image`. Array."""
    return image_from_plane(turn(points_px, _spread(roll_rad, points_px)), intrinsics)


def unit_from_rolled(points_px: Any, views_px: Any, crop_hw: tuple[int, int]) -> Any:
    """Rolled plane -> unit coordinates of a view, [-1, 1] inside it. Array."""
    half_width, half_height = _half_sizes(points_px, views_px, crop_hw)
    x = (points_px[..., 0] - _spread(views_px[..., 0], points_px)) / half_width
    y = (points_px[..., 1] - _spread(views_px[..., 1], points_px)) / half_height
    return library_of(points_px).stack([x, y], -1)


def rolled_from_unit(points_unit: Any, views_px: Any, crop_hw: tuple[int, int]) -> Any:
    """Inverse of `unit_from_rolled`. Array."""
    half_width, half_height = _half_sizes(points_unit, views_px, crop_hw)
    x = points_unit[..., 0] * half_width + _spread(views_px[..., 0], points_unit)
    y = points_unit[..., 1] * half_height + _spread(views_px[..., 1], points_unit)
    return library_of(points_unit).stack([x, y], -1)


def crop_from_unit(points_unit: Any, crop_hw: tuple[int, int]) -> Any:
    """Unit coordinates -> crop pixels, the centre of the top-left one at (0, 0). Array."""
    height, width = crop_hw
    x = (points_unit[..., 0] + 1) * (width / 2) - 0.5
    y = (points_unit[..., 1] + 1) * (height / 2) - 0.5
    return library_of(points_unit).stack([x, y], -1)


def unit_from_crop(points_crop: Any, crop_hw: tuple[int, int]) -> Any:
    """Inverse of `crop_from_unit`. Array."""
    height, width = crop_hw
    x = (points_crop[..., 0] + 0.5) * (2 / width) - 1
    y = (points_crop[..., 1] + 0.5) * (2 / height) - 1
    return library_of(points_crop).stack([x, y], -1)


def crop_from_rolled(points_px: Any, views_px: Any, crop_hw: tuple[int, int]) -> Any:
    """Rolled plane -> crop pixels of a view. Array."""
    return crop_from_unit(unit_from_rolled(points_px, views_px, crop_hw), crop_hw)


def rolled_from_crop(points_crop: Any, views_px: Any, crop_hw: tuple[int, int]) -> Any:
    """Inverse of `crop_from_rolled`. Array."""
    return rolled_from_unit(unit_from_crop(points_crop, crop_hw), views_px, crop_hw)


def image_from_crop_affine(
    views_px: NDArray[np.floating], roll_rad: NDArray[np.floating], intrinsics: Intrinsics, crop_hw: tuple[int, int]
) -> NDArray[np.float64]:
    """Compute the affine map from crop pixels to picture pixels for every view.

    Args:
        views_px: (n, V, 3).
        roll_rad: (n,).
        intrinsics: Camera of the picture.
        crop_hw: Height and width of the crops.

    Returns:
        (n, V, 2, 3) A, float64: picture = A @ (crop x, crop y, 1).
    """
    views = np.asarray(views_px, np.float64)
    corners = np.broadcast_to(np.array([[0.0, 0], [1, 0], [0, 1]]), (*views.shape[:2], 3, 2))
    rolled = rolled_from_crop(corners, views, crop_hw)
    origin, along_x, along_y = np.moveaxis(image_from_rolled(rolled, intrinsics, np.asarray(roll_rad, np.float64)), 2, 0)
    return np.stack([along_x - origin, along_y - origin, origin], -1)


def _half_sizes(points: Any, views_px: Any, crop_hw: tuple[int, int]) -> tuple[Any, Any]:
    half_height = _spread(views_px[..., 2], points) / 2
    return half_height * (crop_hw[1] / crop_hw[0]), half_height


def _spread(values: Any, points: Any) -> Any:
    """Append axes of length one to per-person (per-view) values, so that they broadcast over the points' own axes."""
    lib = library_of(points)
    values = values if lib is not np and library_of(values) is lib else lib.asarray(values)
    return values.reshape(tuple(values.shape) + (1,) * (points.ndim - 1 - values.ndim))
