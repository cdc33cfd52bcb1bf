"""What the smoother keeps per person: unbroken segments of a track, the smoothed values, and their measurement noise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datatypes import Bodies

Array = NDArray[np.float64]

NOT_SMOOTHED = -1
"""Segment of rows with values that are not finite, or behind the camera. They are returned unchanged."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One frame's people as the smoother processes them."""

    bodies: Bodies
    segment: NDArray[np.int64]
    """(n,) rows of different frames belong together when their numbers are equal, except `NOT_SMOOTHED`"""
    noise: Array
    """(n, 24) variance of the rotations relative to a typical row; infinite where they are rejected"""
    transl_noise: Array
    """(n,) the same for the translation"""
    rotations: Array
    """(n, 24, 3, 3)"""
    transl_m: Array
    """(n, 3): `transl`"""

    @property
    def time_s(self) -> float:
        """Time of the frame, seconds."""
        return self.bodies.time_s

    def to_bodies(self, rotations: Array, transl_m: Array, betas: Array) -> Bodies:
        """Convert back to a record with smoothed values.

        A row whose rotations were all rejected is marked `interpolated`: its values come from other frames.

        Args:
            rotations: (n, 24, 3, 3).
            transl_m: (n, 3) translations, metres.
            betas: (n, 10).

        Returns:
            The record; rows that were not smoothed keep their values.
        """
        smooth = self.segment != NOT_SMOOTHED
        bodies = self.bodies
        return replace(
            bodies,
            global_orient=_choose(smooth, rotations[:, 0], bodies.global_orient),
            body_pose=_choose(smooth, rotations[:, 1:], bodies.body_pose),
            transl=_choose(smooth, transl_m, bodies.transl),
            betas=_choose(smooth, betas, bodies.betas),
            interpolated=bodies.interpolated | (smooth & np.isinf(self.noise).all(-1)),
        )


class TrackSegments:
    """Number the unbroken segments of each track. A frame of an earlier time than the last restarts all of them.

    Nothing is averaged over a long gap, because the motion in between is unknown.

    Args:
        max_gap_s: Longest gap within a segment, seconds.
    """

    def __init__(self, max_gap_s: float) -> None:
        self._max_gap_s = max_gap_s
        self._last: dict[int, tuple[float, int]] = {}
        self._next = 0

    @property
    def alive(self) -> set[int]:
        """Segments that may still continue."""
        return {segment for _, segment in self._last.values()}

    def sample(self, bodies: Bodies, noise: Array, joint_noise: Array) -> Sample:
        """Prepare the next frame for smoothing.

        Args:
            bodies: The frame's bodies.
            noise: (n,) variance factors of the rows.
            joint_noise: (n, 24) variance factors of the rotations on top of the rows'.

        Returns:
            The sample.
        """
        usable = bodies.usable()
        self._last = {track: seen for track, seen in self._last.items() if 0 <= bodies.time_s - seen[0] <= self._max_gap_s + 1e-6}
        segment = np.full(len(bodies), NOT_SMOOTHED, np.int64)
        for row in np.flatnonzero(usable):
            track = int(bodies.track_id[row])
            if track not in self._last:
                self._next += 1
            segment[row] = self._last[track][1] if track in self._last else self._next
            self._last[track] = (bodies.time_s, int(segment[row]))

        rotations = bodies.rotations.astype(np.float64)
        return Sample(
            bodies,
            segment,
            noise[:, None] * joint_noise,
            noise,
            np.where(usable[:, None, None, None], rotations, np.eye(3)),
            np.where(usable[:, None], bodies.transl, [0, 0, 1]).astype(np.float64),
        )


def _choose(smooth: NDArray[np.bool_], new: Array, old: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(smooth.reshape(-1, *[1] * (old.ndim - 1)), new, old).astype(np.float32)
