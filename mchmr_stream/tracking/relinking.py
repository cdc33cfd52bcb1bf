"""Whether a new detection can be somebody who was lost: near enough, of the right size, of the right body."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.geometry.boxes import box_size
from mchmr_stream.tracking.candidates import Candidates
from mchmr_stream.tracking.track import TrackedPerson

_MAX_STDS = 3.0
"""A detection may be this many standard deviations of the prediction away; these grow with the time the person is missing,"""
_MAX_SPEED_LENGTHS_S = 4.5
"""... or as far as somebody gets in that time who falls or is thrown (8 m/s): jumps are when detectors lose people,"""
_MAX_LENGTHS = 1.5
"""... but it may never be more than this many of the person's lengths away, however long that is."""
_MAX_LOG_SIZE = (0.4, 0.8)
"""The longer sides of both boxes may differ by a factor of exp(this), from the first value at once to the second after a second."""
_MAX_LOG_BODY = 0.35
"""The same for the stature that the bones show, which posture does not change: it decides where it is known."""


def relink_closeness(found: Candidates, tracks: Sequence[TrackedPerson], time_s: float) -> NDArray[np.float64]:
    """Detections (n) against people who are missing (m) at `time_s` -> (n, m): 1 is where and as expected, 0 impossible."""
    expected = np.stack([track.expected_box_xyxy_px for track in tracks])
    distance = np.linalg.norm(_centres(found.boxes_xyxy_px)[:, None] - _centres(expected)[None], axis=-1)
    stds = distance / np.stack([track.centre_std_px(found.scores) for track in tracks], -1)
    lengths = np.array([track.length_px for track in tracks])

    missing_s = np.array([time_s - track.evidence_s for track in tracks])
    # In units of how far they may be: whichever of the two reaches farther.
    farness = np.minimum(stds / _MAX_STDS, distance / np.maximum(_MAX_SPEED_LENGTHS_S * missing_s * lengths, 1e-6))
    possible = (farness <= 1) & (distance <= _MAX_LENGTHS * lengths)
    return np.where(possible, np.exp(-(farness**2)), 0.0) * size_agreement(found, tracks, time_s)


def size_agreement(found: Candidates, tracks: Sequence[TrackedPerson], time_s: float) -> NDArray[np.float64]:
    """How well the sizes of detections (n) go with those of people who are missing (m) -> (n, m): 1 equal, 0 impossible."""
    missing_s = np.clip([time_s - track.evidence_s for track in tracks], 0, 1)
    size_gate = _MAX_LOG_SIZE[0] + (_MAX_LOG_SIZE[1] - _MAX_LOG_SIZE[0]) * missing_s
    expected_px = box_size(np.stack([track.expected_box_xyxy_px for track in tracks]))
    size_change = np.abs(np.log(box_size(found.boxes_xyxy_px)[:, None] / expected_px[None]))
    body_change = np.abs(np.log(found.bodies_px[:, None] / np.array([track.body_size_px for track in tracks])[None]))
    # Somebody who straightens up doubles the box within a moment, but not the bones: where those are seen they decide.
    bones_seen = np.isfinite(body_change)
    change = np.where(bones_seen, body_change / _MAX_LOG_BODY, size_change / size_gate)
    return np.where(change <= 1, np.exp(-(change**2)), 0.0)


def _centres(boxes_xyxy_px: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes_xyxy_px[:, :2] + boxes_xyxy_px[:, 2:]) / 2
