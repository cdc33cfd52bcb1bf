"""Flexion of knees, elbows and hips in degrees, as used in physiotherapy and sports.

Flexion is 180 degrees minus the angle at the joint between its two bones: 0 for a straight limb. A hip's bones are the thigh and the
trunk, from the middle of the hips to the middle of the shoulders.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.metrics.joint_errors import LEFT_HIP, LEFT_SHOULDER, RIGHT_HIP, RIGHT_SHOULDER

Array = NDArray[np.float64]

JOINTS = ("knee", "elbow", "hip")
_SHOULDER, _ELBOW, _WRIST, _HIP, _KNEE, _ANKLE = 0, 2, 4, 6, 8, 10
"""Index of the left one among the twelve limbs; the right one is the next index."""


def flexion_deg(limbs_m: Array) -> dict[str, Array]:
    """Compute the flexion angles of both sides.

    Args:
        limbs_m: (T, 12, 3) shoulders, elbows, wrists, hips, knees, ankles, left before right; NaN where a joint is not known.

    Returns:
        For each of `JOINTS` (T, 2) degrees, left and right; NaN where one of the joints that define the angle is NaN.
    """
    both = lambda first: limbs_m[:, first : first + 2]
    middle = lambda left, right: limbs_m[:, [left, right]].mean(1, keepdims=True)
    trunk = middle(LEFT_SHOULDER, RIGHT_SHOULDER) - middle(LEFT_HIP, RIGHT_HIP)
    return {
        "knee": 180 - _angle_deg(both(_HIP) - both(_KNEE), both(_ANKLE) - both(_KNEE)),
        "elbow": 180 - _angle_deg(both(_SHOULDER) - both(_ELBOW), both(_WRIST) - both(_ELBOW)),
        "hip": 180 - _angle_deg(np.broadcast_to(trunk, both(_HIP).shape), both(_KNEE) - both(_HIP)),
    }


def flexion_errors_deg(predicted_m: Array, target_m: Array) -> dict[str, Array]:
    """Compute signed errors of the flexion angles.

    Args:
        predicted_m: (T, 12, 3) limbs, m.
        target_m: (T, 12, 3) true limbs, m.

    Returns:
        For each of `JOINTS` (n,) degrees, predicted minus true, of all frames and both sides for which both angles are known.
    """
    predicted, target = flexion_deg(predicted_m), flexion_deg(target_m)
    differences = {joint: predicted[joint] - target[joint] for joint in JOINTS}
    return {joint: values[np.isfinite(values)] for joint, values in differences.items()}


def _angle_deg(first: Array, second: Array) -> Array:
    """Angle between (..., 3) and (..., 3) -> (...,) by the arc tangent, which keeps all digits near 0 and 180 degrees."""
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(first, second), axis=-1), (first * second).sum(-1)))
