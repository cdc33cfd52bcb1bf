"""The pinhole camera of the full picture, the rolled plane of a person, and the V local cameras.

Axes: OpenCV (x right, y down, z forward), metres; pixels with the centre of the top-left pixel at (0, 0).
Local (weak-perspective) cameras and their relation to the full camera: arXiv 2402.02074, section 3.3, after
CLIFF (arXiv 2208.00571), equation 4.
Functions marked "array" take numpy arrays and torch tensors alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.errors import UsageError
from mchmr_stream.geometry.array_library import library_of

_SHORTEST_FOCAL, _LONGEST_FOCAL = 0.1, 50.0
"""Limits in the picture's longer side: fields of view of 157 and of 1.1 degrees."""
_LONGEST_PIXEL = 2.5
"""Maximum ratio of fx and fy: it is 2 for an anamorphic lens."""


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera without lens distortion. Pixels; the centre of the top-left pixel is (0, 0)."""

    fx: float
    """Focal length, horizontal."""
    fy: float
    """Focal length, vertical."""
    cx: float
    """Principal point, x."""
    cy: float
    """Principal point, y."""

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The camera matrix K, (3, 3)."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]])

    @staticmethod
    def from_matrix(K: Any) -> Intrinsics:
        """The camera of a matrix, without skew.

        Args:
            K: (3, 3): fx and fy on the diagonal, cx and cy in the last column, pixels.
        """
        return Intrinsics(float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]))

    @staticmethod
    def assumed(width: int, height: int) -> Intrinsics:
        """The camera that is assumed if none is known: focal length sqrt(width^2 + height^2), principal point in the middle.

        Its field of view is about 53 degrees on the diagonal.

        Args:
            width: Of the picture, pixels.
            height: Of the picture, pixels.
        """
        f = math.hypot(width, height)
        return Intrinsics(f, f, (width - 1) / 2, (height - 1) / 2)

    @staticmethod
    def from_fov(width: int, height: int, fov_deg: float) -> Intrinsics:
        """A camera with this horizontal field of view, and the principal point in the middle.

        Args:
            width: Of the picture, pixels.
            height: Of the picture, pixels.
            fov_deg: Horizontal field of view, degrees.

        Raises:
            UsageError: No lens has that field of view.
        """
        if not 0 < fov_deg < 180:
            raise UsageError(f"field of view is {fov_deg} degrees, expected more than 0 and less than 180")
        f = width / 2 / math.tan(math.radians(fov_deg) / 2)
        return _plausible(Intrinsics(f, f, (width - 1) / 2, (height - 1) / 2), width, height)

    @staticmethod
    def from_focal(width: int, height: int, focal_px: float) -> Intrinsics:
        """A camera with this focal length, and the principal point in the middle.

        Args:
            width: Of the picture, pixels.
            height: Of the picture, pixels.
            focal_px: Focal length, pixels.

        Raises:
            UsageError: No lens has that focal length.
        """
        if not (math.isfinite(focal_px) and focal_px > 0):
            raise UsageError(f"focal length is {focal_px} px, expected a positive number")
        return _plausible(Intrinsics(focal_px, focal_px, (width - 1) / 2, (height - 1) / 2), width, height)


def _plausible(camera: Intrinsics, width: int, height: int) -> Intrinsics:
    problem = implausible_focal(camera, width, height)
    if problem is not None:
        raise UsageError(problem)
    return camera


def implausible_focal(camera: Intrinsics, width: int, height: int) -> str | None:
    """Describe in a line why no lens gives a picture of this size with these focal lengths; None if plausible."""
    longer = max(width, height)
    for focal in (camera.fx, camera.fy):
        if not _SHORTEST_FOCAL <= focal / longer <= _LONGEST_FOCAL:
            view = math.degrees(2 * math.atan(longer / 2 / focal))
            return (
                f"a focal length of {focal:g} px in a {width} x {height} picture is a field of view of {view:.1f} degrees; "
                f"expected {_SHORTEST_FOCAL * longer:.0f} to {_LONGEST_FOCAL * longer:.0f} px, not millimetres"
            )
    if not 1 / _LONGEST_PIXEL <= camera.fx / camera.fy <= _LONGEST_PIXEL:
        return f"fx is {camera.fx:g} and fy {camera.fy:g} px; expected about the same, the pixels are square"
    return None


def project(points_m: Any, intrinsics: Intrinsics) -> Any:
    """Project points.

    Args:
        points_m: (..., 3) camera axes, numpy or torch. Points at or behind the camera are not treated specially.
        intrinsics: The camera.

    Returns:
        (..., 2) px, of the same library.
    """
    x = points_m[..., 0] / points_m[..., 2] * intrinsics.fx + intrinsics.cx
    y = points_m[..., 1] / points_m[..., 2] * intrinsics.fy + intrinsics.cy
    return _stack(x, y)


def plane_from_image(points_px: Any, intrinsics: Intrinsics) -> Any:
    """(..., 2) picture px -> plane px: relative to the principal point, one focal length fx. Array."""
    return _stack(points_px[..., 0] - intrinsics.cx, (points_px[..., 1] - intrinsics.cy) * (intrinsics.fx / intrinsics.fy))


def image_from_plane(points_px: Any, intrinsics: Intrinsics) -> Any:
    """Inverse of `plane_from_image`. Array."""
    return _stack(points_px[..., 0] + intrinsics.cx, points_px[..., 1] * (intrinsics.fy / intrinsics.fx) + intrinsics.cy)


def turn(points_px: Any, angle_rad: Any) -> Any:
    """R(angle) @ point for (..., 2) points; `angle_rad` broadcasts against the points' leading shape. Array.

    ``turn(rolled, roll)`` gives plane coordinates, ``turn(plane, -roll)`` rolled-plane coordinates.
    """
    lib = library_of(points_px)
    c, s = lib.cos(angle_rad), lib.sin(angle_rad)
    x, y = points_px[..., 0], points_px[..., 1]
    return _stack(c * x - s * y, s * x + c * y)


def roll_matrix(angle_rad: Any) -> Any:
    """(...,) -> (..., 3, 3): rotation about the optical axis, x towards y. Array. With the roll it is camera_from_rolled."""
    lib = library_of(angle_rad)
    c, s = lib.cos(angle_rad), lib.sin(angle_rad)
    zero, one = c * 0, c * 0 + 1
    rows = [lib.stack(row, -1) for row in ([c, -s, zero], [s, c, zero], [zero, zero, one])]
    return lib.stack(rows, -2)


def box_info(views_px: Any, focal_px: Any) -> Any:
    """(..., V, 3) views in the rolled plane, (...,) focal -> (..., V, 3) the paper's box information. Array.

    [2.8 cx / f, 2.8 cy / f, (b - 0.24 f) / (0.06 f)] with cx, cy relative to the principal point.
    """
    f = focal_px[..., None]
    lib = library_of(views_px)
    return lib.stack([2.8 * views_px[..., 0] / f, 2.8 * views_px[..., 1] / f, (views_px[..., 2] - 0.24 * f) / (0.06 * f)], -1)


def full_from_local(views_cam: Any, views_px: Any, focal_px: Any) -> Any:
    """V local cameras -> translation of the body in the (rolled) full camera according to each view. Array.

    `views_cam` (..., V, 3) = (s, tx, ty), `views_px` (..., V, 3), `focal_px` (...,) -> (..., V, 3) metres: T_z = 2 f / (b s), T_x = tx + cx
    T_z / f, T_y = ty + cy T_z / f.
    """
    f = focal_px[..., None]
    z = 2 * f / (views_px[..., 2] * views_cam[..., 0])
    lib = library_of(views_cam)
    return lib.stack([views_cam[..., 1] + views_px[..., 0] * z / f, views_cam[..., 2] + views_px[..., 1] * z / f, z], -1)


def local_from_full(transl_m: Any, views_px: Any, focal_px: Any) -> Any:
    """Inverse of `full_from_local`: one translation (..., 3) -> the local camera of every view (..., V, 3). Array."""
    f = focal_px[..., None]
    t = transl_m[..., None, :]
    lib = library_of(transl_m)
    s = 2 * f / (views_px[..., 2] * t[..., 2])
    tx = t[..., 0] - views_px[..., 0] * t[..., 2] / f
    ty = t[..., 1] - views_px[..., 1] * t[..., 2] / f
    return lib.stack([s, tx, ty], -1)


def _stack(x: Any, y: Any) -> Any:
    return library_of(x).stack([x, y], -1)
