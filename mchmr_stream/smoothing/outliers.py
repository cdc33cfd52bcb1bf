"""Wrong frames made harmless before anything is filtered: left and right swapped, a body seen from behind, a depth that jumps.

Around every frame, to both sides in time, the weighted geometric median of the rotations is taken: a few wrong frames do not move it.
That median is the measurement which the Kalman filter gets, for the network's errors are not Gaussian. How far the frame itself lies from
it, over how far its neighbours do, says how much it is worth (a Hampel identifier, on rotations): beyond a limit nothing, and the
frame is told by the others.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.geometry.robust_mean import median, median_rotation
from mchmr_stream.geometry.rotation import geodesic_rad
from mchmr_stream.smoothing.segments import Sample
from mchmr_stream.smoothing.sliding_window import Around

Array = NDArray[np.float64]

_MIN_SAMPLES = 3
_DOUBTFUL = 0.7
"""Beyond this many times the usual distance a place counts less, as the square of the excess."""
_REJECTED = 4.0
_REJECTED_RAD = 0.5
"""Beyond both a joint is rejected."""
_WHOLE_BODY = 5
"""With so many joints rejected, or the root, the whole row is: a flip concerns the body, not a limb."""
_LEAST_RAD = 0.05
_LEAST_LOG_DEPTH, _REJECTED_LOG_DEPTH = 0.02, 0.15
_LEAST_BEARING, _REJECTED_BEARING = 0.01, 0.1
_SOFTEST_BEARING = 0.002
_SOFTEST_LOG_DEPTH = 0.005


def without_outliers(middle: Sample, around: Around) -> Sample:
    """The frame with robust rotations, and the noise of its rows raised, to infinity where they are rejected."""
    offsets_s, weights = around.offsets_s, around.weights
    enough = (weights > 0).sum(0) >= _MIN_SAMPLES
    others = weights * (offsets_s[:, None] != 0)

    usual = median_rotation(around.rotations, weights)
    distance = geodesic_rad(usual[None], around.rotations)
    far, excess = _excess(distance, others[..., None], offsets_s, _LEAST_RAD)
    rejected = (excess > _REJECTED) & (far > _REJECTED_RAD) & enough[:, None]
    whole = rejected[:, 0] | (rejected.sum(-1) >= _WHOLE_BODY)

    depth = np.log(around.place_m[..., 2:])
    bearing = around.place_m[..., :2] / around.place_m[..., 2:]
    # Two medians at once; the depth is padded with a zero.
    places = np.concatenate([bearing, depth, np.zeros_like(depth)], -1).reshape(len(weights), -1, 2)
    middles = median(places, np.repeat(weights, 2, 1), np.tile([_SOFTEST_BEARING, _SOFTEST_LOG_DEPTH], weights.shape[1]))
    off = np.linalg.norm(places - middles, axis=-1).reshape(*weights.shape, 2)
    off_bearing, off_depth = off[..., 0], off[..., 1]
    far_depth, excess_depth = _excess(off_depth, others, offsets_s, _LEAST_LOG_DEPTH)
    far_bearing, excess_bearing = _excess(off_bearing, others, offsets_s, _LEAST_BEARING)
    jumped = ((excess_depth > _REJECTED) & (far_depth > _REJECTED_LOG_DEPTH)) | (
        (excess_bearing > _REJECTED) & (far_bearing > _REJECTED_BEARING)
    )
    place_excess = np.maximum(excess_depth, excess_bearing)

    place_noise = np.where(enough, middle.place_noise * _inflation(place_excess), middle.place_noise)
    return replace(
        middle,
        rotations=usual,
        noise=np.where(rejected | whole[:, None], np.inf, middle.noise),
        place_noise=np.where((jumped & enough) | whole, np.inf, place_noise),
    )


def _excess(distance: Array, others: Array, offsets_s: Array, least: float) -> tuple[Array, Array]:
    """Distances (w, ...) and the weights of the other frames -> distance of the middle one, and over what is usual."""
    middle = distance[int(np.argmin(np.abs(offsets_s)))]
    usual = (distance * others).sum(0) / np.maximum(others.sum(0), 1e-12)
    return middle, middle / np.maximum(usual, least)


def _inflation(excess: Array) -> Array:
    return np.maximum(excess / _DOUBTFUL, 1.0) ** 2
