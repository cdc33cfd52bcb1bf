"""Averages of rotations and of points over a window: weighted means, and robust ones that outliers do not move.

Rotations are averaged as matrices and projected back (the chordal mean, Hartley et al., "Rotation Averaging", IJCV 2013, section 5.3). It
has a closed form and no angle that wraps, rotates with its inputs on either side, and over the fractions of a radian in a window it differs
from the geodesic mean only in the third order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.geometry.rotation import project_to_so3

Array = NDArray[np.float64]

_TINY = 1e-12
_ROUNDS = 8
"""Rounds of reweighting; more change the result by less than the noise of any network."""
_SOFTEST = 0.02
"""Distances below this have equal weight (chordal: 0.8 degrees), so that one sample cannot take all the weight."""


def mean(values: Array, weights: Array) -> Array:
    """Weighted mean over the first axis: (w, n, ...) and weights (w, n) -> (n, ...)."""
    total = np.maximum(weights.sum(0), _TINY)
    return np.einsum("wn,wn...->n...", weights / total, values)


def mean_rotation(rotations: Array, weights: Array) -> Array:
    """Weighted mean over the first axis: (w, n, j, 3, 3) and weights (w, n) -> (n, j, 3, 3), proper rotations."""
    return project_to_so3(mean(rotations, weights))


def median(points: Array, weights: Array, softest: float | Array) -> Array:
    """Weighted geometric median over the first axis.

    It minimises the sum of weighted distances, by Weiszfeld's iteration.

    Args:
        points: (w, n, d).
        weights: (w, n).
        softest: One number or (n,): distance below which samples have equal weight.

    Returns:
        (n, d).
    """
    counted = np.concatenate([points, np.ones((*points.shape[:2], 1))], -1)
    least = np.square(softest)

    def centre_of(shares: Array) -> Array:
        total = np.einsum("wn,wnd->nd", shares, counted)  # the sum of the shares comes last
        return total[:, :-1] / np.maximum(total[:, -1:], _TINY)

    centre = centre_of(weights)
    for _ in range(_ROUNDS):
        apart = points - centre
        centre = centre_of(weights / np.sqrt(np.einsum("wnd,wnd->wn", apart, apart) + least))
    return centre


def median_rotation(rotations: Array, weights: Array) -> Array:
    """Geometric median of rotation matrices, projected to a rotation: (w, n, j, 3, 3) and weights (w, n) -> (n, j, 3, 3).

    It is the median of matrices, not of entries, so that the result does not depend on the orientation of the axes.
    """
    frames, people, joints = rotations.shape[:3]
    flat = rotations.reshape(frames, people * joints, 9)
    centre = median(flat, np.repeat(weights, joints, axis=1), _SOFTEST)
    return project_to_so3(centre.reshape(people, joints, 3, 3))
