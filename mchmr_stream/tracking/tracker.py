"""Tracking of people from frame to frame: two-stage association, re-linking of lost tracks, and carrying of undetected people.

The two stages are those of ByteTrack (Zhang et al., ECCV 2022): detections with a high score first, then the low ones for tracks that are
still missing. Every limit is in seconds or in sizes of the person's box, so frame rate and resolution do not matter.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datatypes import Detections, Float, Int, Tracks
from mchmr_stream.detection.person_similarity import same_person
from mchmr_stream.geometry.boxes import box_iou
from mchmr_stream.tracking.candidates import Candidates, candidates_from
from mchmr_stream.tracking.pairing import appearance_contradicts, mark_doubtful_near, match, relink
from mchmr_stream.tracking.track import TrackedPerson

_log = logging.getLogger(__name__)

_MIN_SIMILARITY = 0.3
"""Minimum similarity of a high detection and a track in view."""
_MIN_SIMILARITY_LOW = 0.4
"""The same for a low detection, which may be clutter."""
_RECENT_S = 0.4
"""A track missed for no longer than this competes on equal terms with those in view: two people who cross must not swap over one miss."""
_MAX_BIRTH_OVERLAP = 0.7
"""A box that overlaps a track in view by more starts no new track."""
_STRONG_CARRY = 5.0
"""A track of high presence is carried for this many times carry_s after the last detection."""
_CLOCK_JITTER_S = 0.05
"""Timestamps out of order by no more than this count as equal; a larger step back is a restart of the source."""
_SURELY_FOUND = 0.5
"""Overlap of a track's last box with a detection from which on the person is certainly detected."""
_TOLERANCE_S = 1e-6
_STAY_BONUS = 1.3
"""With max_people, a new person replaces a shown one only with a box this many times larger in area."""


class PeopleTracker:
    """Assigns identities to people over time; implements `protocols.Tracker`. All state belongs to the instance; ids start at 1.

    A detected person is shown after being seen for `confirm_s` (in the first frame: at once). A person whom the detector misses is shown as
    carried (`observed` False) while `confirm` reports a presence of at least `min_presence` in the frame before, until `carry_s` after the
    last detection; while presence is strong, its mean above halfway between `min_presence` and 1, until five times `carry_s`. Other missed
    people are kept in memory, not shown, and forgotten `max_lost_s` after a detection or the network last confirmed them. Until then a
    detection within reach of the person restores the identity.
    """

    def __init__(
        self,
        *,
        high_score: float,
        max_lost_s: float,
        confirm_s: float,
        carry_s: float,
        min_presence: float,
        min_keypoint_score: float,
        max_people: int | None,
    ) -> None:
        """The values are those of `config.TrackerSettings`.

        With `min_keypoint_score` above 0 a new person is reported only after `believed` got keypoints of that score, or a high detector
        score.
        """
        self._high_score = high_score
        self._max_lost_s = max_lost_s
        self._confirm_s = confirm_s
        self._carry_s = carry_s
        self._min_presence = min_presence
        self._strong_presence = (1 + min_presence) / 2
        self._max_people = max_people
        self._min_keypoint_score = min_keypoint_score
        self._reported: list[TrackedPerson] = []
        self._tracks: list[TrackedPerson] = []
        self._next_id = 1
        self._time_s = -math.inf
        self._started = False
        self._warned = False
        self._up_rad = 0.0

    def update(self, detections: Detections | None, time_s: float, rgb: NDArray[np.uint8] | None = None) -> Tracks:
        """Advance to the frame at `time_s`.

        Boxes that are not finite or have no area are ignored, with one warning. A time before the last one restarts the tracker: tracks
        end, ids continue.

        Args:
            detections: Detections of the frame; None if the detector did not run, which carries all tracks by prediction.
            time_s: Time of the frame in seconds.
            rgb: The picture, whose appearance distinguishes people at one position; None uses positions only.

        Returns:
            The people of the frame. Rows with identity 0 are not accepted as people yet; `believed` decides.

        Raises:
            ValueError: The time is not finite.
        """
        time_s = self._open_frame(time_s)
        if detections is not None:
            self._up_rad = detections.up_rad
            found, impossible = candidates_from(detections, rgb)
            if impossible and not self._warned:
                self._warned = True
                _log.warning("ignored %d detection(s) whose box or score is not finite or whose box has no area", impossible)
            self._assign(found)
            for track in self._tracks:
                track.missed = track.missed or not track.observed
            self._tracks = [track for track in self._tracks if self._worth_keeping(track, time_s)]
        self._confirm_new(time_s, at_once=not self._started)
        self._started = self._started or detections is not None
        self._decide_who_is_visible(time_s)
        self._drop_carried_on_others()
        if rgb is not None:
            self._drop_carried_with_other_appearance(rgb)
        self._select_largest()
        tracks = self._report()
        for track in self._tracks:
            track.confirmed = False  # the network's confirmation holds for one frame
        return tracks

    def believed(self, tracks: Tracks) -> Tracks:
        """Filter the rows of the last update by their keypoints.

        A new person without clear keypoints and with a low detector score stays unreported. A reported person with neither for a second is
        forgotten.

        Args:
            tracks: Rows of the last update, with the keypoints found in their crops.

        Returns:
            The rows that are people, all with an identity.
        """
        if self._min_keypoint_score <= 0:
            return tracks
        for track, keypoints_px in zip(self._reported, tracks.keypoints_px, strict=True):
            if track.observed:
                track.belief.add(keypoints_px, track.score, self._time_s)
            if track.tentative and track.belief.plausible:
                self._name(track)
                track.visible = True
        over = [track for track in self._reported if track.track_id > 0 and track.belief.is_over]
        self._tracks = [track for track in self._tracks if not any(track is one for one in over)]
        self._select_largest()  # again: a newly accepted person counts towards `max_people`
        kept = [row for row, track in enumerate(self._reported) if track.selected and not any(track is one for one in over)]
        track_id = np.array([track.track_id for track in self._reported], np.int64)
        return replace(tracks, track_id=track_id).rows(np.array(kept, np.int64))

    def needs_confirmation(self, detections: Detections | None) -> bool:
        """Whether these detections may miss a person in view. They certainly do not if each person has a separate box."""
        in_view = [track for track in self._tracks if track.visible]
        if not in_view:
            return False
        if detections is None or not all(track.observed for track in in_view):
            return True
        overlap = box_iou(np.stack([track.box_xyxy_px for track in in_view]), detections.boxes_xyxy_px.astype(np.float64))
        if overlap.shape[1] < len(in_view):
            return True
        return bool((overlap.max(1) < _SURELY_FOUND).any()) or len(set(overlap.argmax(1).tolist())) < len(in_view)

    def end_scene(self) -> None:
        """End all tracks because the next frame belongs to another shot; ids continue."""
        self._tracks = []
        self._started = False

    def confirm(self, track_id: Int, landmarks_px: Float, presence: Float) -> None:
        """Add the network's results for the crops of the last update; see the class. Unknown ids are ignored."""
        known = {track.track_id: track for track in self._tracks if track.track_id > 0}
        for one_id, landmarks, one_presence in zip(track_id, landmarks_px, presence, strict=True):
            track = known.get(int(one_id))
            if track is not None:
                track.update_from_network(landmarks, float(one_presence), self._min_presence)

    # ---- the steps of an update -------------------------------------------------------------------------------------

    def _open_frame(self, time_s: float) -> float:
        """Advance all tracks to `time_s` and forget those unseen for too long. Returns the time to use."""
        if not math.isfinite(time_s):
            raise ValueError(f"time is {time_s} s, expected a finite number of seconds")
        if time_s < self._time_s:
            if self._time_s - time_s <= _CLOCK_JITTER_S:
                time_s = self._time_s
            else:
                _log.warning("time went back from %.3f s to %.3f s: taken as a new start, nobody is remembered", self._time_s, time_s)
                self.end_scene()
        self._time_s = time_s
        self._tracks = [track for track in self._tracks if time_s - track.evidence_s <= self._max_lost_s + _TOLERANCE_S]
        for track in self._tracks:
            track.predict_to(time_s)
        return time_s

    def _assign(self, found: Candidates) -> None:
        """Assign the detections to tracks and start new ones; tracks without a detection stay not `observed`."""
        is_high = found.scores >= self._high_score
        high, low = found.rows(np.flatnonzero(is_high)), found.rows(np.flatnonzero(~is_high))

        recent = [track for track in self._tracks if track.track_id == 0 or track.visible or self._time_s - track.evidence_s <= _RECENT_S]
        high = match(high, recent, _MIN_SIMILARITY, self._time_s)
        match(low, self._missing(), _MIN_SIMILARITY_LOW, self._time_s)
        high = relink(high, self._missing(), self._time_s)
        self._give_birth(high)

    def _missing(self) -> list[TrackedPerson]:
        return [track for track in self._tracks if not track.observed and track.track_id > 0]

    def _give_birth(self, found: Candidates) -> None:
        """Start new tracks, except on top of a person in view."""
        in_view = [track for track in self._tracks if track.visible or track.observed]
        if in_view and len(found):
            others = np.stack([track.box_xyxy_px for track in in_view])
            same = same_person(found.boxes_xyxy_px, found.keypoints_px, others, np.stack([track.landmarks_px for track in in_view]))
            taken = (same | (box_iou(found.boxes_xyxy_px, others) >= _MAX_BIRTH_OVERLAP)).any(1)
            found = found.rows(np.flatnonzero(~taken))
            mark_doubtful_near(found, in_view)
        self._tracks += [TrackedPerson(found, row, self._time_s, self._min_keypoint_score) for row in range(len(found))]

    def _worth_keeping(self, track: TrackedPerson, time_s: float) -> bool:
        """A track not reported yet must be detected again soon: clutter is not."""
        return track.track_id > 0 or time_s - track.detected_s <= self._confirm_s + _TOLERANCE_S

    def _confirm_new(self, time_s: float, at_once: bool) -> None:
        for track in self._tracks:
            seen_s = time_s - track.first_seen_s
            if track.track_id == 0 and track.observed and (at_once or seen_s >= self._confirm_s - _TOLERANCE_S):
                if self._min_keypoint_score > 0:
                    track.tentative = True
                else:
                    self._name(track)

    def _name(self, track: TrackedPerson) -> None:
        track.track_id = self._next_id
        track.tentative = False
        self._next_id += 1

    def _decide_who_is_visible(self, time_s: float) -> None:
        for track in self._tracks:
            if track.track_id == 0 or track.observed:
                track.visible = track.track_id > 0
            elif not track.missed:
                pass  # the detector has not run since it found the person: nothing contradicts the prediction
            else:
                strong = track.presence_mean is not None and track.presence_mean >= self._strong_presence
                limit_s = self._carry_s * (_STRONG_CARRY if strong else 1.0)
                track.visible = track.visible and track.confirmed and time_s - track.detected_s <= limit_s + _TOLERANCE_S

    def _drop_carried_on_others(self) -> None:
        """Hide carried tracks that coincide with a detected person: landmarks tend to slip to the person in front."""
        seen = [track for track in self._tracks if track.visible and track.observed]
        carried = [track for track in self._tracks if track.visible and not track.observed]
        if not seen or not carried:
            return
        on_other = same_person(
            np.stack([track.box_xyxy_px for track in carried]),
            np.stack([track.landmarks_px for track in carried]),
            np.stack([track.box_xyxy_px for track in seen]),
            np.stack([track.landmarks_px for track in seen]),
        )
        for track, collapsed in zip(carried, on_other, strict=True):
            if collapsed.any():
                track.drop_carry()

    def _drop_carried_with_other_appearance(self, rgb: NDArray[np.uint8]) -> None:
        for track in self._tracks:
            if track.visible and not track.observed and appearance_contradicts(track, rgb, self._up_rad):
                track.drop_carry()

    def _select_largest(self) -> None:
        shown = [track for track in self._tracks if track.visible]
        if self._max_people is not None and len(shown) > self._max_people:
            shown.sort(key=lambda track: track.area_px * (_STAY_BONUS if track.selected else 1.0), reverse=True)
            shown = shown[: self._max_people]
        for track in self._tracks:
            track.selected = any(track is one for one in shown)

    def _report(self) -> Tracks:
        shown = sorted((track for track in self._tracks if track.selected), key=lambda track: track.track_id)
        # Tentative tracks come last, so that they get their numbers in this order.
        shown += [track for track in self._tracks if track.tentative and track.observed and track.belief.is_due(self._time_s)]
        self._reported = shown
        if not shown:
            none = Detections.empty()
            return Tracks(
                track_id=np.zeros(0, np.int64),
                boxes_xyxy_px=none.boxes_xyxy_px,
                scores=none.scores,
                keypoints_px=none.keypoints_px,
                observed=np.zeros(0, np.bool_),
                landmarks_px=none.keypoints_px,
                up_rad=self._up_rad,
            )
        return Tracks(
            track_id=np.array([track.track_id for track in shown], np.int64),
            boxes_xyxy_px=np.stack([track.box_xyxy_px for track in shown]).astype(np.float32),
            scores=np.array([track.score for track in shown], np.float32),
            keypoints_px=np.stack([track.keypoints_px for track in shown]).astype(np.float32),
            observed=np.array([track.observed for track in shown], np.bool_),
            landmarks_px=np.stack([track.landmarks_px for track in shown]).astype(np.float32),
            up_rad=self._up_rad,
            identity_doubt=np.array([track.doubtful for track in shown], np.bool_),
        )
