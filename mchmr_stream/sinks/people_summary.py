"""The report's summary of each person: time span, confidence, and doubtful segments."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datatypes import Bodies, Float
from mchmr_stream.motion.motion import Track, doubts_s

LOW_CONFIDENCE = 0.55
"""Confidence is about 0.67 for a fully visible person and 0.6 where little is visible."""
SEEN_SCORE = 0.2
FEW_KEYPOINTS = 8
"""Of 17; with fewer, more than half of the person is hidden."""
_JOINED_S = 0.5
"""Doubtful segments that are at most this far apart are joined."""
_SHORTEST_S = 0.2
_REASONS = ("low confidence", "mostly hidden", "filled in")


@dataclass
class PersonSeen:
    """Rows of one identity in order of frames, a few bytes each."""

    _frames: array[int] = field(default_factory=lambda: array("q"))
    _times_s: array[float] = field(default_factory=lambda: array("d"))
    _confidence: array[float] = field(default_factory=lambda: array("f"))
    _keypoints: array[int] = field(default_factory=lambda: array("b"))
    _filled: array[int] = field(default_factory=lambda: array("b"))
    _identity_doubt: array[int] = field(default_factory=lambda: array("b"))

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, bodies: Bodies, row: int) -> None:
        """Add a row.

        Args:
            bodies: The bodies of a frame.
            row: The person's row in it.
        """
        self._frames.append(bodies.frame)
        self._times_s.append(bodies.time_s)
        self._confidence.append(float(bodies.confidence[row]))
        self._keypoints.append(int(_seen(bodies.keypoints_px[row])))
        self._filled.append(int(bodies.interpolated[row]))
        self._identity_doubt.append(int(bodies.identity_doubt[row]))

    def replace(self, bodies: Bodies, row: int) -> None:
        """Update a row from a second pass; bodies without a row are ignored.

        Args:
            bodies: The bodies of a frame.
            row: The person's row in it.
        """
        index = bisect_left(self._frames, bodies.frame)
        if index < len(self) and self._frames[index] == bodies.frame:
            self._confidence[index] = float(bodies.confidence[row])
            self._filled[index] = int(bodies.interpolated[row])

    @classmethod
    def of(cls, track: Track) -> PersonSeen:
        """Rows of a track that an earlier run wrote."""
        columns = (track.frame, track.time_s, track.confidence, _seen(track.keypoints_px), track.interpolated, track.identity_doubt)
        kinds = zip("qdfbbb", columns, strict=True)
        return cls(*(array(kind, np.asarray(column).tolist()) for kind, column in kinds))

    @property
    def confidence_sum(self) -> float:
        """Sum of the rows' confidence, NaN ignored."""
        return float(np.nansum(self._confidence))

    def summary(self) -> dict[str, Any]:
        """Summary in plain types; times in seconds of the source."""
        return {
            "first_time_s": self._times_s[0],
            "last_time_s": self._times_s[-1],
            "rows": len(self),
            "interpolated_rows": sum(self._filled),
            "mean_confidence": round(self.confidence_sum / len(self), 4),
            "doubtful": self._doubtful(),
            "identity_may_have_changed_at_s": doubts_s(compress(self._times_s, self._identity_doubt)),
        }

    def _doubtful(self) -> list[dict[str, Any]]:
        times_s, confidence = np.array(self._times_s), np.array(self._confidence)
        doubts = np.stack([~(confidence >= LOW_CONFIDENCE), np.array(self._keypoints) < FEW_KEYPOINTS, np.array(self._filled) > 0], 1)
        rows = np.flatnonzero(doubts.any(1))
        if not len(rows):
            return []
        shortest_s = min(_SHORTEST_S, float(times_s[-1] - times_s[0]))
        segments = np.split(rows, np.flatnonzero(np.diff(times_s[rows]) > _JOINED_S) + 1)
        lasting = [own for own in segments if times_s[own[-1]] - times_s[own[0]] >= shortest_s]
        return [
            {
                "from_s": float(times_s[own[0]]),
                "to_s": float(times_s[own[-1]]),
                "why": [reason for number, reason in enumerate(_REASONS) if doubts[own, number].any()],
            }
            for own in lasting
        ]


def _seen(keypoints_px: Float) -> NDArray[np.int64]:
    """(...): number of visible keypoints of (..., 17, 3)."""
    return np.asarray((keypoints_px[..., 2] >= SEEN_SCORE).sum(-1))
