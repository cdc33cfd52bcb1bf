"""Which frames the detector is asked about, and what it would have said of those between.

The detector is a third of the work, and people hardly change from one frame to the next. In a file it is asked about each n-th frame,
and where the same people are plainly there in two of them, with limbs that moved little, what lies between is interpolated: every
frame then has a detection, and nobody waits for anybody. Where there is doubt (somebody came or went, two overlap, a quick
movement, a cut) the frame in the middle is asked about too, and so on down to every frame. A live run cannot look ahead: there the
frames between have no detection, and the tracker carries people through them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from mchmr_stream.datatypes import Detections, Frame
from mchmr_stream.detection.person_similarity import VISIBLE_SCORE
from mchmr_stream.errors import TruncatedInput
from mchmr_stream.geometry.boxes import box_iou, box_size

Detect = Callable[[Sequence[Frame]], list[Detections]]

_LOOK_S = 2 / 15
"""Each eighth frame of 60 a second, each fourth of 30. Eight at 60 were no worse on real views than one, and less jittery."""
_MOST_BETWEEN = 16
_SAME_OVERLAP = 0.6
"""Intersection over union of a person's boxes in two frames from which on it is plainly the same person,"""
_OTHER_OVERLAP = 0.2
"""... as long as nobody else's box overlaps by more."""
_LIMB_MOVED = 0.25
"""How far a keypoint may go between two frames that were asked about, in sizes of the box: a limb's way is not straight for longer.
(0.12 or no bound at all changed no error on the real views by more than 0.4 mm.)"""
_SIZE_RATIO = 1.15
_CLUTTER_SCORE = 0.35
"""Who is weaker than this may come and go: what lies between two frames does not depend on them."""


class DetectedFrame(NamedTuple):
    """A frame and what is known of it before anybody is tracked."""

    frame: Frame
    detections: Detections | None
    """None: the detector was not asked"""
    new_scene: bool
    """another shot begins with this frame"""


def default_interval(fps: float) -> int:
    """One frame in how many of a file is best asked about."""
    return min(_MOST_BETWEEN, max(1, round(fps * _LOOK_S)))


def detect_every_nth(
    frames: Iterator[Frame], detect: Detect, cuts: Callable[[Frame], bool], interval: Callable[[], int]
) -> Iterator[DetectedFrame]:
    """Ask about each n-th frame at once; none waits for a later one. `interval` is asked for n anew at every frame."""
    since_asked: int | None = None
    for frame in frames:
        new_scene = cuts(frame)
        since_asked = 1 if new_scene or since_asked is None or since_asked >= interval() else since_asked + 1
        yield DetectedFrame(frame, detect([frame])[0] if since_asked == 1 else None, new_scene)


def detect_keyframes(
    frames: Iterator[Frame], detect: Detect, cuts: Callable[[Frame], bool], interval: int, batch: int
) -> Iterator[DetectedFrame]:
    """Ask about each n-th frame, `batch` of them in a call, and about more of them where the frames between are in doubt.

    Every frame gets a detection. Frames come out up to n * batch later than they came in; those from before a TruncatedInput, or from
    before the frame at which the detector fails, come out before that is raised.
    """
    known: DetectedFrame | None = None
    window: list[DetectedFrame] = []
    broken: TruncatedInput | None = None
    try:
        for frame in frames:
            window.append(DetectedFrame(frame, None, cuts(frame)))
            # The first frame of all has nothing before it: it is a window of its own.
            if known is None or len(window) >= interval * batch:
                for settled in _interpolated(known, window, interval, detect):
                    yield settled
                known, window = settled, []
    except TruncatedInput as error:
        broken = error
    if window:
        yield from _interpolated(known, window, interval, detect)
    if broken is not None:
        raise broken


def _interpolated(known: DetectedFrame | None, window: list[DetectedFrame], interval: int, detect: Detect) -> Iterator[DetectedFrame]:
    """The frames of `window` with detections; `known` is the one before them."""
    before = None if known is None else known.detections
    settling = _KeyframeWindow(window, detect, {} if before is None else {-1: before})
    try:
        settling.settle(interval)
    except Exception:
        # Which of the frames asked about it was is not known: one after the other, up to the one that fails again.
        for position, one in enumerate(window):
            settling.ask([position])
            yield one._replace(detections=settling.found[position])
        raise
    for position, one in enumerate(window):
        yield one._replace(detections=settling.found[position])


class _KeyframeWindow:
    """Detections for a window. (A class, not functions within a function that call themselves: those are reference cycles, which would
    keep every picture until the garbage collector comes by.)"""

    def __init__(self, window: list[DetectedFrame], detect: Detect, found: dict[int, Detections]) -> None:
        self._window, self._detect = window, detect
        self.found = found
        """by position in the window; -1 is the frame before it"""

    def settle(self, interval: int) -> None:
        """The whole window."""
        last = len(self._window) - 1
        asked = sorted({*range(interval - 1, last, interval), last}) if -1 in self.found else list(range(last + 1))
        self.ask(asked)
        for start, end in pairwise([-1, *asked]):
            if start in self.found:
                self.interpolate(start, end)

    def ask(self, positions: list[int]) -> None:
        missing = [position for position in positions if position not in self.found]
        if missing:
            self.found.update(zip(missing, self._detect([self._window[position].frame for position in missing]), strict=True))

    def interpolate(self, start: int, end: int) -> None:
        """Everything between two positions that were asked about."""
        if end - start < 2:
            return
        cut = next((position for position in range(start + 1, end + 1) if self._window[position].new_scene), None)
        if cut is not None:
            # Nothing lies between two shots: the last frame of one and the first of the other are asked about.
            self.ask([position for position in (cut - 1, cut) if position > start])
            self.interpolate(start, cut - 1)
            self.interpolate(cut, end)
            return
        pairs = same_people(self.found[start], self.found[end])
        if pairs is None:
            middle = (start + end) // 2
            self.ask([middle])
            self.interpolate(start, middle)
            self.interpolate(middle, end)
            return
        for position in range(start + 1, end):
            self.found[position] = interpolate(self.found[start], self.found[end], pairs, (position - start) / (end - start))


def same_people(before: Detections, after: Detections) -> NDArray[np.int64] | None:
    """Rows (k, 2) of the people who are in both; None where it is not plain who is who, or somebody moved too much to say how."""
    overlap = box_iou(before.boxes_xyxy_px, after.boxes_xyxy_px)
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    same = overlap[rows, columns] >= _SAME_OVERLAP
    pairs = np.stack([rows[same], columns[same]], -1)
    for people, paired in ((before, pairs[:, 0]), (after, pairs[:, 1])):
        alone = np.setdiff1d(np.arange(len(people)), paired)
        if (people.scores[alone] >= _CLUTTER_SCORE).any():
            return None
    others = overlap.copy()
    others[pairs[:, 0], pairs[:, 1]] = 0
    beside = [box_iou(people.boxes_xyxy_px, people.boxes_xyxy_px) - np.eye(len(people)) for people in (before, after)]
    if any(values.size and values.max() > _OTHER_OVERLAP for values in (others, *beside)):
        return None
    sizes = box_size(before.boxes_xyxy_px)[pairs[:, 0]], box_size(after.boxes_xyxy_px)[pairs[:, 1]]
    if (np.abs(np.log(sizes[0] / sizes[1])) > np.log(_SIZE_RATIO)).any():
        return None
    first, second = before.keypoints_px[pairs[:, 0]], after.keypoints_px[pairs[:, 1]]
    seen = np.minimum(first[..., 2], second[..., 2]) >= VISIBLE_SCORE
    moved = np.linalg.norm(first[..., :2] - second[..., :2], axis=-1)
    return None if (seen & (moved > _LIMB_MOVED * np.minimum(*sizes)[:, None])).any() else pairs


def interpolate(before: Detections, after: Detections, pairs: NDArray[np.int64], share: float) -> Detections:
    """What lies `share` of the way (0 to 1) from one to the other, of the people in `pairs` (k, 2).

    A keypoint seen in one of the two only is not taken over: it may be anywhere by now, or nowhere.
    """
    mix = lambda a, b: ((1 - share) * a[pairs[:, 0]] + share * b[pairs[:, 1]]).astype(np.float32)
    keypoints = mix(before.keypoints_px, after.keypoints_px)
    keypoints[..., 2] = np.minimum(before.keypoints_px[pairs[:, 0], :, 2], after.keypoints_px[pairs[:, 1], :, 2])
    return Detections(mix(before.boxes_xyxy_px, after.boxes_xyxy_px), mix(before.scores, after.scores), keypoints, after.up_rad)
