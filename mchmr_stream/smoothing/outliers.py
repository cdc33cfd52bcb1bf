"""Outlier rejection before filtering: exchanged sides, bodies flipped in depth, jumps of the distance.

Around each frame, to both sides in time, the weighted geometric median of the rotations is computed; a few outliers do not move it. The
median is the measurement of the Kalman filter, because the network's errors are not Gaussian. The frame's distance from the median,
relative to its neighbours' distances, determines its noise (a Hampel identifier on rotations). Beyond a limit the noise is infinite,
and the neighbours determine the frame.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.geometry.robust_mean import median, median_rotation
from mchmr_stream.geometry.rotation import geodesic_rad
from mchmr_stream.smoothing.segments import Sample
from mchmr_stream.smoothing.sliding_window import Window

Array = NDArray[np.float64]

_MIN_SAMPLES = 3
_DOUBTFUL = 0.7
"""Beyond this multiple of the usual distance, a translation's variance grows with the square of the excess."""
_REJECTED = 4.0
_REJECTED_RAD = 0.5
"""A joint beyond both limits is rejected."""
_ROW_JOINTS = 5
"""With so many joints rejected, or the root, the whole row is rejected: a flip concerns the body, not a limb."""
_LEAST_RAD = 0.05
_LEAST_LOG_DEPTH, _REJECTED_LOG_DEPTH = 0.02, 0.15
_LEAST_BEARING, _REJECTED_BEARING = 0.01, 0.1
_SOFTEST_BEARING = 0.002
_SOFTEST_LOG_DEPTH = 0.005


def without_outliers(middle: Sample, around: Window) -> Sample:
    """Replace the rotations by their robust median and raise the noise of outliers.

    Args:
        middle: The frame, n people.
        around: Its window of w frames.

    Returns:
        The frame with median rotations. The noise is infinite where rotations or translations are rejected.
    """
    offsets_s, weights = around.offsets_s, around.weights
    enough = (weights > 0).sum(0) >= _MIN_SAMPLES
    others = weights * (offsets_s[:, None] != 0)

    usual = median_rotation(around.rotations, weights)
    distance = geodesic_rad(usual[None], around.rotations)
    far, excess = _excess(distance, others[..., None], offsets_s, _LEAST_RAD)
    rejected = (excess > _REJECTED) & (far > _REJECTED_RAD) & enough[:, None]
    row_rejected = rejected[:, 0] | (rejected.sum(-1) >= _ROW_JOINTS)

    depth = np.log(around.transl_m[..., 2:])
    bearing = around.transl_m[..., :2] / around.transl_m[..., 2:]
    # Two medians in one call; the depth is padded with a zero.
    transls = np.concatenate([bearing, depth, np.zeros_like(depth)], -1).reshape(len(weights), -1, 2)
    middles = median(transls, np.repeat(weights, 2, 1), np.tile([_SOFTEST_BEARING, _SOFTEST_LOG_DEPTH], weights.shape[1]))
    off = np.linalg.norm(transls - middles, axis=-1).reshape(*weights.shape, 2)
    off_bearing, off_depth = off[..., 0], off[..., 1]
    far_depth, excess_depth = _excess(off_depth, others, offsets_s, _LEAST_LOG_DEPTH)
    far_bearing, excess_bearing = _excess(off_bearing, others, offsets_s, _LEAST_BEARING)
    jumped = ((excess_depth > _REJECTED) & (far_depth > _REJECTED_LOG_DEPTH)) | (
        (excess_bearing > _REJECTED) & (far_bearing > _REJECTED_BEARING)
    )
    transl_excess = np.maximum(excess_depth, excess_bearing)

    transl_noise = np.where(enough, middle.transl_noise * _inflation(transl_excess), middle.transl_noise)
    return replace(
        middle,
        rotations=usual,
        noise=np.where(rejected | row_rejected[:, None], np.inf, middle.noise),
        transl_noise=np.where((jumped & enough) | row_rejected, np.inf, transl_noise),
    )


def _excess(distance: Array, others: Array, offsets_s: Array, least: float) -> tuple[Array, Array]:
    """Distances (w, ...) and weights of the other frames -> the middle frame's distance, and its ratio to the usual one."""
    middle = distance[int(np.argmin(np.abs(offsets_s)))]
    usual = (distance * others).sum(0) / np.maximum(others.sum(0), 1e-12)
    return middle, middle / np.maximum(usual, least)


def _inflation(excess: Array) -> Array:
    return np.maximum(excess / _DOUBTFUL, 1.0) ** 2
