"""Detection of scene cuts: no identity continues after one, however well the boxes fit."""

from __future__ import annotations

from collections import deque
from statistics import median

import numpy as np
from numpy.typing import NDArray

_SAMPLES = 64
"""Pixels compared along the longer side."""
_BINS = 8
"""Per colour channel."""
_HISTOGRAM = 0.35
"""A cut needs this share of the picture in new colours,"""
_UNLIKE = 0.5
"""... or, at any shift of the picture, a lower correlation with the one before: the shapes are new, whatever their colours,"""
_PIXELS = 18.0
"""... and this mean difference of pixels, of 255 levels,"""
_TIMES_USUAL = 3.0
"""... and this many times the difference of the frames before: in a pan everything changes, but equally in every frame."""
_MEMORY = 12
"""Number of previous frames that define the usual difference."""


class SceneCuts:
    """Detects scene cuts in the pictures of one run, given in order. Gradual fades are not detected."""

    def __init__(self) -> None:
        self._before: NDArray[np.uint8] | None = None
        self._usual: deque[float] = deque(maxlen=_MEMORY)

    def begins_with(self, rgb: NDArray[np.uint8]) -> bool:
        """Return whether a new shot begins with this picture.

        Args:
            rgb: (H, W, 3) picture of the next frame.

        Returns:
            True at a cut; False for the first picture of a run.
        """
        step = max(1, max(rgb.shape[:2]) // _SAMPLES)
        first_y, first_x = (min(step // 2, (side - 1) // 2) for side in rgb.shape[:2])  # also inside a narrow strip
        small = rgb[first_y::step, first_x::step].copy()
        before, self._before = self._before, small
        if before is None or before.shape != small.shape:
            return before is not None
        difference = float(np.abs(small.astype(np.float32) - before).mean())
        is_cut = difference > _PIXELS and difference > _TIMES_USUAL * median(self._usual or [0.0]) and _unlike(small, before)
        if is_cut:
            self._usual.clear()
        else:
            self._usual.append(difference)
        return is_cut


def _unlike(rgb: NDArray[np.uint8], before: NDArray[np.uint8]) -> bool:
    """Whether the colours or the shapes differ."""
    new_colours = float(np.abs(_histogram(rgb) - _histogram(before)).sum()) / 2
    return new_colours > _HISTOGRAM or _best_correlation(rgb, before) < _UNLIKE


def _best_correlation(pixels: NDArray[np.uint8], before: NDArray[np.uint8]) -> float:
    """Maximum over all cyclic shifts: 1 if the camera only panned or only the light changed."""
    one, other = (picture.mean(-1, dtype=np.float64) for picture in (pixels, before))
    one, other = one - one.mean(), other - other.mean()
    energy = float(np.sqrt((one**2).sum() * (other**2).sum()))
    products = np.fft.irfft2(np.fft.rfft2(one) * np.conj(np.fft.rfft2(other)), one.shape)
    return float(products.max()) / energy if energy > 0 else 1.0


def _histogram(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(512,) share of every colour, each spread over neighbouring brightness levels, so that a flickering lamp makes no cut."""
    binned = (rgb // (256 // _BINS)).astype(np.int64)
    counts = np.bincount((binned[..., 0] * _BINS + binned[..., 1]).ravel() * _BINS + binned[..., 2].ravel(), minlength=_BINS**3)
    shares = counts.reshape(_BINS, _BINS, _BINS) / counts.sum()
    for axis in range(3):
        padded = np.pad(shares, [(1, 1) if each == axis else (0, 0) for each in range(3)], mode="edge")
        ahead, behind = (np.take(padded, range(start, start + _BINS), axis) for start in (2, 0))
        shares = 0.5 * shares + 0.25 * (ahead + behind)
    return np.asarray((shares / shares.sum()).ravel())
