"""Which detection is who: place and appearance together, and how sure that is."""

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
"""Whose box is where and as large as expected, by this overlap, need not have the bones expected, too, for lying down shortens them; but
only for so long: then somebody else may have come."""
_FRESH_S = 0.6
"""The longer ago somebody was seen, the vaguer is where they are expected, which makes them look alike: weighed down over this time."""
_OTHER_PERSON = -1.2
"""Log likelihood ratio of appearance under which it is somebody else, wherever they are: other clothes above or below."""
_LEAST_RATIO = _OTHER_PERSON + 0.1
_RATIO_SCALE = 4.0
"""A log likelihood ratio lower by this much counts as a place that agrees by 1 / e."""
_NEARLY = 0.8
"""Who is who is in doubt where another answer is at least this share as good,"""
_KNOWN, _LONG_S = 0.5, 0.4
"""... or where somebody comes back after so long whose log likelihood ratio is less than this,
or where people meet and the clothes in one place are others."""
_CAME_FROM = 0.2
"""Whoever appears where somebody known is expected, by this overlap, was hidden there: either may be the known one."""


def match(found: Candidates, tracks: Sequence[TrackedPerson], minimum: float, time_s: float) -> Candidates:
    """Give detections to the people who are expected there; returns the detections left over."""
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
    worth = np.where(possible, similarity * np.exp(-unseen_s / _FRESH_S), 0.0)
    return _pair(found, tracks, worth, time_s, stayed=in_place & ~missed)


def relink(found: Candidates, tracks: Sequence[TrackedPerson], time_s: float) -> Candidates:
    """Give detections to people who are missing and can have got there; returns the detections left over."""
    return _pair(found, tracks, relink_closeness(found, tracks, time_s), time_s) if len(found) and tracks else found


def doubt_beside(new: Candidates, tracks: Sequence[TrackedPerson]) -> None:
    """Mark those in doubt whom somebody new was hidden by: one box of two people may have been followed to the other one."""
    if not len(new) or not tracks:
        return
    beside = box_iou(new.boxes_xyxy_px, np.stack([track.expected_box_xyxy_px for track in tracks])) >= _CAME_FROM
    told_apart = np.array([track.known_by_appearance for track in tracks]) & (
        log_likelihood_ratio(new.appearance, _appearances(tracks)) < 0
    )
    for column in np.flatnonzero((beside & ~told_apart).any(0)).tolist():
        tracks[column].doubtful = True


def in_other_clothes(track: TrackedPerson, rgb: NDArray[np.uint8], up_rad: float) -> bool:
    """Whether somebody else is plainly where this person was carried."""
    there = appearance_of(rgb, track.box_xyxy_px[None], track.landmarks_px[None], up_rad)
    return float(log_likelihood_ratio(there, track.appearance)[0, 0]) <= _OTHER_PERSON


def _pair(
    found: Candidates, tracks: Sequence[TrackedPerson], closeness: Array, time_s: float, stayed: NDArray[np.bool_] | None = None
) -> Candidates:
    """The assignment with the largest sum of `closeness` (n, m) that appearance allows; 0 is no pair. Returns the detections left over.

    Whoever `stayed` (n, m) where they were in the frame before stays the same in another light, if nobody else fits better.
    """
    measured = ratio = log_likelihood_ratio(found.appearance, _appearances(tracks))
    if stayed is not None:
        ratio = np.where(stayed, np.maximum(ratio, _LEAST_RATIO), ratio)
    worth = np.where(ratio > _OTHER_PERSON, closeness * np.exp((ratio - HALVES) / _RATIO_SCALE), 0.0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    real = worth[rows, columns] > 0
    rows, columns = rows[real], columns[real]
    doubtful, met = _in_doubt(worth, rows, columns), _met(tracks)
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


def _in_doubt(worth: Array, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Of each pair, whether it could nearly as well be otherwise: two exchanged, or one of them with somebody who has none."""
    own = worth[rows, columns]
    exchanged = worth[np.ix_(rows, columns)]
    exchange = (exchanged > 0) & (exchanged.T > 0) & (exchanged + exchanged.T >= _NEARLY * (own[:, None] + own[None]))
    np.fill_diagonal(exchange, False)
    alone_rows, alone_columns = (np.setdiff1d(np.arange(size), used) for size, used in zip(worth.shape, (rows, columns), strict=True))
    others = np.concatenate([worth[np.ix_(alone_rows, columns)].T, worth[np.ix_(rows, alone_columns)]], 1)
    return np.asarray(exchange.any(1) | (others >= _NEARLY * own[:, None]).any(1))


def _met(tracks: Sequence[TrackedPerson]) -> NDArray[np.bool_]:
    """Who may have somebody else before or behind them."""
    expected = np.stack([track.expected_box_xyxy_px for track in tracks])
    return np.asarray((box_iou(expected, expected) > 0).sum(1) > 1)


def _appearances(tracks: Sequence[TrackedPerson]) -> Appearance:
    colours, seen = zip(*((track.appearance.colours, track.appearance.seen) for track in tracks), strict=True)
    return Appearance(np.concatenate(colours), np.concatenate(seen))
