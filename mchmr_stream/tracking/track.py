"""State of one tracked person."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.detection.person_similarity import VISIBLE_SCORE
from mchmr_stream.geometry.boxes import box_size
from mchmr_stream.tracking.appearance import HALVES, Appearance
from mchmr_stream.tracking.belief import Belief
from mchmr_stream.tracking.box_filter import BoxFilter
from mchmr_stream.tracking.candidates import Candidates

FloatArray = NDArray[np.floating]

_LANDMARK_BOX_NOISE = 4.0
"""Measurement noise of a box around landmarks relative to a detection: the filter follows it, but it cannot drag the track away."""
_UNSURE_NOISE = 2.0
"""A detection of score 0 has 1 + this many times the measurement noise of one of score 1."""
_MIN_LANDMARKS = 5
"""Minimum number of visible landmarks for a box."""
_MAX_SHIFT = 0.5
"""Landmarks whose box is further than this from the person's box, in sizes, belong to another person,"""
_MAX_SIZE_RATIO = 2.0
"""... and so do those of a body this many times larger or smaller."""
_USUAL_MARGIN = 0.1
_MARGIN_LIMITS = (-0.05, 0.5)
"""Margin between a box and the keypoints in it, as a fraction of the keypoints' longer side: initial value, and plausible limits."""
_MARGIN_WEIGHT = 0.3
_BODY_SIZE_WEIGHT = 0.1
"""Weights of a new detection in the running means of margins and body size."""
_CLEAR = 0.7
"""A half that is visible by less than this may show another person's clothes,"""
_APPEARANCE_MEMORY_S, _APPEARANCE_KNOWN = 1.0, 5
"""Time constant of the running mean of appearance, and the number of clear detections after which it is known."""
_ALIKE, _STRANGE_MEMORY_S = 0.6, 8.0
"""Less overlap with the mean may be an object in front of the person: it changes the mean with this longer time constant."""
_PRESENCE_MEMORY_S = 0.15
"""Time constant of the mean of presence: a single doubtful frame decides nothing."""
_LIMB_SPEED = 1.0
"""Speed at which a keypoint may move within the box, sizes per second, for comparing keypoints over a gap."""


class TrackedPerson:
    """One person: a filtered box, the last landmarks, and the times and sources of the last evidence.

    `predict_to` begins a frame, `observe` adds the detection of that frame, `update_from_network` the network's result for it.
    """

    def __init__(self, found: Candidates, row: int, time_s: float, least_keypoint_score: float) -> None:
        self.track_id = 0
        """0 until the person has been seen for long enough to be reported and is accepted as a person."""
        self.belief = Belief(least_keypoint_score)
        self.tentative = False
        """Seen for long enough, but not accepted yet"""
        self.doubtful = False
        """In this frame it may be another person, by position and by appearance"""
        self.known_by_appearance = False
        """In this frame the colours identify the person"""
        self.first_seen_s = time_s
        self.evidence_s = time_s
        """Time at which a detection or the network last confirmed the person."""
        self.missed = False
        """The detector has run since it last found the person."""
        self.confirmed = False
        """The network confirmed the person in the previous frame."""
        self.presence_mean: float | None = None
        self.visible = False
        self.selected = False
        self.body_size_px = math.nan
        self.appearance = Appearance.unknown(1)
        """Running mean of the person's appearance where no other person occluded them; one row"""
        self.landmarks_px = np.concatenate([np.full((17, 2), np.nan), np.zeros((17, 1))], -1)
        self._landmarks_s = time_s
        self._presence_s = time_s
        self._margins = np.full(4, _USUAL_MARGIN)
        self._clear_count, self._clear_s = np.zeros(HALVES), np.full(HALVES, time_s)
        self._time_s = time_s
        box = found.boxes_xyxy_px[row]
        self._filter = BoxFilter(box, float(box_size(box)), _noise_scale(found.scores[row]))
        self._take(found, row)

    def predict_to(self, time_s: float) -> None:
        """Begin the frame at `time_s`: the filter predicts the box, and the landmarks move with it."""
        centre, size = self._filter.centre_px, self._filter.size_px
        self._filter.predict(time_s - self._time_s)
        self.landmarks_px[:, :2] = (self.landmarks_px[:, :2] - centre) * (self._filter.size_px / size) + self._filter.centre_px
        self._time_s = time_s
        self.observed = False
        self.doubtful = self.known_by_appearance = False
        self.keypoints_px = np.concatenate([np.full((17, 2), np.nan), np.zeros((17, 1))], -1)

    def observe(self, found: Candidates, row: int) -> None:
        """Add this row as the detection of the person in this frame."""
        if self.missed:
            self.presence_mean = None  # of a place where the person was not
        self._filter.update(found.boxes_xyxy_px[row], _noise_scale(found.scores[row]))
        self._take(found, row)

    def update_from_network(self, landmarks_px: FloatArray, presence: float, min_presence: float) -> None:
        """Add the network's result for this frame's crops of the person.

        Landmarks outside the person's box, or not of its size, count as no person seen.

        Args:
            landmarks_px: (17, 3) x, y in pixels and visibility.
            presence: Probability that the crop shows a person.
            min_presence: Presence from which on the person is confirmed.
        """
        box = self._box_around(landmarks_px)
        if not math.isfinite(presence) or box is None or not self._plausible(box):
            presence = 0.0
        if self.presence_mean is None:
            self.presence_mean = presence
        else:
            elapsed_s = max(self._time_s - self._presence_s, 1e-3)
            self.presence_mean += -math.expm1(-elapsed_s / _PRESENCE_MEMORY_S) * (presence - self.presence_mean)
        self._presence_s = self._time_s
        self.confirmed = presence >= min_presence and box is not None
        if not self.confirmed or box is None:
            return
        if self.observed:
            self._remember_margins(landmarks_px)
        else:
            self._filter.update(box, _LANDMARK_BOX_NOISE)
            self.score = presence
        self.landmarks_px = np.array(landmarks_px, np.float64)
        self._landmarks_s = self._time_s
        self.evidence_s = self._time_s

    def drop_carry(self) -> None:
        """Undo the updates since the last detection, because the landmarks moved to another person; the track is hidden."""
        now_s = self._time_s
        self._time_s, state, landmarks = self._at_detection
        self._filter.restore(state)
        self.landmarks_px = landmarks.copy()
        self._landmarks_s = self.evidence_s = self._time_s
        self.predict_to(now_s)
        self.confirmed = False
        self.visible = False

    @property
    def detected_s(self) -> float:
        """Time at which the detector last found the person."""
        return self._at_detection[0]

    @property
    def expected_box_xyxy_px(self) -> NDArray[np.float64]:
        """Box of the filter, (4,)."""
        return self._filter.box_xyxy_px

    @property
    def box_xyxy_px(self) -> NDArray[np.float64]:
        """Best box of this frame (4,): detected, else around the landmarks of the network, else the filter's."""
        if self.observed:
            return self._detected_box_xyxy_px
        around = self._box_around(self.landmarks_px) if self.confirmed else None
        return self._filter.box_xyxy_px if around is None else around

    @property
    def size_px(self) -> float:
        return self._filter.size_px

    @property
    def length_px(self) -> float:
        """Stature of the person in pixels: from the bones if keypoints were seen, at least the longer side of the box."""
        return self._filter.length_px

    @property
    def area_px(self) -> float:
        sides = self._filter.box_xyxy_px[2:] - self._filter.box_xyxy_px[:2]
        return float(sides.prod())

    @property
    def slack_px(self) -> float:
        """Standard deviation of the movement of keypoints within the box since they were seen."""
        return _LIMB_SPEED * self.size_px * (self._time_s - self._landmarks_s)

    def centre_std_px(self, scores: FloatArray) -> NDArray[np.float64]:
        """(n,) standard deviation of centres detected with these scores around the predicted one."""
        return self._filter.centre_std_px(_noise_scale(scores))

    def _take(self, found: Candidates, row: int) -> None:
        self._detected_box_xyxy_px = found.boxes_xyxy_px[row].copy()
        self.score = float(found.scores[row])
        self.keypoints_px = found.keypoints_px[row].copy()
        body_px = float(found.bodies_px[row])
        self.observed = True
        self.missed = False
        self.evidence_s = self._time_s
        if (self.keypoints_px[:, 2] >= VISIBLE_SCORE).sum() >= _MIN_LANDMARKS:
            self.landmarks_px = self.keypoints_px.copy()
            self._landmarks_s = self._time_s
            self._remember_margins(self.landmarks_px)
        if math.isfinite(body_px):
            known = self.body_size_px if math.isfinite(self.body_size_px) else body_px
            self.body_size_px = known + _BODY_SIZE_WEIGHT * (body_px - known)
        self._remember_appearance(found.appearance, row)
        self._filter.length_px = max(self._filter.size_px, self.body_size_px if math.isfinite(self.body_size_px) else 0.0)
        self._at_detection = self._time_s, self._filter.state(), self.landmarks_px.copy()

    def _remember_appearance(self, seen: Appearance, row: int) -> None:
        """Update the running mean of each half that is clear in this frame."""
        clear = seen.seen[row] >= _CLEAR
        self._clear_count += clear
        elapsed_s, self._clear_s = self._time_s - self._clear_s, np.where(clear, self._time_s, self._clear_s)
        alike = np.sqrt(seen.colours[row] * self.appearance.colours[0]).sum(-1)
        first = self._clear_count <= 1
        memory_s = np.where(alike >= _ALIKE, _APPEARANCE_MEMORY_S, _STRANGE_MEMORY_S)
        share = clear * np.where(first, 1.0, -np.expm1(-np.minimum(elapsed_s, _APPEARANCE_MEMORY_S) / memory_s))
        colours = self.appearance.colours[0] + share[:, None] * (seen.colours[row] - self.appearance.colours[0])
        self.appearance = Appearance(colours[None], np.minimum(self._clear_count / _APPEARANCE_KNOWN, 1.0)[None])

    def _remember_margins(self, landmarks_px: FloatArray) -> None:
        """Update the margins of the detected box around the landmarks, from which a box is made from landmarks alone."""
        extent = _extent(landmarks_px)
        if extent is None:
            return
        room = np.concatenate([extent[:2] - self._detected_box_xyxy_px[:2], self._detected_box_xyxy_px[2:] - extent[2:]])
        margins = np.clip(room / box_size(extent), *_MARGIN_LIMITS)
        self._margins = self._margins + _MARGIN_WEIGHT * (margins - self._margins)

    def _box_around(self, landmarks_px: FloatArray) -> NDArray[np.float64] | None:
        extent = _extent(landmarks_px)
        if extent is None:
            return None
        room = self._margins * box_size(extent)
        return np.concatenate([extent[:2] - room[:2], extent[2:] + room[2:]])

    def _plausible(self, box_xyxy_px: NDArray[np.float64]) -> bool:
        own = self.box_xyxy_px
        shift = float(np.linalg.norm((box_xyxy_px[:2] + box_xyxy_px[2:] - own[:2] - own[2:]) / 2))
        own_size, size = float(box_size(own)), float(box_size(box_xyxy_px))
        return shift <= _MAX_SHIFT * own_size and max(size / own_size, own_size / size) <= _MAX_SIZE_RATIO


def _noise_scale(score: Any) -> Any:
    """A detection with a low score is also less accurate in position."""
    return 1 + _UNSURE_NOISE * (1 - score)


def _extent(landmarks_px: FloatArray) -> NDArray[np.float64] | None:
    """Tightest box around the visible landmarks; None for too few."""
    landmarks = np.asarray(landmarks_px, np.float64)
    points = landmarks[(landmarks[:, 2] >= VISIBLE_SCORE) & np.isfinite(landmarks).all(-1), :2]
    if len(points) < _MIN_LANDMARKS:
        return None
    extent = np.concatenate([points.min(0), points.max(0)])
    return extent if box_size(extent) > 1 else None
