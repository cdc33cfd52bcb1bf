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
from scipy.sparse.linalg import SuperLU, splu

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
_CERTAIN = 1e6
"""Weight of what is known to be 0."""


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
    is_free = floor == "free"
    standing = [one for person, strand in enumerate(strands) for one in _standing_of(person, strand)]
    layout = _Layout.of(strands, len(standing))
    constant_terms = _assemble(strands, layout, camera_m, first_up, is_free=is_free)
    places_m = np.array([one.places_m.mean(0) for one in standing]).reshape(-1, 3)
    weights = _Weights([np.ones(len(one.rows)) for one in standing], np.ones(len(standing)), np.ones(len(strands)), _STEP_HEIGHT_M)
    for _ in range(_ROUNDS):
        problem = constant_terms.copy()
        _add_standing(problem, standing, layout, weights, places_m)
        if is_free:
            _add_balance(problem, strands, layout, weights)
        solution, factors = problem.solve()
        places_m = solution[layout.places]
        weights = _reweight(strands, standing, layout, weights, solution, is_free=is_free)
    tilt, height_m = solution[layout.tilt], float(solution[layout.height])
    up = np.array([tilt[0], 1, tilt[1]])
    length = float(np.linalg.norm(up))
    return Solution(_paths(strands, standing, layout, solution), up / length, height_m / length, _up_sd_deg(layout, factors))


@dataclass(frozen=True, eq=False)
class _Layout:
    """Indices of the unknowns. The corrections of all pelvises come first, then places, sizes, shoes and the floor."""

    pelvis: list[int]
    """First index of each person's corrections: x, y, z of each row, metres."""
    places: NDArray[np.int64]
    """(standing soles, 3): where each stands, metres."""
    sizes: list[int]
    """Of each person: relative error of the distance."""
    shoes: list[int]
    """Of each person: height of the soles over those of others, metres."""
    tilt: NDArray[np.int64]
    """(2,): x and z of the floor's normal, whose y is 1."""
    height: int
    """Of the floor at the origin, metres."""

    @classmethod
    def of(cls, strands: Sequence[Strand], standing_count: int) -> _Layout:
        rows = np.array([len(strand.walker) for strand in strands])
        pelvis = 3 * np.concatenate([[0], np.cumsum(rows)[:-1]])
        places = 3 * int(rows.sum()) + np.arange(3 * standing_count).reshape(-1, 3)
        sizes = 3 * int(rows.sum()) + 3 * standing_count
        shoes = sizes + len(strands)
        floor = shoes + len(strands)
        return cls(
            pelvis=pelvis.tolist(),
            places=places,
            sizes=list(range(sizes, shoes)),
            shoes=list(range(shoes, floor)),
            tilt=np.array([floor, floor + 1]),
            height=floor + 2,
        )

    @property
    def unknowns(self) -> int:
        return self.height + 1


@dataclass(frozen=True, eq=False)
class _Weights:
    """Square roots of the robust weights of one round; 1 is full weight."""

    standing: list[Array]
    """Of each standing sole: (rows,)."""
    floor: Array
    """(standing soles,)"""
    balance: Array
    """(people,)"""
    step_sd_m: float
    """Standard deviation of a step's height over the floor."""


def _assemble(strands: Sequence[Strand], layout: _Layout, camera_m: Array, first_up: Array, *, is_free: bool) -> _Problem:
    """Add the terms whose weights are the same in all rounds: picture, smoothness, size, shoes and first guess of the floor."""
    problem = _Problem(layout.unknowns)
    for strand, start, size, shoes in zip(strands, layout.pelvis, layout.sizes, layout.shoes, strict=True):
        _add_picture(problem, strand, start, size, camera_m)
        _add_smoothness(problem, strand, start, camera_m)
        problem.add([[size]], [[1 / _SIZE_SHARE]], [0.0])
        problem.add([[shoes]], [[1 / _SHOES_M if is_free else _CERTAIN]], [0.0])
    if is_free:
        problem.add(layout.tilt[:, None], np.full((2, 1), 1 / _FIRST_RAD), first_up[[0, 2]] / _FIRST_RAD)
    else:
        problem.add([*layout.tilt[:, None], [layout.height]], np.full((3, 1), _CERTAIN), np.zeros(3))
    return problem


def _add_standing(problem: _Problem, standing: Sequence[_Standing], layout: _Layout, weights: _Weights, places_m: Array) -> None:
    """Add the terms of standing soles: each stays in its place, and the lower one of a stance is on the floor.

    Args:
        problem: Gets the terms.
        standing: The soles.
        layout: Indices of the unknowns.
        weights: Of this round.
        places_m: (standing soles, 3) of the round before, where the product of tilt and place is linearised.
    """
    for k, one in enumerate(standing):
        start, at, place_m = layout.pelvis[one.person], layout.places[k], places_m[k]
        weight = weights.standing[k] * np.sqrt(one.share_s / _STANDS_S) / _STANDS_M
        for axis in range(3):
            columns = np.stack([start + 3 * one.rows + axis, np.full(len(one.rows), at[axis])], 1)
            problem.add(columns, np.stack([weight, -weight], 1), -weight * one.places_m[:, axis])
        if one.lower:
            on_floor = weights.floor[k] * np.sqrt(min(1.0, one.share_s.sum() / _STEP_S)) / weights.step_sd_m
            # up . place = height + shoes, with up = (tilt x, 1, tilt z)
            columns = np.array([[at[1], *layout.tilt, layout.height, layout.shoes[one.person]]])
            problem.add(columns, on_floor * np.array([[1, place_m[0], place_m[2], -1, -1]]), np.zeros(1))


def _add_balance(problem: _Problem, strands: Sequence[Strand], layout: _Layout, weights: _Weights) -> None:
    """Add the terms of people's mean balance, which is along the floor's normal."""
    for strand, robust in zip(strands, weights.balance, strict=True):
        if strand.balance_s > 0:
            weight = robust / (_BALANCE_RAD * np.sqrt(1 + _BALANCE_S / strand.balance_s))
            problem.add(layout.tilt[:, None], np.full((2, 1), weight), weight * strand.balance[[0, 2]] / strand.balance[1])


def _reweight(
    strands: Sequence[Strand], standing: Sequence[_Standing], layout: _Layout, weights: _Weights, solution: Array, *, is_free: bool
) -> _Weights:
    """Compute the robust weights of the next round from the residuals of this one."""
    places_m, tilt = solution[layout.places], solution[layout.tilt]
    stands = []
    for one, place_m in zip(standing, places_m, strict=True):
        correction_m = solution[layout.pelvis[one.person] + 3 * one.rows[:, None] + np.arange(3)]
        off_m = np.linalg.norm(one.places_m + correction_m - place_m, axis=1)
        stands.append(_robust_weight(off_m / (2 * _STANDS_M)))
    shoes_m = solution[[layout.shoes[one.person] for one in standing]]
    over_floor_m = places_m[:, 1] + places_m[:, [0, 2]] @ tilt - float(solution[layout.height]) - shoes_m
    return _Weights(
        standing=stands,
        floor=_robust_weight(over_floor_m / (2 * weights.step_sd_m)),
        balance=np.array(
            [_robust_weight(float(np.linalg.norm(one.balance[[0, 2]] / one.balance[1] - tilt)) / _BALANCE_RAD) for one in strands]
        ),
        step_sd_m=_spread_m(over_floor_m[[one.lower for one in standing]]) if is_free else weights.step_sd_m,
    )


def _paths(strands: Sequence[Strand], standing: Sequence[_Standing], layout: _Layout, solution: Array) -> list[Path]:
    """Apply the corrections."""
    paths = []
    for strand, start in zip(strands, layout.pelvis, strict=True):
        correction_m = solution[start : start + 3 * len(strand.walker)].reshape(-1, 3)
        paths.append(Path(strand.pelvis_m + correction_m, np.full((len(strand.stances), 2, 3), np.nan)))
    for one, at in zip(standing, layout.places, strict=True):
        paths[one.person].anchors_m[one.stance, one.sole] = solution[at]
    return paths


def _up_sd_deg(layout: _Layout, factors: SuperLU) -> float:
    """Standard deviation of the floor's tilt in its less certain direction, from the inverse of the normal matrix."""
    unit = np.zeros((layout.unknowns, 2))
    unit[layout.tilt] = np.eye(2)
    covariance = factors.solve(unit)[layout.tilt]
    return float(np.degrees(np.sqrt(max(np.linalg.eigvalsh(covariance)[-1], 0))))


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


def _robust_weight(off: float | Array) -> Array:
    """Square roots of the weights (Geman and McClure) of residuals that are `off` by so many standard deviations."""
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

    def solve(self) -> tuple[Array, SuperLU]:
        rows, columns, values, target = (np.concatenate([part[i] for part in self._parts]) for i in range(4))
        matrix = coo_matrix((values, (rows, columns)), (self._count, self.unknowns)).tocsc()
        normal = (matrix.T @ matrix).tocsc()
        normal.setdiag(normal.diagonal() + 1e-9)
        factors = splu(normal, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
        return factors.solve(matrix.T @ target), factors
