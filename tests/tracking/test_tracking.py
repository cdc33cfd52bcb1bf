"""Identities: simulated people whose truth is known, at several frame rates, with a detector that errs."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moving_people import Path, Person, look, straight, times
from usual_tracker import people_tracker

from mchmr_stream.datatypes import Detections, Tracks
from mchmr_stream.detection.person_similarity import COCO_SIGMAS, body_size, keypoint_similarity
from mchmr_stream.geometry.boxes import box_iou
from mchmr_stream.tracking.box_filter import BoxFilter
from mchmr_stream.tracking.candidates import candidates_from
from mchmr_stream.tracking.track import TrackedPerson


def play(
    people: Sequence[Person], at_s: Sequence[float], seed: int = 0, interval: int = 1, miss: float = 0.0, **settings: float
) -> dict[int, set[int]]:
    """Run a tracker over simulated people -> for every person, the ids whose observed boxes were theirs."""
    tracker, rng = people_tracker(**settings), np.random.default_rng(seed)  # type: ignore[arg-type]
    ids: dict[int, set[int]] = {i: set() for i in range(len(people))}
    for n, t in enumerate(at_s):
        asked = n % interval == 0
        detections, who = look(people, t, rng, miss)
        tracks = tracker.update(detections if asked else None, float(t))
        assert len(set(tracks.track_id.tolist())) == len(tracks)
        for row in np.flatnonzero(tracks.observed):
            error = np.abs(detections.boxes_xyxy_px - tracks.boxes_xyxy_px[row]).max(-1)
            ids[who[int(error.argmin())]].add(int(tracks.track_id[row]))
    return ids


CROSSING = [Person(straight(100, 300, 160)), Person(straight(740, 310, -160), phase=2.0), Person(straight(400, 700, 20), 260, phase=1.0)]


# ---- similarity -------------------------------------------------------------------------------------------------------


def test_fast_overlap_equals_obvious_overlap() -> None:
    rng = np.random.default_rng(0)
    a, b = (np.concatenate([p, p + rng.uniform(1, 60, (n, 2))], -1) for n in (7, 9) for p in [rng.uniform(0, 80, (n, 2))])
    expected = np.zeros((7, 9))
    for i, (ax0, ay0, ax1, ay1) in enumerate(a):
        for j, (bx0, by0, bx1, by1) in enumerate(b):
            shared = max(0, min(ax1, bx1) - max(ax0, bx0)) * max(0, min(ay1, by1) - max(ay0, by0))
            expected[i, j] = shared / ((ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - shared)
    assert expected.max() > 0.2
    np.testing.assert_allclose(box_iou(a, b), expected, rtol=1e-12)
    assert box_iou(np.zeros((1, 4)), np.zeros((1, 4))) == 0


def test_fast_keypoint_similarity_equals_obvious_one() -> None:
    rng = np.random.default_rng(1)
    a, b = (np.concatenate([rng.uniform(0, 30, (n, 17, 2)), rng.uniform(0, 1, (n, 17, 1))], -1) for n in (4, 6))
    a[0, 3, :2] = np.nan
    b[1, 4:, 2] = 0  # four keypoints are too few
    sizes, slack = rng.uniform(100, 300, 6), rng.uniform(0, 20, 6)
    expected = np.full((4, 6), np.nan)
    for i in range(4):
        for j in range(6):
            terms = []
            for k in range(17):
                if a[i, k, 2] >= 0.2 and b[j, k, 2] >= 0.2 and np.isfinite(a[i, k]).all():
                    d2 = ((a[i, k, :2] - b[j, k, :2]) ** 2).sum()
                    terms.append(math.exp(-d2 / (2 * ((2 * COCO_SIGMAS[k] * 0.5 * sizes[j]) ** 2 + slack[j] ** 2))))
            if len(terms) >= 5:
                expected[i, j] = sum(terms) / len(terms)
    assert np.isnan(expected[:, 1]).all()
    assert np.nanmax(expected) > 0.05
    np.testing.assert_allclose(keypoint_similarity(a, b, sizes, slack), expected, rtol=1e-9)


def test_body_size_follows_distance_and_not_posture() -> None:
    standing = Person(straight(300, 300), 200).keypoints(0.0)
    bent = standing.copy()
    bent[:11, :2] = standing[11, :2] + (standing[:11, :2] - standing[11, :2]) @ np.array([[0, -1], [1, 0]])  # trunk level
    near, folded = body_size(np.stack([standing, bent]))
    far = body_size(Person(straight(300, 300), 100).keypoints(0.0)[None])[0]
    assert far == pytest.approx(near / 2)
    assert folded == pytest.approx(near, rel=0.15)
    assert np.isnan(body_size(np.zeros((1, 17, 3)))[0])


# ---- the filter -------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 2), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_prediction_over_a_time_does_not_depend_on_the_steps(steps: list[float]) -> None:
    def moving() -> BoxFilter:
        box = BoxFilter(np.array([100.0, 100, 180, 300]), 200.0)
        for n in range(1, 6):
            box.predict(0.04)
            box.update(np.array([100.0, 100, 180, 300]) + 6 * n)
        return box

    many, one = moving(), moving()
    for step in steps:
        many.predict(step)
    one.predict(sum(steps))
    np.testing.assert_allclose(many.box_xyxy_px, one.box_xyxy_px, rtol=1e-6)
    np.testing.assert_allclose(many.centre_std_px(np.ones(1)), one.centre_std_px(np.ones(1)), rtol=1e-6)
    assert one.velocity_px_s[0] >= 0


def test_filter_finds_the_speed_and_no_time_changes_nothing() -> None:
    box = BoxFilter(np.array([0.0, 0, 80, 200]), 200.0)
    for n in range(1, 31):
        box.predict(1 / 30)
        box.update(np.array([0.0, 0, 80, 200]) + np.array([150, 0, 150, 0]) * n / 30)
    assert box.velocity_px_s == pytest.approx([150, 0], rel=0.12, abs=2)
    before = box.box_xyxy_px
    box.predict(0.0)
    np.testing.assert_array_equal(box.box_xyxy_px, before)


# ---- identities -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [12, 30, 60])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_people_who_cross_keep_their_identities_at_every_frame_rate(fps: float, seed: int) -> None:
    assert sorted(map(tuple, play(CROSSING, times(fps, 4), seed).values())) == [(1,), (2,), (3,)]


@pytest.mark.parametrize("fps", [12, 30, 60])
def test_missed_detections_do_not_split_people(fps: float) -> None:
    ids = play(CROSSING, times(fps, 4), miss=0.25)
    assert sorted(map(tuple, ids.values())) == [(1,), (2,), (3,)]


@pytest.mark.parametrize("interval", [2, 3])
def test_detector_asked_on_each_nth_frame(interval: int) -> None:
    assert sorted(map(tuple, play(CROSSING, times(30, 4), interval=interval).values())) == [(1,), (2,), (3,)]


def test_variable_rate_with_equal_timestamps_and_stalls() -> None:
    rng = np.random.default_rng(5)
    steps = rng.choice([0.0, 0.01, 0.033, 0.08, 0.3], size=60, p=[0.1, 0.3, 0.4, 0.15, 0.05])
    assert sorted(map(tuple, play(CROSSING, np.cumsum(steps)).values())) == [(1,), (2,), (3,)]


@pytest.mark.parametrize("fps", [12, 30, 60])
def test_half_a_second_behind_something(fps: float) -> None:
    walker = Person(straight(100, 300, 160), hidden_s=[(1.5, 2.0)])
    other = Person(straight(600, 300), phase=1.0)
    ids = play([walker, other], times(fps, 4))
    assert ids[0] != ids[1]
    assert len(ids[0]) == len(ids[1]) == 1


def test_hidden_behind_the_other_while_crossing() -> None:
    people = [Person(straight(100, 300, 160), hidden_s=[(1.8, 2.3)]), Person(straight(740, 305, -160), phase=2.0)]
    assert sorted(map(tuple, play(people, times(30, 4)).values())) == [(1,), (2,)]


def test_entering_leaving_and_coming_back_much_later() -> None:
    people = [Person(straight(100, 300)), Person(straight(500, 300), enters_s=1, leaves_s=2), Person(straight(500, 300), enters_s=4)]
    ids = play(people, times(30, 5))
    assert ids == {0: {1}, 1: {2}, 2: {3}}


def test_far_away_is_somebody_else() -> None:
    jump: Path = lambda t: (150, 300) if t < 1 else (900, 300)
    assert play([Person(jump)], times(30, 2))[0] == {1, 2}


def test_a_child_does_not_inherit_the_identity_of_an_adult() -> None:
    people = [Person(straight(300, 300), 220, leaves_s=1), Person(straight(300, 360), 100, enters_s=1.2)]
    ids = play(people, times(30, 2.5))
    assert ids[0].isdisjoint(ids[1])
    assert ids[1]


def test_a_child_in_a_box_as_large_is_somebody_else() -> None:
    """A box may be as large by chance, say with the arms up; bones are not."""
    adult, tracker = Person(straight(300, 300), 200), people_tracker()
    for t in times(30, 1):
        tracker.update(single(adult, t), float(t))
    tracker.update(Detections.empty(), 1.1)
    child = Person(straight(300, 300), 120).keypoints(1.3)[None].astype(np.float32)
    found = dataclasses.replace(single(adult, 1.3), keypoints_px=child)
    for t in times(30, 0.3) + 1.3:
        tracks = tracker.update(found, float(t))
    assert tracks.track_id.tolist() == [2]


def test_somebody_who_lies_down_keeps_the_identity_over_a_missed_frame() -> None:
    """The box is where it was and as large, the bones are seen from their ends."""
    standing, tracker = Person(straight(300, 300), 200), people_tracker()
    for t in times(30, 1):
        tracker.update(single(standing, t), float(t))
    tracker.update(Detections.empty(), 1.05)
    lying = Person(straight(300, 300), 110).keypoints(1.1)[None].astype(np.float32)
    for t in times(30, 0.3) + 1.1:
        tracks = tracker.update(dataclasses.replace(single(standing, t), keypoints_px=lying), float(t))
    assert tracks.track_id.tolist() == [1]


def test_runs_share_nothing() -> None:
    assert play(CROSSING, times(30, 1)) == play(CROSSING, times(30, 1))
    assert set().union(*play(CROSSING, times(30, 1)).values()) == {1, 2, 3}


def test_two_detections_of_one_person_make_one_track() -> None:
    person, tracker = Person(straight(300, 300, 50)), people_tracker()
    for t in times(30, 1):
        box, keypoints = person.box(t), person.keypoints(t)
        upper = np.array([box[0], box[1], box[2], box[1] + 0.5 * (box[3] - box[1])])
        upper_keypoints = keypoints.copy()
        upper_keypoints[13:, 2] = 0.05
        both = Detections(
            np.stack([upper, box]).astype(np.float32),
            np.array([0.6, 0.9], np.float32),
            np.stack([upper_keypoints, keypoints]).astype(np.float32),
        )
        tracks = tracker.update(both, float(t))
        assert tracks.track_id.tolist() == [1]
        np.testing.assert_allclose(tracks.boxes_xyxy_px[0], box, rtol=1e-6)


def test_boxes_without_keypoints_are_tracked_too() -> None:
    tracker = people_tracker()
    for t in times(10, 2):
        boxes = np.stack([Person(straight(100, 300, 100)).box(t), Person(straight(600, 300, -60)).box(t)]).astype(np.float32)
        tracks = tracker.update(Detections.from_boxes(boxes, np.array([0.9, 0.8], np.float32)), float(t))
        assert tracks.track_id.tolist() == [1, 2]
        assert np.isnan(tracks.landmarks_px[..., :2]).all()


# ---- who is shown -----------------------------------------------------------------------------------------------------


def single(person: Person, t: float, score: float = 0.9) -> Detections:
    return Detections(person.box(t)[None].astype(np.float32), np.array([score], np.float32), person.keypoints(t)[None].astype(np.float32))


def test_first_frame_shows_at_once_and_later_people_after_confirmation() -> None:
    tracker, early, late = people_tracker(confirm_s=0.1), Person(straight(100, 300)), Person(straight(500, 300), enters_s=0.5)
    first_shown = None
    for t in times(30, 1):
        tracks = tracker.update(look([early, late], t, np.random.default_rng(0))[0], float(t))
        assert 1 in tracks.track_id
        if 2 in tracks.track_id and first_shown is None:
            first_shown = t
    assert first_shown == pytest.approx(0.6, abs=0.04)


def test_clutter_of_one_frame_is_never_shown_and_takes_no_id() -> None:
    tracker, person = people_tracker(), Person(straight(100, 300))
    clutter = Person(straight(800, 500))
    shown: set[int] = set()
    for n, t in enumerate(times(30, 2)):
        detections = look([person, clutter] if n % 10 == 5 else [person], t, np.random.default_rng(n))[0]
        shown |= set(tracker.update(detections, float(t)).track_id.tolist())
    assert shown == {1}


def test_low_scores_keep_people_but_start_none() -> None:
    tracker, person = people_tracker(high_score=0.35), Person(straight(300, 300, 40))
    for t in times(30, 1):
        assert len(tracker.update(single(person, t, 0.2), float(t))) == 0
    for t in times(30, 0.5) + 2:
        tracker.update(single(person, t, 0.8), float(t))
    for t in times(30, 3) + 2.53:
        tracks = tracker.update(single(person, t, 0.2), float(t))
        assert tracks.track_id.tolist() == [1]
        assert tracks.observed.all()


def test_not_asked_carries_everyone_with_the_motion() -> None:
    tracker, person = people_tracker(), Person(straight(100, 300, 150))
    for t in times(30, 1):
        tracker.update(single(person, t), float(t))
    tracks = tracker.update(None, 1.1)
    assert tracks.track_id.tolist() == [1]
    assert not tracks.observed[0]
    assert np.isnan(tracks.keypoints_px[..., :2]).all()
    assert (tracks.keypoints_px[..., 2] == 0).all()
    np.testing.assert_allclose(tracks.boxes_xyxy_px[0], person.box(1.1), atol=10)
    np.testing.assert_allclose(tracks.landmarks_px[0, 5:7, :2], person.keypoints(1.1)[5:7, :2], atol=12)


def carried_until(presence: Callable[[float], float], seconds: float = 8.0, fps: float = 30.0, **settings: float) -> float:
    """How long after the last detection somebody whom only the network sees is shown."""
    tracker, person, last = people_tracker(**settings), Person(straight(100, 300, 60)), 0.0  # type: ignore[arg-type]
    for t in times(fps, 1 + seconds):
        tracks = tracker.update(single(person, t) if t <= 1 else Detections.empty(), float(t))
        if len(tracks):
            last = t
            if t > 1:
                assert not tracks.observed[0]
                np.testing.assert_allclose(tracks.boxes_xyxy_px[0], person.box(t), atol=0.08 * person.height_px)
            landmarks = np.repeat(person.keypoints(t)[None], len(tracks), 0)
            tracker.confirm(tracks.track_id, landmarks.astype(np.float32), np.full(len(tracks), presence(t), np.float32))
    return last - 1


@pytest.mark.parametrize("fps", [12, 30, 60])
def test_carrying_lasts_as_long_as_the_network_is_sure(fps: float) -> None:
    frame = 1.01 / fps
    assert carried_until(lambda t: 0.1, fps=fps) == 0
    assert carried_until(lambda t: 0.6, fps=fps, carry_s=0.7) == pytest.approx(0.7, abs=frame)
    assert carried_until(lambda t: 1.0, fps=fps, carry_s=0.7) == pytest.approx(3.5, abs=frame)
    assert carried_until(lambda t: 1.0 if t < 2 else 0.0, fps=fps) == pytest.approx(1.0, abs=frame)


def test_without_the_network_nobody_is_shown_where_the_detector_sees_nobody() -> None:
    tracker, person = people_tracker(), Person(straight(100, 300))
    for t in times(30, 1):
        tracker.update(single(person, t), float(t))
    assert len(tracker.update(Detections.empty(), 1.1)) == 0
    assert tracker.update(single(person, 1.2), 1.2).track_id.tolist() == [1]


def test_the_word_of_the_network_holds_for_one_frame() -> None:
    tracker, person = people_tracker(), Person(straight(100, 300))
    for t in times(30, 1):
        tracks = tracker.update(single(person, t), float(t))
        tracker.confirm(tracks.track_id, person.keypoints(t)[None].astype(np.float32), np.ones(1, np.float32))
    assert len(tracker.update(Detections.empty(), 1.03)) == 1
    assert len(tracker.update(Detections.empty(), 1.07)) == 0


def test_landmarks_that_jump_away_end_the_carrying() -> None:
    tracker, person, elsewhere = people_tracker(), Person(straight(100, 300)), Person(straight(600, 300))
    for t in times(30, 1):
        tracks = tracker.update(single(person, t), float(t))
        tracker.confirm(tracks.track_id, person.keypoints(t)[None].astype(np.float32), np.ones(1, np.float32))
    tracks = tracker.update(Detections.empty(), 1.03)
    assert len(tracks) == 1
    tracker.confirm(tracks.track_id, elsewhere.keypoints(0)[None].astype(np.float32), np.ones(1, np.float32))
    assert len(tracker.update(Detections.empty(), 1.07)) == 0


def test_carried_person_who_slips_onto_another_is_dropped_and_found_again() -> None:
    """The network, asked about a hidden person, sees the one in front: two tracks on one person must not be shown."""
    front, back = Person(straight(300, 300), 220), Person(straight(100, 305, 150), 200, phase=2.0, hidden_s=[(1.0, 1.8)])
    tracker, rng = people_tracker(), np.random.default_rng(0)
    ids: list[set[int]] = [set(), set()]
    for t in times(30, 3):
        detections, who = look([front, back], t, rng)
        tracks = tracker.update(detections, float(t))
        for row in np.flatnonzero(tracks.observed):
            nearest = int(np.abs(detections.boxes_xyxy_px - tracks.boxes_xyxy_px[row]).max(-1).argmin())
            ids[who[nearest]].add(int(tracks.track_id[row]))
        if 1.3 < t < 1.7:
            assert len(tracks) == 1
        seen = []
        for row in range(len(tracks)):
            centre = tracks.boxes_xyxy_px[row].reshape(2, 2).mean(0)
            in_view = [front, back] if back.seen(t) else [front]
            seen.append(min(in_view, key=lambda one: np.linalg.norm(centre - one.centre_px(t))).keypoints(t))
        tracker.confirm(tracks.track_id, np.array(seen, np.float32).reshape(-1, 17, 3), np.ones(len(tracks), np.float32))
    assert len(ids[0]) == len(ids[1]) == 1
    assert ids[0] != ids[1]


def test_dropping_a_carry_forgets_where_the_landmarks_led() -> None:
    person, other = Person(straight(100, 300, 150)), Person(straight(230, 300))
    found, _ = candidates_from(single(person, 0.0))
    misled, left_alone = TrackedPerson(found, 0, 0.0, 0.0), TrackedPerson(found, 0, 0.0, 0.0)
    for t in times(30, 2)[1:]:
        for track in (misled, left_alone):
            track.predict_to(float(t))
        if t <= 1:
            for track in (misled, left_alone):
                track.observe(candidates_from(single(person, t))[0], 0)
        elif t < 1.9:
            misled.update_from_network(other.keypoints(t), 1.0, 0.5)
    assert np.abs(misled.expected_box_xyxy_px - left_alone.expected_box_xyxy_px).max() > 10
    misled.drop_carry()
    np.testing.assert_allclose(misled.expected_box_xyxy_px, left_alone.expected_box_xyxy_px, rtol=1e-9)
    np.testing.assert_allclose(misled.landmarks_px, left_alone.landmarks_px, rtol=1e-9)
    assert misled.evidence_s == left_alone.evidence_s == pytest.approx(1.0)


@pytest.mark.parametrize("min_keypoint_score", [0.0, 0.45])
def test_max_people_keeps_the_largest_without_flicker(min_keypoint_score: float) -> None:
    """Also in the frame in which keypoints show that somebody new is a person."""
    people = [
        Person(straight(100, 300), 200),
        Person(straight(400, 300), 200, phase=1),
        Person(straight(700, 300), 120),
        Person(straight(1000, 300), 320, enters_s=2),
    ]
    tracker, rng = people_tracker(max_people=1, min_keypoint_score=min_keypoint_score), np.random.default_rng(0)
    shown = [tracker.believed(tracker.update(look(people, t, rng, noise=0.03)[0], float(t))).track_id.tolist() for t in times(30, 3)]
    assert all(len(ids) == 1 for ids in shown)
    sequence = [ids[0] for ids in shown]
    assert sum(a != b for a, b in itertools.pairwise(sequence)) == 1  # only the large one pushes out
    assert sequence[-1] == 4


# ---- bad input --------------------------------------------------------------------------------------------------------


def test_impossible_boxes_are_ignored_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    tracker, person = people_tracker(), Person(straight(300, 300))
    good = single(person, 0.0)
    bad_boxes = np.array([[np.nan, 0, 10, 10], [50, 50, 50, 90], [80, 80, 20, 20], [0, 0, np.inf, 5]], np.float32)
    bad = Detections.from_boxes(bad_boxes, np.full(4, 0.9, np.float32))
    mixed = Detections(
        np.concatenate([bad.boxes_xyxy_px, good.boxes_xyxy_px]),
        np.concatenate([bad.scores, good.scores]),
        np.concatenate([bad.keypoints_px, good.keypoints_px]),
    )
    for t in (0.0, 0.03, 0.06):
        assert tracker.update(mixed, t).track_id.tolist() == [1]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "4 detection" in caplog.text


def test_broken_keypoints_do_not_spoil_the_box() -> None:
    tracker, person = people_tracker(), Person(straight(300, 300))
    for t in times(30, 0.3):
        detections = single(person, t)
        detections.keypoints_px[0, 3] = np.nan
        detections.keypoints_px[0, 4] = np.inf
        assert tracker.update(detections, float(t)).track_id.tolist() == [1]


def test_a_clock_set_back_starts_anew_without_reusing_ids(caplog: pytest.LogCaptureFixture) -> None:
    tracker, person = people_tracker(), Person(straight(300, 300))
    for t in (5.0, 5.03, 5.06, 5.05):  # a little jitter is no restart
        assert tracker.update(single(person, 0), t).track_id.tolist() == [1]
    assert not caplog.records
    assert tracker.update(single(person, 0), 0.0).track_id.tolist() == [2]
    assert "went back" in caplog.text
    with pytest.raises(ValueError, match="finite"):
        tracker.update(None, math.nan)


def test_confirm_for_people_gone_is_ignored() -> None:
    tracker, person = people_tracker(), Person(straight(300, 300))
    tracker.confirm(np.array([7]), np.zeros((1, 17, 3), np.float32), np.ones(1, np.float32))
    tracker.update(single(person, 0), 0.0)
    assert len(tracker.update(Detections.empty(), 60.0)) == 0
    tracker.confirm(np.array([1]), person.keypoints(0)[None].astype(np.float32), np.ones(1, np.float32))
    assert len(tracker.update(Detections.empty(), 60.03)) == 0


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_any_detections_at_any_times_give_sound_tracks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tracker, t, used = people_tracker(max_people=rng.choice([None, 2])), 0.0, set()
    last: Tracks | None = None
    for _ in range(30):
        t += float(rng.choice([0, 0.001, 0.04, 0.3, 5, -0.01]))
        n = rng.integers(0, 5)
        corner = rng.uniform(-200, 500, (n, 2))
        boxes = np.concatenate([corner, corner + rng.choice([0.01, 5, 100, 1e4], (n, 2))], -1).astype(np.float32)
        keypoints = np.concatenate([rng.uniform(-1e3, 1e3, (n, 17, 2)), rng.uniform(0, 1, (n, 17, 1))], -1).astype(np.float32)
        detections = None if rng.random() < 0.3 else Detections(boxes, rng.uniform(0, 1, n).astype(np.float32), keypoints)
        tracks = tracker.update(detections, t)
        assert np.isfinite(tracks.boxes_xyxy_px).all()
        assert (tracks.boxes_xyxy_px[:, 2:] > tracks.boxes_xyxy_px[:, :2]).all()
        assert len(np.unique(tracks.track_id)) == len(tracks)
        used |= set(tracks.track_id.tolist())
        assert used <= set(range(1, len(used) + 50))
        landmarks = np.concatenate([rng.uniform(-1e3, 1e3, (len(tracks), 17, 2)), rng.uniform(0, 1, (len(tracks), 17, 1))], -1)
        tracker.confirm(tracks.track_id, landmarks.astype(np.float32), rng.uniform(0, 1, len(tracks)).astype(np.float32))
        last = tracks
    assert last is not None
