"""Rotations as matrices, axis-angle vectors and the 6D form, for numpy arrays and torch tensors of any leading shape.

Matrices act on column vectors. An axis-angle vector is the unit axis times the angle in radians, right-handed. Every function computes in
the type of its argument and keeps it. With torch every function has finite gradients unless its docstring states otherwise; the guards
select their safe input *before* the dangerous operation, because ``where`` after it would still multiply an infinite derivative by zero and
give NaN. numpy needs no guards for gradients: there exponential and logarithm use shorter formulas, since for the 24 small matrices of a
body the number of calls determines the time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.geometry.array_library import library_of

_SERIES_BELOW = 1e-4
"""Squared length below which the power series are used: their first omitted term is under 1e-17 there."""

_MIN_SQUARED_LENGTH = 1e-24
"""Columns shorter than 1e-12 have no meaningful direction; still a normal number in float32."""

_LEAST_ANGLE = 1e-30
"""Replaces angles of zero: its sine over itself is 1. A normal number in float32, too."""

_CROSS = np.zeros((3, 9))
_CROSS[(0, 0, 1, 1, 2, 2), (7, 5, 2, 6, 3, 1)] = 1, -1, 1, -1, 1, -1
"""A vector times this is its cross-product matrix, row by row."""


def matrix_from_axis_angle(axis_angle: Any) -> Any:
    """(..., 3) radians -> (..., 3, 3). The exponential map, by Rodrigues' formula.

    R = I + a K + b K^2 with K the cross-product matrix of the vector, a = sin t / t, b = (1 - cos t) / t^2. At t = 0 both are 0/0: below
    t^2 = 1e-4 their power series are used, which are smooth in t^2, so gradients at the identity are exact. Elsewhere b is computed as 2
    sin^2(t/2) / t^2, which does not cancel for small t.
    """
    lib = library_of(axis_angle)
    if lib is np:
        return _numpy_matrix_from_axis_angle(np.asarray(axis_angle))
    x, y, z = axis_angle[..., 0], axis_angle[..., 1], axis_angle[..., 2]
    squared = x * x + y * y + z * z
    small = squared < _SERIES_BELOW
    safe = lib.where(small, lib.ones_like(squared), squared)
    angle = safe**0.5
    half_sine = lib.sin(angle / 2)
    a = lib.where(small, 1 - squared / 6 * (1 - squared / 20 * (1 - squared / 42)), lib.sin(angle) / angle)
    b = lib.where(small, 0.5 - squared / 24 * (1 - squared / 30 * (1 - squared / 56)), 2 * half_sine * half_sine / safe)
    rows = [
        [1 - b * (y * y + z * z), b * x * y - a * z, b * x * z + a * y],
        [b * x * y + a * z, 1 - b * (x * x + z * z), b * y * z - a * x],
        [b * x * z - a * y, b * y * z + a * x, 1 - b * (x * x + y * y)],
    ]
    return lib.stack([lib.stack(row, -1) for row in rows], -2)


def _numpy_matrix_from_axis_angle(axis_angle: NDArray[Any]) -> NDArray[Any]:
    """The same as R = cos t I + a K + b v v^T."""
    squared = (axis_angle * axis_angle).sum(-1, keepdims=True)
    angle = np.maximum(np.sqrt(squared), _LEAST_ANGLE)
    half_sine = np.sin(angle / 2) / angle
    b = 2 * half_sine * half_sine
    matrix = (b * axis_angle)[..., None] * axis_angle[..., None, :]
    matrix += (np.sin(angle) / angle * axis_angle @ _CROSS.astype(axis_angle.dtype, copy=False)).reshape(matrix.shape)
    matrix += (1 - b * squared)[..., None] * np.eye(3, dtype=axis_angle.dtype)
    return matrix


def axis_angle_from_matrix(matrix: Any) -> Any:
    """(..., 3, 3) rotation -> (..., 3) radians, length in [0, pi]. The logarithm.

    It uses the unit quaternion q = (w, x, y, z): the entries of R give all products 4 q_i q_j, a matrix whose row i is 4 q_i q. The row
    with the largest diagonal has |q_i| >= 1/2, so it is never short and can be normalised at every angle, pi included, where the usual (R -
    R^T) / (2 sin t) is 0/0. Then v = 2 asin(s) / s * (x, y, z) with s = |(x, y, z)|, evaluated as atan2(s, w), which is exact at both ends;
    below s^2 = 1e-4 its series is used. At exactly pi both signs of the axis are right; one of them is returned. The gradient jumps there,
    but is finite.
    """
    lib = library_of(matrix)
    if lib is np and (vectors := _numpy_axis_angle_of_moderate(matrix)) is not None:
        return vectors
    m = matrix
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    squares = lib.stack([1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz], -1)
    rows = [
        [squares[..., 0], wx, wy, wz],
        [wx, squares[..., 1], xy, xz],
        [wy, xy, squares[..., 2], yz],
        [wz, xz, yz, squares[..., 3]],
    ]
    largest = squares.argmax(-1)[..., None]
    row = lib.stack(rows[0], -1)
    for i in (1, 2, 3):
        row = lib.where(largest == i, lib.stack(rows[i], -1), row)
    row = lib.where(row[..., :1] < 0, -row, row)
    quaternion = row / (row * row).sum(-1)[..., None] ** 0.5

    w, vector = quaternion[..., 0], quaternion[..., 1:]
    squared = (vector * vector).sum(-1)
    small = squared < _SERIES_BELOW
    sine = lib.where(small, lib.ones_like(squared), squared) ** 0.5
    series = 2 + squared / 3 * (1 + squared * 9 / 20 * (1 + squared * 25 / 42))
    factor = lib.where(small, series, 2 * lib.arctan2(sine, w) / sine)
    return factor[..., None] * vector


def _numpy_axis_angle_of_moderate(matrix: NDArray[Any]) -> NDArray[Any] | None:
    """The same by R - R^T = 2 sin t K, which loses digits where the sine is small again; None if a rotation exceeds 2 pi / 3."""
    twice_cosine = matrix[..., 0, 0] + matrix[..., 1, 1] + matrix[..., 2, 2] - 1
    if (twice_cosine < -1).any():
        return None
    twice_sines = matrix.reshape(*matrix.shape[:-2], 9) @ _CROSS.T.astype(matrix.dtype, copy=False)
    length = np.sqrt((twice_sines * twice_sines).sum(-1))
    return (np.arctan2(length, twice_cosine) / np.maximum(length, _LEAST_ANGLE))[..., None] * twice_sines


exp_so3 = matrix_from_axis_angle
log_so3 = axis_angle_from_matrix


def matrix_from_sixd(sixd: Any) -> Any:
    """(..., 6) -> (..., 3, 3). The continuous 6D form of Zhou et al., "On the Continuity of Rotation Representations", 2019.

    Layout: reshaped to (3, 2), the columns a1 and a2 (numbers 0, 2, 4 and 1, 3, 5). Gram-Schmidt makes them the first two columns of the
    rotation, their cross product the third. If a1 is zero, or a2 is zero or parallel to a1, no rotation is defined: lengths are held above
    1e-12, so that the result and its gradients stay finite, but the result is then not a rotation. Only plain arithmetic is used, so that
    it traces to TorchScript and exports to ONNX.
    """
    lib = library_of(sixd)
    first = _unit(sixd[..., 0::2])
    second = sixd[..., 1::2]
    second = _unit(second - (first * second).sum(-1)[..., None] * first)
    x1, y1, z1 = first[..., 0], first[..., 1], first[..., 2]
    x2, y2, z2 = second[..., 0], second[..., 1], second[..., 2]
    third = lib.stack([y1 * z2 - z1 * y2, z1 * x2 - x1 * z2, x1 * y2 - y1 * x2], -1)
    return lib.stack([first, second, third], -1)


def sixd_from_matrix(matrix: Any) -> Any:
    """(..., 3, 3) -> (..., 6), the layout of `matrix_from_sixd`: the first two columns, row by row."""
    return matrix[..., :2].reshape(*matrix.shape[:-2], 6)


def geodesic_rad(a: Any, b: Any) -> Any:
    """Angle between rotations (..., 3, 3) and (..., 3, 3), in [0, pi] -> (...,). Leading shapes broadcast.

    It is atan2(sin, cos) of the relative rotation: arccos of the trace alone loses half the digits at 0 and at pi. The angle has no
    derivative where the rotations agree (the tip of a cone) or are opposite; the gradient is finite there.
    """
    lib = library_of(a)
    relative = lib.swapaxes(a, -1, -2) @ b
    x = relative[..., 2, 1] - relative[..., 1, 2]
    y = relative[..., 0, 2] - relative[..., 2, 0]
    z = relative[..., 1, 0] - relative[..., 0, 1]
    squared = x * x + y * y + z * z
    if lib is np:
        twice_sine = np.sqrt(squared)
    else:
        none = squared < _MIN_SQUARED_LENGTH
        twice_sine = lib.where(none, lib.zeros_like(squared), lib.where(none, lib.ones_like(squared), squared) ** 0.5)
    twice_cosine = relative[..., 0, 0] + relative[..., 1, 1] + relative[..., 2, 2] - 1
    return lib.arctan2(twice_sine, twice_cosine)


def project_to_so3(matrix: Any) -> Any:
    """(..., 3, 3) -> nearest rotation in the Frobenius norm (..., 3, 3): U diag(1, 1, det(U V^T)) V^T of the SVD.

    The result is a rotation for every finite input. It is not unique if the two smallest singular values cancel (rank below 2, or a
    reflection with repeated values); one of the nearest is then returned. Raises LinAlgError for non-finite input. For data, not for
    training: the derivative of an SVD is unbounded where singular values agree, that is, at every rotation.
    """
    lib = library_of(matrix)
    u, _, vt = lib.linalg.svd(matrix)
    nearest = u @ vt
    sign = lib.linalg.det(nearest)
    if (sign > 0).all():
        return nearest
    one = lib.ones_like(sign)
    flip = lib.stack([one, one, lib.where(sign < 0, -one, one)], -1)
    return (u * flip[..., None, :]) @ vt


def _unit(vector: Any) -> Any:
    """A vector over its length, with a lower bound on the length; below it the derivative is that of a plain scaling."""
    lib = library_of(vector)
    squared = (vector * vector).sum(-1)[..., None]
    return vector / lib.where(squared < _MIN_SQUARED_LENGTH, lib.full_like(squared, _MIN_SQUARED_LENGTH), squared) ** 0.5
