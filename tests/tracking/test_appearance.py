"""Identities by appearance: painted people who meet, change places and stand in another light.

Where nothing distinguishes them, the rows are marked as doubtful.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path as FilePath

import numpy as np
import pytest
from moving_people import Path, Person, look, straight, times
from numpy.typing import NDArray
from usual_tracker import people_tracker

from mchmr_stream.config import settings_from
from mchmr_stream.datatypes import Detections, Tracks
from mchmr_stream.geometry.boxes import box_iou
from mchmr_stream.jobs.video_job import process_video
from mchmr_stream.motion.motion import load
from mchmr_stream.tracking.appearance import Appearance, appearance_of, log_likelihood_ratio
from mchmr_stream.tracking.tracker import PeopleTracker

WIDTH, HEIGHT, FPS = 800, 450, 15
RED_BLUE, BLACK, GREEN_GREY = ((190, 40, 40), (40, 60, 150)), ((30, 30, 30), (25, 25, 28)), ((60, 140, 70), (120, 120, 120))
NOISE = np.random.default_rng(1).normal(size=(HEIGHT, WIDTH, 3)) * 4
Clothes = tuple[tuple[int, int, int], tuple[int, int, int]]


def picture(people: Sequence[Person], clothes: Sequence[Clothes], t: float, light: float = 1.0) -> NDArray[np.uint8]:
    """Upper body and legs as boxes on grey with noise, the first in front."""
    rgb = 170.0 + np.roll(NOISE, round(t * 997), 0)
    for person, (upper, legs) in reversed([*zip(people, clothes, strict=True)]):
        if person.seen(t):
            x, y = person.centre_px(t)
            h = person.height_px
            for (top, bottom), colour in (((-0.38, 0.0), upper), ((0.0, 0.5), legs)):
                rows, columns = slice(int(y + top * h), int(y + bottom * h)), slice(max(int(x - 0.13 * h), 0), int(x + 0.13 * h))
                rgb[rows, columns] = np.array(colour) + NOISE[rows, columns]
    return (light * rgb).clip(0, 255).astype(np.uint8)


def meet_and_turn_back(t: float) -> float:
    """The way from the place of meeting, which is reached after 1.5 s."""
    return abs(t - 1.5) * 160


def two_who_meet() -> list[Person]:
    """They walk towards each other behind something, and both come out where they went in."""
    left: Path = lambda t: (395 - meet_and_turn_back(t), 300)
    right: Path = lambda t: (405 + meet_and_turn_back(t), 300)
    return [Person(left, hidden_s=[(1.2, 1.75)]), Person(right, hidden_s=[(1.2, 1.75)])]


def follow(
    people: Sequence[Person], clothes: Sequence[Clothes] | None, light: float = 1.0, seconds: float = 3.0
) -> tuple[dict[int, set[int]], list[tuple[float, int]]]:
    """For every person the ids of their boxes, and who was in doubt when. From 1 s on there is this much light."""
    tracker, rng = people_tracker(), np.random.default_rng(0)
    ids: dict[int, set[int]] = {i: set() for i in range(len(people))}
    doubts = []
    for t in times(FPS, seconds):
        rgb = None if clothes is None else picture(people, clothes, t, light if t >= 1 else 1.0)
        detections, who = look(people, float(t), rng)
        tracks = tracker.update(detections, float(t), rgb)
        for row in np.flatnonzero(tracks.observed):
            overlap = [box_iou(tracks.boxes_xyxy_px[row][None], people[i].box(t)[None])[0, 0] for i in who]
            ids[who[int(np.argmax(overlap))]].add(int(tracks.track_id[row]))
        doubts += [(float(t), int(one)) for one in tracks.track_id[tracks.identity_doubt]]
    return ids, doubts


def test_people_in_other_clothes_who_turn_back_where_they_meet_keep_their_identities() -> None:
    people = two_who_meet()
    blind, _ = follow(people, None)
    assert max(map(len, blind.values())) > 1, "places alone say that they walked past each other"
    ids, _ = follow(people, [RED_BLUE, BLACK])
    assert all(len(of_one) == 1 for of_one in ids.values())
    assert not ids[0] & ids[1]


def test_who_comes_out_from_behind_something_in_other_clothes_is_somebody_else() -> None:
    """One walks behind something at 1 s, another comes out of it a third of a second later and walks on in the same way."""
    on: Path = straight(200, 300, 100)
    people = [Person(on, leaves_s=1.0), Person(on, enters_s=1.34)]
    same, _ = follow(people, [RED_BLUE, RED_BLUE])
    assert same[0] == same[1], "in the same clothes it is the same person"
    other, _ = follow(people, [RED_BLUE, BLACK])
    assert not other[0] & other[1]


def test_people_in_the_same_clothes_who_meet_are_in_doubt_then_and_only_then() -> None:
    people = two_who_meet()
    _, doubts = follow(people, [BLACK, BLACK])
    assert doubts
    assert all(1.0 < t < 2.2 for t, _ in doubts)
    _, plain = follow([Person(straight(200, 300, 60)), Person(straight(500, 300, 60))], [BLACK, BLACK])
    assert not plain


def test_somebody_who_steps_out_of_a_known_persons_box_leaves_that_one_in_doubt() -> None:
    """Another comes out from behind somebody and is followed in their place; later the first is seen again, and counts as new."""
    first = Person(straight(300, 300), hidden_s=[(1.0, 1.8)])
    other = Person(lambda t: (300 + 50 * (t - 1), 300), enters_s=1.0)
    elsewhere = Person(straight(650, 300), enters_s=1.0)
    ids, doubts = follow([first, other, elsewhere], [BLACK, BLACK, BLACK])
    assert ids[0] & ids[1], "the identity went from one to the other"
    assert doubts
    assert all(1.8 <= t <= 2.0 for t, _ in doubts)
    assert {who for _, who in doubts} == ids[0] & ids[1]


@pytest.mark.parametrize("light", [0.25, 1.6])
def test_people_stay_who_they_are_when_the_light_changes(light: float) -> None:
    people = [Person(straight(200, 300, 60)), Person(straight(450, 300, 60))]
    ids, _ = follow(people, [RED_BLUE, GREEN_GREY], light)
    assert all(len(of_one) == 1 for of_one in ids.values())


def looks(people: Sequence[Person], clothes: Sequence[Clothes], t: float, keypoints: bool = True) -> Appearance:
    points = np.stack([person.keypoints(t) for person in people])
    points[..., 2] *= keypoints
    return appearance_of(picture(people, clothes, t), np.stack([person.box(t) for person in people]), points)


@pytest.mark.parametrize("keypoints", [True, False])
def test_looks_say_who_is_who_with_keypoints_and_without(keypoints: bool) -> None:
    people, clothes = [Person(straight(150 + 200 * i, 300, 20)) for i in range(3)], [RED_BLUE, BLACK, GREEN_GREY]
    told = log_likelihood_ratio(looks(people, clothes, 0.0, keypoints), looks(people, clothes, 1.0, keypoints))
    assert (np.diagonal(told) > 1).all()
    assert told[~np.eye(3, dtype=bool)].max() < -2


def test_what_may_be_of_somebody_else_says_little_and_outside_of_the_picture_nothing() -> None:
    people = [Person(straight(300, 300)), Person(straight(330, 300)), Person(straight(-150, 300))]
    found = looks(people, [BLACK, RED_BLUE, BLACK], 0.0)
    assert found.seen[:2].max() < 0.5
    assert not found.seen[2].any()
    assert not log_likelihood_ratio(found, found)[2].any()


def test_a_turned_picture_shows_the_same_clothes() -> None:
    person = Person(straight(300, 300))
    upright = looks([person], [RED_BLUE], 0.0, keypoints=False)
    turned = np.rot90(picture([person], [RED_BLUE], 0.0), 1)  # a quarter against the clock: heads point left
    left, top, right, bottom = person.box(0.0)
    box = np.array([[top, WIDTH - right, bottom, WIDTH - left]])
    found = appearance_of(np.ascontiguousarray(turned), box, np.zeros((1, 17, 3)), -np.pi / 2)
    assert float(log_likelihood_ratio(found, upright)[0, 0]) > 1.5


# ---- furniture ----------------------------------------------------------------------------------------------------------


def detected(person: Person, t: float, score: float) -> Detections:
    return Detections(person.box(t)[None].astype(np.float32), np.array([score], np.float32), person.keypoints(t)[None].astype(np.float32))


def judged(tracker: PeopleTracker, found: Detections, t: float, keypoint_score: float) -> Tracks:
    tracks = tracker.update(found, t)
    keypoints = tracks.keypoints_px.copy()
    keypoints[..., 2] = keypoint_score
    return tracker.believed(replace(tracks, keypoints_px=keypoints))


def test_furniture_is_never_reported_and_takes_no_number() -> None:
    tracker, chair, person = (
        people_tracker(min_keypoint_score=0.45),
        Person(straight(100, 300)),
        Person(straight(500, 300, 50), enters_s=1.0),
    )
    for t in times(FPS, 2):
        both = [detected(chair, t, 0.42), *([detected(person, t, 0.42)] if person.seen(t) else [])]
        columns = [np.concatenate([getattr(one, name) for one in both]) for name in ("boxes_xyxy_px", "scores", "keypoints_px")]
        tracks = tracker.update(Detections(*columns), float(t))
        keypoints = tracks.keypoints_px.copy()
        keypoints[..., 2] = np.where(tracks.boxes_xyxy_px[:, :1] < 300, 0.33, 0.6)
        tracks = tracker.believed(replace(tracks, keypoints_px=keypoints))
        assert (tracks.boxes_xyxy_px[:, 0] > 300).all()
    assert tracks.track_id.tolist() == [1]


@pytest.mark.parametrize(("detector", "keypoints"), [(0.4, 0.55), (0.8, 0.2)])
def test_plain_keypoints_or_a_sure_detector_report_somebody_in_the_first_frame(detector: float, keypoints: float) -> None:
    tracker = people_tracker(min_keypoint_score=0.45)
    assert judged(tracker, detected(Person(straight(300, 300)), 0.0, detector), 0.0, keypoints).track_id.tolist() == [1]


def test_a_person_hidden_for_a_moment_stays_and_one_who_turns_out_to_be_nobody_goes() -> None:
    tracker, person = people_tracker(min_keypoint_score=0.45), Person(straight(300, 300))
    there = []
    for t in times(FPS, 6):
        hidden = 1 <= t < 1.6 or t >= 3
        there.append((float(t), judged(tracker, detected(person, t, 0.4), float(t), 0.1 if hidden else 0.7).track_id.tolist()))
    assert all(ids == [1] for t, ids in there if t < 3)
    assert all(ids == [] for t, ids in there if t > 4.5)


def test_somebody_whom_the_detector_loses_for_long_is_carried_on() -> None:
    tracker, person = people_tracker(min_keypoint_score=0.45, carry_s=2.0), Person(straight(300, 300))
    for t in times(FPS, 3):
        found = Detections.empty() if t > 1 else detected(person, t, 0.8)
        if t > 2.5:
            found = detected(person, t, 0.4)  # found again, but with the limbs of an acrobat
        tracks = judged(tracker, found, float(t), 0.1 if t > 1 else 0.7)
        tracker.confirm(tracks.track_id, person.keypoints(t)[None].astype(np.float32), np.full(1, 0.6, np.float32))
        assert tracks.track_id.tolist() == [1]


def test_a_tables_foot_is_nobody(shared: FilePath, tmp_path: FilePath) -> None:
    """Empty for three seconds but for a table, which the detector takes for somebody with a score of up to 0.4."""
    settings = settings_from(
        {
            "source": {"start_s": 2.0, "end_s": 2.6},
            "output": {"overlay": False},
            "fit": {"kind": "none"},
            "crops": {"views": 1},
            "runtime": {"device": "cpu"},
        }
    )
    clip = shared / "media" / "one-by-one-person-detection.mp4"
    assert not load(process_video(clip, tmp_path / "now", settings).npz).tracks
    before = settings.model_copy(update={"tracker": settings.tracker.model_copy(update={"min_keypoint_score": 0.0})})
    assert len(load(process_video(clip, tmp_path / "before", before).npz).tracks) == 1
