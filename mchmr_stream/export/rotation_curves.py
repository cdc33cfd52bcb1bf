"""Rotations for other formats: quaternions and angles that are continuous from frame to frame."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from mchmr_stream.export.person_motion import Array


def quaternions_xyzw(matrices: Array) -> Array:
    """Convert rotations to continuous quaternions.

    Of q and -q the one closer to the previous frame is chosen, so that linear interpolation takes the short way.

    Args:
        matrices: (F, J, 3, 3).

    Returns:
        (F, J, 4) unit quaternions x, y, z, w.
    """
    count, joints = matrices.shape[:2]
    quaternions = Rotation.from_matrix(matrices.reshape(-1, 3, 3)).as_quat().reshape(count, joints, 4)
    turned_back = (quaternions[1:] * quaternions[:-1]).sum(-1) < 0
    quaternions[1:][np.cumsum(turned_back, 0) % 2 == 1] *= -1
    return quaternions


def euler_zxy_deg(matrices: Array) -> Array:
    """Convert rotations to continuous Euler angles.

    Each rotation has two triples, (z, x, y) and (z + 180, 180 - x, y + 180), with any number of full turns; the closest to the previous
    frame is chosen.

    Args:
        matrices: (F, J, 3, 3).

    Returns:
        (F, J, 3): angles z, x, y in degrees with matrix = Rz @ Rx @ Ry.
    """
    count, joints = matrices.shape[:2]
    first = Rotation.from_matrix(matrices.reshape(-1, 3, 3)).as_euler("ZXY", degrees=True).reshape(count, joints, 3)
    second = first * [1, -1, 1] + 180
    angles = np.empty_like(first)
    before = np.zeros((joints, 3))
    for frame in range(count):
        candidates = np.stack([first[frame], second[frame]])
        candidates -= 360 * np.round((candidates - before) / 360)
        farther = np.abs(candidates - before).sum(-1)
        before = angles[frame] = np.where((farther[1] < farther[0])[:, None], candidates[1], candidates[0])
    return angles
