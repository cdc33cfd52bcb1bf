"""`source.rotate`: cameras that lie on their side or stand upside down."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import media
import numpy as np
import pytest
from components import skip_without
from painted_sources import ONE_PERSON, Pictures, variant
from people import FPS, people_picture, people_pictures
from usual_tracker import people_tracker

from mchmr_stream.config import Settings, SourceSettings, settings_from
from mchmr_stream.cropping.base_box import base_boxes
from mchmr_stream.cropping.crop_layouts import layout
from mchmr_stream.datatypes import Detections, Float, Frame, Scene, SourceInfo
from mchmr_stream.detection.auto_rotate import AutoRotateDetector
from mchmr_stream.detection.keyframes import interpolate
from mchmr_stream.detection.rotated_detector import rotate_back, rotate_frame, up_rad
from mchmr_stream.errors import UsageError
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.jobs.video_job import process_video
from mchmr_stream.pipeline.factory import build_upright_detector
from mchmr_stream.pipeline.pipeline import Pipeline
from mchmr_stream.sources import open_source

QUARTERS = [1, 2, 3]
STANDING = np.array(
    [[0, -80], [3, -84], [-3, -84], [7, -82], [-7, -82], [18, -60], [-18, -60], [24, -30], [-24, -30], [26, -5], [-26, -5], [11, 0],
     [-11, 0], [11, 42], [-11, 42], [11, 85], [-11, 85]], np.float32,
)  # fmt: skip
"""The 17 keypoints of somebody upright, px around the middle of the hips."""


def filmed(picture: np.ndarray, quarters: int) -> np.ndarray:
    """A picture as a camera gives it that has to be turned by so many quarters clockwise."""
    return np.ascontiguousarray(np.rot90(picture, quarters))


# ---- laws of turning ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_pixel_found_in_the_turned_picture_is_where_it_is_in_the_one_filmed(quarters: int) -> None:
    rgb = np.zeros((5, 8, 3), np.uint8)
    rgb[1, 6] = 255
    rgb[3:5, 2:6, 1] = 100
    turned = rotate_frame(Frame(7, 0.5, rgb), quarters)
    assert (turned.index, turned.time_s) == (7, 0.5)
    (y,), (x,) = np.nonzero(turned.rgb[..., 0])
    rows, columns = np.nonzero(turned.rgb[..., 1] == 100)
    keypoints = np.full((1, 17, 3), np.nan, np.float32)
    keypoints[..., 2] = 0
    keypoints[0, 3] = x, y, 0.7
    box = np.array([[columns.min(), rows.min(), columns.max(), rows.max()]], np.float32)
    back = rotate_back(Detections(box, np.array([0.9], np.float32), keypoints), quarters, 8, 5)
    np.testing.assert_array_equal(back.keypoints_px[0, 3], np.array([6, 1, 0.7], np.float32))
    np.testing.assert_array_equal(back.boxes_xyxy_px, [[2, 3, 5, 4]])
    assert np.isnan(np.delete(back.keypoints_px[0], 3, 0)[:, :2]).all()
    assert back.up_rad == up_rad(quarters)


def test_four_quarters_are_no_turn_and_quarters_add_up() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (4, 7, 3), dtype=np.uint8)
    frame = Frame(0, 0.0, rgb)
    for quarters in (1, 2, 3):
        step = frame
        for _ in range(quarters):
            step = rotate_frame(step, 1)
        np.testing.assert_array_equal(rotate_frame(frame, quarters).rgb, step.rgb)
        np.testing.assert_array_equal(rotate_frame(step, 4 - quarters).rgb, rgb)
    np.testing.assert_array_equal(rotate_frame(frame, 1).rgb[0, -1], rgb[0, 0], "clockwise: top left goes to the top right")


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
@pytest.mark.parametrize("trunk_seen", [True, False])
def test_crops_of_people_who_stand_in_the_turned_picture_are_turned_to_where_up_is(quarters: int, trunk_seen: bool) -> None:
    """By the trunk, or where that is not seen by `up_rad` alone, as the tracker passes it on, also through a frame without detections."""
    width, height = (640, 480) if quarters % 2 == 0 else (480, 640)
    keypoints = np.concatenate([STANDING + np.array([300, 200]), np.full((17, 1), 0.8, np.float32)], -1)[None]
    if not trunk_seen:
        keypoints[0, 11:, 2] = 0
    found = Detections(np.array([[270, 110, 330, 290]], np.float32), np.array([0.9], np.float32), keypoints)
    back = rotate_back(found, quarters, width, height)
    tracker = people_tracker()
    for tracks in (tracker.update(back, 0.0), tracker.update(None, 0.1)):
        assert len(tracks) == 1
        assert tracks.up_rad == up_rad(quarters)
        _, roll = base_boxes(tracks, Intrinsics.assumed(width, height), layout("wide", 1, None))
        np.testing.assert_allclose(np.exp(1j * roll), np.exp(1j * up_rad(quarters)), atol=1e-5)


def test_what_lies_between_two_detections_has_their_up() -> None:
    keypoints = np.concatenate([STANDING + np.array([300, 200]), np.full((17, 1), 0.8)], -1).astype(np.float32)[None]
    one = Detections(np.array([[270, 110, 330, 290]], np.float32), np.array([0.9], np.float32), keypoints, up_rad(1))
    assert interpolate(one, one, np.array([[0, 0]]), 0.5).up_rad == up_rad(1)


# ---- painted people, the real detector ---------------------------------------------------------------------------------


def scenes_of(pipeline: Pipeline, pictures: Sequence[media.Picture], say: list[str]) -> list[Scene]:
    class Turned(Pictures):
        def __init__(self) -> None:
            super().__init__(pictures)
            height, width = pictures[0].shape[:2]
            self.info = SourceInfo("turned", width, height, FPS, len(pictures))

    height, width = pictures[0].shape[:2]
    return list(pipeline.scenes(Turned(), Intrinsics.assumed(width, height), say=say.append))


AS_THE_NETWORK_SAYS = {"fit": {"kind": "none"}, "smoother": {"kind": "none"}}
"""An untrained network's bodies are nowhere near the people: rounding decides where a fit of them ends."""


@pytest.fixture(scope="module")
def upright_scenes(quick_pipeline: Pipeline) -> list[Scene]:
    said: list[str] = []
    scenes = scenes_of(variant(quick_pipeline, source={"rotate": 0}, **AS_THE_NETWORK_SAYS), ONE_PERSON, said)
    auto = scenes_of(variant(quick_pipeline, **AS_THE_NETWORK_SAYS), ONE_PERSON, said)
    assert said == [], "an upright camera is nothing to speak of"
    for one, other in zip(scenes, auto, strict=True):
        np.testing.assert_array_equal(one.joints_px, other.joints_px)
    return scenes


@pytest.mark.parametrize("given", ["auto", "explicit"])
@pytest.mark.parametrize("quarters", QUARTERS)
def test_a_turned_clip_gives_the_people_of_the_upright_one(
    quick_pipeline: Pipeline, upright_scenes: list[Scene], quarters: int, given: str
) -> None:
    """In the picture as filmed, from the first frame on; the crops are turned as exactly as the picture, so bodies agree too."""
    said: list[str] = []
    pipeline = variant(quick_pipeline, source={"rotate": "auto" if given == "auto" else 90 * quarters}, **AS_THE_NETWORK_SAYS)
    pictures = [filmed(picture, quarters) for picture in ONE_PERSON]
    scenes = scenes_of(pipeline, pictures, said)
    height, width = pictures[0].shape[:2]
    for scene, upright in zip(scenes, upright_scenes, strict=True):
        assert scene.frame.rgb.shape == (height, width, 3)
        expected = back(upright.joints_px, upright.bodies.boxes_xyxy_px, quarters, width, height)
        np.testing.assert_array_equal(scene.bodies.track_id, upright.bodies.track_id)
        np.testing.assert_allclose(scene.bodies.boxes_xyxy_px, expected[1], atol=0.01)
        np.testing.assert_allclose(scene.joints_px, expected[0], atol=1.0)
        np.testing.assert_allclose(scene.bodies.body_pose, upright.bodies.body_pose, atol=0.02)
        np.testing.assert_allclose(scene.joints_m[..., 2], upright.joints_m[..., 2], rtol=0.01)
    assert len(said) == (given == "auto")
    assert all(f"source.rotate={90 * quarters} " in line for line in said)


def test_fitted_bodies_of_a_turned_clip_are_those_of_the_upright_one(quick_settings: Settings) -> None:
    """With all that the pipeline does to them, and the weights that ship."""
    pipeline = Pipeline(quick_settings.model_copy(update={"network": Settings().network}))
    few = ONE_PERSON[:6]
    upright, turned = (scenes_of(pipeline, pictures, []) for pictures in (few, [filmed(picture, 1) for picture in few]))
    height, width = filmed(few[0], 1).shape[:2]
    assert any(len(scene) for scene in upright)
    for one, other in zip(upright, turned, strict=True):
        expected_px, _ = back(one.joints_px, one.bodies.boxes_xyxy_px, 1, width, height)
        np.testing.assert_allclose(other.joints_px, expected_px, atol=2.0)
        np.testing.assert_allclose(other.joints_m[..., 2], one.joints_m[..., 2], rtol=0.02)


def back(points_px: Float, boxes: Float, quarters: int, width: int, height: int) -> tuple[Float, Float]:
    """Points (n, k, 2) and boxes, by one keypoint after the other."""
    turned = []
    for point in np.moveaxis(points_px, 1, 0):
        keypoints = np.concatenate([np.repeat(point[:, None], 17, 1), np.ones((len(point), 17, 1))], -1).astype(np.float32)
        found = rotate_back(Detections(boxes, np.ones(len(boxes), np.float32), keypoints), quarters, width, height)
        turned.append(found.keypoints_px[:, 0, :2])
    return np.stack(turned, 1), found.boxes_xyxy_px


def test_said_in_report_and_result_and_forgotten_by_the_next_run(quick_pipeline: Pipeline, tmp_path: Path) -> None:
    """The networks are the same, but not what is known of the camera."""
    pipeline = variant(quick_pipeline, output={"overlay": False})
    pictures = people_pictures(8, [((-0.3, 0.3, 4.0), (0.3, 0.3, 4.0))])
    on_its_side = media.write_video(tmp_path / "side.mp4", [filmed(picture, 1) for picture in pictures], fps=FPS)
    one = media.write_video(tmp_path / "one.mp4", [filmed(pictures[0], 2)], fps=FPS)
    upright = media.write_video(tmp_path / "upright.mp4", pictures, fps=FPS)
    run = lambda clip: process_video(clip, tmp_path / "out", pipeline.settings, pipeline=pipeline)
    side, single, after = run(on_its_side), run(one), run(upright)
    assert [side.people, single.people, after.people] == [1, 1, 1]
    assert len(side.warnings) == 1
    assert "lies on its side" in side.warnings[0]
    assert "90 degrees clockwise" in side.warnings[0]
    assert json.loads(side.report.read_text())["warnings"] == side.warnings
    assert "upside down" in single.warnings[0], "a single picture is enough"
    assert after.warnings == []


def test_who_lies_beside_somebody_standing_does_not_turn_the_camera(quick_pipeline: Pipeline) -> None:
    said: list[str] = []
    detector = AutoRotateDetector(quick_pipeline.components.detector, said.append)
    for number in range(6):
        standing = people_picture(number, [(0.1 * number - 0.3, 0.3, 4.0)])
        lying = filmed(people_picture(0, [(0.0, 0.3, 4.0)])[:, 40:280], 1)
        frame = Frame(number, number / FPS, np.concatenate([standing, lying], 1))
        alone = Frame(number, number / FPS, lying)
        (found,) = detector.detect([frame])
        assert found.up_rad == 0
        np.testing.assert_array_equal(found.boxes_xyxy_px, quick_pipeline.components.detector.detect([frame])[0].boxes_xyxy_px)
    detector.close()
    assert said == []
    by_itself = AutoRotateDetector(quick_pipeline.components.detector, said.append)
    assert by_itself.detect([alone])[0].up_rad == up_rad(1), "it is seen, and alone it would"


# ---- which way up, with a detector that sees drawn-up people -----------------------------------------------------------


class Stage:
    """A detector of people who are written down: those upright in the picture it is given it sees well, others badly or not at all.

    Pictures are blank but for one pixel at the top left as filmed, which says how they are turned.
    """

    def __init__(self, people: Sequence[Sequence[int]]) -> None:
        """`people`: of each frame, by how many quarters each person's picture would have to be turned."""
        self.people = people
        self.looks: list[tuple[int, int]] = []

    def frames(self) -> list[Frame]:
        rgb = np.zeros((480, 640, 3), np.uint8)
        rgb[0, 0] = 255
        return [Frame(index, index / 10, rgb) for index in range(len(self.people))]

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        return [self._detect(frame) for frame in frames]

    def _detect(self, frame: Frame) -> Detections:
        corners = [bool(frame.rgb[row, column, 0]) for row, column in ((0, 0), (0, -1), (-1, -1), (-1, 0))]
        turned = corners.index(True)
        self.looks.append((frame.index, turned))
        keypoints, scores = [], []
        for place, person in enumerate(self.people[frame.index]):
            away = (person - turned) % 4
            if away == 2:
                continue
            points = STANDING @ np.array([[0, -1], [1, 0]]) if away else STANDING  # one's side, at best
            score = 0.5 if away else 0.9
            keypoints.append(np.concatenate([points + np.array([240, 150 + 80 * place]), np.full((17, 1), score)], -1))
            scores.append(score)
        boxes = [[*points[:, :2].min(0), *points[:, :2].max(0)] for points in keypoints]
        array = lambda values, *shape: np.array(values, np.float32).reshape(-1, *shape)
        return Detections(array(boxes, 4), array(scores), array(keypoints, 17, 3))

    def close(self) -> None:
        """Nothing is open."""


def ups(found: Sequence[Detections]) -> list[int]:
    """By how many quarters each frame was turned."""
    return [round(-one.up_rad / (np.pi / 2)) % 4 for one in found]


def test_an_upright_camera_costs_nothing() -> None:
    stage, said = Stage([[0], [0, 1], [0], [0], [0, 3, 3]] + [[1]] * 50), []
    detector = AutoRotateDetector(stage, said.append)
    found = detector.detect(stage.frames())
    assert stage.looks == [(index, 0) for index in range(55)]
    assert ups(found) == [0] * 55, "three frames with somebody standing settle it, whoever lies down later"
    assert said == []


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_how_many_frames_come_in_one_call_makes_no_difference(batch: int) -> None:
    """Nor that some in between are asked about later."""
    stage, said = Stage([[]] * 6 + [[1], [1, 1], [], [1]] * 8), []
    detector = AutoRotateDetector(stage, said.append)
    ahead = stage.frames()[::2]
    found: dict[int, Detections] = {}
    for start in range(0, len(ahead), batch):
        asked = ahead[start : start + batch]
        between = [frame for frame in stage.frames()[1::2] if frame.index < asked[-1].index and frame.index not in found]
        for frames in (asked, between):
            found |= {frame.index: one for frame, one in zip(frames, detector.detect(frames), strict=True)}
    assert ups([found[index] for index in range(37)]) == [0] * 6 + [1] * 31
    assert len(said) == 1


def test_somebody_lying_alone_turns_the_camera_only_until_somebody_stands() -> None:
    stage, said = Stage([[3]] * 60 + [[3, 0]] * 60 + [[3]] * 30), []
    detector = AutoRotateDetector(stage, said.append)
    found = ups(detector.detect(stage.frames()))
    assert found[:60] == [3] * 60
    assert set(found[100:]) == {0}, "upright for good"
    assert ["source.rotate=270" in said[0], "upright after all" in said[1], len(said)] == [True, True, 2]


@pytest.mark.parametrize("person", [[], [1, 0, 2]])
def test_doubt_costs_little_for_long(person: list[int]) -> None:
    """Nobody, or somebody who is never the same way up for long."""
    count = 2000
    people = [[person[index // 2 % len(person)]] if person else [] for index in range(count)]
    stage = Stage(people)
    detector = AutoRotateDetector(stage, [].append)
    for frame in stage.frames():
        detector.detect([frame])
    assert len(stage.looks) <= count * 1.1 + 100


def test_a_turn_that_was_said_stays_when_the_detector_takes_somebody_to_be_upside_down_for_a_while() -> None:
    stage, said = Stage([[1]] * 10 + [[3]] * 40 + [[2]] * 10), []
    detector = AutoRotateDetector(stage, said.append)
    assert ups(detector.detect(stage.frames())) == [1] * 60
    assert len(said) == 1


def test_a_glimpse_of_something_is_forgotten() -> None:
    stage, said = Stage([[]] * 3 + [[1]] + [[]] * 80), []
    detector = AutoRotateDetector(stage, said.append)
    assert ups(detector.detect(stage.frames()))[-1] == 0
    detector.close()
    assert said == []


# ---- settings, boxes, real cameras -------------------------------------------------------------------------------------


def test_boxes_from_a_file_are_of_the_picture_as_filmed(tmp_path: Path) -> None:
    class Given:
        def detect(self, frames: Sequence[Frame]) -> list[Detections]:
            return [Detections.from_boxes(np.array([[1, 2, 30, 50]], np.float32), np.ones(1, np.float32)) for _ in frames]

        def close(self) -> None:
            """Nothing is open."""

    frame = Frame(0, 0.0, np.zeros((60, 80, 3), np.uint8))
    for rotate, expected in (("auto", 0.0), (0, 0.0), (90, -np.pi / 2), (270, np.pi / 2)):
        settings = settings_from({"detector": {"kind": "boxes", "file": "boxes.txt"}, "source": {"rotate": rotate}})
        (found,) = build_upright_detector(settings, Given(), [].append).detect([frame])
        np.testing.assert_array_equal(found.boxes_xyxy_px, [[1, 2, 30, 50]])
        assert found.up_rad == expected


def test_other_turns_are_refused() -> None:
    with pytest.raises(UsageError, match=r"source\.rotate: got 45"):
        settings_from({"source": {"rotate": 45}})


@pytest.mark.parametrize(("clip", "quarters"), [("cam_0", 0), ("cam_1", 3), ("cam_2", 1), ("cam_3", 0)])
def test_a_man_at_a_desk_shows_how_each_of_four_cameras_is_mounted(
    shared: Path, quick_pipeline: Pipeline, clip: str, quarters: int
) -> None:
    path = shared / "data" / "validation" / "desk" / "4_cam_recording" / f"{clip}.mp4"
    if not path.exists():
        skip_without("shared", f"{path} is not there")
    said: list[str] = []
    detector = AutoRotateDetector(quick_pipeline.components.detector, said.append)
    source = open_source(path, SourceSettings(end_s=5))
    found = [detector.detect([frame])[0] for frame in source.frames()]
    source.close()
    assert ups(found)[0] == quarters, "from the first frame on"
    assert ups(found)[-1] == quarters
    assert len(said) == (quarters != 0)
