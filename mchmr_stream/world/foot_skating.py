"""Foot skating: how far soles slide during contact, in mm per contact frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mchmr_stream.world.foot_chains import Array
from mchmr_stream.world.foot_contacts import Stance


@dataclass(frozen=True)
class Skating:
    """Mean slide over the floor between two consecutive frames of a contact."""

    before_mm: float
    after_mm: float
    frames: int
    """number of measured pairs of frames, over all soles"""

    @staticmethod
    def together(several: Sequence[Skating]) -> Skating:
        """Mean of several measurements, weighted by their number of frames."""
        frames = sum(one.frames for one in several)
        mean = lambda name: sum(getattr(one, name) * one.frames for one in several) / max(frames, 1)
        return Skating(mean("before_mm"), mean("after_mm"), frames)


def skating_of(before_m: Array, after_m: Array, stances: Sequence[Stance]) -> Skating:
    """Measure foot skating before and after the correction.

    Args:
        before_m: Soles (F, 4, 3), world, y up.
        after_m: The same after the correction.
        stances: The person's contacts.

    Returns:
        The mean slides.
    """
    pairs = [
        (stance.first + rows, 2 * stance.foot + k)
        for stance in stances
        for k in (0, 1)
        for rows in [np.flatnonzero(stance.points[:-1, k] & stance.points[1:, k])]
    ]
    frames = sum(len(rows) for rows, _ in pairs)
    if not frames:
        return Skating(0.0, 0.0, 0)
    total = [
        sum(float(np.linalg.norm(points[rows + 1][:, k][:, [0, 2]] - points[rows][:, k][:, [0, 2]], axis=1).sum()) for rows, k in pairs)
        for points in (before_m, after_m)
    ]
    return Skating(1000 * total[0] / frames, 1000 * total[1] / frames, frames)
