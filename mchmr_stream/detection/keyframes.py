"""Selection of keyframes, on which the detector runs, and interpolation of detections between them.

Detection costs a third of the run time, and people move little from one frame to the next. In a file the detector runs on each n-th frame.
Where two neighbouring keyframes show the same people unambiguously and their limbs moved little, the detections between them are
interpolated, so that every frame has a detection and no track has to be carried. In ambiguous cases (a person appears or disappears, two
people overlap, a fast movement, a scene cut) the detector also runs on the middle frame, and so on recursively down to single frames. A
live run cannot look ahead: there the frames in between have no detections, and the tracker carries people through them.
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

_KEYFRAME_S = 2 / 15
"""Time between keyframes: every eighth frame at 60 fps, every fourth at 30 fps.

On the real views eight at 60 fps gave no larger errors than one, and less jitter.
"""
_MAX_INTERVAL = 16
"""Maximum distance of two keyframes, frames."""
_SAME_OVERLAP = 0.6
"""Minimum intersection over union of a person's boxes in two keyframes for an unambiguous match,"""
_OTHER_OVERLAP = 0.2
"""... as long as no other person's box overlaps by more than this."""
_LIMB_MOVED = 0.25
"""Maximum movement of a keypoint between two keyframes, in box sizes. Beyond it the path of a limb is not straight."""
_SIZE_RATIO = 1.15
"""Maximum ratio of a person's box sizes in two keyframes."""
_CLUTTER_SCORE = 0.35
"""Detections below this score may lack a counterpart in the other keyframe without preventing interpolation."""


class DetectedFrame(NamedTuple):
    """A frame and its detections, before tracking."""

    frame: Frame
    detections: Detections | None
    """None: the detector did not run on this frame"""
    new_scene: bool
    """This frame begins another shot"""


def default_interval(fps: float) -> int:
    """Default distance of keyframes in a file.

    Args:
        fps: Frame rate of the file, frames per second.

    Returns:
        Number of frames from one keyframe to the next, at least 1.
    """
    return min(_MAX_INTERVAL, max(1, round(fps * _KEYFRAME_S)))


def detect_every_nth(
    frames: Iterator[Frame], detect: Detect, cuts: Callable[[Frame], bool], interval: Callable[[], int]
) -> Iterator[DetectedFrame]:
    """Run the detector on each n-th frame, without delaying any frame.

    Args:
        frames: Frames in temporal order.
        detect: The detector's `detect`.
        cuts: Returns whether a frame begins another shot; called once per frame. The first frame of a shot is a keyframe.
        interval: Returns n; called at each frame, so that it may change during the run.

    Yields:
        Each frame, with None as detections in between keyframes.
    """
    since_keyframe: int | None = None
    for frame in frames:
        new_scene = cuts(frame)
        since_keyframe = 1 if new_scene or since_keyframe is None or since_keyframe >= interval() else since_keyframe + 1
        yield DetectedFrame(frame, detect([frame])[0] if since_keyframe == 1 else None, new_scene)


def detect_keyframes(
    frames: Iterator[Frame], detect: Detect, cuts: Callable[[Frame], bool], interval: int, batch: int
) -> Iterator[DetectedFrame]:
    """Run the detector on each n-th frame, and on more where the frames between them are ambiguous.

    Args:
        frames: Frames in temporal order.
        detect: The detector's `detect`.
        cuts: Returns whether a frame begins another shot; called once per frame.
        interval: n, the distance of keyframes.
        batch: Number of keyframes per call of the detector.

    Yields:
        Each frame with detections, up to n * batch frames later than it is read.

    Raises:
        TruncatedInput: As raised by `frames`, after all frames before it were yielded. An error of the detector is likewise raised after
            the frames before the one that caused it.
    """
    known: DetectedFrame | None = None
    window: list[DetectedFrame] = []
    broken: TruncatedInput | None = None
    try:
        for frame in frames:
            window.append(DetectedFrame(frame, None, cuts(frame)))
            # The first frame has no predecessor: it forms a window alone.
            if known is None or len(window) >= interval * batch:
                for detected in _interpolated(known, window, interval, detect):
                    yield detected
                known, window = detected, []
    except TruncatedInput as error:
        broken = error
    if window:
        yield from _interpolated(known, window, interval, detect)
    if broken is not None:
        raise broken


def _interpolated(known: DetectedFrame | None, window: list[DetectedFrame], interval: int, detect: Detect) -> Iterator[DetectedFrame]:
    """Yield the frames of `window` with detections; `known` is the frame before them."""
    before = None if known is None else known.detections
    keyframe_window = _KeyframeWindow(window, detect, {} if before is None else {-1: before})
    try:
        keyframe_window.detect_all(interval)
    except Exception:
        # The failing frame is unknown: the keyframes are repeated one by one, up to the one that fails again.
        for position, one in enumerate(window):
            keyframe_window.detect_at([position])
            yield one._replace(detections=keyframe_window.found[position])
        raise
    for position, one in enumerate(window):
        yield one._replace(detections=keyframe_window.found[position])


class _KeyframeWindow:
    """Detections of the frames of one window.

    A class, because nested recursive functions form reference cycles, which keep every picture alive until the garbage collector runs.
    """

    def __init__(self, window: list[DetectedFrame], detect: Detect, found: dict[int, Detections]) -> None:
        self._window, self._detect = window, detect
        self.found = found
        """By position in the window; -1 is the frame before it"""

    def detect_all(self, interval: int) -> None:
        """Find the detections of all frames of the window."""
        last = len(self._window) - 1
        keyframes = sorted({*range(interval - 1, last, interval), last}) if -1 in self.found else list(range(last + 1))
        self.detect_at(keyframes)
        for start, end in pairwise([-1, *keyframes]):
            if start in self.found:
                self.fill_between(start, end)

    def detect_at(self, positions: list[int]) -> None:
        """Run the detector on those of these positions that have no detections yet."""
        missing = [position for position in positions if position not in self.found]
        if missing:
            self.found.update(zip(missing, self._detect([self._window[position].frame for position in missing]), strict=True))

    def fill_between(self, start: int, end: int) -> None:
        """Find the detections of all frames between two keyframes."""
        if end - start < 2:
            return
        cut = next((position for position in range(start + 1, end + 1) if self._window[position].new_scene), None)
        if cut is not None:
            # Interpolation across a cut has no meaning: the last frame of one shot and the first of the other become keyframes.
            self.detect_at([position for position in (cut - 1, cut) if position > start])
            self.fill_between(start, cut - 1)
            self.fill_between(cut, end)
            return
        pairs = same_people(self.found[start], self.found[end])
        if pairs is None:
            middle = (start + end) // 2
            self.detect_at([middle])
            self.fill_between(start, middle)
            self.fill_between(middle, end)
            return
        for position in range(start + 1, end):
            self.found[position] = interpolate(self.found[start], self.found[end], pairs, (position - start) / (end - start))


def same_people(before: Detections, after: Detections) -> NDArray[np.int64] | None:
    """Match the people of two keyframes.

    Args:
        before: Detections of the earlier keyframe.
        after: Detections of the later keyframe.

    Returns:
        Pairs of row numbers (k, 2); None if the match is ambiguous or a person moved too much for interpolation.
    """
    overlap = box_iou(before.boxes_xyxy_px, after.boxes_xyxy_px)
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    same = overlap[rows, columns] >= _SAME_OVERLAP
    pairs = np.stack([rows[same], columns[same]], -1)
    for people, paired in ((before, pairs[:, 0]), (after, pairs[:, 1])):
        unmatched = np.setdiff1d(np.arange(len(people)), paired)
        if (people.scores[unmatched] >= _CLUTTER_SCORE).any():
            return None
    others = overlap.copy()
    others[pairs[:, 0], pairs[:, 1]] = 0
    own_overlap = [box_iou(people.boxes_xyxy_px, people.boxes_xyxy_px) - np.eye(len(people)) for people in (before, after)]
    if any(values.size and values.max() > _OTHER_OVERLAP for values in (others, *own_overlap)):
        return None
    sizes = box_size(before.boxes_xyxy_px)[pairs[:, 0]], box_size(after.boxes_xyxy_px)[pairs[:, 1]]
    if (np.abs(np.log(sizes[0] / sizes[1])) > np.log(_SIZE_RATIO)).any():
        return None
    first, second = before.keypoints_px[pairs[:, 0]], after.keypoints_px[pairs[:, 1]]
    seen = np.minimum(first[..., 2], second[..., 2]) >= VISIBLE_SCORE
    moved = np.linalg.norm(first[..., :2] - second[..., :2], axis=-1)
    return None if (seen & (moved > _LIMB_MOVED * np.minimum(*sizes)[:, None])).any() else pairs


def interpolate(before: Detections, after: Detections, pairs: NDArray[np.int64], share: float) -> Detections:
    """Interpolate detections linearly between two keyframes.

    A keypoint that is visible in only one of the two gets the lower score: its position in between is unknown.

    Args:
        before: Detections of the earlier keyframe.
        after: Detections of the later keyframe.
        pairs: (k, 2) row numbers of the people in both.
        share: Position between the two, 0 to 1.

    Returns:
        Detections of k people.
    """
    mix = lambda a, b: ((1 - share) * a[pairs[:, 0]] + share * b[pairs[:, 1]]).astype(np.float32)
    keypoints = mix(before.keypoints_px, after.keypoints_px)
    keypoints[..., 2] = np.minimum(before.keypoints_px[pairs[:, 0], :, 2], after.keypoints_px[pairs[:, 1], :, 2])
    return Detections(mix(before.boxes_xyxy_px, after.boxes_xyxy_px), mix(before.scores, after.scores), keypoints, after.up_rad)
