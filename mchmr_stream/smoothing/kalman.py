"""The Kalman smoother: outlier rejection, forward filter, Rauch-Tung-Striebel backward pass, interpolation of short gaps."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.body.model import BodyModel
from mchmr_stream.body.shape import transl_from_mean_shape, transl_to_mean_shape
from mchmr_stream.datatypes import Bodies
from mchmr_stream.smoothing.measurement_noise import MeasurementNoise
from mchmr_stream.smoothing.outliers import without_outliers
from mchmr_stream.smoothing.person_filter import PersonFilter
from mchmr_stream.smoothing.running_shape import RunningShape
from mchmr_stream.smoothing.segments import NOT_SMOOTHED, Sample, TrackSegments
from mchmr_stream.smoothing.sliding_window import CentredWindow

Array = NDArray[np.float64]

_SCREENING_S = 0.117
_SCREENING_SHARE = 0.45
"""Half width of the outlier window, and the largest share of the look-ahead that it may take."""
_SHORTEST_SCREENING_S = 0.02
"""A narrower window holds no neighbours at any usual frame rate: outliers are then rejected by the prediction alone."""
_MAX_GAP_S = 0.3
"""Nothing is averaged over longer gaps that are not filled."""


@dataclass(eq=False)
class _Held:
    """A frame that is held back until its look-ahead is complete."""

    number: int
    sample: Sample
    filled: list[Sample] = field(default_factory=list)
    """one-row samples of people who were not detected in this frame"""


class KalmanSmoother:
    """Filter all joint rotations and the translation of each person; implements `protocols.Smoother`.

    Frames are held back until `lookahead_s` of later frames are known. A part of the look-ahead serves the rejection of outliers, the
    rest the backward pass. With a look-ahead of 0 each frame is returned at once (causal), and outliers are rejected by their distance
    from the prediction.

    Gaps of up to `fill_gap_s` in a track, as far as the look-ahead reaches, are filled with rows marked `interpolated`; pose and
    translation come from the smoother, which has measurements on both sides. Rows on either side of a longer gap do not influence each
    other, but keep their identity. Betas are the robust mean of the track so far. A timestamp before the last one restarts the
    smoother.

    Args:
        lookahead_s: Seconds of later frames that a frame waits for; 0 for causal smoothing.
        strength: Factor on all time constants.
        fill_gap_s: Longest gap that is filled, in seconds.
        measurement_noise: Measurement noise of the rows; by default without crop layout and picture size.
        body: Body model for look-alike translations: the translation is smoothed for a body of mean shape, and converted back for the
            betas of each person, so that the projection stays. Without it, betas and translation are independent.
    """

    def __init__(
        self,
        lookahead_s: float = 0.5,
        strength: float = 1.0,
        fill_gap_s: float = 0.4,
        measurement_noise: MeasurementNoise | None = None,
        body: BodyModel | None = None,
    ) -> None:
        half_s = min(_SCREENING_S, _SCREENING_SHARE * lookahead_s)
        self._screening = CentredWindow(half_s, without_outliers) if half_s >= _SHORTEST_SCREENING_S else None
        self._lag_s = lookahead_s - (half_s if self._screening else 0)
        self._fill_s = min(fill_gap_s, self._lag_s)
        self._strength = strength
        self._measurement_noise = measurement_noise or MeasurementNoise()
        self._body = body
        self._segments = TrackSegments(max(_MAX_GAP_S, self._fill_s))
        self._shape = RunningShape()
        self._people: dict[int, PersonFilter] = {}
        """by segment"""
        self._last_row: dict[int, tuple[Sample, int]] = {}
        self._held: deque[_Held] = deque()
        self._number = 0
        self._last_s: float | None = None

    def push(self, bodies: Bodies) -> list[Bodies]:
        """Add a frame.

        Args:
            bodies: The bodies of the next frame.

        Returns:
            The frames whose look-ahead is complete now, in order. Each frame is returned once.
        """
        restarted = self._last_s is not None and bodies.time_s < self._last_s
        ready = self.flush() if restarted else []
        self._last_s = bodies.time_s
        sample = self._segments.sample(bodies, self._measurement_noise.noise(bodies), self._measurement_noise.joint_noise(bodies))
        self._shape.add(sample)
        sample = self._with_mean_shape(sample)
        for one in [sample] if self._screening is None else self._screening.push(sample):
            self._take(one)
        if self._held:
            newest_s = self._held[-1].sample.time_s
            ready += self._release([one for one in self._held if one.sample.time_s + self._lag_s <= newest_s + 1e-6])
        return ready

    def flush(self) -> list[Bodies]:
        """Return all frames that are held back, in order."""
        for one in [] if self._screening is None else self._screening.flush():
            self._take(one)
        return self._release(list(self._held))

    def _take(self, sample: Sample) -> None:
        """Filter one frame forwards."""
        alive = self._segments.alive | {int(one) for held in self._held for one in held.sample.segment}
        self._people = {segment: person for segment, person in self._people.items() if segment in alive}
        self._last_row = {segment: row for segment, row in self._last_row.items() if segment in self._people}
        held = _Held(self._number, sample)
        self._number += 1
        self._held.append(held)
        noise, transl_noise = sample.noise.copy(), sample.transl_noise.copy()
        for row in np.flatnonzero(sample.segment != NOT_SMOOTHED):
            segment = int(sample.segment[row])
            person = self._people.setdefault(segment, PersonFilter(self._strength, gated=self._screening is None))
            if segment in self._last_row:
                self._fill(person, segment, sample, int(row))
            values = (sample.rotations[row], sample.transl_m[row], noise[row], float(transl_noise[row]))
            if not person.add(held.number, sample.time_s, *values):
                noise[row], transl_noise[row] = np.inf, np.inf
            self._last_row[segment] = sample, int(row)
        held.sample = replace(sample, noise=noise, transl_noise=transl_noise)

    def _fill(self, person: PersonFilter, segment: int, sample: Sample, row: int) -> None:
        """Add rows for the frames since the person's last row."""
        if sample.time_s - person.last_s > self._fill_s + 1e-6:
            return
        before, before_row = self._last_row[segment]
        for held in self._held:
            if person.last_number < held.number < self._number - 1:
                person.skip(held.number, held.sample.time_s)
                if before.bodies.track_id[before_row] not in held.sample.bodies.track_id:  # else: the person has a row, which is unusable
                    held.filled.append(_between(held.sample, before, before_row, sample, row))

    def _release(self, ready: list[_Held]) -> list[Bodies]:
        """Smooth backwards from the newest frame and return the frames in `ready`."""
        if not ready:
            return []
        last = ready[-1].number
        needed = {int(one) for held in ready for sample in (held.sample, *held.filled) for one in sample.segment} - {NOT_SMOOTHED}
        known = {segment: self._people[segment].smoothed(last) for segment in needed}
        out = []
        for held in ready:
            samples = [held.sample, *held.filled]
            out.append(_joined([self._finished(one, held.number, known) for one in samples]))
            self._held.popleft()
        for person in self._people.values():
            person.forget(last + 1)
        return out

    def _finished(self, sample: Sample, number: int, known: dict[int, dict[int, tuple[Array, Array]]]) -> Bodies:
        rotations, transl_m = sample.rotations.copy(), sample.transl_m.copy()
        for row in np.flatnonzero(sample.segment != NOT_SMOOTHED):
            rotations[row], transl_m[row] = known[int(sample.segment[row])][number]
        betas = self._shape.of(sample.bodies)
        rows = np.flatnonzero(sample.segment != NOT_SMOOTHED)
        if self._body is not None and len(rows):
            transl_m[rows] = transl_from_mean_shape(self._body, rotations[rows], transl_m[rows], betas[rows])
        return sample.to_bodies(rotations, transl_m, betas)

    def _with_mean_shape(self, sample: Sample) -> Sample:
        """Convert translations to a body of mean shape: an estimate of a taller body is also an estimate of a more distant one."""
        rows = np.flatnonzero(sample.segment != NOT_SMOOTHED)
        if self._body is None or not len(rows):
            return sample
        transl_m, betas = sample.transl_m.copy(), sample.bodies.betas[rows].astype(np.float64)
        transl_m[rows] = transl_to_mean_shape(self._body, sample.rotations[rows], betas, transl_m[rows])
        return replace(sample, transl_m=transl_m)


def _between(frame: Sample, before: Sample, before_row: int, after: Sample, after_row: int) -> Sample:
    """A row for a person without a detection in `frame`; the smoother provides rotations and translation."""
    old, new = before.bodies, after.bodies
    share = float(np.clip((frame.time_s - before.time_s) / max(after.time_s - before.time_s, 1e-9), 0, 1))
    mix = lambda a, b: ((1 - share) * a[before_row : before_row + 1] + share * b[after_row : after_row + 1]).astype(np.float32)
    first = slice(before_row, before_row + 1)
    keypoints = np.full((1, 17, 3), np.nan, np.float32)
    keypoints[..., 2] = 0
    # Fields left out here are unknown for an interpolated row.
    bodies = Bodies(
        frame=frame.bodies.frame,
        time_s=frame.bodies.time_s,
        track_id=old.track_id[first],
        boxes_xyxy_px=mix(old.boxes_xyxy_px, new.boxes_xyxy_px),
        scores=np.zeros(1, np.float32),
        keypoints_px=keypoints,
        global_orient=old.global_orient[first],
        body_pose=old.body_pose[first],
        betas=mix(old.betas, new.betas),
        betas_frame=np.full((1, 10), np.nan, np.float32),
        transl=mix(old.transl, new.transl),
        views_cam=np.full_like(old.views_cam[first], np.nan),
        confidence=np.minimum(old.confidence[first], new.confidence[after_row : after_row + 1]),
        interpolated=np.ones(1, np.bool_),
    )
    segment = before.segment[first]
    return Sample(bodies, segment, np.full((1, 24), np.inf), np.full(1, np.inf), before.rotations[first], before.transl_m[first])


def _joined(parts: list[Bodies]) -> Bodies:
    """Concatenate the rows of one frame, sorted by identity where rows were added."""
    if len(parts) == 1:
        return parts[0]
    order = np.argsort(np.concatenate([part.track_id for part in parts]), kind="stable")
    names = [name for name in Bodies.__dataclass_fields__ if name not in ("frame", "time_s")]
    columns = {name: np.concatenate([getattr(part, name) for part in parts])[order] for name in names}
    return Bodies(frame=parts[0].frame, time_s=parts[0].time_s, **columns)
