"""Whether somebody is a person at all: furniture that a detector takes for people has no keypoints when it is seen closely.

Of real people some keypoints are plain in a crop of their own, however small or hidden they are, or the detector is sure of them. Of a
table's foot neither is so, in any frame.
"""

from __future__ import annotations

import math

import numpy as np

from mchmr_stream.datatypes import Float

_BEST = 6
"""Keypoints that count, the best ones: of somebody half hidden no more are seen."""
_SURE_SCORE = 0.5
"""A detector that says this much needs no keypoints."""
_MEMORY_S = 0.3
"""Time over which scores are averaged."""
_PATIENCE_S = 1.0
"""Somebody believed is given up once what was seen has not spoken for a person for so long."""
_LOOK_AGAIN_S = 0.2
"""How often somebody who is not believed is looked at."""


class Belief:
    """Of one track."""

    def __init__(self, least_score: float) -> None:
        self._least_score = least_score
        self._keypoints, self._detector = 0.0, 0.0
        self._looked_s: float | None = None
        self._against_s = 0.0

    def add(self, keypoints_px: Float, score: float, time_s: float) -> None:
        """What a crop of the person and the detector showed at `time_s`."""
        best = float(np.sort(np.nan_to_num(keypoints_px[:, 2]))[-_BEST:].mean())
        # (A look after a long while is one look, not a while of looking.)
        elapsed_s = math.inf if self._looked_s is None else min(max(time_s - self._looked_s, 1e-3), _LOOK_AGAIN_S)
        share = -math.expm1(-elapsed_s / _MEMORY_S)
        self._keypoints += share * (best - self._keypoints)
        self._detector += share * (score - self._detector)
        self._looked_s = time_s
        self._against_s = 0.0 if self.plausible else self._against_s + elapsed_s

    @property
    def plausible(self) -> bool:
        """What was seen lately speaks for a person."""
        return self._keypoints >= self._least_score or self._detector >= _SURE_SCORE

    def is_due(self, time_s: float) -> bool:
        """Somebody who is not believed is to be looked at in this frame."""
        return self._looked_s is None or time_s - self._looked_s >= _LOOK_AGAIN_S - 1e-6

    @property
    def is_over(self) -> bool:
        """Somebody believed turned out to be no person: by what was seen, not by how long nothing was."""
        return self._against_s > _PATIENCE_S
