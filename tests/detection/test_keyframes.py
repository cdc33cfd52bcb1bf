"""Which frames the detector is asked about, and whether what is said of the others is true."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from moving_people import Person

from mchmr_stream.datatypes import Detections, Frame
from mchmr_stream.detection.keyframes import DetectedFrame, detect_every_nth, detect_keyframes
from mchmr_stream.errors import TruncatedInput

FPS = 30.0
PICTURE = np.zeros((2, 2, 3), np.uint8)


def frames(count: int, broken: TruncatedInput | None = None) -> Iterator[Frame]:
    for index in range(count):
        yield Frame(index, index / FPS, PICTURE)
    if broken is not None:
        raise broken


class Watching:
    """A detector that makes no mistakes, and remembers what it was asked."""

    def __init__(self, *people: Person) -> None:
        self.people = people
        self.calls: list[list[int]] = []

    def truth(self, index: int) -> Detections:
        there = [person for person in self.people if person.seen(index / FPS)]
        boxes = np.array([person.box(index / FPS) for person in there], np.float32).reshape(-1, 4)
        keypoints = np.array([person.keypoints(index / FPS) for person in there], np.float32).reshape(-1, 17, 3)
        return Detections(boxes, np.array([person.score for person in there], np.float32), keypoints)

    def detect(self, asked: Sequence[Frame]) -> list[Detections]:
        self.calls.append([frame.index for frame in asked])
        return [self.truth(frame.index) for frame in asked]

    @property
    def asked(self) -> list[int]:
        return sorted(index for call in self.calls for index in call)


def way(interval: int) -> float:
    """Pixels by which a hand that swings 12 px at 1 Hz can leave the straight way between two frames this far apart: a t^2 / 8."""
    return 0.01 + 12 * (2 * np.pi) ** 2 * (interval / FPS) ** 2 / 8


def ahead(detector: Watching, count: int, interval: int, batch: int = 1, cuts: Sequence[int] = ()) -> list[DetectedFrame]:
    return list(detect_keyframes(frames(count), detector.detect, lambda frame: frame.index in cuts, interval, batch))


def standing(x: float = 300.0, **about: object) -> Person:
    return Person(lambda t: (x + 20 * t, 300.0), phase=np.pi / 2, **about)  # type: ignore[arg-type]


def assert_true(detector: Watching, answers: Sequence[DetectedFrame], within_px: float) -> None:
    for answer in answers:
        truth = detector.truth(answer.frame.index)
        assert answer.detections is not None
        assert len(answer.detections) == len(truth), answer.frame.index
        order = np.argsort(answer.detections.boxes_xyxy_px[:, 0])
        np.testing.assert_allclose(answer.detections.boxes_xyxy_px[order], truth.boxes_xyxy_px, atol=within_px)
        np.testing.assert_allclose(answer.detections.keypoints_px[order], truth.keypoints_px, atol=within_px)


@pytest.mark.parametrize("count", [1, 2, 4, 5, 9, 18])
@pytest.mark.parametrize(("interval", "batch"), [(1, 1), (1, 4), (2, 1), (4, 1), (4, 3), (7, 2)])
def test_every_frame_has_a_detection_in_order(count: int, interval: int, batch: int) -> None:
    detector = Watching(standing(300), standing(600))
    answers = ahead(detector, count, interval, batch)
    assert [answer.frame.index for answer in answers] == list(range(count))
    assert_true(detector, answers, way(8))
    assert detector.asked == sorted({0, *range(interval, count, interval), count - 1}), (
        "people who hardly move are asked about no more often"
    )
    assert max(len(call) for call in detector.calls) <= batch


def test_a_straight_way_is_followed_exactly() -> None:
    gliding = Person(lambda t: (300 + 60 * t, 300 - 30 * t))
    gliding.keypoints = lambda t: np.concatenate([np.tile(gliding.centre_px(t), (17, 1)), np.full((17, 1), 0.8)], -1)  # type: ignore[method-assign]
    detector = Watching(gliding)
    assert_true(detector, ahead(detector, 41, 8), within_px=1e-3)
    assert len(detector.asked) == 6


def test_the_quicker_the_motion_the_more_often() -> None:
    counts = []
    for speed in (0.0, 0.5, 2.0, 20.0):  # heights per second
        detector = Watching(Person(lambda t, v=speed: (300 + 200 * v * t, 300.0), phase=np.pi / 2))
        assert_true(detector, ahead(detector, 33, 8), way(8))
        counts.append(len(detector.asked))
    assert counts == sorted(counts)
    assert counts[0] == 5
    assert counts[-1] == 33, "who jumps from box to box is looked for in every frame"


@pytest.mark.parametrize("enters", range(4, 12))
def test_who_comes_and_goes_does_so_in_the_right_frame(enters: int) -> None:
    detector = Watching(standing(300), standing(600, enters_s=(enters - 0.5) / FPS, leaves_s=(enters + 15.5) / FPS))
    assert_true(detector, ahead(detector, 41, 8), way(8))
    assert len(detector.asked) < 20


def test_people_who_overlap_are_looked_for_in_every_frame() -> None:
    detector = Watching(standing(300), standing(330))
    ahead(detector, 17, 8)
    assert detector.asked == list(range(17))


def test_clutter_that_flickers_costs_nothing() -> None:
    detector = Watching(standing(300), standing(600, score=0.2, hidden_s=[(k / FPS, (k + 1) / FPS) for k in range(0, 40, 3)]))
    answers = ahead(detector, 33, 8)
    assert len(detector.asked) == 5
    assert all(answer.detections is not None and answer.detections.scores.max() > 0.8 for answer in answers)


@pytest.mark.parametrize("cut", range(1, 13))
def test_nothing_is_mixed_over_a_cut(cut: int) -> None:
    """Two shots with a person in the same place: nobody else would notice."""
    before, after = standing(300, leaves_s=(cut - 0.5) / FPS), standing(310, enters_s=(cut - 0.5) / FPS)
    detector = Watching(before, after)
    answers = ahead(detector, 17, 8, cuts=[cut])
    assert_true(detector, answers, way(8))
    assert {cut - 1, cut} <= set(detector.asked)
    assert [answer.frame.index for answer in answers if answer.new_scene] == [cut]


def test_frames_before_a_break_come_first() -> None:
    detector = Watching(standing())
    seen = []
    answers = detect_keyframes(frames(7, TruncatedInput("gone")), detector.detect, lambda _: False, 4, 1)
    with pytest.raises(TruncatedInput, match="gone"):
        seen.extend(answer.frame.index for answer in answers)
    assert seen == list(range(7))


class Failing(Watching):
    """Falls over at one frame, as often as it is asked about it."""

    def __init__(self, at: int, *people: Person) -> None:
        super().__init__(*people)
        self.at = at

    def detect(self, asked: Sequence[Frame]) -> list[Detections]:
        if any(frame.index == self.at for frame in asked):
            raise RuntimeError(f"fell over at {self.at}")
        return super().detect(asked)


@pytest.mark.parametrize("at", [0, 1, 4, 7, 8, 12])
@pytest.mark.parametrize("batch", [1, 2])
def test_frames_before_the_one_at_which_the_detector_fails_come_first(at: int, batch: int) -> None:
    """Two people side by side: every frame is asked about sooner or later."""
    detector = Failing(at, standing(300), standing(330))
    seen: list[DetectedFrame] = []
    with pytest.raises(RuntimeError, match=f"fell over at {at}"):
        seen.extend(detect_keyframes(frames(20), detector.detect, lambda _: False, 4, batch))
    assert [answer.frame.index for answer in seen] == list(range(at))
    assert_true(detector, seen, 1e-3)
    assert len(detector.asked) == len(set(detector.asked)), "nothing is asked twice"


@pytest.mark.parametrize("people", [[standing(300)], [standing(300), standing(330)]], ids=["interpolated", "every frame"])
def test_pictures_are_let_go_at_once(people: list[Person]) -> None:
    """Without waiting for the garbage collector: a picture of 1080p has six megabytes."""
    detector, pictures, highest = Watching(*people), [], 0

    def noted() -> Iterator[Frame]:
        for frame in frames(60):
            own = Frame(frame.index, frame.time_s, np.zeros((2, 2, 3), np.uint8))
            pictures.append(weakref.ref(own.rgb))
            yield own

    gc.disable()
    try:
        for _ in detect_keyframes(noted(), detector.detect, lambda _: False, 4, 1):
            highest = max(highest, sum(picture() is not None for picture in pictures))
    finally:
        gc.enable()
    assert highest <= 10, "a window, and the one before it"


def test_as_they_come_nobody_waits_for_a_later_frame() -> None:
    detector = Watching(standing())
    taken: list[int] = []

    def noted() -> Iterator[Frame]:
        for frame in frames(10):
            taken.append(frame.index)
            yield frame

    for answer in detect_every_nth(noted(), detector.detect, lambda frame: frame.index == 5, lambda: 3):
        assert taken[-1] == answer.frame.index
        assert (answer.detections is not None) == (answer.frame.index in (0, 3, 5, 8)), "each third, and a new shot at once"
