"""Estimation of how far a camera is rotated, from the people in its pictures: `source.rotate: auto`.

A detector trained on upright people still finds many people who lie in the picture, though poorly. The order of their keypoints reveals the
rotation: in an upright picture faces are above shoulders and shoulders above hips. In a rotated one they hardly ever are, although the
detector bends its results towards that order. A picture in which no person stands is therefore tried in all four rotations.

One person cannot distinguish a camera on its side from a person lying in front of an upright one. Upright cameras are far more frequent: as
soon as a person stands in the picture as filmed, people who lie are ignored, and only several frames that agree rotate a camera.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datatypes import KEYPOINT_NAMES, Detections, Frame
from mchmr_stream.detection.rotated_detector import RotatedDetector
from mchmr_stream.protocols import Detector

_FACE = [KEYPOINT_NAMES.index(name) for name in KEYPOINT_NAMES[:5]]
_SHOULDERS = [KEYPOINT_NAMES.index("left_shoulder"), KEYPOINT_NAMES.index("right_shoulder")]
_HIPS = [KEYPOINT_NAMES.index("left_hip"), KEYPOINT_NAMES.index("right_hip")]

_LEANING = 0.6
"""Cosine of the angle to up above which a face above shoulders, or shoulders above hips, is evidence for a rotation; below it, evidence
against.
"""
_FULL_EVIDENCE = 0.4
"""Sum of evidence at which a frame has its maximum weight."""
_STANDING = 0.5
"""Share of the maximum weight from which on a person counts as standing."""
_KEPT, _KEPT_UNSEEN = 0.8, 0.97
"""Decay of older evidence per frame, so that a few frames that agree outweigh all before them; and per frame in which no person stands in
any rotation tried, which is hardly evidence.
"""
_UPRIGHT_LEAD = 2.0
"""Lead of the evidence for the picture as filmed over any rotation, in frames, from which on the camera is upright for good: three frames,
"""
_ROTATED_LEAD = 3.0
"""... lead of a rotation from which on it is reported: five frames,"""
_USED_LEAD = 0.5
"""... and from which on it is used provisionally."""
_FORGOTTEN = 0.2
"""Evidence below which a rotation that was never reported is no longer used: it was based on a single trial."""
_CHANGED_LEAD = 2.0
"""Lead of the picture as filmed over the reported rotation from which on that rotation is dropped."""
_TRIALS = 24
"""Number of frames that may be tried in all rotations at first,"""
_DETECTIONS_PER_TRIAL = 32
"""... and one more per so many detections. Without any detections trials become ever less frequent, down to this rate."""
_RESERVED_TRIALS = 8
"""Trials reserved for frames after one that contradicts the rotation in use: enough to change it."""


def standing_evidence(found: Detections) -> float:
    """Measure how strongly the people of a picture confirm the up direction `found.up_rad`.

    The evidence of a person is the score times the sum, over face above shoulders and shoulders above hips, of the mean keypoint score
    times uprightness. Uprightness is 1 where one is straight above the other, 0 at about 50 degrees, and negative beyond. The evidence of a
    person is never negative.

    Args:
        found: The people of one picture.

    Returns:
        Sum over people; 0 if no person stands.
    """
    if not len(found):
        return 0.0
    up = np.array([math.sin(found.up_rad), -math.cos(found.up_rad)])
    keypoints = np.nan_to_num(found.keypoints_px.astype(np.float64))
    face, shoulders, hips = (_middle(keypoints[:, group]) for group in (_FACE, _SHOULDERS, _HIPS))
    return float((found.scores * (_uprightness(face, shoulders, up) + _uprightness(shoulders, hips, up)).clip(min=0)).sum())


_Middle = tuple[NDArray[np.float64], NDArray[np.float64]]


def _middle(keypoints: NDArray[np.float64]) -> _Middle:
    """Average keypoints (n, k, 3) weighted by score; returns positions (n, 2) and mean scores (n,)."""
    scores = keypoints[..., 2:]
    return (scores * keypoints[..., :2]).sum(1) / scores.sum(1).clip(min=1e-9), scores[..., 0].mean(1)


def _uprightness(above: _Middle, below: _Middle, up: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) in [-1, 1]: alignment of the direction from `below` to `above` with up, times the lower of their scores."""
    direction = above[0] - below[0]
    cosine = direction @ up / np.linalg.norm(direction, axis=-1).clip(min=1e-9)
    return np.minimum(above[1], below[1]) * ((cosine - _LEANING) / (1 - _LEANING)).clip(-1, 1)


class CameraRotation:
    """Running estimate of the camera's rotation. Its state depends only on the frames added and their order."""

    def __init__(self) -> None:
        self.quarters = 0
        """Clockwise quarter turns by which pictures are best rotated"""
        self.upright = False
        """The camera is upright for good: no further frames are needed"""
        self.confirmed = False
        """Several frames agree that `quarters`, which is not 0, is right"""
        self._evidence = np.zeros(4)
        self._budget = float(_TRIALS)
        self._contradicted = False
        self._pause = 1
        self._since_trial = _DETECTIONS_PER_TRIAL

    def needs_trial(self, found: Detections, evidence: float) -> bool:
        """Return whether a frame should be tried in the other rotations, too.

        Args:
            found: Detections in the picture rotated by `quarters`.
            evidence: `standing_evidence` of them.
        """
        self._since_trial += 1
        self._budget = min(_TRIALS, self._budget + 1 / _DETECTIONS_PER_TRIAL)
        if self._contradicted or self._budget < 1:
            return self._budget >= 1
        if evidence / _FULL_EVIDENCE >= _STANDING:
            # A rotation is tried again at times: a person may lie in front of an upright camera, and another one may stand later.
            return self.quarters != 0 and self._since_trial >= _DETECTIONS_PER_TRIAL
        return (len(found) > 0 and self._budget > _RESERVED_TRIALS) or self._since_trial >= self._pause

    def add(self, evidence: NDArray[np.float64], *, trial: bool) -> None:
        """Add one frame.

        Args:
            evidence: (4,) `standing_evidence` in each rotation, by quarters; 0 for those not tried.
            trial: Whether all rotations were tried.
        """
        frame = (evidence / _FULL_EVIDENCE).clip(max=1)
        if frame[0] >= _STANDING:
            frame[1:] = 0
        if self.confirmed:
            # Only a person who stands in the picture as filmed can revise a reported rotation: upright cameras are more frequent.
            frame[[quarters for quarters in (1, 2, 3) if quarters != self.quarters]] = 0
        nobody_stands = bool(frame.max() < _STANDING)
        if trial:
            self._budget -= 1
            self._since_trial = 0
            self._pause = min(_DETECTIONS_PER_TRIAL, 2 * self._pause) if nobody_stands else 1
        self._evidence = (_KEPT_UNSEEN if nobody_stands else _KEPT) * self._evidence + frame
        best = int(self._evidence.argmax())
        lead = self._evidence[best] - np.delete(self._evidence, best).max()
        if best != self.quarters and lead >= (_CHANGED_LEAD if self.confirmed else _USED_LEAD):
            self.quarters, self.confirmed = best, False
        if not self.confirmed and self._evidence[self.quarters] < _FORGOTTEN:
            self.quarters = 0
        if best == self.quarters:
            self.upright = best == 0 and lead >= _UPRIGHT_LEAD
            self.confirmed = self.confirmed or (best != 0 and lead >= _ROTATED_LEAD)
        self._contradicted = not nobody_stands and int(frame.argmax()) != self.quarters


class AutoRotateDetector:
    """Runs another detector on pictures rotated upright, as soon as the people in them show the camera's rotation.

    Implements `protocols.Detector`, but has state: one object serves one run of one source. The state advances with frames whose index is
    larger than any before. Earlier frames are rotated as the frames around them were, so the result does not depend on the number of frames
    per call. `close` leaves the other detector open.
    """

    def __init__(self, detector: Detector, report: Callable[[str], None]) -> None:
        """Wrap a detector.

        Args:
            detector: The detector for upright pictures.
            report: Called with one line once it is clear that the camera is not upright, and again if it proves to be upright after all.
        """
        self._detectors: list[Detector] = [detector, *(RotatedDetector(detector, quarters) for quarters in (1, 2, 3))]
        self._report = report
        self._reported_quarters = 0
        self._rotation = CameraRotation()
        self._newest = -1
        self._changes: list[tuple[int, int]] = [(-1, 0)]
        """(index, quarters): from this frame index on, pictures are rotated by so many quarters"""

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return one `Detections` per frame, in the picture as filmed."""
        expected = self._rotation.quarters
        found = self._detectors[expected].detect(frames)
        return [self._detect_frame(frame, {expected: one}) for frame, one in zip(frames, found, strict=True)]

    def close(self) -> None:
        """Report the estimated rotation, if too few frames showed it to report it before."""
        if self._rotation.quarters:
            self._report_rotation()

    def _detect_frame(self, frame: Frame, found: dict[int, Detections]) -> Detections:
        """Detect in one frame; `found` holds its known detections by rotation."""
        if frame.index <= self._newest:
            return self._detect_rotated(frame, next(quarters for index, quarters in reversed(self._changes) if index <= frame.index), found)
        self._newest = frame.index
        rotation, before = self._rotation, self._rotation.quarters
        seen = self._detect_rotated(frame, before, found)
        if rotation.upright:
            return seen
        trial = rotation.needs_trial(seen, standing_evidence(seen))
        found = found | {before: seen}
        by_rotation = {quarters: self._detect_rotated(frame, quarters, found) for quarters in range(4)} if trial else {before: seen}
        rotation.add(
            np.array([standing_evidence(by_rotation[quarters]) if quarters in by_rotation else 0.0 for quarters in range(4)]), trial=trial
        )
        if rotation.quarters != before:
            self._changes.append((frame.index, rotation.quarters))
        if rotation.confirmed or (rotation.upright and self._reported_quarters):
            self._report_rotation()
        return self._detect_rotated(frame, rotation.quarters, by_rotation)

    def _detect_rotated(self, frame: Frame, quarters: int, found: dict[int, Detections]) -> Detections:
        return found[quarters] if quarters in found else self._detectors[quarters].detect([frame])[0]

    def _report_rotation(self) -> None:
        quarters = self._rotation.quarters
        if quarters == self._reported_quarters:
            return
        self._reported_quarters = quarters
        if quarters == 0:
            self._report(
                "the camera is upright after all: people stand in the picture as filmed (source.rotate=0 says so from the first frame on)"
            )
            return
        how = "stands upside down" if quarters == 2 else "lies on its side"
        self._report(
            f"the camera {how}: people stand upright in the picture turned by {90 * quarters} degrees clockwise, and are looked for there "
            f"(source.rotate={90 * quarters} says so from the first frame on, source.rotate=0 denies it)"
        )
