"""Segments of a track: rows without a long gap, and their resampling at an even rate.

Shorter gaps are interpolated, longer ones stay open, because the motion in a long gap is unknown. Formats that can hide a person (GLB,
USD) do so between segments; formats that consist of frames only (BVH, TRC, AMASS, .smpl) get one file per segment.
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
"""As a share of a frame: larger deviations from the even rate are logged."""
_SLACK = 1e-3
"""As a share of a frame: rounding of times."""


@dataclass(frozen=True, eq=False)
class Timeline:
    """The frames of a file and the handling of gaps."""

    times_s: Array
    """(F,): each processed frame, with people or without"""
    rate: float
    """Frames per second of the processed frames: half the source's if every second one was skipped"""
    longest_gap_s: float
    """Longer gaps in a person's rows stay open"""

    def segments(self, times_s: Array) -> list[slice]:
        """Split a person's rows at long gaps. Consecutive frames are never split.

        Args:
            times_s: Times of the person's rows.

        Returns:
            The segments.
        """
        steps = np.diff(times_s)
        following = np.searchsorted(self.times_s, times_s[:-1] + _SLACK / self.rate)
        missing = times_s[1:] > self.times_s[np.minimum(following, len(self.times_s) - 1)] + _SLACK / self.rate
        cuts = np.flatnonzero(missing & (steps > self.longest_gap_s + _SLACK / self.rate)) + 1
        return [slice(int(start), int(end)) for start, end in zip([0, *cuts], [*cuts, len(times_s)], strict=True)]

    def switches(self, times_s: Array) -> list[tuple[float, bool]]:
        """Times at which a person appears (True) and disappears (False), in order.

        They are halfway between two frames, so that rounding of times has no effect.

        Args:
            times_s: Times of the person's rows.

        Returns:
            Time and visibility of each change.
        """
        middles_s = (self.times_s[1:] + self.times_s[:-1]) / 2
        found = [] if times_s[0] <= self.times_s[0] else [(float(self.times_s[0]), False)]
        for rows in self.segments(times_s):
            before, after = np.searchsorted(middles_s, times_s[[rows.start, rows.stop - 1]])
            found.append((float(middles_s[before - 1] if before else self.times_s[0]), True))
            if after < len(middles_s):
                found.append((float(middles_s[after]), False))
        return found


def timeline_of(motion: Motion, longest_gap_s: float, rate: float | None = None) -> Timeline:
    """Collect the frames of a motion.

    Args:
        motion: The motion.
        longest_gap_s: Longer gaps stay open.
        rate: Frames per second; None: estimated from the frames.

    Returns:
        The timeline.
    """
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
    # The nominal rate is exact (30000/1001), while times may be rounded to milliseconds. A wrong nominal rate is ignored.
    return nominal if abs(found / nominal - 1) < 0.05 else found


def evenly(person: ExportedPerson, rows: slice, rate: float) -> ExportedPerson:
    """Resample a segment at even times from its first row on: rotations by slerp, positions linearly.

    Args:
        person: The person.
        rows: The segment.
        rate: Frames per second.

    Returns:
        The resampled segment.
    """
    times_s = person.time_s[rows]
    count = int(np.floor((times_s[-1] - times_s[0]) * rate + _SLACK * 10)) + 1
    grid_s = times_s[0] + np.arange(count) / rate
    if count == 1 or (count == len(times_s) and np.abs(grid_s - times_s).max() < _SLACK / rate):
        first = slice(rows.start, rows.start + count)  # the rows are at these times already
        return replace(
            person, time_s=grid_s, rotations=person.rotations[first], pelvis_m=person.pelvis_m[first], joints_m=person.joints_m[first]
        )
    inside_s = np.minimum(grid_s, times_s[-1])
    turn = lambda joint: Slerp(times_s, Rotation.from_matrix(person.rotations[rows, joint]))(inside_s).as_matrix()
    flat = lambda values: np.stack([np.interp(inside_s, times_s, column) for column in values[rows].reshape(len(times_s), -1).T], -1)
    return replace(
        person,
        time_s=grid_s,
        rotations=np.stack([turn(joint) for joint in range(person.rotations.shape[1])], 1),
        pelvis_m=flat(person.pelvis_m),
        joints_m=flat(person.joints_m).reshape(count, -1, 3),
    )
