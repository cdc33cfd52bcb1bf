"""Measurement noise of a row: its variance relative to that of a typical row.

For fitted bodies, the noise of a joint's rotation is the posterior standard deviation of that joint. Bodies without a fit have the
network's confidence instead. The noise grows with the disagreement of a person's V views about the distance, with a low score of the
detector, and at the picture's border.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datatypes import Bodies

Array = NDArray[np.float64]

_WIDE_SPREAD = 0.004
"""Standard deviation of the views' log distances from which on it counts. A person wholly in view has a quarter of this, where it carries
no information.
"""
_USUAL_SCORE = 0.4
_USUAL_CONFIDENCE = 0.6
_BORDER = 2.0
"""Variance of a person whose box touches the border, relative to others."""
_BORDER_PX = 2.0
_UNSEEN = 5.0
"""Variance of a row without picture evidence, relative to others."""
_LIMITS = (0.5, 20.0)
_JOINT_LIMITS = (0.4, 20.0)
_USUAL_SD_RAD = np.array(
    [0.09, 0.15, 0.15, 0.08, 0.13, 0.13, 0.08, 0.19, 0.19, 0.08, 0.19, 0.19, 0.09, 0.09, 0.09, 0.10, 0.14, 0.14, 0.16, 0.16, 0.22, 0.22,
     0.22, 0.22]
)  # fmt: skip
"""(24,) posterior standard deviations of a fully visible person: medians over filmed people"""


class MeasurementNoise:
    """Compute the measurement noise of each row.

    Args:
        view_scales: (V,) scales of the crop layout; None if unknown.
        picture_wh: Width and height of the picture, px; None if unknown.
    """

    def __init__(self, view_scales: Sequence[float] | None = None, picture_wh: tuple[int, int] | None = None) -> None:
        self._log_scales = None if view_scales is None else np.log(np.asarray(view_scales, np.float64))
        self._picture_wh = picture_wh

    def noise(self, bodies: Bodies) -> Array:
        """(n,) variance factor of a whole row: 1 for a typical row, larger for a doubtful one."""
        # fmax and fmin ignore NaN: an unknown value gets the largest noise.
        confidence, score = (np.fmin(np.fmax(values.astype(np.float64), 0.05), 1) for values in (bodies.confidence, bodies.scores))
        fitted = np.isfinite(bodies.joint_sd_rad).all(-1)
        noise = np.where(fitted, 1.0, _USUAL_CONFIDENCE / confidence) * np.sqrt(_USUAL_SCORE / np.minimum(score, _USUAL_SCORE))
        noise = noise * np.maximum(self.spread(bodies) / _WIDE_SPREAD, 1) ** 2
        noise = np.clip(noise, *_LIMITS)
        noise = noise * np.where(self._at_border(bodies), _BORDER, 1.0)
        return np.where(bodies.interpolated, noise * _UNSEEN, noise)

    def joint_noise(self, bodies: Bodies) -> Array:
        """(n, 24) variance factor of each joint on top of its row's: 1 where the posterior is as wide as usual, or unknown."""
        relative = (bodies.joint_sd_rad.astype(np.float64) / _USUAL_SD_RAD) ** 2
        return np.clip(np.where(np.isfinite(relative), relative, 1.0), *_JOINT_LIMITS)

    def spread(self, bodies: Bodies) -> Array:
        """(n,) standard deviation over the views of the logarithm of the distance; 0 where it is unknown.

        A view's distance is 2 f / (b s), where b is its side: the layout's scale times a length that all views of a person share.
        """
        size = bodies.views_cam[..., 0].astype(np.float64)
        if self._log_scales is None or size.shape[1] != len(self._log_scales) or size.shape[1] < 2:
            return np.zeros(len(bodies))
        known = np.asarray((np.isfinite(size) & (size > 0)).all(-1))
        spread = np.std(np.log(np.where(known[:, None], size, 1.0)) + self._log_scales, axis=-1)
        return np.where(known, spread, 0.0)

    def _at_border(self, bodies: Bodies) -> NDArray[np.bool_]:
        if self._picture_wh is None:
            return np.zeros(len(bodies), np.bool_)
        low, high = bodies.boxes_xyxy_px[:, :2], bodies.boxes_xyxy_px[:, 2:]
        return np.asarray((low <= _BORDER_PX).any(-1) | (high >= np.array(self._picture_wh) - 1 - _BORDER_PX).any(-1))
