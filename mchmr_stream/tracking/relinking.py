"""Compatibility of new detections with lost tracks: distance, size and stature."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.geometry.boxes import box_size
from mchmr_stream.tracking.candidates import Candidates
from mchmr_stream.tracking.track import TrackedPerson

_MAX_STDS = 3.0
"""Maximum distance of a detection in standard deviations of the prediction, which grow with the time the person is missing,"""
_MAX_SPEED_LENGTHS_S = 4.5
"""... or the distance covered in that time by a person who falls or is thrown (8 m/s): detectors lose people during jumps,"""
_MAX_LENGTHS = 1.5
"""... but never more than this many of the person's lengths."""
_MAX_LOG_SIZE = (0.4, 0.8)
"""The longer sides of both boxes may differ by a factor of exp(this): the first value at once, rising to the second within a second."""
_MAX_LOG_BODY = 0.35
"""The same for the stature measured by the bones, which posture does not change. It decides where it is known."""


def relink_closeness(found: Candidates, tracks: Sequence[TrackedPerson], time_s: float) -> NDArray[np.float64]:
    """Compare detections (n) with missing people (m) at `time_s`.

    Returns:
        (n, m): 1 at the predicted position and size, 0 impossible.
    """
    expected = np.stack([track.expected_box_xyxy_px for track in tracks])
    distance = np.linalg.norm(_centres(found.boxes_xyxy_px)[:, None] - _centres(expected)[None], axis=-1)
    stds = distance / np.stack([track.centre_std_px(found.scores) for track in tracks], -1)
    lengths = np.array([track.length_px for track in tracks])

    missing_s = np.array([time_s - track.evidence_s for track in tracks])
    # Distance relative to the larger of the two limits.
    relative_distance = np.minimum(stds / _MAX_STDS, distance / np.maximum(_MAX_SPEED_LENGTHS_S * missing_s * lengths, 1e-6))
    possible = (relative_distance <= 1) & (distance <= _MAX_LENGTHS * lengths)
    return np.where(possible, np.exp(-(relative_distance**2)), 0.0) * size_agreement(found, tracks, time_s)


def size_agreement(found: Candidates, tracks: Sequence[TrackedPerson], time_s: float) -> NDArray[np.float64]:
    """Compare the sizes of detections (n) with those of missing people (m).

    Returns:
        (n, m): 1 equal, 0 impossible.
    """
    missing_s = np.clip([time_s - track.evidence_s for track in tracks], 0, 1)
    size_gate = _MAX_LOG_SIZE[0] + (_MAX_LOG_SIZE[1] - _MAX_LOG_SIZE[0]) * missing_s
    expected_px = box_size(np.stack([track.expected_box_xyxy_px for track in tracks]))
    size_change = np.abs(np.log(box_size(found.boxes_xyxy_px)[:, None] / expected_px[None]))
    body_change = np.abs(np.log(found.bodies_px[:, None] / np.array([track.body_size_px for track in tracks])[None]))
    # Straightening up doubles the box within a moment, but not the bones: where bones are visible they decide.
    bones_seen = np.isfinite(body_change)
    change = np.where(bones_seen, body_change / _MAX_LOG_BODY, size_change / size_gate)
    return np.where(change <= 1, np.exp(-(change**2)), 0.0)


def _centres(boxes_xyxy_px: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes_xyxy_px[:, :2] + boxes_xyxy_px[:, 2:]) / 2
