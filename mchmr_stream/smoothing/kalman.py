"""The smoother: wrong frames out, a Kalman filter forwards, a Rauch-Tung-Striebel pass backwards, short gaps filled."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.body.body_model import BodyModel
from mchmr_stream.body.shape import transl_to_look_alike
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
"""How far wrong frames are looked for to both sides, and the most of the look-ahead that this may take."""
_SHORTEST_SCREENING_S = 0.02
"""With less there is nothing to compare with at any frame rate: then a frame is judged by the prediction alone."""
_MAX_GAP_S = 0.3
"""Over longer gaps that are not filled nothing is averaged."""


@dataclass(eq=False)
class _Held:
    """A frame that waits for what comes after it."""

    number: int
    sample: Sample
    filled: list[Sample] = field(default_factory=list)
    """rows of people whom nobody saw in this frame, one each"""


class KalmanSmoother:
    """Filters every joint and the place of every person; implements `protocols.Smoother`.

    Frames are held back until `lookahead_s` of pictures after them are known: some of it finds single wrong frames, the rest
    corrects each frame by what came later. With 0 every frame goes out at once (causal), and wrong frames are known only by
    being far from the prediction. Gaps of up to `fill_gap_s` in a track, as far as the look-ahead reaches, get rows: pose and place
    by the same smoother, which has something to go by on both sides, marked `interpolated`. Rows of a track further apart do
    not touch each other, but the identity stays. `strength` stretches all time constants. Betas are a robust mean of the track so
    far. With `body`, what is smoothed of the place is where a body of mean shape would look the same, and people stand where they look as
    they did once they have their shape; without, betas and place have nothing to do with each other.
    A time before the last one begins anew.
    """

    def __init__(
        self,
        lookahead_s: float = 0.5,
        strength: float = 1.0,
        fill_gap_s: float = 0.4,
        trust: MeasurementNoise | None = None,
        body: BodyModel | None = None,
    ) -> None:
        half_s = min(_SCREENING_S, _SCREENING_SHARE * lookahead_s)
        self._screening = CentredWindow(half_s, without_outliers) if half_s >= _SHORTEST_SCREENING_S else None
        self._lag_s = lookahead_s - (half_s if self._screening else 0)
        self._fill_s = min(fill_gap_s, self._lag_s)
        self._strength = strength
        self._trust = trust or MeasurementNoise()
        self._body = body
        self._stretches = TrackSegments(max(_MAX_GAP_S, self._fill_s))
        self._shape = RunningShape()
        self._people: dict[int, PersonFilter] = {}
        """by stretch"""
        self._last_row: dict[int, tuple[Sample, int]] = {}
        self._held: deque[_Held] = deque()
        self._number = 0
        self._last_s: float | None = None

    def push(self, bodies: Bodies) -> list[Bodies]:
        """Frames whose look-ahead is covered now, in order; each goes out once."""
        restarted = self._last_s is not None and bodies.time_s < self._last_s
        ready = self.flush() if restarted else []
        self._last_s = bodies.time_s
        sample = self._stretches.sample(bodies, self._trust.noise(bodies), self._trust.joint_noise(bodies))
        self._shape.add(sample)
        sample = self._of_mean_shape(sample)
        for one in [sample] if self._screening is None else self._screening.push(sample):
            self._take(one)
        if self._held:
            newest_s = self._held[-1].sample.time_s
            ready += self._release([one for one in self._held if one.sample.time_s + self._lag_s <= newest_s + 1e-6])
        return ready

    def flush(self) -> list[Bodies]:
        """Everything held back."""
        for one in [] if self._screening is None else self._screening.flush():
            self._take(one)
        return self._release(list(self._held))

    def _take(self, sample: Sample) -> None:
        """One frame forwards."""
        alive = self._stretches.alive | {int(one) for held in self._held for one in held.sample.stretch}
        self._people = {stretch: person for stretch, person in self._people.items() if stretch in alive}
        self._last_row = {stretch: row for stretch, row in self._last_row.items() if stretch in self._people}
        held = _Held(self._number, sample)
        self._number += 1
        self._held.append(held)
        noise, place_noise = sample.noise.copy(), sample.place_noise.copy()
        for row in np.flatnonzero(sample.stretch != NOT_SMOOTHED):
            stretch = int(sample.stretch[row])
            person = self._people.setdefault(stretch, PersonFilter(self._strength, gated=self._screening is None))
            if stretch in self._last_row:
                self._fill(person, stretch, sample, int(row))
            values = (sample.rotations[row], sample.place_m[row], noise[row], float(place_noise[row]))
            if not person.add(held.number, sample.time_s, *values):
                noise[row], place_noise[row] = np.inf, np.inf
            self._last_row[stretch] = sample, int(row)
        held.sample = replace(sample, noise=noise, place_noise=place_noise)

    def _fill(self, person: PersonFilter, stretch: int, sample: Sample, row: int) -> None:
        """Rows for the frames since the person was last there."""
        if sample.time_s - person.last_s > self._fill_s + 1e-6:
            return
        before, before_row = self._last_row[stretch]
        for held in self._held:
            if person.last_number < held.number < self._number - 1:
                person.skip(held.number, held.sample.time_s)
                if before.bodies.track_id[before_row] not in held.sample.bodies.track_id:  # else: a row that cannot be used
                    held.filled.append(_between(held.sample, before, before_row, sample, row))

    def _release(self, ready: list[_Held]) -> list[Bodies]:
        """Backwards from the newest frame, and out."""
        if not ready:
            return []
        last = ready[-1].number
        wanted = {int(one) for held in ready for sample in (held.sample, *held.filled) for one in sample.stretch} - {NOT_SMOOTHED}
        known = {stretch: self._people[stretch].smoothed(last) for stretch in wanted}
        out = []
        for held in ready:
            samples = [held.sample, *held.filled]
            out.append(_joined([self._finished(one, held.number, known) for one in samples]))
            self._held.popleft()
        for person in self._people.values():
            person.forget(last + 1)
        return out

    def _finished(self, sample: Sample, number: int, known: dict[int, dict[int, tuple[Array, Array]]]) -> Bodies:
        rotations, place_m = sample.rotations.copy(), sample.place_m.copy()
        for row in np.flatnonzero(sample.stretch != NOT_SMOOTHED):
            rotations[row], place_m[row] = known[int(sample.stretch[row])][number]
        betas = self._shape.of(sample.bodies)
        rows = np.flatnonzero(sample.stretch != NOT_SMOOTHED)
        if self._body is not None and len(rows):
            mean = np.zeros((len(rows), 10))
            place_m[rows] = transl_to_look_alike(self._body, rotations[rows], mean, place_m[rows], betas[rows])
        return sample.to_bodies(rotations, place_m, betas)

    def _of_mean_shape(self, sample: Sample) -> Sample:
        """The place of a body of mean shape: a look at somebody who seems taller than usual is also one that seems farther away."""
        rows = np.flatnonzero(sample.stretch != NOT_SMOOTHED)
        if self._body is None or not len(rows):
            return sample
        place_m, betas = sample.place_m.copy(), sample.bodies.betas[rows].astype(np.float64)
        place_m[rows] = transl_to_look_alike(self._body, sample.rotations[rows], betas, place_m[rows], np.zeros_like(betas))
        return replace(sample, place_m=place_m)


def _between(frame: Sample, before: Sample, before_row: int, after: Sample, after_row: int) -> Sample:
    """A row for somebody who was not found in `frame`. Pose and place are to come from the smoother."""
    old, new = before.bodies, after.bodies
    share = float(np.clip((frame.time_s - before.time_s) / max(after.time_s - before.time_s, 1e-9), 0, 1))
    mix = lambda a, b: ((1 - share) * a[before_row : before_row + 1] + share * b[after_row : after_row + 1]).astype(np.float32)
    first = slice(before_row, before_row + 1)
    keypoints = np.full((1, 17, 3), np.nan, np.float32)
    keypoints[..., 2] = 0
    # What is not named here is not known of a row that nobody saw.
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
    stretch = before.stretch[first]
    return Sample(bodies, stretch, np.full((1, 24), np.inf), np.full(1, np.inf), before.rotations[first], before.place_m[first])


def _joined(parts: list[Bodies]) -> Bodies:
    """Everyone of one frame, in order of identity where rows were added."""
    if len(parts) == 1:
        return parts[0]
    order = np.argsort(np.concatenate([part.track_id for part in parts]), kind="stable")
    names = [name for name in Bodies.__dataclass_fields__ if name not in ("frame", "time_s")]
    columns = {name: np.concatenate([getattr(part, name) for part in parts])[order] for name in names}
    return Bodies(frame=parts[0].frame, time_s=parts[0].time_s, **columns)
