"""When a person is there: stretches of rows without a long gap, and such a stretch at an even rate.

Shorter gaps are filled by interpolation, longer ones are left open: a person who was away for ten seconds did not glide from one
place to another. Formats that can hide somebody (GLB, USD) do so between stretches; formats with nothing but frames (BVH, TRC, AMASS,
.smpl) get one file per stretch.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from mchmr_stream.export.person_motion import Array, ExportedPerson
from mchmr_stream.motion.motion import Motion

log = logging.getLogger(__name__)

_UNEVEN = 0.05
"""Of a frame: times that stray further from the even rate are worth a word."""
_SLACK = 1e-3
"""Of a frame: rounding of times."""


@dataclass(frozen=True, eq=False)
class Timeline:
    """The frames of a file and what is done about gaps."""

    times_s: Array
    """(F,): every frame that was processed, with people or without"""
    rate: float
    """Frames per second: of the processed frames, so half the source's where every second one was skipped"""
    longest_gap_s: float
    """Longer gaps in a person's rows stay gaps"""

    def stretches(self, times_s: Array) -> list[slice]:
        """Rows of a person at `times_s`, cut where more than a gap is missing. Frames one after the other are never cut."""
        steps = np.diff(times_s)
        following = np.searchsorted(self.times_s, times_s[:-1] + _SLACK / self.rate)
        missing = times_s[1:] > self.times_s[np.minimum(following, len(self.times_s) - 1)] + _SLACK / self.rate
        cuts = np.flatnonzero(missing & (steps > self.longest_gap_s + _SLACK / self.rate)) + 1
        return [slice(int(start), int(end)) for start, end in zip([0, *cuts], [*cuts, len(times_s)], strict=True)]

    def switches(self, times_s: Array) -> list[tuple[float, bool]]:
        """When a person with rows at `times_s` comes (True) and goes (False), in order of time.

        In the middle between two frames, so that rounding of times decides nothing.
        """
        middles_s = (self.times_s[1:] + self.times_s[:-1]) / 2
        found = [] if times_s[0] <= self.times_s[0] else [(float(self.times_s[0]), False)]
        for rows in self.stretches(times_s):
            before, after = np.searchsorted(middles_s, times_s[[rows.start, rows.stop - 1]])
            found.append((float(middles_s[before - 1] if before else self.times_s[0]), True))
            if after < len(middles_s):
                found.append((float(middles_s[after]), False))
        return found


def timeline_of(motion: Motion, longest_gap_s: float, rate: float | None = None) -> Timeline:
    """The frames of `motion`; `rate` is taken from them unless it is given."""
    times_s = motion.frames_time_s
    if rate is None:
        rate = _rate(motion)
        if len(times_s) > 1:
            grid = times_s[0] + np.arange(len(times_s)) / rate
            uneven_s = float(np.abs(times_s - grid).max())
            if uneven_s > _UNEVEN / rate:
                log.info("frame times stray up to %.1f ms from %g frames per second", 1000 * uneven_s, rate)
    return Timeline(times_s, rate, longest_gap_s)


def _rate(motion: Motion) -> float:
    if len(motion.frames) < 2:
        return motion.fps
    nominal = motion.fps / float(np.median(np.diff(motion.frames)))
    found = 1 / float(np.median(np.diff(motion.frames_time_s)))
    # The nominal rate is the exact one (30000/1001); times may have been rounded to milliseconds. A wrong one loses.
    return nominal if abs(found / nominal - 1) < 0.05 else found


def evenly(person: ExportedPerson, rows: slice, rate: float) -> ExportedPerson:
    """The rows of one stretch at even times from its first one on: rotations by slerp, places linearly between the nearest rows."""
    times_s = person.time_s[rows]
    count = int(np.floor((times_s[-1] - times_s[0]) * rate + _SLACK * 10)) + 1
    wanted_s = times_s[0] + np.arange(count) / rate
    if count == 1 or (count == len(times_s) and np.abs(wanted_s - times_s).max() < _SLACK / rate):
        first = slice(rows.start, rows.start + count)  # at these times already
        return replace(
            person, time_s=wanted_s, rotations=person.rotations[first], pelvis_m=person.pelvis_m[first], joints_m=person.joints_m[first]
        )
    inside_s = np.minimum(wanted_s, times_s[-1])
    turn = lambda joint: Slerp(times_s, Rotation.from_matrix(person.rotations[rows, joint]))(inside_s).as_matrix()
    flat = lambda values: np.stack([np.interp(inside_s, times_s, column) for column in values[rows].reshape(len(times_s), -1).T], -1)
    return replace(
        person,
        time_s=wanted_s,
        rotations=np.stack([turn(joint) for joint in range(person.rotations.shape[1])], 1),
        pelvis_m=flat(person.pelvis_m),
        joints_m=flat(person.joints_m).reshape(count, -1, 3),
    )
