"""One person through a stretch of frames: both filters side by side, one step per frame, also for frames without a row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.geometry.rotation import geodesic_rad
from mchmr_stream.smoothing import rotation_filter, translation_filter
from mchmr_stream.smoothing.time_constants import LIMBS, OTHER_SIDE, TIME_CONSTANTS_S

Array = NDArray[np.float64]

_SHORTEST_S, _LONGEST_S = 1 / 240, 0.1
"""A row stands for the time since the one before it, within these limits: after a gap it is still a single look."""
_FIRST_S = 1 / 30
_QUICK_RAD_S = 4.0
"""A joint that turns this fast is smoothed over half the time, so that fast motion keeps its reach."""
_PLACE_DRIVE = 8.0
"""Spectral density of a person's acceleration, m^2 / s^3."""
_GATE = 16.0
_GATE_RAD = 0.6
"""A turn this many times as large (squared) as expected and larger than the angle is not believed at once,"""
_PLACE_GATE, _PLACE_SHARE = 4.0, 0.12
"""... nor a place that surprises by the first of these and is off by more than the second, as a share of the distance,"""
_SWAP_RAD, _SWAP_SHARE = 0.12, 0.5
"""... nor limbs that are off by more than the angle on average, and by less than this share of it once left and right are exchanged,"""
_GATE_S = 0.1
"""... but after this time it is: then it was the filter that had it wrong."""


@dataclass(frozen=True, eq=False)
class _Step:
    number: int
    time_s: float
    rotation: rotation_filter.RotationStep
    place: translation_filter.TranslationStep


class PersonFilter:
    """Steps are kept from the oldest frame that is still to go out. `strength` stretches all time constants."""

    def __init__(self, strength: float, *, gated: bool) -> None:
        self._drive = rotation_filter.RHO / (TIME_CONSTANTS_S * strength) ** 4
        self._place_drive = _PLACE_DRIVE / strength**2
        self._gated = gated
        self._refused_since_s: float | None = None
        self._place_refused_since_s: float | None = None
        self._steps: list[_Step] = []

    @property
    def last_s(self) -> float:
        """Time of the last step."""
        return self._steps[-1].time_s

    @property
    def last_number(self) -> int:
        """Frame of the last step."""
        return self._steps[-1].number

    def skip(self, number: int, time_s: float) -> None:
        """A frame without a row of this person, who was there before and will be again."""
        self._steps.append(self._predicted(number, time_s))

    def add(self, number: int, time_s: float, rotations: Array, place_m: Array, noise: Array, place_noise: float) -> bool:
        """A row: (24, 3, 3), (3,), and by what factors it is less exact than usual, (24,) and one. False: it was not believed."""
        if not self._steps:
            finite = np.where(np.isfinite(noise), noise, 100.0)
            first = rotation_filter.start(rotations, _FIRST_S, finite)
            self._steps.append(_Step(number, time_s, first, translation_filter.start(place_m, _FIRST_S, min(place_noise, 100.0))))
            return True
        stands_for_s = float(np.clip(time_s - self.last_s, _SHORTEST_S, _LONGEST_S))
        predicted = self._predicted(number, time_s)
        believed = not self._gated or self._passes(predicted, rotations, stands_for_s)
        if not believed:
            noise, place_noise = np.full(24, np.inf), np.inf
        elif self._gated and not self._place_passes(predicted, place_m, stands_for_s):
            place_noise = np.inf
        rotation = rotation_filter.update(predicted.rotation, rotations, stands_for_s, noise)
        self._steps.append(_Step(number, time_s, rotation, translation_filter.update(predicted.place, place_m, stands_for_s, place_noise)))
        return believed

    def smoothed(self, until: int) -> dict[int, tuple[Array, Array]]:
        """Frame number -> rotations (24, 3, 3) and place (3,), of every kept frame up to `until`, from all that is known."""
        numbers = [one.number for one in self._steps if one.number <= until]
        rotations = rotation_filter.smoothed([one.rotation for one in self._steps], len(numbers))
        places = translation_filter.smoothed([one.place for one in self._steps], len(numbers))
        return dict(zip(numbers, zip(rotations, places, strict=True), strict=True))

    def forget(self, before: int) -> None:
        """Frames before this one have gone out. The last step stays: the next one goes on from it."""
        keep = next((i for i, one in enumerate(self._steps) if one.number >= before), len(self._steps) - 1)
        self._steps = self._steps[keep:]

    def _predicted(self, number: int, time_s: float) -> _Step:
        last = self._steps[-1]
        dt_s = max(time_s - last.time_s, 1e-6)
        speed = np.linalg.norm(last.rotation.turning, axis=-1)
        drive = self._drive * (1 + speed / _QUICK_RAD_S) ** 4 if self._gated else self._drive
        rotation = rotation_filter.predict(last.rotation, dt_s, drive)
        return _Step(number, time_s, rotation, translation_filter.predict(last.place, dt_s, self._place_drive))

    def _passes(self, predicted: _Step, rotations: Array, stands_for_s: float) -> bool:
        """Without a look ahead a flip shows only as a surprise: the whole body, or its root, turned at once, or its sides exchanged."""
        surprise = rotation_filter.surprise(predicted.rotation, rotations, stands_for_s)
        angle = geodesic_rad(predicted.rotation.rotations, rotations)
        wild = (surprise > _GATE) & (angle > _GATE_RAD)
        if not (wild[0] or wild.sum() >= 5 or _sides_swapped(predicted.rotation.rotations, rotations, angle)):
            self._refused_since_s = None
            return True
        since = self._refused_since_s if self._refused_since_s is not None else predicted.time_s
        self._refused_since_s = since
        if predicted.time_s - since < _GATE_S:
            return False
        self._refused_since_s = None
        return True

    def _place_passes(self, predicted: _Step, place_m: Array, stands_for_s: float) -> bool:
        """People do not change their distance at once."""
        off_m = np.linalg.norm(place_m - predicted.place.place_m)
        wild = off_m > _PLACE_SHARE * np.linalg.norm(predicted.place.place_m)
        if not (wild and translation_filter.surprise(predicted.place, place_m, stands_for_s) > _PLACE_GATE):
            self._place_refused_since_s = None
            return True
        since = self._place_refused_since_s if self._place_refused_since_s is not None else predicted.time_s
        self._place_refused_since_s = since
        if predicted.time_s - since < _GATE_S:
            return False
        self._place_refused_since_s = None
        return True


def _sides_swapped(expected: Array, rotations: Array, angle: Array) -> bool:
    """(24, 3, 3), twice, and the angles between them (24,): whether the limbs fit far better with left and right exchanged."""
    off = float(angle[LIMBS].mean())
    if off < _SWAP_RAD:
        return False
    mirror = np.diag([-1.0, 1.0, 1.0])
    exchanged = mirror @ rotations[OTHER_SIDE[LIMBS]] @ mirror
    return float(geodesic_rad(expected[LIMBS], exchanged).mean()) < _SWAP_SHARE * off
