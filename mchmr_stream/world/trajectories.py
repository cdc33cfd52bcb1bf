"""World trajectories of all people and the floor plane: one sparse linear least-squares problem over the whole file.

Each weight is the inverse of a standard deviation, and rows count by the time they represent, so the frame rate does not matter. The
unknowns are a correction of each pelvis in each row, the position of each standing sole, a factor on each person's distance, and tilt
and height of the floor relative to the previous estimate. Terms:
- picture: a correction costs little along the line of sight and much across it;
- person: all distances of a person may be off by one factor, because their size is estimated;
- foot: a standing sole stays in place, as seen from the corrected pelvis;
- floor: that place is on the floor, up to the person's shoes, unless it clearly is not (a box, a stair);
- balance: the centre of mass of a standing person is above the feet, on average;
- smoothness: corrections change slowly.
Steps measure distances by the legs, the picture measures them by size, and the floor links both: the joint solution reconciles them.
The weight of outliers decreases over a few rounds (Geman and McClure).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import splu

from mchmr_stream.world.foot_chains import Array, Walker
from mchmr_stream.world.foot_contacts import Stance

_ACROSS_SHARE, _ACROSS_S = 0.004, 0.1
"""Standard deviation across the line of sight relative to the distance, and the correlation time of this error."""
_DEPTH_SHARE, _DEPTH_S = 0.05, 1.0
_SIZE_SHARE = 0.05
_SHOES_M = 0.02
"""Height of a person's soles relative to the others', by shoes and by the body model."""
_CHANGE_ALONG_M_S2, _CHANGE_ACROSS_M_S2, _CHANGE_S = 5.0, 1.0, 0.1
"""How quickly corrections change: errors of the distance vary faster than those across the line of sight."""
_STANDS_M, _STANDS_S = 0.01, 0.1
_STEP_HEIGHT_M, _STEP_S = 0.03, 0.3
"""Initial standard deviation of steps from the floor; and the duration of a step: shorter ones get less weight."""
_STEPS_KNOWN = 4
"""Number of steps that the initial value counts as."""
_BALANCE_RAD, _BALANCE_S = 0.045, 4.0
"""Deviation of a person's mean balance from upright; less evidence increases it."""
_FIRST_RAD = 0.3
"""Deviation of the trunks from upright, for the first estimate."""
_ROBUST = 3.0
_ROUNDS = 4


@dataclass(frozen=True, eq=False)
class Strand:
    """One person as input of the problem, in the current world estimate: y up, floor at 0."""

    walker: Walker
    pelvis_m: Array
    """(F, 3)"""
    soles_m: Array
    """(F, 4, 3) relative to the pelvis"""
    stances: Sequence[Stance]
    balance: Array
    """(3,) mean direction from standing feet to the centre of mass"""
    balance_s: float
    """seconds of evidence; 0 for none"""


@dataclass(frozen=True, eq=False)
class Path:
    """A corrected path, in the world of the strand."""

    pelvis_m: Array
    """(F, 3)"""
    anchors_m: Array
    """(stances, 2, 3): positions of heel and ball; NaN for a sole that is not in contact in that stance"""

    def moved_by(self, new_from_old: Array) -> Path:
        """Transform the path into another world.

        Args:
            new_from_old: (4, 4) rigid.

        Returns:
            The same path in the new world.
        """
        turn, move = new_from_old[:3, :3], new_from_old[:3, 3]
        return Path(self.pelvis_m @ turn.T + move, self.anchors_m @ turn.T + move)


@dataclass(frozen=True, eq=False)
class Solution:
    """Corrected paths of all people, and the floor."""

    paths: list[Path]
    up: Array
    """(3,) unit: floor normal in the world of the strands"""
    height_m: float
    """of the floor over that world's floor, at the origin"""
    up_sd_deg: float
    """standard deviation of `up` in its less certain direction, given the terms above"""


def solve(strands: Sequence[Strand], camera_m: Array, first_up: Array, *, floor: str) -> Solution:
    """Solve for paths and floor.

    Args:
        strands: All people.
        camera_m: (3,) camera position.
        first_up: (3,) first estimate of the floor normal, for a free floor.
        floor: "fixed" is the plane y = 0; "free" is estimated near `first_up`.

    Returns:
        Paths and floor.
    """
    rows = np.array([len(strand.walker) for strand in strands])
    soles = [_standing_of(number, strand) for number, strand in enumerate(strands)]
    starts = 3 * np.concatenate([[0], np.cumsum(rows)[:-1]])
    anchors_at = 3 * int(rows.sum())
    places_at = anchors_at + 3 * np.concatenate([[0], np.cumsum([len(own) for own in soles])]).astype(int)
    sizes_at = int(places_at[-1])
    shoes_at = sizes_at + len(strands)
    floor_at = shoes_at + len(strands)
    problem = _Problem(floor_at + 3)
    for number, (strand, start) in enumerate(zip(strands, starts, strict=True)):
        _add_picture(problem, strand, int(start), sizes_at + number, camera_m)
        _add_smoothness(problem, strand, int(start), camera_m)
        problem.add([[sizes_at + number]], [[1 / _SIZE_SHARE]], [0.0])
        problem.add([[shoes_at + number]], [[1 / _SHOES_M if floor == "free" else 1e6]], [0.0])
    tilts = np.array([[floor_at], [floor_at + 1]])
    if floor == "fixed":
        problem.add(np.array([[floor_at], [floor_at + 1], [floor_at + 2]]), np.full((3, 1), 1e6), np.zeros(3))
    else:
        problem.add(tilts, np.full((2, 1), 1 / _FIRST_RAD), first_up[[0, 2]] / _FIRST_RAD)

    standing = [one for own in soles for one in own]
    place_at = [int(at) + 3 * i for at, own in zip(places_at, soles, strict=False) for i in range(len(own))]
    row_at = [int(start) for start, own in zip(starts, soles, strict=True) for _ in own]
    places = np.array([one.places_m.mean(0) for one in standing]).reshape(-1, 3)
    stands_trust = [np.ones(len(one.rows)) for one in standing]
    floor_trust, balance_trust, step_sd_m = np.ones(len(standing)), np.ones(len(strands)), _STEP_HEIGHT_M
    for _ in range(_ROUNDS):
        problem_now = problem.copy()
        for one, at, start, trust, floor_sure, place in zip(standing, place_at, row_at, stands_trust, floor_trust, places, strict=True):
            weight = trust * np.sqrt(one.share_s / _STANDS_S) / _STANDS_M
            for axis in range(3):
                columns = np.stack([start + 3 * one.rows + axis, np.full(len(one.rows), at + axis)], 1)
                problem_now.add(columns, np.stack([weight, -weight], 1), -weight * one.places_m[:, axis])
            if one.lower:
                weight = floor_sure * np.sqrt(min(1.0, one.share_s.sum() / _STEP_S)) / step_sd_m
                # up . place = height + shoes, with up = (tilt x, 1, tilt z), linearised: the place that multiplies a tilt is from the
                # previous round
                columns = np.array([[at + 1, floor_at, floor_at + 1, floor_at + 2, shoes_at + one.person]])
                problem_now.add(columns, weight * np.array([[1, place[0], place[2], -1, -1]]), np.zeros(1))
        for strand, trust in zip(strands, balance_trust, strict=True):
            if strand.balance_s > 0 and floor == "free":
                weight = trust / (_BALANCE_RAD * np.sqrt(1 + _BALANCE_S / strand.balance_s))
                problem_now.add(tilts, np.full((2, 1), weight), weight * strand.balance[[0, 2]] / strand.balance[1])
        solution, factors = problem_now.solve()
        tilt, height = solution[floor_at : floor_at + 2], float(solution[floor_at + 2])
        places = np.array([solution[at : at + 3] for at in place_at]).reshape(-1, 3)
        moved = [solution[start + 3 * one.rows[:, None] + np.arange(3)] for one, start in zip(standing, row_at, strict=True)]
        left = [np.linalg.norm(one.places_m + by - place, axis=1) for one, by, place in zip(standing, moved, places, strict=True)]
        stands_trust = [_trust(off / (2 * _STANDS_M)) for off in left]
        shoes = solution[[shoes_at + one.person for one in standing]]
        over_floor = places[:, 1] + places[:, [0, 2]] @ tilt - height - shoes
        floor_trust = _trust(over_floor / (2 * step_sd_m))
        if floor == "free":
            step_sd_m = _spread_m(over_floor[[one.lower for one in standing]])
        balance_trust = np.array(
            [_trust(float(np.linalg.norm(one.balance[[0, 2]] / one.balance[1] - tilt)) / _BALANCE_RAD) for one in strands]
        )
    paths = []
    for strand, own, start, at in zip(strands, soles, starts, places_at, strict=False):
        anchors = np.full((len(strand.stances), 2, 3), np.nan)
        for i, one in enumerate(own):
            anchors[one.stance, one.sole] = solution[at + 3 * i : at + 3 * i + 3]
        correction = solution[start : start + 3 * len(strand.walker)].reshape(-1, 3)
        paths.append(Path(strand.pelvis_m + correction, anchors))
    unit = np.zeros((problem.unknowns, 2))
    unit[floor_at : floor_at + 2] = np.eye(2)
    spread = factors.solve(unit)[floor_at : floor_at + 2]
    up = np.array([tilt[0], 1, tilt[1]])
    length = float(np.linalg.norm(up))
    return Solution(paths, up / length, height / length, float(np.degrees(np.sqrt(max(np.linalg.eigvalsh(spread)[-1], 0)))))


def _add_picture(problem: _Problem, strand: Strand, start: int, size_at: int, camera_m: Array) -> None:
    share, count = strand.walker.share_s, len(strand.walker)
    distance = np.linalg.norm(strand.pelvis_m - camera_m, axis=1)
    rays = (strand.pelvis_m - camera_m) / distance[:, None]
    own = start + 3 * np.arange(count)[:, None] + np.arange(3)
    depth = np.sqrt(share / _DEPTH_S) / (_DEPTH_SHARE * distance)
    columns = np.concatenate([own, np.full((count, 1), size_at)], 1)
    problem.add(columns, np.concatenate([depth[:, None] * rays, -(depth * distance)[:, None]], 1), np.zeros(count))
    across = np.sqrt(share / _ACROSS_S) / (_ACROSS_SHARE * distance)
    flat = across[:, None, None] * (np.eye(3) - rays[:, :, None] * rays[:, None])
    for axis in range(3):
        problem.add(own, flat[:, axis], np.zeros(count))


def _add_smoothness(problem: _Problem, strand: Strand, start: int, camera_m: Array) -> None:
    walker = strand.walker
    middle = np.flatnonzero(walker.segment[2:] == walker.segment[:-2]) + 1
    before_s, after_s = walker.time_s[middle] - walker.time_s[middle - 1], walker.time_s[middle + 1] - walker.time_s[middle]
    weight = np.sqrt(walker.share_s[middle] / _CHANGE_S) / ((before_s + after_s) / 2)
    bend = np.stack([1 / before_s, -1 / before_s - 1 / after_s, 1 / after_s], 1) * weight[:, None]
    rays = strand.pelvis_m[middle] - camera_m
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    along = rays[:, :, None] * rays[:, None]
    tensor = along / _CHANGE_ALONG_M_S2 + (np.eye(3) - along) / _CHANGE_ACROSS_M_S2
    columns = start + (3 * np.stack([middle - 1, middle, middle + 1], 1)[:, :, None] + np.arange(3)).reshape(-1, 9)
    for axis in range(3):
        problem.add(columns, (bend[:, :, None] * tensor[:, None, axis]).reshape(-1, 9), np.zeros(len(middle)))


def _trust(off: float | Array) -> Array:
    """Square roots of the robust weights of residuals, given in standard deviations."""
    return 1 / (1 + np.square(np.asarray(off) / _ROBUST))


def _spread_m(over_floor_m: Array) -> float:
    """Standard deviation of steps from the floor: initial value and median deviation, weighted by their number of steps."""
    found = 1.4826 * float(np.median(np.abs(over_floor_m)))
    count = len(over_floor_m)
    return float(np.sqrt((_STEPS_KNOWN * _STEP_HEIGHT_M**2 + count * found**2) / (_STEPS_KNOWN + count)))


@dataclass(frozen=True, eq=False)
class _Standing:
    """One sole in one stance, before the correction."""

    person: int
    stance: int
    sole: int
    """0 heel, 1 ball"""
    rows: NDArray[np.int64]
    places_m: Array
    """(rows, 3)"""
    share_s: Array
    """(rows,)"""
    lower: bool
    """The lower sole of the stance; only this one is tied to the floor, because a foot's slope is no evidence of the floor's"""


def _standing_of(person: int, strand: Strand) -> list[_Standing]:
    found = []
    for number, stance in enumerate(strand.stances):
        rows = [stance.first + np.flatnonzero(stance.points[:, k]) for k in (0, 1)]
        places = [strand.pelvis_m[rows[k]] + strand.soles_m[rows[k], 2 * stance.foot + k] for k in (0, 1)]
        heights = [float(places[k][:, 1].mean()) if len(rows[k]) else np.inf for k in (0, 1)]
        lower = int(np.argmin(heights))
        found += [
            _Standing(person, number, k, rows[k], places[k], strand.walker.share_s[rows[k]], k == lower) for k in (0, 1) if len(rows[k])
        ]
    return found


class _Problem:
    """Rows of a sparse least-squares problem: coefficients of a few unknowns, and the target value."""

    def __init__(self, unknowns: int) -> None:
        self.unknowns = unknowns
        self._count = 0
        self._parts: list[tuple[NDArray, NDArray, NDArray, NDArray]] = []

    def add(self, columns: object, values: object, target: object) -> None:
        """Add n rows: `columns` and `values` (n, m), targets `target` (n,)."""
        at, numbers = np.asarray(columns), np.asarray(values, np.float64)
        rows = np.repeat(self._count + np.arange(len(at)), at.shape[1])
        self._parts.append((rows, at.ravel(), numbers.ravel(), np.asarray(target, np.float64)))
        self._count += len(at)

    def copy(self) -> _Problem:
        other = _Problem(self.unknowns)
        other._count, other._parts = self._count, list(self._parts)
        return other

    def solve(self) -> tuple[Array, splu]:
        rows, columns, values, target = (np.concatenate([part[i] for part in self._parts]) for i in range(4))
        matrix = coo_matrix((values, (rows, columns)), (self._count, self.unknowns)).tocsc()
        normal = (matrix.T @ matrix).tocsc()
        normal.setdiag(normal.diagonal() + 1e-9)
        factors = splu(normal, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
        return factors.solve(matrix.T @ target), factors
