"""Smoothing for live pictures: no look-ahead, strong at rest, light in motion."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.geometry.rotation import exp_so3, log_so3
from mchmr_stream.records import Bodies
from mchmr_stream.smoothing.stretches import NOT_SMOOTHED, MeanShape, Sample, Stretches

Array = NDArray[np.float64]

_REST_HZ = 1.0
"""Cutoff for a joint at rest, strength 1."""
_PER_SPEED_HZ = 0.5
"""By how much it opens per radian per second of the joint."""
_POSITION_REST_HZ = np.array([2.5, 2.5, 0.7])
_POSITION_PER_SPEED_HZ = np.array([12.0, 12.0, 3.0])
"""The same for bearing (x, y) and log depth, per unit per second."""
_SPEED_HZ = 1.5
"""Cutoff of the speed itself."""


@dataclass(frozen=True, eq=False)
class _State:
    """What is remembered of the people of one frame, in the rows of its `Sample`."""

    sample: Sample
    rotations: Array
    turning: Array
    """(n, 24, 3) rad/s, low-passed"""
    position: Array
    moving: Array
    """(n, 3) per second, low-passed"""


class CausalSmoother:
    """A One-Euro filter (Casiez et al., CHI 2012) per joint, on rotations; implements `protocols.Smoother`.

    The step towards the new rotation is along the geodesic, its share 1 - exp(-2 pi cutoff dt): exact for any frame rate. The
    cutoff grows with the speed, so that a resting limb does not tremble and a fast one is not late. `strength` divides all
    cutoffs. Position is smoothed as bearing and log depth; betas become the mean of the track so far. A person not seen for
    more than 0.3 s, and a time before the last one, begin anew.
    """

    def __init__(self, strength: float = 1.0) -> None:
        self._strength = strength
        self._stretches = Stretches()
        self._shape = MeanShape()
        self._known: dict[int, tuple[_State, int]] = {}
        """Where the last word on every stretch is: the state, and the row in it."""

    def push(self, bodies: Bodies) -> list[Bodies]:
        """The same frame at once."""
        sample = self._stretches.sample(bodies)
        self._shape.add(sample)
        state = self._step(sample)
        alive = self._stretches.alive
        self._known = {stretch: kept for stretch, kept in self._known.items() if stretch in alive}
        self._known |= {int(stretch): (state, row) for row, stretch in enumerate(sample.stretch) if stretch != NOT_SMOOTHED}
        return [sample.with_smoothed(state.rotations, state.position).to_bodies(self._shape.of(bodies))]

    def flush(self) -> list[Bodies]:
        """Nothing is ever held back."""
        return []

    def _step(self, sample: Sample) -> _State:
        before = [self._known.get(int(stretch)) for stretch in sample.stretch]
        n = len(before)
        if not any(before):
            return _State(sample, sample.rotations, np.zeros((n, 24, 3)), sample.position, np.zeros((n, 3)))

        def last(of: Any, fallback: Array) -> Array:
            return np.stack([fallback[row] if kept is None else of(kept[0])[kept[1]] for row, kept in enumerate(before)])

        dt = np.array([0.0 if kept is None else sample.time_s - kept[0].sample.time_s for kept in before])
        safe_dt = np.maximum(dt, 1e-6)[:, None]
        speed_share = _share(_SPEED_HZ, dt)[:, None]

        last_seen = last(lambda state: state.sample.rotations, sample.rotations)
        turning = last(lambda state: state.turning, np.zeros((n, 24, 3)))
        turning = turning + speed_share[..., None] * (log_so3(_transpose(last_seen) @ sample.rotations) / safe_dt[..., None] - turning)
        rotations = last(lambda state: state.rotations, sample.rotations)
        cutoff = (_REST_HZ + _PER_SPEED_HZ * np.linalg.norm(turning, axis=-1)) / self._strength
        step = _share(cutoff, dt[:, None])[..., None] * log_so3(_transpose(rotations) @ sample.rotations)
        rotations = rotations @ exp_so3(step)

        last_place = last(lambda state: state.sample.position, sample.position)
        moving = last(lambda state: state.moving, np.zeros((n, 3)))
        moving = moving + speed_share * ((sample.position - last_place) / safe_dt - moving)
        position = last(lambda state: state.position, sample.position)
        cutoff = (_POSITION_REST_HZ + _POSITION_PER_SPEED_HZ * np.abs(moving)) / self._strength
        position = position + _share(cutoff, dt[:, None]) * (sample.position - position)
        return _State(sample, rotations, turning, position, moving)


def _share(cutoff_hz: Any, dt_s: Array) -> Array:
    """Of the way to the new value that a first-order low-pass goes in dt."""
    return -np.expm1(-2 * math.pi * cutoff_hz * dt_s)


def _transpose(rotations: Array) -> Array:
    return np.swapaxes(rotations, -1, -2)
