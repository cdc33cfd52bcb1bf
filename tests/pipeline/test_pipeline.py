"""The flow from pictures to scenes, with the real parts on painted people."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import media
import numpy as np
import pytest
from painted_sources import ONE_PERSON, Pictures, variant
from people import FPS, HEIGHT, STRIP_PX, WIDTH

import mchmr_stream
from mchmr_stream.config import Settings, settings_from
from mchmr_stream.datatypes import Detections, Float, Frame, Scene
from mchmr_stream.errors import InputError, MissingPart, TruncatedInput
from mchmr_stream.geometry.camera import Intrinsics, project
from mchmr_stream.pipeline.pipeline import Pipeline
from mchmr_stream.runtime.threads import plan_threads

CAMERA = Intrinsics.assumed(WIDTH, HEIGHT)
EMPTY = np.full((HEIGHT, WIDTH, 3), 150, np.uint8)


class CountingDetector:
    """Passes pictures on to a detector, if there is one, and remembers which they were."""

    def __init__(self, inner: object = None, fail_at: int | None = None) -> None:
        self.calls: list[list[int]] = []
        self._inner, self._fail_at = inner, fail_at

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        self.calls.append([frame.index for frame in frames])
        if self._fail_at is not None and frames[-1].index >= self._fail_at:
            raise RuntimeError("the detector fell over")
        return [Detections.empty() for _ in frames] if self._inner is None else self._inner.detect(frames)

    def close(self) -> None:
        """Nothing is open."""


def pelvis_px(share: float) -> Float:
    """Where the one person is painted after that share of the way."""
    return project(np.array([[0.6 * share - 0.3, 0.3, 4.0]]), CAMERA)[0]


def threads_of_a_run() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name in ("decode", "find", "write")]


def test_public_names_stay() -> None:
    assert mchmr_stream.__all__ == [
        "Bodies", "Components", "CropBatch", "CropEstimates", "Detections", "Detector", "Frame", "InputError", "Intrinsics", "LiveRun",
        "LiveSink", "MchmrError", "MeshEstimator", "MissingPart", "Moment", "Motion", "Pipeline", "Scene", "Settings", "Source",
        "SourceInfo", "SourceStatus", "SynchronousEstimator", "Track", "Tracks", "TruncatedInput", "UsageError", "VideoResult",
        "export_motion", "load", "load_settings", "process_video", "stream",
    ]  # fmt: skip
    assert [name for name in mchmr_stream.__all__ if getattr(mchmr_stream, name).__name__ != name] == []


def test_every_frame_is_a_scene_in_order_with_the_person_where_it_was_painted(tmp_path: Path, quick_settings: Settings) -> None:
    """Nobody for five frames, then one person who walks to the right."""
    clip = media.write_video(tmp_path / "clip.mp4", [EMPTY] * 5 + ONE_PERSON, fps=FPS)
    scenes = list(mchmr_stream.stream(clip, quick_settings))
    assert [scene.frame.index for scene in scenes] == list(range(17))
    assert [scene.bodies.frame for scene in scenes] == list(range(17))
    np.testing.assert_allclose([scene.bodies.time_s for scene in scenes], np.arange(17) / FPS, atol=1e-4)
    assert [len(scene) for scene in scenes[:5]] == [0] * 5
    with_person = scenes[9:]  # new people are reported once they were seen for tracker.confirm_s
    assert {tuple(scene.bodies.track_id) for scene in with_person} == {(1,)}
    for scene in with_person:
        x, y = pelvis_px((scene.frame.index - 5) / 11)
        left, top, right, bottom = scene.bodies.boxes_xyxy_px[0]
        assert abs((left + right) / 2 - x) < 12
        assert top < y < bottom
        np.testing.assert_allclose(scene.joints_px, project(scene.joints_m, scene.intrinsics), atol=1e-2)
        assert scene.vertices_m().shape == (1, 6890, 3)
        assert np.isfinite(scene.vertices_m()).all()


def test_joints_and_mesh_belong_together(quick_pipeline: Pipeline) -> None:
    scene = list(quick_pipeline.scenes(Pictures(ONE_PERSON[:2]), CAMERA))[1]
    joints_m, vertices_m = scene.joints_m[0], scene.vertices_m()[0]
    low, high = vertices_m.min(0) - 0.01, vertices_m.max(0) + 0.01
    assert ((low < joints_m) & (joints_m < high)).all()
    assert 0.5 < (high - low).max() < 3
    assert scene.faces.max() == len(vertices_m) - 1


@pytest.mark.parametrize("kind", ["two-sided", "causal", "none"])
@pytest.mark.parametrize(("interval", "batch"), [(1, 1), (3, 1), (3, 2), (1, 4), (5, 3)])
def test_no_frame_is_lost_or_swapped(quick_pipeline: Pipeline, interval: int, batch: int, kind: str) -> None:
    """The last call of the detector is not full, and the smoother holds frames back."""
    detector = CountingDetector()
    chosen = {"file_interval": interval, "batch": batch}
    pipeline = variant(quick_pipeline, detector, source={"rotate": 0}, detector=chosen, smoother={"kind": kind})
    scenes = list(pipeline.scenes(Pictures([EMPTY] * 16), CAMERA))
    assert [scene.frame.index for scene in scenes] == list(range(16))
    assert [scene.bodies.frame for scene in scenes] == list(range(16))
    assert [index for call in detector.calls for index in call] == list(range(0, 16, interval))
    assert max(len(call) for call in detector.calls) == batch


@pytest.mark.parametrize(("fps", "kind", "interval"), [(60, "movenet", 8), (30, "movenet", 4), (12, "movenet", 2), (60, "boxes", 1)])
def test_a_file_is_looked_at_as_often_a_second_whatever_its_rate(quick_pipeline: Pipeline, fps: float, kind: str, interval: int) -> None:
    """But boxes that came with the file are all taken."""
    detector = CountingDetector()
    chosen = {"kind": kind, "file_interval": None}
    pipeline = variant(quick_pipeline, detector, source={"rotate": 0}, detector=chosen, smoother={"kind": "none"})
    list(pipeline.scenes(Pictures([EMPTY] * 17, fps=fps), CAMERA))
    assert [index for call in detector.calls for index in call] == list(range(0, 17, interval))


def test_people_are_there_between_detections(quick_pipeline: Pipeline) -> None:
    detector = CountingDetector(quick_pipeline.components.detector)
    pipeline = variant(quick_pipeline, detector, detector={"file_interval": 3})
    scenes = list(pipeline.scenes(Pictures(ONE_PERSON), CAMERA))
    assert detector.calls == [[0], [3], [6], [9], [11]]
    assert [scene.bodies.track_id.tolist() for scene in scenes] == [[1]] * 12
    for scene in scenes:
        centre_px = float(scene.bodies.boxes_xyxy_px[0, [0, 2]].mean())
        assert abs(centre_px - pelvis_px(scene.frame.index / 11)[0]) < 12, "the box goes along with the person"


def test_only_what_is_not_given_is_loaded(quick_pipeline: Pipeline, quick_settings: Settings) -> None:
    """Neither the weights nor the file of boxes of these settings exist."""
    plain = quick_settings.model_dump()
    missing = {"network": {**plain["network"], "weights": "gone.safetensors"}, "detector": {"kind": "boxes", "file": "gone.txt"}}
    settings = settings_from({**plain, **missing})
    detector, estimator = CountingDetector(), quick_pipeline.components.estimator
    with pytest.raises(InputError, match=r"gone\.txt"):
        Pipeline(settings, estimator=estimator)
    with pytest.raises(MissingPart, match=r"gone\.safetensors"):
        Pipeline(settings, detector=detector)
    components = Pipeline(settings, detector=detector, estimator=estimator).components
    assert (components.detector, components.estimator) == (detector, estimator)
    assert (components.batches_at_once, components.frames_together) == (1, 1), "a stranger's network is not called from several threads"


def test_a_pipeline_with_another_component_shares_the_rest(quick_pipeline: Pipeline) -> None:
    detector, own = CountingDetector(), quick_pipeline.components
    other = quick_pipeline.with_components(detector=detector)
    assert [scene.bodies.track_id.tolist() for scene in other.scenes(Pictures([EMPTY] * 2), CAMERA)] == [[], []]
    assert detector.calls, "it is the one that was called"
    assert quick_pipeline.components is own
    shared = ("cropper", "estimator", "body", "keypoints", "batches_at_once", "frames_together")
    assert all(getattr(other.components, name) is getattr(own, name) for name in shared)
    with pytest.raises(TypeError, match="detektor"):
        quick_pipeline.with_components(detektor=detector)


def test_stream_leaves_a_given_pipeline_open(tmp_path: Path, quick_pipeline: Pipeline) -> None:
    clip = media.write_video(tmp_path / "clip.mp4", [EMPTY] * 3, fps=FPS)
    closed: list[str] = []
    detector = CountingDetector()
    detector.close = lambda: closed.append("detector")  # type: ignore[method-assign]
    pipeline = variant(quick_pipeline, detector)
    for _ in range(2):
        assert len(list(mchmr_stream.stream(clip, pipeline=pipeline))) == 3
    assert closed == []
    pipeline.close()
    assert closed == ["detector"]


@pytest.mark.parametrize(("batches_at_once", "together"), [(2, 1), (3, 1), (1, 4), (2, 5)])
def test_frames_side_by_side_and_together_give_the_same_bodies(quick_pipeline: Pipeline, batches_at_once: int, together: int) -> None:
    """Bit for bit side by side; several frames in a batch are added up in another order."""
    alone = quick_pipeline.with_components(batches_at_once=1, frames_together=1)
    several = quick_pipeline.with_components(batches_at_once=batches_at_once, frames_together=together)
    tolerance = 0.0 if together == 1 else 1e-5
    for one, other in zip(alone.scenes(Pictures(ONE_PERSON), CAMERA), several.scenes(Pictures(ONE_PERSON), CAMERA), strict=True):
        assert one.frame.index == other.frame.index
        np.testing.assert_allclose(one.bodies.body_pose, other.bodies.body_pose, rtol=0, atol=tolerance)
        np.testing.assert_allclose(one.joints_m, other.joints_m, rtol=0, atol=10 * tolerance)
    assert threads_of_a_run() == []


def test_leaving_early_with_frames_side_by_side_ends_all_threads(quick_pipeline: Pipeline, caplog: pytest.LogCaptureFixture) -> None:
    several = quick_pipeline.with_components(batches_at_once=3)
    scenes = several.scenes(Pictures(ONE_PERSON), CAMERA)
    next(scenes)
    scenes.close()
    assert threads_of_a_run() == []
    assert not caplog.records


@pytest.mark.parametrize("cores", [1, 2, 3, 4, 8, 16, 64, 256])
def test_threads_of_all_frames_fit_the_cores(cores: int) -> None:
    team, frames = plan_threads(None, cores, side_by_side=True)
    assert team >= 1
    assert 1 <= frames <= 8
    assert team * (frames + 1) <= max(cores, 3), "the detector's team beside those of the network"
    assert plan_threads(3, cores, side_by_side=True)[0] == 3
    assert plan_threads(None, cores, side_by_side=False) == (max(1, cores // 2), 1)


@pytest.mark.parametrize("together", [1, 4])
def test_a_slow_reader_keeps_little_in_memory(quick_pipeline: Pipeline, together: int) -> None:
    source = Pictures([EMPTY] * 40)
    pipeline = variant(quick_pipeline, CountingDetector(), runtime={"ahead": 2}, smoother={"kind": "none"}, detector={"file_interval": 2})
    pipeline = pipeline.with_components(batches_at_once=2, frames_together=together)
    furthest = 0
    for done, _ in enumerate(pipeline.scenes(source, CAMERA), start=1):
        time.sleep(0.005)
        furthest = max(furthest, source.taken - done)
    ahead = (2 + 1) + 2, (1 + 1) + 2 * (2 + 1)
    assert furthest <= ahead[0] + together * ahead[1], (
        "the decoder's thread with two finished frames and one in work, two that wait for each other; then batches: two threads with one "
        "or two finished, one in work, and two in the network"
    )
    assert furthest >= 3, "they do work ahead"


def test_leaving_the_loop_closes_everything(tmp_path: Path, quick_settings: Settings) -> None:
    clip = media.write_video(tmp_path / "clip.mp4", [EMPTY] * 60, fps=FPS)
    for scene in mchmr_stream.stream(clip, quick_settings):
        if scene.frame.index == 1:
            break
    assert threads_of_a_run() == []


def test_leaving_the_loop_ends_the_source(quick_pipeline: Pipeline) -> None:
    source = Pictures([EMPTY] * 60)
    scenes = variant(quick_pipeline, CountingDetector()).scenes(source, CAMERA)
    next(scenes)
    assert sorted(threads_of_a_run()) == ["decode", "find"]
    scenes.close()
    assert threads_of_a_run() == []
    assert source.ended
    assert source.taken < 60


def test_stop_ends_after_what_was_read(quick_pipeline: Pipeline) -> None:
    source, stop = Pictures([EMPTY] * 60), threading.Event()
    scenes: list[Scene] = []
    for scene in variant(quick_pipeline, CountingDetector()).scenes(source, CAMERA, stop=stop):
        scenes.append(scene)
        stop.set()
    assert source.taken - 1 <= len(scenes) <= source.taken < 60
    assert [scene.frame.index for scene in scenes] == list(range(len(scenes)))


@pytest.mark.parametrize("kind", ["two-sided", "none"])
def test_a_source_that_breaks_off_gives_all_its_frames_first(quick_pipeline: Pipeline, kind: str) -> None:
    source = Pictures([EMPTY] * 11, TruncatedInput("the rest is missing"))
    pipeline = variant(quick_pipeline, CountingDetector(), detector={"file_interval": 2, "batch": 3}, smoother={"kind": kind})
    seen: list[int] = []
    with pytest.raises(TruncatedInput, match="the rest is missing"):
        seen.extend(scene.frame.index for scene in pipeline.scenes(source, CAMERA))
    assert seen == list(range(11))
    assert threads_of_a_run() == []


@pytest.mark.parametrize("kind", ["two-sided", "none"])
def test_an_error_in_a_stage_reaches_the_reader_as_it_is_after_all_frames_before_it(quick_pipeline: Pipeline, kind: str) -> None:
    pipeline = variant(quick_pipeline, CountingDetector(fail_at=6), smoother={"kind": kind}, detector={"file_interval": 4})
    seen: list[int] = []
    with pytest.raises(RuntimeError, match="the detector fell over"):
        seen.extend(scene.frame.index for scene in pipeline.scenes(Pictures([EMPTY] * 20), CAMERA))
    assert seen == list(range(6)), "also the one that waited with the sixth to be asked about"
    assert threads_of_a_run() == []


def test_errors_of_the_input_come_before_the_networks_are_loaded(tmp_path: Path, quick_settings: Settings) -> None:
    settings = quick_settings.model_copy(update={"network": quick_settings.network.model_copy(update={"weights": "nowhere.safetensors"})})
    with pytest.raises(InputError, match=r"none\.mp4 does not exist"):
        next(mchmr_stream.stream(tmp_path / "none.mp4", settings))


def test_two_runs_of_one_pipeline_do_not_know_of_each_other(quick_pipeline: Pipeline) -> None:
    first, second = (list(quick_pipeline.scenes(Pictures(ONE_PERSON[:5]), CAMERA)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.bodies.track_id, [1])
        np.testing.assert_array_equal(one.joints_m, other.joints_m)
        np.testing.assert_array_equal(one.bodies.track_id, other.bodies.track_id)


def test_a_real_person_is_covered_by_the_body(shared: Path) -> None:
    """With the weights that ship: the joints lie over the person, where the detector sees the same joints."""
    from mchmr_stream.errors import MissingPart
    from mchmr_stream.network.weights import find_weights

    try:
        find_weights("default")
    except MissingPart as missing:
        pytest.skip(str(missing))
    settings = settings_from({"source": {"end_s": 0.4}, "runtime": {"device": "cpu", "threads": 1}})
    *_, scene = mchmr_stream.stream(shared / "media" / "asl-walk.mkv", settings)
    assert len(scene) == 1
    left, top, right, bottom = scene.bodies.boxes_xyxy_px[0]
    keypoints, joints_px = scene.bodies.keypoints_px[0], scene.joints_px[0]
    for keypoint, joint in ((5, 16), (6, 17), (7, 18), (8, 19)):  # shoulders and elbows
        if keypoints[keypoint, 2] > 0.5:
            assert np.linalg.norm(keypoints[keypoint, :2] - joints_px[joint]) < 0.15 * (bottom - top)
    assert left < joints_px[0, 0] < right
    assert 0.5 < scene.joints_m[0, 0, 2] < 5


def test_painted_numbers_survive_coding(tmp_path: Path) -> None:
    """What the other tests read frames by."""
    clip = media.write_video(tmp_path / "clip.mp4", ONE_PERSON, fps=FPS)
    settings = settings_from({})
    from mchmr_stream.pipeline.factory import open_input

    source, _ = open_input(clip, settings)
    assert [media.read_counter(frame.rgb[:STRIP_PX]) for frame in source.frames()] == list(range(12))
