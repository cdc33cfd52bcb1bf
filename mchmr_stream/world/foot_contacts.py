"""Foot contact of heel and ball: slow and low. Seconds and metres, with hysteresis.

At first only quantities that a monocular estimate measures well are used: the speed across the line of sight, and which sole is the
lowest of the body. Once floor and corrected paths are known, the full speed and the height over the floor decide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from mchmr_stream.world.foot_chains import Array, Flags, Walker

_SPEED_WINDOW_S = 0.05
"""Half width of the window for speeds; at least one frame."""
_SLOW_M_S, _SLOW_WIDTH_M_S = 0.3, 0.08
_LOW_M = 0.08
_ENTER_M_S, _LEAVE_M_S = 0.25, 0.35
_OF_PELVIS = 0.4
"""This share of the pelvis' speed is added to all thresholds above: networks underestimate strides, so a standing sole seems to follow."""
_PELVIS_WINDOW_S = 0.25
_ENTER_HEIGHT_M, _LEAVE_HEIGHT_M = 0.08, 0.12
"""Of the lower one of heel and ball,"""
_ENTER_RAISED_M, _LEAVE_RAISED_M = 0.02, 0.035
"""... and of the other one above it: a raised heel is not in contact."""
SHORTEST_CONTACT_S = 0.07
"""Shorter contacts are removed,"""
_BRIDGED_S = 0.05
"""... and shorter interruptions are closed."""
_MOVED_M = 0.1
"""A sole this far from where its contact began has moved, however slowly: another contact begins,"""
_LET_GO_S = 0.1
"""... and for this long before and after, the foot is free."""


@dataclass(frozen=True, eq=False)
class Stance:
    """One foot in contact from row `first` to `last`, both included."""

    foot: int
    """0 left, 1 right"""
    first: int
    last: int
    points: Flags
    """(rows, 2): whether heel and ball are in contact"""

    @property
    def rows(self) -> slice:
        """The rows of the contact."""
        return slice(self.first, self.last + 1)


def speeds_m_s(walker: Walker, points_m: Array, *, across: bool = False, window_s: float = _SPEED_WINDOW_S) -> Array:
    """Speed of points.

    Args:
        walker: The person, with F rows.
        points_m: (F, k, 3).
        across: Only the speed across the line of sight of a camera at the origin.
        window_s: Half width of the window.

    Returns:
        (F, k) metres per second.
    """
    bearings = points_m / np.linalg.norm(points_m, axis=-1, keepdims=True) if across else points_m
    steps_s = np.diff(walker.time_s)
    reach = max(1, round(window_s / float(np.median(steps_s))))
    rows = np.arange(len(walker))
    starts = np.searchsorted(walker.segment, walker.segment, "left")
    ends = np.searchsorted(walker.segment, walker.segment, "right") - 1
    before, after = np.maximum(rows - reach, starts), np.minimum(rows + reach, ends)
    took_s = np.maximum(walker.time_s[after] - walker.time_s[before], 1e-6)[:, None]
    moved = np.linalg.norm(bearings[after] - bearings[before], axis=-1)
    return moved * (np.linalg.norm(points_m, axis=-1) if across else 1) / took_s


def likely(walker: Walker, up: Array) -> Array:
    """Probability of contact, given only an approximate up direction.

    Args:
        walker: The person, with F rows.
        up: (3,) up direction, camera axes.

    Returns:
        (F, 4) in [0, 1].
    """
    pelvis = speeds_m_s(walker, walker.pelvis_m[:, None], across=True, window_s=_PELVIS_WINDOW_S)
    soles = speeds_m_s(walker, walker.pelvis_m[:, None] + walker.soles_m, across=True)
    slow = expit((_SLOW_M_S + _OF_PELVIS * pelvis - soles) / _SLOW_WIDTH_M_S)
    height = walker.soles_m @ up
    low = np.exp(-np.square((height - height.min(1, keepdims=True)) / _LOW_M))
    raised = np.exp(-np.square(_raised_m(height) / _LEAVE_RAISED_M))
    return slow * low * raised * np.repeat(walker.seen, 2, axis=1)


def likely_stances(walker: Walker, chances: Array) -> list[Stance]:
    """Contacts that are more likely than not. Motion along the line of sight does not split a contact.

    Args:
        walker: The person, with F rows.
        chances: (F, 4) from `likely`.

    Returns:
        Contacts, foot by foot.
    """
    points = walker.pelvis_m[:, None] + walker.soles_m
    distance = np.linalg.norm(points, axis=-1, keepdims=True)
    return _by_foot(walker, chances > 0.5, points / distance * np.median(distance))


def stances_of(walker: Walker, pelvis_m: Array, soles_m: Array, height_m: Array) -> list[Stance]:
    """Contacts from a corrected path.

    Args:
        walker: The person, with F rows.
        pelvis_m: (F, 3), world.
        soles_m: (F, 4, 3), world.
        height_m: (F, 4) over the floor.

    Returns:
        Contacts, foot by foot.
    """
    speed = speeds_m_s(walker, soles_m) - _OF_PELVIS * speeds_m_s(walker, pelvis_m[:, None], window_s=_PELVIS_WINDOW_S)
    lower, raised = np.abs(height_m - _raised_m(height_m)), _raised_m(height_m)
    enter = (speed < _ENTER_M_S) & (lower < _ENTER_HEIGHT_M) & (raised < _ENTER_RAISED_M)
    stay = (speed < _LEAVE_M_S) & (lower < _LEAVE_HEIGHT_M) & (raised < _LEAVE_RAISED_M)
    flags = np.stack([_hysteresis(walker, enter[:, k], stay[:, k]) for k in range(4)], 1)
    return _by_foot(walker, flags & np.repeat(walker.seen, 2, axis=1), soles_m)


def flags_of(stances: list[Stance], rows: int) -> Flags:
    """Mark the rows of contacts.

    Args:
        stances: Contacts of one person.
        rows: Number of rows.

    Returns:
        (rows, 4): which soles are in contact.
    """
    flags = np.zeros((rows, 4), np.bool_)
    for stance in stances:
        flags[stance.rows, 2 * stance.foot : 2 * stance.foot + 2] = stance.points
    return flags


def _by_foot(walker: Walker, flags: Flags, soles_m: Array) -> list[Stance]:
    flags = np.stack([_tidy(walker, flags[:, k]) for k in range(4)], 1)
    return [stance for foot in (0, 1) for stance in _stances(walker, foot, flags[:, 2 * foot : 2 * foot + 2], soles_m)]


def _raised_m(height_m: Array) -> Array:
    """(F, 4) -> (F, 4): height of each sole above the other one of its foot, 0 for the lower one."""
    feet = height_m.reshape(-1, 2, 2)
    return (feet - feet.min(2, keepdims=True)).reshape(-1, 4)


def _hysteresis(walker: Walker, enter: Flags, stay: Flags) -> Flags:
    flags = np.zeros(len(walker), np.bool_)
    for run in _runs(stay, walker.segment):
        inside = np.flatnonzero(enter[run])
        if len(inside):
            flags[run.start + inside[0] : run.start + inside[-1] + 1] = True
    return flags


def _tidy(walker: Walker, flags: Flags) -> Flags:
    flags = flags.copy()
    for run in _runs(~flags, walker.segment):
        inner = run.start > 0 and run.stop < len(flags) and walker.segment[run.start - 1] == walker.segment[run.stop]
        if inner and walker.time_s[run.stop] - walker.time_s[run.start - 1] <= _BRIDGED_S:
            flags[run] = True
    for run in _runs(flags, walker.segment):
        if walker.share_s[run].sum() < SHORTEST_CONTACT_S:
            flags[run] = False
    return flags


def _stances(walker: Walker, foot: int, points: Flags, soles_m: Array) -> list[Stance]:
    found = []
    for run in _runs(points[:, 0] | points[:, 1], walker.segment):
        first, free_until_s = run.start, -np.inf
        origin: dict[int, Array] = {}
        for row in range(run.start, run.stop):
            if walker.time_s[row] < free_until_s:
                first = row + 1
                continue
            moved = False
            for k in np.flatnonzero(points[row]):
                start = origin.setdefault(int(k), soles_m[row, 2 * foot + k])
                moved |= bool(np.linalg.norm(soles_m[row, 2 * foot + k] - start) > _MOVED_M)
            if moved:
                last = int(np.searchsorted(walker.time_s, walker.time_s[row] - _LET_GO_S)) - 1
                found.append(Stance(foot, first, last, points[first : last + 1]))
                first, origin, free_until_s = row + 1, {}, float(walker.time_s[row]) + _LET_GO_S
        found.append(Stance(foot, first, run.stop - 1, points[first : run.stop]))
    return [stance for stance in found if stance.points.any() and walker.share_s[stance.rows].sum() >= SHORTEST_CONTACT_S]


def _runs(flags: Flags, segment: NDArray[np.int64]) -> list[slice]:
    """Contiguous runs of true rows, none of them across a long gap."""
    begins = flags & np.concatenate([[True], ~flags[:-1] | (np.diff(segment) != 0)])
    ends = flags & np.concatenate([~flags[1:] | (np.diff(segment) != 0), [True]])
    return [slice(int(a), int(b) + 1) for a, b in zip(np.flatnonzero(begins), np.flatnonzero(ends), strict=True)]
