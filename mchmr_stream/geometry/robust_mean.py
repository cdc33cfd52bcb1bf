"""Averages of rotations and of points over a window: plain weighted ones, and robust ones that outliers do not move.

Rotations are averaged as matrices and projected back (the chordal mean, Hartley et al., "Rotation Averaging", IJCV 2013,
section 5.3). It has a closed form, no angle that wraps, turns with its inputs on either side, and over the fractions of a
radian in a window it differs from the geodesic mean only in the third order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.geometry.rotation import project_to_so3

Array = NDArray[np.float64]

_TINY = 1e-12
_ROUNDS = 8
"""Of reweighting; more change the result by less than the noise of any network."""
_SOFTEST = 0.02
"""Distances below this count alike (chordal: 0.8 degrees), so that one sample cannot take all the weight."""


def mean(values: Array, weights: Array) -> Array:
    """Weighted mean over the first axis: (w, n, ...) and (w, n) -> (n, ...)."""
    total = np.maximum(weights.sum(0), _TINY)
    return np.einsum("wn,wn...->n...", weights / total, values)


def mean_rotation(rotations: Array, weights: Array) -> Array:
    """(w, n, j, 3, 3) and (w, n) -> (n, j, 3, 3), proper rotations."""
    return project_to_so3(mean(rotations, weights))


def median(points: Array, weights: Array, softest: float | Array) -> Array:
    """Weighted geometric median over the first axis: (w, n, d) and (w, n) -> (n, d).

    Minimises the sum of weighted distances, by Weiszfeld's iteration. `softest`, one number or (n,), is the distance below which samples
    count alike.
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
    """(w, n, j, 3, 3) and (w, n) -> (n, j, 3, 3): the geometric median of the matrices, projected to a rotation.

    Taken of whole matrices, not entry by entry: so the result does not depend on how the axes happen to lie.
    """
    frames, people, joints = rotations.shape[:3]
    flat = rotations.reshape(frames, people * joints, 9)
    centre = median(flat, np.repeat(weights, joints, axis=1), _SOFTEST)
    return project_to_so3(centre.reshape(people, joints, 3, 3))
