"""Which way up a camera is, from the people before it: `source.rotate: auto`.

A detector that is trained on upright people still finds many of those who lie in the picture, badly. What gives them away is the order of
their keypoints: seen the right way up, faces are above shoulders and shoulders above hips; otherwise hardly ever, even where the
detector bends what it finds towards that. So a picture in which nobody stands is tried in all four turns.

One person cannot tell a camera on its side from somebody lying before an upright one. Cameras are upright far more often: as soon as
anybody stands in the picture as filmed, those who lie count for nothing, and nothing but several frames that agree turns a camera.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datatypes import KEYPOINT_NAMES, Detections, Frame
from mchmr_stream.detection.rotated_detector import TurnedDetector
from mchmr_stream.protocols import Detector

_FACE = [KEYPOINT_NAMES.index(name) for name in KEYPOINT_NAMES[:5]]
_SHOULDERS = [KEYPOINT_NAMES.index("left_shoulder"), KEYPOINT_NAMES.index("right_shoulder")]
_HIPS = [KEYPOINT_NAMES.index("left_hip"), KEYPOINT_NAMES.index("right_hip")]

_LEANING = 0.6
"""Cosine of the angle to up from which on a face above shoulders, or shoulders above hips, speaks for a turn; below it, against it."""
_PLAIN = 0.4
"""A frame with this much evidence, and with more, says all that a frame can say."""
_STANDING = 0.5
"""Share of that from which on somebody plainly stands."""
_KEPT, _KEPT_UNSEEN = 0.8, 0.97
"""What is left of older evidence with each frame: a few frames that agree outweigh all before them. And with a frame where nobody stands
in any turn that was tried, which says next to nothing."""
_UPRIGHT_LEAD = 2.0
"""Evidence for the picture as filmed ahead of that for any turn, in frames, from which on the camera is upright for good: three frames,"""
_TURNED_LEAD = 3.0
"""... and for a turn, from which on it is said: five frames,"""
_USED_LEAD = 0.5
"""... and from which on it is used for the time being."""
_FORGOTTEN = 0.2
"""The evidence below which a turn that was never said is not used any longer: it was one look at something."""
_CHANGED_LEAD = 2.0
"""The lead of the picture as filmed over the turn that was said, from which on that one is dropped."""
_TRIALS = 24
"""So many frames may be tried in all turns at first,"""
_DETECTIONS_PER_TRIAL = 32
"""... and for good one more for each so many detections. Where nothing is found at all they come ever more rarely, down to this rate."""
_KEPT_BACK = 8
"""So many trials are for frames after one that speaks against the turn in use: enough of them to change it."""


def standing(found: Detections) -> float:
    """How much the people of a picture speak for up being where `found.up_rad` says; 0 where nobody does.

    The sum over people of score times, of face over shoulders and shoulders over hips, the mean keypoint score times uprightness. The
    latter is 1 where they are one straight above the other, 0 at about 50 degrees, and less beyond; a person's sum is never below 0.
    """
    if not len(found):
        return 0.0
    up = np.array([math.sin(found.up_rad), -math.cos(found.up_rad)])
    keypoints = np.nan_to_num(found.keypoints_px.astype(np.float64))
    face, shoulders, hips = (_middle(keypoints[:, group]) for group in (_FACE, _SHOULDERS, _HIPS))
    return float((found.scores * (_uprightness(face, shoulders, up) + _uprightness(shoulders, hips, up)).clip(min=0)).sum())


_Middle = tuple[NDArray[np.float64], NDArray[np.float64]]


def _middle(keypoints: NDArray[np.float64]) -> _Middle:
    """(n, k, 3) -> their middle by score (n, 2), and mean score (n,)."""
    scores = keypoints[..., 2:]
    return (scores * keypoints[..., :2]).sum(1) / scores.sum(1).clip(min=1e-9), scores[..., 0].mean(1)


def _uprightness(above: _Middle, below: _Middle, up: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) in [-1, 1]: whether one is above the other, by the lower of their scores."""
    direction = above[0] - below[0]
    cosine = direction @ up / np.linalg.norm(direction, axis=-1).clip(min=1e-9)
    return np.minimum(above[1], below[1]) * ((cosine - _LEANING) / (1 - _LEANING)).clip(-1, 1)


class WayUp:
    """What is known so far of which way up a camera is. Its state follows from the frames it heard of, in their order."""

    def __init__(self) -> None:
        self.quarters = 0
        """clockwise, that pictures are best turned by"""
        self.upright = False
        """the camera is upright for good: no frame need be told of any more"""
        self.turned = False
        """several frames agree that `quarters`, which is not 0, is right"""
        self._evidence = np.zeros(4)
        self._budget = float(_TRIALS)
        self._contradicted = False
        self._pause = 1
        self._since_trial = _DETECTIONS_PER_TRIAL

    def wants_trial(self, found: Detections, standing_there: float) -> bool:
        """Whether a frame should be looked at in the other turns, too.

        Args:
            found: in the picture turned by `quarters`.
            standing_there: `standing` of that.
        """
        self._since_trial += 1
        self._budget = min(_TRIALS, self._budget + 1 / _DETECTIONS_PER_TRIAL)
        if self._contradicted or self._budget < 1:
            return self._budget >= 1
        if standing_there / _PLAIN >= _STANDING:
            # A turned camera is looked after: somebody may lie in an upright one, and somebody else may come and stand.
            return self.quarters != 0 and self._since_trial >= _DETECTIONS_PER_TRIAL
        return (len(found) > 0 and self._budget > _KEPT_BACK) or self._since_trial >= self._pause

    def hear(self, standing_in: NDArray[np.float64], *, trial: bool) -> None:
        """Take one more frame into account.

        Args:
            standing_in: (4,) `standing` in each turn, by quarters; 0 in those that were not tried.
            trial: whether all were.
        """
        frame = (standing_in / _PLAIN).clip(max=1)
        if frame[0] >= _STANDING:
            frame[1:] = 0
        if self.turned:
            # Nothing but somebody who stands in the picture as filmed is a reason to think better of it: that was the likelier case.
            frame[[quarters for quarters in (1, 2, 3) if quarters != self.quarters]] = 0
        silent = bool(frame.max() < _STANDING)
        if trial:
            self._budget -= 1
            self._since_trial = 0
            self._pause = min(_DETECTIONS_PER_TRIAL, 2 * self._pause) if silent else 1
        self._evidence = (_KEPT_UNSEEN if silent else _KEPT) * self._evidence + frame
        best = int(self._evidence.argmax())
        lead = self._evidence[best] - np.delete(self._evidence, best).max()
        if best != self.quarters and lead >= (_CHANGED_LEAD if self.turned else _USED_LEAD):
            self.quarters, self.turned = best, False
        if not self.turned and self._evidence[self.quarters] < _FORGOTTEN:
            self.quarters = 0
        if best == self.quarters:
            self.upright = best == 0 and lead >= _UPRIGHT_LEAD
            self.turned = self.turned or (best != 0 and lead >= _TURNED_LEAD)
        self._contradicted = not silent and int(frame.argmax()) != self.quarters


class WayUpDetector:
    """Another detector, which sees pictures the right way up as soon as the people in them show which way that is.

    Implements `protocols.Detector`, but remembers: one object for one run of one source. What it remembers is of frames whose index is
    larger than any before; those in between are turned as the frames around them were. So it makes no difference how many frames come
    in one call. `say` is called with a line once it is clear that the camera is not upright (and once more should it turn out
    to be upright after all). `close` leaves the other detector open.
    """

    def __init__(self, detector: Detector, say: Callable[[str], None]) -> None:
        self._turns: list[Detector] = [detector, *(TurnedDetector(detector, quarters) for quarters in (1, 2, 3))]
        self._say = say
        self._said = 0
        self._way_up = WayUp()
        self._newest = -1
        self._changes: list[tuple[int, int]] = [(-1, 0)]
        """from which index on pictures are turned by how many quarters"""

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """One `Detections` per frame, in the picture as filmed."""
        expected = self._way_up.quarters
        found = self._turns[expected].detect(frames)
        return [self._settled(frame, {expected: one}) for frame, one in zip(frames, found, strict=True)]

    def close(self) -> None:
        """Says how the camera was taken to be, where too few frames showed it to say so before."""
        if self._way_up.quarters:
            self._tell()

    def _settled(self, frame: Frame, found: dict[int, Detections]) -> Detections:
        """`found` is by turn, what is known of the frame already."""
        if frame.index <= self._newest:
            return self._look(frame, next(quarters for index, quarters in reversed(self._changes) if index <= frame.index), found)
        self._newest = frame.index
        way_up, before = self._way_up, self._way_up.quarters
        seen = self._look(frame, before, found)
        if way_up.upright:
            return seen
        trial = way_up.wants_trial(seen, standing(seen))
        found = found | {before: seen}
        looks = {quarters: self._look(frame, quarters, found) for quarters in range(4)} if trial else {before: seen}
        way_up.hear(np.array([standing(looks[quarters]) if quarters in looks else 0.0 for quarters in range(4)]), trial=trial)
        if way_up.quarters != before:
            self._changes.append((frame.index, way_up.quarters))
        if way_up.turned or (way_up.upright and self._said):
            self._tell()
        return self._look(frame, way_up.quarters, looks)

    def _look(self, frame: Frame, quarters: int, found: dict[int, Detections]) -> Detections:
        return found[quarters] if quarters in found else self._turns[quarters].detect([frame])[0]

    def _tell(self) -> None:
        quarters = self._way_up.quarters
        if quarters == self._said:
            return
        self._said = quarters
        if quarters == 0:
            self._say(
                "the camera is upright after all: people stand in the picture as filmed (source.rotate=0 says so from the first frame on)"
            )
            return
        how = "stands upside down" if quarters == 2 else "lies on its side"
        self._say(
            f"the camera {how}: people stand upright in the picture turned by {90 * quarters} degrees clockwise, and are looked for there "
            f"(source.rotate={90 * quarters} says so from the first frame on, source.rotate=0 denies it)"
        )
