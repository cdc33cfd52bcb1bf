"""Assignment of detections to tracks by position and appearance, and how certain it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from mchmr_stream.detection.person_similarity import person_similarity
from mchmr_stream.geometry.boxes import box_iou
from mchmr_stream.tracking.appearance import HALVES, Appearance, appearance_of, log_likelihood_ratio
from mchmr_stream.tracking.candidates import Candidates
from mchmr_stream.tracking.relinking import relink_closeness, size_agreement
from mchmr_stream.tracking.track import TrackedPerson

Array = NDArray[np.float64]

_SAME_PLACE, _SAME_PLACE_S = 0.6, 0.2
"""A box with this overlap with the predicted one may differ in bone lengths, since lying down shortens them, but only for so long: after
that another person may be there.
"""
_FRESH_S = 0.6
"""Time constant of the weight of tracks by the time since they were last seen: an older prediction is more uncertain and so overlaps more
boxes.
"""
_OTHER_PERSON = -1.2
"""Log likelihood ratio of appearance below which it is another person at any position: other clothes above or below."""
_LEAST_RATIO = _OTHER_PERSON + 0.1
_RATIO_SCALE = 4.0
"""A decrease of the log likelihood ratio by this much counts like a position whose similarity is lower by 1 / e."""
_NEARLY = 0.8
"""Identity is doubtful if another assignment is at least this share as good,"""
_KNOWN, _LONG_S = 0.5, 0.4
"""... or if a person returns after so long with a log likelihood ratio below the first value, or if people meet and the clothes at a
position are different ones.
"""
_CAME_FROM = 0.2
"""A new person who appears with this overlap on a known person's predicted box was occluded there: either may be the known one."""


def match(found: Candidates, tracks: Sequence[TrackedPerson], minimum: float, time_s: float) -> Candidates:
    """Assign detections to the tracks predicted near them.

    Args:
        found: Detections of the frame.
        tracks: Candidates for the assignment.
        minimum: Minimum similarity.
        time_s: Time of the frame.

    Returns:
        The detections left over.
    """
    if not len(found) or not tracks:
        return found
    similarity = person_similarity(
        found.boxes_xyxy_px,
        found.keypoints_px,
        np.stack([track.expected_box_xyxy_px for track in tracks]),
        np.stack([track.landmarks_px for track in tracks]),
        np.array([track.slack_px for track in tracks]),
    )
    missed = np.array([track.missed for track in tracks])
    unseen_s = np.array([time_s - track.evidence_s for track in tracks])
    in_place = box_iou(found.boxes_xyxy_px, np.stack([track.expected_box_xyxy_px for track in tracks])) >= _SAME_PLACE
    possible = similarity >= minimum
    if missed.any():
        lately = in_place & (unseen_s <= _SAME_PLACE_S)
        possible &= ~missed | lately | (size_agreement(found, tracks, time_s) > 0)
    weight = np.where(possible, similarity * np.exp(-unseen_s / _FRESH_S), 0.0)
    return _pair(found, tracks, weight, time_s, stayed=in_place & ~missed)


def relink(found: Candidates, tracks: Sequence[TrackedPerson], time_s: float) -> Candidates:
    """Assign detections to missing tracks that can have moved there.

    Args:
        found: Detections of the frame.
        tracks: Missing tracks.
        time_s: Time of the frame.

    Returns:
        The detections left over.
    """
    return _pair(found, tracks, relink_closeness(found, tracks, time_s), time_s) if len(found) and tracks else found


def mark_doubtful_near(new: Candidates, tracks: Sequence[TrackedPerson]) -> None:
    """Mark tracks as doubtful from which a new person emerges: one box of two people may have been followed to the other person."""
    if not len(new) or not tracks:
        return
    overlapping = box_iou(new.boxes_xyxy_px, np.stack([track.expected_box_xyxy_px for track in tracks])) >= _CAME_FROM
    distinguished = np.array([track.known_by_appearance for track in tracks]) & (
        log_likelihood_ratio(new.appearance, _appearances(tracks)) < 0
    )
    for column in np.flatnonzero((overlapping & ~distinguished).any(0)).tolist():
        tracks[column].doubtful = True


def appearance_contradicts(track: TrackedPerson, rgb: NDArray[np.uint8], up_rad: float) -> bool:
    """Whether the appearance at the position of a carried track is clearly that of another person."""
    appearance_there = appearance_of(rgb, track.box_xyxy_px[None], track.landmarks_px[None], up_rad)
    return float(log_likelihood_ratio(appearance_there, track.appearance)[0, 0]) <= _OTHER_PERSON


def _pair(
    found: Candidates, tracks: Sequence[TrackedPerson], closeness: Array, time_s: float, stayed: NDArray[np.bool_] | None = None
) -> Candidates:
    """Find the assignment with the largest sum of `closeness` (n, m) that appearance permits; 0 is no pair. Returns the rest.

    A pair that `stayed` (n, m) at its position since the frame before is kept under different light if no other pair fits better.
    """
    measured = ratio = log_likelihood_ratio(found.appearance, _appearances(tracks))
    if stayed is not None:
        ratio = np.where(stayed, np.maximum(ratio, _LEAST_RATIO), ratio)
    weight = np.where(ratio > _OTHER_PERSON, closeness * np.exp((ratio - HALVES) / _RATIO_SCALE), 0.0)
    rows, columns = linear_sum_assignment(weight, maximize=True)
    real = weight[rows, columns] > 0
    rows, columns = rows[real], columns[real]
    doubtful, met = _in_doubt(weight, rows, columns), _met(tracks)
    left = np.ones(len(found), np.bool_)
    for row, column, doubt in zip(rows, columns, doubtful, strict=True):
        track = tracks[column]
        track.known_by_appearance = bool(ratio[row, column] >= _KNOWN)
        came_back = time_s - track.evidence_s > _LONG_S and not track.known_by_appearance
        changed = bool(met[column] and measured[row, column] <= _OTHER_PERSON)
        track.observe(found, row)
        track.doubtful = bool(doubt) or came_back or changed
        left[row] = False
    return found.rows(np.flatnonzero(left))


def _in_doubt(weight: Array, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Of each pair, whether another assignment is nearly as good: an exchange of two pairs, or one with an unassigned row or column."""
    own = weight[rows, columns]
    exchanged = weight[np.ix_(rows, columns)]
    exchange = (exchanged > 0) & (exchanged.T > 0) & (exchanged + exchanged.T >= _NEARLY * (own[:, None] + own[None]))
    np.fill_diagonal(exchange, False)
    unmatched_rows, unmatched_columns = (
        np.setdiff1d(np.arange(size), used) for size, used in zip(weight.shape, (rows, columns), strict=True)
    )
    others = np.concatenate([weight[np.ix_(unmatched_rows, columns)].T, weight[np.ix_(rows, unmatched_columns)]], 1)
    return np.asarray(exchange.any(1) | (others >= _NEARLY * own[:, None]).any(1))


def _met(tracks: Sequence[TrackedPerson]) -> NDArray[np.bool_]:
    """Tracks that may have another person in front of or behind them."""
    expected = np.stack([track.expected_box_xyxy_px for track in tracks])
    return np.asarray((box_iou(expected, expected) > 0).sum(1) > 1)


def _appearances(tracks: Sequence[TrackedPerson]) -> Appearance:
    colours, seen = zip(*((track.appearance.colours, track.appearance.seen) for track in tracks), strict=True)
    return Appearance(np.concatenate(colours), np.concatenate(seen))
