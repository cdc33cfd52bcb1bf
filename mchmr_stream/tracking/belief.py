"""Evidence that a track is a person: furniture that a detector mistakes for people has no keypoints in a close crop.

Real people, however small or occluded, show some clear keypoints in their own crop, or the detector is sure of them. A table leg shows
neither in any frame.
"""

from __future__ import annotations

import math

import numpy as np

from mchmr_stream.datatypes import Float

_BEST = 6
"""Number of the best keypoints that count: a half occluded person shows no more."""
_SURE_SCORE = 0.5
"""Detector score from which on no keypoints are needed."""
_MEMORY_S = 0.3
"""Time constant over which scores are averaged."""
_PATIENCE_S = 1.0
"""An accepted person is given up after so much time with evidence against a person."""
_CHECK_INTERVAL_S = 0.2
"""Interval at which a person who is not accepted yet is checked."""


class Belief:
    """Evidence for one track."""

    def __init__(self, least_score: float) -> None:
        self._least_score = least_score
        self._keypoints, self._detector = 0.0, 0.0
        self._observed_s: float | None = None
        self._against_s = 0.0

    def add(self, keypoints_px: Float, score: float, time_s: float) -> None:
        """Add one observation of a crop.

        Args:
            keypoints_px: (17, 3) keypoints found in the crop.
            score: Score of the detection.
            time_s: Time of the frame.
        """
        best = float(np.sort(np.nan_to_num(keypoints_px[:, 2]))[-_BEST:].mean())
        # An observation after a long pause counts as one observation.
        elapsed_s = math.inf if self._observed_s is None else min(max(time_s - self._observed_s, 1e-3), _CHECK_INTERVAL_S)
        share = -math.expm1(-elapsed_s / _MEMORY_S)
        self._keypoints += share * (best - self._keypoints)
        self._detector += share * (score - self._detector)
        self._observed_s = time_s
        self._against_s = 0.0 if self.plausible else self._against_s + elapsed_s

    @property
    def plausible(self) -> bool:
        """Whether recent observations are those of a person."""
        return self._keypoints >= self._least_score or self._detector >= _SURE_SCORE

    def is_due(self, time_s: float) -> bool:
        """Whether a person who is not accepted yet is to be checked in this frame."""
        return self._observed_s is None or time_s - self._observed_s >= _CHECK_INTERVAL_S - 1e-6

    @property
    def is_over(self) -> bool:
        """Whether an accepted person proves to be none: by observations, not by a lack of them."""
        return self._against_s > _PATIENCE_S
