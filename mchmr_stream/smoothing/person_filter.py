"""One person through a segment of frames: rotation and translation filter, one step per frame, also for frames without a row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.geometry.rotation import geodesic_rad
from mchmr_stream.smoothing import rotation_filter, translation_filter
from mchmr_stream.smoothing.time_constants import LIMBS, OTHER_SIDE, TIME_CONSTANTS_S

Array = NDArray[np.float64]

_SHORTEST_S, _LONGEST_S = 1 / 240, 0.1
"""A row represents the time since the one before it, within these limits: after a gap it is still a single measurement."""
_FIRST_S = 1 / 30
_QUICK_RAD_S = 4.0
"""A joint that turns this fast is smoothed over half the time, so that fast motion keeps its amplitude."""
_TRANSL_SPECTRAL_DENSITY = 8.0
"""Spectral density of a person's acceleration, m^2 / s^3."""
_GATE = 16.0
_GATE_RAD = 0.6
"""A rotation is gated when its squared innovation exceeds the expected one by this factor and its angle exceeds the limit."""
_TRANSL_GATE, _TRANSL_SHARE = 4.0, 0.12
"""A translation is gated when its squared innovation exceeds the first and its offset the second, as a share of the distance."""
_SWAP_RAD, _SWAP_SHARE = 0.12, 0.5
"""Limbs are gated when they are off by more than the angle on average, and by less than this share of it once left and right are
exchanged.
"""
_GATE_S = 0.1
"""After this time a gated measurement is accepted: the filter was wrong."""


@dataclass(frozen=True, eq=False)
class _Step:
    number: int
    time_s: float
    rotation: rotation_filter.RotationStep
    transl: translation_filter.TranslationStep


class PersonFilter:
    """Filters of one person; steps are kept from the oldest frame that is still held back.

    Args:
        strength: Factor on all time constants.
        gated: Reject outliers by their distance from the prediction (causal smoothing).
    """

    def __init__(self, strength: float, *, gated: bool) -> None:
        self._spectral_density = rotation_filter.RHO / (TIME_CONSTANTS_S * strength) ** 4
        self._transl_spectral_density = _TRANSL_SPECTRAL_DENSITY / strength**2
        self._gated = gated
        self._rejected_since_s: float | None = None
        self._transl_rejected_since_s: float | None = None
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
        """Add a frame in which the person has no row, between two that have one.

        Args:
            number: Frame number.
            time_s: Timestamp.
        """
        self._steps.append(self._predicted(number, time_s))

    def add(self, number: int, time_s: float, rotations: Array, transl_m: Array, noise: Array, transl_noise: float) -> bool:
        """Add a row.

        Args:
            number: Frame number.
            time_s: Timestamp.
            rotations: (24, 3, 3).
            transl_m: (3,) translation, metres.
            noise: (24,) variance factors of the rotations.
            transl_noise: Variance factor of the translation.

        Returns:
            False if the row was rejected.
        """
        if not self._steps:
            finite = np.where(np.isfinite(noise), noise, 100.0)
            first = rotation_filter.start(rotations, _FIRST_S, finite)
            self._steps.append(_Step(number, time_s, first, translation_filter.start(transl_m, _FIRST_S, min(transl_noise, 100.0))))
            return True
        duration_s = float(np.clip(time_s - self.last_s, _SHORTEST_S, _LONGEST_S))
        predicted = self._predicted(number, time_s)
        accepted = not self._gated or self._passes(predicted, rotations, duration_s)
        if not accepted:
            noise, transl_noise = np.full(24, np.inf), np.inf
        elif self._gated and not self._transl_passes(predicted, transl_m, duration_s):
            transl_noise = np.inf
        rotation = rotation_filter.update(predicted.rotation, rotations, duration_s, noise)
        self._steps.append(_Step(number, time_s, rotation, translation_filter.update(predicted.transl, transl_m, duration_s, transl_noise)))
        return accepted

    def smoothed(self, until: int) -> dict[int, tuple[Array, Array]]:
        """Frame number -> smoothed rotations (24, 3, 3) and translation (3,), for each kept frame up to `until`."""
        numbers = [one.number for one in self._steps if one.number <= until]
        rotations = rotation_filter.smoothed([one.rotation for one in self._steps], len(numbers))
        transls = translation_filter.smoothed([one.transl for one in self._steps], len(numbers))
        return dict(zip(numbers, zip(rotations, transls, strict=True), strict=True))

    def forget(self, before: int) -> None:
        """Drop the frames before this one. The last step stays, because the next one continues from it."""
        keep = next((i for i, one in enumerate(self._steps) if one.number >= before), len(self._steps) - 1)
        self._steps = self._steps[keep:]

    def _predicted(self, number: int, time_s: float) -> _Step:
        last = self._steps[-1]
        dt_s = max(time_s - last.time_s, 1e-6)
        speed = np.linalg.norm(last.rotation.turning, axis=-1)
        spectral_density = self._spectral_density * (1 + speed / _QUICK_RAD_S) ** 4 if self._gated else self._spectral_density
        rotation = rotation_filter.predict(last.rotation, dt_s, spectral_density)
        return _Step(number, time_s, rotation, translation_filter.predict(last.transl, dt_s, self._transl_spectral_density))

    def _passes(self, predicted: _Step, rotations: Array, duration_s: float) -> bool:
        """Gate a row by its innovation: the whole body or its root turns at once, or the sides are exchanged."""
        squared_innovation = rotation_filter.squared_innovation(predicted.rotation, rotations, duration_s)
        angle = geodesic_rad(predicted.rotation.rotations, rotations)
        wild = (squared_innovation > _GATE) & (angle > _GATE_RAD)
        if not (wild[0] or wild.sum() >= 5 or _sides_swapped(predicted.rotation.rotations, rotations, angle)):
            self._rejected_since_s = None
            return True
        since = self._rejected_since_s if self._rejected_since_s is not None else predicted.time_s
        self._rejected_since_s = since
        if predicted.time_s - since < _GATE_S:
            return False
        self._rejected_since_s = None
        return True

    def _transl_passes(self, predicted: _Step, transl_m: Array, duration_s: float) -> bool:
        """Gate a translation: a person's distance does not jump."""
        off_m = np.linalg.norm(transl_m - predicted.transl.transl_m)
        wild = off_m > _TRANSL_SHARE * np.linalg.norm(predicted.transl.transl_m)
        if not (wild and translation_filter.squared_innovation(predicted.transl, transl_m, duration_s) > _TRANSL_GATE):
            self._transl_rejected_since_s = None
            return True
        since = self._transl_rejected_since_s if self._transl_rejected_since_s is not None else predicted.time_s
        self._transl_rejected_since_s = since
        if predicted.time_s - since < _GATE_S:
            return False
        self._transl_rejected_since_s = None
        return True


def _sides_swapped(expected: Array, rotations: Array, angle: Array) -> bool:
    """(24, 3, 3) twice, and the angles between them (24,): whether the limbs fit far better with left and right exchanged."""
    off = float(angle[LIMBS].mean())
    if off < _SWAP_RAD:
        return False
    mirror = np.diag([-1.0, 1.0, 1.0])
    exchanged = mirror @ rotations[OTHER_SIDE[LIMBS]] @ mirror
    return float(geodesic_rad(expected[LIMBS], exchanged).mean()) < _SWAP_SHARE * off
