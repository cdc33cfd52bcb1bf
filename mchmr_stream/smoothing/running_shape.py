"""Betas are constant for a person: one robust estimate per track."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.body.shape import robust_shape
from mchmr_stream.datatypes import Bodies
from mchmr_stream.smoothing.segments import NOT_SMOOTHED, Sample

Array = NDArray[np.float64]

_FORGET_S = 10.0
"""Shapes of people not detected for this long are dropped: no identity returns after so long."""
_KEPT = 64
"""Rows kept per track. When they are full, every second one is dropped and half as many are taken from then on."""


@dataclass
class _PersonShape:
    rows: list[Array] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    every: int = 1
    seen: int = 0
    last_s: float = 0.0
    betas: Array = field(default_factory=lambda: np.zeros(10))


class RunningShape:
    """Weighted geometric median of the betas of each track so far; single outliers do not move it."""

    def __init__(self) -> None:
        self._people: dict[int, _PersonShape] = {}

    def add(self, sample: Sample) -> None:
        """Add a frame."""
        for row in np.flatnonzero(sample.segment != NOT_SMOOTHED):
            person = self._people.setdefault(int(sample.bodies.track_id[row]), _PersonShape())
            person.last_s = sample.time_s
            if person.seen % person.every == 0:
                person.rows.append(sample.bodies.betas[row].astype(np.float64))
                person.weights.append(1 / sample.transl_noise[row])
                person.betas = robust_shape(np.stack(person.rows), np.array(person.weights))
            person.seen += 1
            if len(person.rows) >= _KEPT:
                person.rows, person.weights, person.every = person.rows[::2], person.weights[::2], 2 * person.every
        self._people = {track: one for track, one in self._people.items() if abs(sample.time_s - one.last_s) <= _FORGET_S}

    def of(self, bodies: Bodies) -> Array:
        """(n, 10) betas of each row: those of its track so far."""
        betas = bodies.betas.astype(np.float64)
        for row, track in enumerate(bodies.track_id):
            if int(track) in self._people:
                betas[row] = self._people[int(track)].betas
        return betas
