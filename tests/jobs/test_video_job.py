"""The whole job on files: what is left after success, stopping, resuming and every kind of failure. Real parts, painted people."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import av
import av.error
import media
import numpy as np
import pytest
from people import FPS, HEIGHT, STRIP_PX, WIDTH, people_pictures
from places import ROOT

import mchmr_stream
from mchmr_stream import cli
from mchmr_stream.body.model import BodyModel
from mchmr_stream.cli.video import process
from mchmr_stream.config import Settings, settings_from
from mchmr_stream.datatypes import Detections, Frame
from mchmr_stream.errors import InputError, MchmrError, TruncatedInput, UsageError
from mchmr_stream.files.atomic import hidden_mark
from mchmr_stream.jobs import video_job
from mchmr_stream.jobs.video_job import VideoResult, process_video
from mchmr_stream.motion.motion import Motion, load
from mchmr_stream.pipeline.pipeline import Pipeline
from mchmr_stream.sinks.overlay import OverlaySink
from mchmr_stream.video_encoding import h264

FRAMES = 24
TWO_PEOPLE = people_pictures(FRAMES, [((-1.0, 0.3, 4.5), (-0.4, 0.3, 4.5)), ((1.0, 0.3, 4.0), (0.5, 0.3, 4.0))])
BODY_COLUMNS = (
    "track_id", "global_orient", "body_pose", "betas", "transl", "keypoints_px", "confidence", "views_cam", "interpolated",
)  # fmt: skip
"""Columns that are called as they are in `Bodies`."""
EMPTY = np.full((HEIGHT, WIDTH, 3), 150, np.uint8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people on either side, with sound; every picture carries its number."""
    return media.write_video(tmp_path_factory.mktemp("clips") / "clip.mp4", TWO_PEOPLE, fps=FPS, audio_s=FRAMES / FPS)


@pytest.fixture
def settings(quick_settings: Settings) -> Settings:
    return quick_settings


@pytest.fixture
def pipeline(quick_pipeline: Pipeline) -> Pipeline:
    return quick_pipeline


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline) -> None:
    """Whoever makes a pipeline gets the one that is loaded already, with the settings asked for."""

    def with_settings(settings: Settings) -> Pipeline:
        return Pipeline(settings, pipeline.components)

    monkeypatch.setattr(video_job, "Pipeline", with_settings)
    monkeypatch.setattr("mchmr_stream.pipeline.pipeline.Pipeline", with_settings)


def changed(settings: Settings, **changes: dict[str, object]) -> Settings:
    return settings_from({section: {**values, **changes.get(section, {})} for section, values in settings.model_dump().items()})


class StopAfter(threading.Event):
    """Is set once it was asked so many times: the run asks before each frame that it takes."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self._left = frames

    def is_set(self) -> bool:
        self._left -= 1
        return self._left < 0


def run(path: Path, out: Path, pipeline: Pipeline, settings: Settings, *, stop_after: int | None = None, **options: bool) -> VideoResult:
    """`process_video` with networks that are loaded already; with `stop_after`, so many frames are read."""
    stop = None if stop_after is None else StopAfter(stop_after)
    return process_video(path, out, stop=stop, pipeline=Pipeline(settings, pipeline.components), **options)


def report_of(out: Path, stem: str = "clip") -> dict:
    return json.loads((out / f"{stem}.json").read_text())


def numbers_shown(path: Path) -> list[int]:
    """The numbers painted on the pictures of an overlay."""
    with av.open(str(path)) as container:
        return [media.read_counter(frame.to_ndarray(format="rgb24")[:STRIP_PX]) for frame in container.decode(video=0)]


def times_shown(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def side_of(motion: Motion, identity: int) -> str:
    """On which side of the picture a person was all the time."""
    centres = motion.tracks[identity].box_xyxy_px[:, [0, 2]].mean(1)
    return "left" if (centres < WIDTH / 2).all() else "right" if (centres > WIDTH / 2).all() else "both"


# Success.


def test_three_whole_files_and_nothing_else(clip: Path, tmp_path: Path, pipeline: Pipeline, settings: Settings) -> None:
    seen: list[tuple[int, int | None]] = []
    out = tmp_path / "new" / "out"

    def progress(frames: int, expected: int | None) -> None:
        assert not [name for name in names(out) if not name.startswith(".")], "nothing appears before it is whole"
        seen.append((frames, expected))

    result = process_video(clip, out, settings, progress=progress, pipeline=pipeline)
    assert names(out) == ["clip.json", "clip.mp4", "clip.npz"]
    assert (result.frames, result.people, result.complete, result.message, result.warnings) == (FRAMES, 2, True, None, [])
    assert (result.npz, result.overlay, result.report) == (out / "clip.npz", out / "clip.mp4", out / "clip.json")
    assert seen == [(i, FRAMES) for i in range(1, FRAMES + 1)]
    motion = load(out / "clip.npz")
    np.testing.assert_array_equal(motion.frames, range(FRAMES))
    assert sorted(side_of(motion, identity) for identity in motion.tracks) == ["left", "right"]
    assert settings_from(motion.settings) == settings
    assert numbers_shown(out / "clip.mp4") == list(range(FRAMES))
    with av.open(str(out / "clip.mp4")) as container:
        assert len(container.streams.audio) == 1
    report = report_of(out)
    assert (report["complete"], report["frames"], report["frames_with_people"], len(report["people"])) == (True, FRAMES, FRAMES, 2)
    assert (report["error"], report["device"]) == (None, "cpu")
    assert 0 <= (datetime.now(UTC) - datetime.fromisoformat(report["date"])).total_seconds() < 600
    assert 0 < report["wall_s"] < 600
    assert report["source"] | {"path": str(clip), "bytes": clip.stat().st_size, "still": False} == report["source"]
    for person in report["people"]:
        assert person["mean_confidence"] == pytest.approx(motion.tracks[person["track_id"]].confidence.mean(), abs=1e-3)
    rows = np.concatenate([track.confidence for track in motion.tracks.values()])
    assert report["mean_confidence"] == pytest.approx(rows.mean(), abs=1e-3)
    stages = {"decode", "detect", "track", "keypoints", "crop", "network", "fit", "smooth", "align", "write OverlaySink"}
    assert stages <= set(report["timings_ms"])


def test_a_standing_camera_only_adds_a_world(clip: Path, tmp_path: Path, pipeline: Pipeline, settings: Settings) -> None:
    static = changed(settings, camera={"static": True}, output={"overlay": False})
    result = run(clip, tmp_path / "world", pipeline, static)
    run(clip, tmp_path / "plain", pipeline, changed(settings, output={"overlay": False}))
    grounded, plain = load(tmp_path / "world" / "clip.npz"), load(tmp_path / "plain" / "clip.npz")
    assert grounded.world is not None, result.warnings
    assert result.world is not None
    assert "an estimate" in result.world
    assert set(grounded.world.info["warnings"]) <= set(report_of(tmp_path / "world")["warnings"])
    for identity, track in plain.tracks.items():
        np.testing.assert_array_equal(grounded.tracks[identity].joints_m, track.joints_m)
        assert np.isfinite(grounded.tracks[identity].world.world_joints_m).all()


def test_without_feet_the_run_is_whole_and_says_why_there_is_no_world(
    clip: Path, tmp_path: Path, pipeline: Pipeline, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mchmr_stream.world.foot_contacts.SHORTEST_CONTACT_S", 100.0)  # nobody stands for so long
    result = run(clip, tmp_path, pipeline, changed(settings, camera={"static": True}, output={"overlay": False}))
    assert result.complete
    assert result.world is None
    assert load(result.npz).world is None
    assert any("no world coordinates" in text for text in report_of(tmp_path)["warnings"])


def test_the_world_is_in_the_file_when_it_appears(
    clip: Path, tmp_path: Path, pipeline: Pipeline, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at any time, the file is absent or final."""
    static = changed(settings, camera={"static": True}, output={"overlay": False})
    real = video_job.ground

    def while_nothing_is_there(motion: Motion, body: BodyModel) -> Motion:
        assert [name for name in names(tmp_path) if not name.startswith(".")] == []
        return real(motion, body)

    monkeypatch.setattr(video_job, "ground", while_nothing_is_there)
    assert load(run(clip, tmp_path, pipeline, static).npz).world is not None


def test_an_error_in_the_world_costs_the_world_only(
    clip: Path, tmp_path: Path, pipeline: Pipeline, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(motion: Motion, body: BodyModel) -> Motion:
        raise np.linalg.LinAlgError("singular")

    monkeypatch.setattr(video_job, "ground", failing)
    static = changed(settings, camera={"static": True}, output={"overlay": False}, source={"end_s": 0.2})
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        run(clip, tmp_path, pipeline, static)
    assert len(load(tmp_path / "clip.npz").frames) == 3
    assert load(tmp_path / "clip.npz").world is None
    assert (report_of(tmp_path)["complete"], report_of(tmp_path)["warnings"]) == (False, ["singular"])


def test_files_hold_what_stream_yields(clip: Path, tmp_path: Path, pipeline: Pipeline, settings: Settings) -> None:
    settings = changed(settings, detector={"file_interval": 3}, source={"end_s": 0.5}, output={"overlay": False}, fit={"passes": 1})
    run(clip, tmp_path, pipeline, settings)
    assert names(tmp_path) == ["clip.json", "clip.npz"]
    scenes = list(mchmr_stream.stream(clip, settings))
    with np.load(tmp_path / "clip.npz", allow_pickle=False) as got:
        np.testing.assert_array_equal(got["frames"], [scene.frame.index for scene in scenes])
        np.testing.assert_array_equal(got["frames_time_s"], [scene.frame.time_s for scene in scenes])
        np.testing.assert_array_equal(got["frame"], np.concatenate([np.full(len(scene), scene.frame.index) for scene in scenes]))
        for name in BODY_COLUMNS:
            if name not in ("betas", "transl"):
                np.testing.assert_array_equal(got[name], np.concatenate([getattr(scene.bodies, name) for scene in scenes]), name)
        np.testing.assert_array_equal(got["box_xyxy_px"], np.concatenate([scene.bodies.boxes_xyxy_px for scene in scenes]))
        # The file's shapes are those of whole tracks, a stream's of what was seen so far: people look alike with both.
        assert all(np.ptp(got["betas"][got["track_id"] == identity], axis=0).max() == 0 for identity in np.unique(got["track_id"]))
        np.testing.assert_allclose(got["joints_px"], np.concatenate([scene.joints_px for scene in scenes]), atol=0.5)


def test_nobody_is_not_a_failure_and_is_said_once(
    tmp_path: Path, settings: Settings, loaded: None, capsys: pytest.CaptureFixture[str]
) -> None:
    film = media.write_video(tmp_path / "empty.mp4", [EMPTY] * 8, fps=FPS)
    assert command(film, tmp_path / "out", settings) == 0
    out, err = capsys.readouterr()
    assert "8 frames, 0 people" in out
    assert err.count("no people were found") == 1
    motion = load(tmp_path / "out" / "empty.npz")
    assert (len(motion.frames), motion.tracks) == (8, {})
    with np.load(tmp_path / "out" / "empty.npz") as arrays:
        assert arrays["joints_m"].shape == (0, 24, 3)
    report = report_of(tmp_path / "out", "empty")
    assert (report["complete"], report["people"], report["frames_with_people"]) == (True, [], 0)
    assert report["warnings"] == ["no people were found; the arrays are empty"]
    assert len(times_shown(tmp_path / "out" / "empty.mp4")) == 8


# Stopping and resuming.


@pytest.mark.parametrize(
    "changes",
    [
        {"smoother": {"kind": "none"}},
        {"smoother": {"kind": "two-sided"}, "detector": {"file_interval": 3}},
        {"source": {"every": 3, "start_s": 0.06}, "detector": {"file_interval": 2}},
    ],
    ids=["plain", "interval and smoother", "every third frame"],
)
def test_a_stopped_run_is_finished_by_resuming(
    clip: Path, tmp_path: Path, pipeline: Pipeline, settings: Settings, changes: dict[str, dict[str, object]]
) -> None:
    settings = changed(settings, **changes)
    frames = list(range(1 if settings.source.start_s else 0, FRAMES, settings.source.every))
    first = run(clip, tmp_path, pipeline, settings, stop_after=5)
    assert (first.frames, first.complete, report_of(tmp_path)["complete"]) == (5, False, False)
    assert load(first.npz).frames.tolist() == numbers_shown(tmp_path / "clip.mp4") == frames[:5]
    second = run(clip, tmp_path, pipeline, settings, resume=True)
    assert (second.frames, second.complete, second.people) == (len(frames), True, 2)
    motion = load(second.npz)
    assert motion.frames.tolist() == numbers_shown(tmp_path / "clip.mp4") == frames
    np.testing.assert_allclose(motion.frames_time_s, np.array(frames) / FPS, atol=1e-4)
    np.testing.assert_allclose(times_shown(tmp_path / "clip.mp4"), motion.frames_time_s - motion.frames_time_s[0], atol=1e-4)
    assert list(motion.tracks) == [1, 2]
    assert sorted(side_of(motion, identity) for identity in (1, 2)) == ["left", "right"]
    assert [track.frame.tolist() for track in motion.tracks.values()] == [frames, frames]
    report = report_of(tmp_path)
    assert (report["complete"], report["frames"], report["source"]["expected_frames"]) == (True, len(frames), len(frames))
    assert [person["rows"] for person in report["people"]] == [len(frames), len(frames)]


def test_resuming_twice_gives_what_one_run_gives(clip: Path, tmp_path: Path, pipeline: Pipeline, settings: Settings) -> None:
    """The warm-up reaches back to the beginning here, nothing is smoothed, and every frame is asked about: the same numbers.

    With the detector on each n-th frame a stop shifts which: boxes between them then differ by less than a pixel. A stopped run has no
    second pass, and that of the run after it knows shapes of its own frames only.
    """
    settings = changed(settings, smoother={"kind": "none"}, source={"end_s": 1.0}, detector={"file_interval": 1}, fit={"passes": 1})
    run(clip, tmp_path / "whole", pipeline, settings)
    counts = [run(clip, tmp_path / "parts", pipeline, settings, stop_after=after, resume=True).frames for after in (3, 9, None)]
    assert counts == [3, 9, 15]
    with np.load(tmp_path / "whole" / "clip.npz") as whole, np.load(tmp_path / "parts" / "clip.npz") as parts:
        for name in whole.files:
            if whole[name].dtype.kind == "f":
                np.testing.assert_allclose(parts[name], whole[name], rtol=1e-4, atol=1e-4, err_msg=name)
            else:
                np.testing.assert_array_equal(parts[name], whole[name], name)
    assert numbers_shown(tmp_path / "parts" / "clip.mp4") == list(range(15))
    with av.open(str(tmp_path / "parts" / "clip.mp4")) as container:
        sound = [frame.time for frame in container.decode(audio=0)]
    assert sound[-1] == pytest.approx(1.0, abs=0.15)


def test_a_run_stopped_before_its_first_frame_can_be_resumed(clip: Path, tmp_path: Path, pipeline: Pipeline, settings: Settings) -> None:
    settings = changed(settings, source={"start_s": 1.2}, output={"audio": False})
    first = run(clip, tmp_path, pipeline, settings, stop_after=0)
    assert (first.frames, first.complete, first.overlay) == (0, False, None)
    second = run(clip, tmp_path, pipeline, settings, resume=True)
    assert (second.frames, second.complete) == (6, True)
    np.testing.assert_array_equal(load(tmp_path / "clip.npz").frames, range(18, 24))


def test_a_complete_run_is_left_alone(
    clip: Path, tmp_path: Path, pipeline: Pipeline, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = changed(settings, source={"end_s": 0.2})
    run(clip, tmp_path, pipeline, settings)
    before = bytes_of(tmp_path)
    monkeypatch.setattr(video_job, "Pipeline", lambda _: pytest.fail("the networks need not be loaded"))
    result = process_video(clip, tmp_path, settings, resume=True)
    assert (result.complete, result.frames, result.people, result.message) == (True, 3, 2, "was complete already")
    assert bytes_of(tmp_path) == before


@pytest.mark.parametrize("stop_after", [3, None], ids=["stopped", "complete"])
def test_another_input_of_the_same_name_is_not_gone_on_with(
    clip: Path,
    tmp_path: Path,
    settings: Settings,
    pipeline: Pipeline,
    loaded: None,
    stop_after: int | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = changed(settings, source={"end_s": 0.4}, output={"overlay": False})
    out, other = tmp_path / "out", tmp_path / "clip.mp4"
    media.write_video(other, TWO_PEOPLE[::-1], fps=FPS)
    run(clip, out, pipeline, settings, stop_after=stop_after)
    before = bytes_of(out)
    assert command(other, out, settings, "--resume") == 2
    said = capsys.readouterr()
    assert re.fullmatch(
        r"mchmr: \S+clip\.npz was made of another input, clip\.mp4 \(.*\), now it is clip\.mp4 \(.*--overwrite .*\n", said.err
    )
    assert "already" not in said.out
    assert bytes_of(out) == before
    (tmp_path / "moved").mkdir()
    moved = Path(shutil.copy(clip, tmp_path / "moved"))
    assert command(moved, out, settings, "--resume") == 0, "the same wherever it lies"
    assert command(other, out, settings, "--overwrite") == 0
    with np.load(out / "clip.npz") as arrays:
        made_of = json.loads(str(arrays["made_of"]))
    source = report_of(out)["source"]
    assert made_of["bytes"] == source["bytes"] == other.stat().st_size
    assert made_of["sampled_sha256"] == source["sampled_sha256"]
    assert source["path"] == str(other)


def test_another_folder_of_pictures_of_the_same_name_is_not_gone_on_with(
    tmp_path: Path, settings: Settings, loaded: None, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = changed(settings, output={"overlay": False}, source={"pictures": "clip"})
    for camera in ("a", "b"):
        (tmp_path / camera / "shots").mkdir(parents=True)
        for number, picture in enumerate(TWO_PEOPLE[:3] if camera == "a" else TWO_PEOPLE[3:6]):
            media.write_image(tmp_path / camera / "shots" / f"{number}.png", picture)
    assert command(tmp_path / "a" / "shots", tmp_path / "out", settings) == 0
    assert command(tmp_path / "b" / "shots", tmp_path / "out", settings, "--resume") == 2
    assert "made of another input, shots (3 files" in capsys.readouterr().err
    media.write_image(tmp_path / "a" / "shots" / "3.png", TWO_PEOPLE[3])
    assert command(tmp_path / "a" / "shots", tmp_path / "out", settings, "--resume") == 0, "more of the same was filmed"
    assert load(tmp_path / "out" / "shots.npz").frames.tolist() == [0, 1, 2, 3]


def test_resuming_with_other_settings_is_refused(clip: Path, tmp_path: Path, pipeline: Pipeline, settings: Settings) -> None:
    begun = changed(settings, source={"end_s": 0.4})
    run(clip, tmp_path, pipeline, begun, stop_after=2)
    before = bytes_of(tmp_path)
    for changes, match in (({"source": {"end_s": 0.8}}, r"source\.end_s 0\.4"), ({"tracker": {"carry_s": 2.0}}, r"tracker\.carry_s 0\.7")):
        with pytest.raises(UsageError, match=match):
            run(clip, tmp_path, pipeline, changed(begun, **changes), resume=True)
    assert bytes_of(tmp_path) == before
    elsewhere = changed(begun, runtime={"ahead": 2, "threads": 2})
    assert run(clip, tmp_path, pipeline, elsewhere, resume=True).complete


def test_resuming_with_other_weights_or_another_video_is_refused(
    clip: Path, tmp_path: Path, pipeline: Pipeline, settings: Settings
) -> None:
    settings = changed(settings, source={"end_s": 0.4})
    run(clip, tmp_path, pipeline, settings, stop_after=2)
    before = bytes_of(tmp_path)
    other = pipeline.with_components(body=dataclasses.replace(pipeline.components.body, sha256="another"))
    with pytest.raises(UsageError, match="another body model"):
        run(clip, tmp_path, other, settings, resume=True)
    (tmp_path / "x").mkdir()
    small = media.write_video(tmp_path / "x" / "clip.mp4", [picture[:200] for picture in TWO_PEOPLE[:7]], fps=FPS)
    with pytest.raises(UsageError, match="another input"):
        run(small, tmp_path, pipeline, settings, resume=True)
    (tmp_path / "x" / "clip.mp4").unlink()
    (tmp_path / "x").rmdir()
    assert bytes_of(tmp_path) == before, "and nothing is left beside them"


def test_without_the_earlier_overlay_it_begins_at_the_seam(
    clip: Path, tmp_path: Path, pipeline: Pipeline, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings = changed(settings, source={"end_s": 0.6}, output={"audio": False})
    run(clip, tmp_path, pipeline, settings, stop_after=2)
    (tmp_path / "clip.mp4").unlink()
    with caplog.at_level(logging.WARNING):
        result = run(clip, tmp_path, pipeline, settings, resume=True)
    assert "it will begin where this run goes on" in caplog.text
    assert result.frames == len(load(result.npz).frames) == 9
    assert numbers_shown(tmp_path / "clip.mp4") == list(range(2, 9))


# What is there already.


def test_what_is_there_is_not_replaced_unasked(clip: Path, tmp_path: Path, pipeline: Pipeline, settings: Settings) -> None:
    for name in ("clip.npz", "clip.mp4", "clip.json"):
        path = tmp_path / name
        path.write_text("precious")
        with pytest.raises(UsageError, match=f"{name} exists; --overwrite replaces it"):
            run(clip, tmp_path, pipeline, settings)
        if name != "clip.npz":
            with pytest.raises(UsageError, match=r"there is no .*clip\.npz to resume"):
                run(clip, tmp_path, pipeline, settings, resume=True)
        assert bytes_of(tmp_path) == {name: b"precious"}
        path.unlink()
    (tmp_path / "clip.npz").write_text("precious")
    with pytest.raises(InputError, match=r"clip\.npz"):
        run(clip, tmp_path, pipeline, settings, resume=True)
    settings = changed(settings, source={"end_s": 0.1})
    assert run(clip, tmp_path, pipeline, settings, overwrite=True).frames == len(load(tmp_path / "clip.npz").frames) == 2


def test_the_input_is_never_replaced(tmp_path: Path, pipeline: Pipeline, settings: Settings) -> None:
    film = media.write_video(tmp_path / "clip.mp4", TWO_PEOPLE[:3], fps=FPS)
    before = film.read_bytes()
    with pytest.raises(UsageError, match="would replace the input"):
        run(film, tmp_path, pipeline, settings, overwrite=True)
    assert bytes_of(tmp_path) == {"clip.mp4": before}
    run(film, tmp_path, pipeline, changed(settings, output={"overlay": False}))
    assert film.read_bytes() == before


# Failures.


class FailingDetector:
    """Finds nobody, and fails at one frame."""

    def __init__(self, fail_at: int) -> None:
        self._fail_at = fail_at

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        if frames[-1].index >= self._fail_at:
            raise RuntimeError("the detector fell over")
        return [Detections.empty() for _ in frames]

    def close(self) -> None:
        """Nothing is open."""


def with_detector(pipeline: Pipeline, detector: FailingDetector) -> Pipeline:
    return pipeline.with_components(detector=detector)


def test_an_error_in_a_stage_is_raised_after_publishing_what_was_done(
    clip: Path, tmp_path: Path, pipeline: Pipeline, settings: Settings
) -> None:
    settings = changed(settings, smoother={"kind": "none"}, source={"end_s": 0.7})
    with pytest.raises(RuntimeError, match="the detector fell over"):
        run(clip, tmp_path, with_detector(pipeline, FailingDetector(6)), settings)
    assert names(tmp_path) == ["clip.json", "clip.mp4", "clip.npz"]
    np.testing.assert_array_equal(load(tmp_path / "clip.npz").frames, range(6))
    assert numbers_shown(tmp_path / "clip.mp4") == list(range(6))
    report = report_of(tmp_path)
    assert (report["complete"], report["frames"]) == (False, 6)
    assert "the detector fell over" in report["warnings"]
    assert run(clip, tmp_path, pipeline, settings, resume=True).complete
    assert numbers_shown(tmp_path / "clip.mp4") == list(range(11))


def test_an_error_before_the_first_frame_leaves_its_report_only(clip: Path, tmp_path: Path, pipeline: Pipeline, settings: Settings) -> None:
    out = tmp_path / "out"
    with pytest.raises(RuntimeError, match="the detector fell over"):
        run(clip, out, with_detector(pipeline, FailingDetector(0)), settings)
    assert names(out) == ["clip.json"]
    report = report_of(out)
    assert (report["complete"], report["frames"], report["error"]) == (False, 0, "the detector fell over")
    assert (report["source"]["width"], report["device"]) == (WIDTH, "cpu")
    with pytest.raises(UsageError, match="no frame from 9 s on"):
        run(clip, out, pipeline, changed(settings, source={"start_s": 9.0}))
    assert "no frame from 9 s on" in report_of(out)["error"], "the report of a failure keeps no run from beginning"
    whole = media.write_video(tmp_path / "whole.mkv", TWO_PEOPLE, fps=FPS, codec_options={"g": "5"})
    cut = media.cut_file(whole, 0.5, tmp_path / "cut.mkv")
    with pytest.raises(TruncatedInput, match="0 frames were delivered"):
        run(cut, out, pipeline, changed(settings, source={"start_s": 1.5}))
    assert "0 frames were delivered" in report_of(out, "cut")["error"]
    (tmp_path / "text.mp4").write_text("no film")
    with pytest.raises(InputError):
        run(tmp_path / "text.mp4", out, pipeline, settings)
    report = report_of(out, "text")
    assert (report["source"]["path"], report["source"]["bytes"]) == (str(tmp_path / "text.mp4"), 7)
    assert "text.mp4" in report["error"]
    assert run(clip, out, pipeline, changed(settings, source={"end_s": 0.1})).complete
    assert report_of(out)["error"] is None


def test_a_failure_replaces_a_good_report_only_where_that_is_allowed(
    clip: Path, tmp_path: Path, pipeline: Pipeline, settings: Settings
) -> None:
    settings = changed(settings, source={"end_s": 0.2})
    run(clip, tmp_path, pipeline, settings, stop_after=1)
    before = bytes_of(tmp_path)
    failing = with_detector(pipeline, FailingDetector(0))
    with pytest.raises(UsageError, match="exists; --overwrite"):
        run(clip, tmp_path, failing, settings)
    with pytest.raises(UsageError, match="tracker"):
        run(clip, tmp_path, failing, changed(settings, tracker={"carry_s": 2.0}), resume=True)
    assert bytes_of(tmp_path) == before
    with pytest.raises(RuntimeError, match="the detector fell over"):
        run(clip, tmp_path, failing, settings, overwrite=True)
    assert report_of(tmp_path)["error"] == "the detector fell over"


def fail_overlay(monkeypatch: pytest.MonkeyPatch, method: str, at_call: int) -> None:
    calls = 0
    real: Callable[..., None] = getattr(OverlaySink, method)

    def failing(self: OverlaySink, *args: object) -> None:
        nonlocal calls
        calls += 1
        if calls == at_call:
            raise MchmrError(f"cannot write {self.path}: No space left on device")
        real(self, *args)

    monkeypatch.setattr(OverlaySink, method, failing)


def test_a_sink_that_fails_stops_the_run_and_the_others_are_published(
    clip: Path, tmp_path: Path, pipeline: Pipeline, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = changed(settings, source={"end_s": 0.6})
    with monkeypatch.context() as patch:
        fail_overlay(patch, "write", at_call=5)
        with pytest.raises(MchmrError, match="No space left on device"):
            run(clip, tmp_path, pipeline, settings)
    np.testing.assert_array_equal(load(tmp_path / "clip.npz").frames, range(4))
    report = report_of(tmp_path)
    assert (report["complete"], report["frames"]) == (False, 4)
    assert any("No space left on device" in warning for warning in report["warnings"])
    assert not [thread.name for thread in threading.enumerate() if thread.name in ("decode", "find", "write")]
    assert run(clip, tmp_path, pipeline, settings, resume=True).complete
    assert numbers_shown(tmp_path / "clip.mp4") == load(tmp_path / "clip.npz").frames.tolist() == list(range(9))


def test_a_sink_that_cannot_be_closed_does_not_keep_the_others_from_it(
    clip: Path, tmp_path: Path, pipeline: Pipeline, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = changed(settings, source={"end_s": 0.2})
    fail_overlay(monkeypatch, "close", at_call=1)
    with pytest.raises(MchmrError, match="No space left on device"):
        run(clip, tmp_path, pipeline, settings)
    assert len(load(tmp_path / "clip.npz").frames) == 3
    assert report_of(tmp_path)["complete"] is False
    assert any("No space left on device" in warning for warning in report_of(tmp_path)["warnings"])


def test_the_first_error_is_the_one_that_is_raised(
    clip: Path,
    tmp_path: Path,
    pipeline: Pipeline,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fail_overlay(monkeypatch, "close", at_call=1)
    with pytest.raises(RuntimeError, match="the detector fell over"):
        run(clip, tmp_path, with_detector(pipeline, FailingDetector(9)), changed(settings, smoother={"kind": "none"}))
    assert "No space left on device" in caplog.text
    assert len(load(tmp_path / "clip.npz").frames) == 9
    assert len(report_of(tmp_path)["warnings"]) == 3, "nobody found, and both errors"


def test_pictures_too_large_for_h264_cost_the_overlay_only(
    tmp_path: Path, loaded: None, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = changed(settings, source={"pictures": "clip"})
    (tmp_path / "pano").mkdir()
    for number in (1, 2):
        media.write_image(tmp_path / "pano" / f"{number}.png", np.full((40, 16_402, 3), 150, np.uint8))
    media.write_image(tmp_path / "small.png", EMPTY)
    out = tmp_path / "out"
    out.mkdir()
    (out / "pano.mp4").write_bytes(b"an overlay of another run")
    inputs = [str(tmp_path / "pano"), str(tmp_path / "small.png")]
    assert process(inputs, out, settings, resume=False, overwrite=True, quiet=False) == 0
    said = capsys.readouterr()
    refused = [line for line in said.err.splitlines() if "pano" in line and "nobody" not in line and "no people" not in line]
    assert len(refused) == 1
    assert "slice" not in said.err, "of a narrow strip there is something to compare"
    assert re.search(r"pano\.mp4 cannot be encoded: .* up to 16384 px a side, these have 16402x40", refused[0])
    assert names(out) == ["pano.json", "pano.npz", "small.json", "small.mp4", "small.npz"]
    assert load(out / "pano.npz").width == 16_402
    assert report_of(out, "pano")["complete"] is True
    assert any("16384" in warning for warning in report_of(out, "pano")["warnings"])


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 75), (3, 2), (33, 1)])
def test_odd_and_tiny_pictures_have_an_overlay(tmp_path: Path, pipeline: Pipeline, settings: Settings, size_hw: tuple[int, int]) -> None:
    media.write_image(tmp_path / "odd.png", np.full((*size_hw, 3), 90, np.uint8))
    result = run(tmp_path / "odd.png", tmp_path / "out", pipeline, changed(settings, source={"pictures": "clip"}))
    assert (result.complete, result.frames) == (True, 1)
    with av.open(str(tmp_path / "out" / "odd.mp4")) as film:
        assert (film.streams.video[0].height, film.streams.video[0].width) == tuple(side + side % 2 for side in size_hw)


def test_without_an_encoder_there_are_bodies_all_the_same(
    clip: Path, tmp_path: Path, pipeline: Pipeline, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mchmr_stream.video_encoding.h264.ENCODER", "libnotthere")
    result = run(clip, tmp_path, pipeline, changed(settings, source={"end_s": 0.2}))
    assert (result.complete, result.frames, result.overlay) == (True, 3, None)
    assert [warning for warning in result.warnings if "cannot encode H.264" in warning]
    assert names(tmp_path) == ["clip.json", "clip.npz"]


def test_an_encoder_that_fails_in_the_middle_costs_the_rest_of_the_overlay(
    clip: Path, tmp_path: Path, pipeline: Pipeline, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = h264.YuvPictures.picture, iter(range(4))

    def failing(self: h264.YuvPictures, rgb: np.ndarray, tick: int) -> av.VideoFrame:
        if next(left, None) is None:
            raise av.error.ExternalError(-542398533, "Generic error in an external library", "avcodec_send_frame()")
        return real(self, rgb, tick)

    monkeypatch.setattr(h264.YuvPictures, "picture", failing)
    result = run(clip, tmp_path, pipeline, changed(settings, source={"end_s": 0.6}))
    assert (result.complete, result.frames) == (True, 9)
    assert load(tmp_path / "clip.npz").frames.tolist() == list(range(9))
    assert numbers_shown(tmp_path / "clip.mp4") == list(range(4)), "what was drawn before is kept"
    assert sum("cannot be encoded" in warning for warning in report_of(tmp_path)["warnings"]) == 1
    assert names(tmp_path) == ["clip.json", "clip.mp4", "clip.npz"]


@pytest.mark.skipif(os.name == "nt", reason="limits on file sizes are a POSIX matter")
def test_a_disk_that_takes_no_more(tmp_path: Path, pipeline: Pipeline, settings: Settings) -> None:
    """The system refuses files over 60 kB: too little for pictures of noise, enough for the rest."""
    import resource

    film = media.write_video(tmp_path / "noise.mp4", media.noise_pictures(20, WIDTH, HEIGHT), fps=FPS)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        with pytest.raises(MchmrError, match=r"cannot write .*noise\.mp4: File too large"):
            run(film, tmp_path / "out", with_detector(pipeline, FailingDetector(99)), settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path / "out") == ["noise.json", "noise.npz"]
    report = report_of(tmp_path / "out", "noise")
    assert report["complete"] is False
    assert sum("File too large" in warning for warning in report["warnings"]) == 1
    assert len(load(tmp_path / "out" / "noise.npz").frames) == report["frames"] > 0


def test_an_input_that_breaks_off_is_used_up_to_there(
    tmp_path: Path, settings: Settings, loaded: None, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = media.write_video(tmp_path / "whole.mkv", TWO_PEOPLE, fps=FPS, codec_options={"g": "5"})
    film = media.cut_file(whole, 0.5, tmp_path / "cut.mkv")
    assert command(film, tmp_path / "out", settings) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert "incomplete" in err
    assert "cut.mkv" in err
    frames = load(tmp_path / "out" / "cut.npz").frames
    assert 5 < len(frames) < FRAMES
    assert numbers_shown(tmp_path / "out" / "cut.mp4") == frames.tolist() == list(range(len(frames)))
    report = report_of(tmp_path / "out", "cut")
    assert report["complete"] is False
    assert len(report["warnings"]) == 1
    assert command(film, tmp_path / "out", settings, "--resume") == 1, "it is as short as it was"
    np.testing.assert_array_equal(load(tmp_path / "out" / "cut.npz").frames, frames)
    film.write_bytes(whole.read_bytes())
    assert command(film, tmp_path / "out", settings, "--resume") == 0, "the download was finished meanwhile"
    assert numbers_shown(tmp_path / "out" / "cut.mp4") == list(range(FRAMES))


# The command.


def command_line(path: Path | Sequence[Path], out: Path, settings: Settings, *options: str) -> list[str]:
    """The settings of these tests as a user would give them."""
    file = out.with_suffix(".yaml")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(settings.model_dump(mode="json")))  # JSON is YAML
    inputs = [path] if isinstance(path, Path) else path
    return ["video", *map(str, inputs), "-o", str(out), "--config", str(file), *options]


def command(path: Path | Sequence[Path], out: Path, settings: Settings, *options: str) -> int:
    return cli.main(command_line(path, out, settings, *options))


def test_several_inputs_of_which_one_is_broken(
    tmp_path: Path, settings: Settings, loaded: None, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [media.write_video(tmp_path / f"{name}.mp4", TWO_PEOPLE[:6], fps=FPS) for name in ("a", "c")]
    broken = tmp_path / "b.mp4"
    broken.write_text("no film")
    assert command([good[0], broken, good[1]], tmp_path / "out", settings) == 1
    out, err = capsys.readouterr()
    assert names(tmp_path / "out") == ["a.json", "a.mp4", "a.npz", "b.json", "c.json", "c.mp4", "c.npz"]
    assert "b.mp4" in report_of(tmp_path / "out", "b")["error"]
    assert out.count("6 frames, 2 people") == 2
    assert "b.mp4: failed" in err
    assert "1 of 3 inputs failed" in err
    assert command(good, tmp_path / "out", settings, "--resume") == 0
    assert capsys.readouterr().out.count("was complete already") == 2


@pytest.mark.skipif(os.name == "nt", reason="signals between processes are a POSIX matter")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)])
def test_a_signal_leaves_whole_files_that_can_be_gone_on_with(
    tmp_path: Path, settings: Settings, loaded: None, number: signal.Signals, code: int
) -> None:
    settings = changed(settings, runtime={"ahead": 1}, smoother={"lookahead_s": 0.1})
    there_and_back = [*TWO_PEOPLE, *TWO_PEOPLE[::-1]]
    film = media.write_video(tmp_path / "clip.mp4", there_and_back, fps=FPS, codec_options={"g": "10"})
    out = tmp_path / "out"
    program = [sys.executable, "-c", "import sys; from mchmr_stream.cli import main; sys.exit(main())"]
    child = subprocess.Popen(
        [*program, *command_line(film, out, settings)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    give_up_s = time.monotonic() + 120
    while not list(out.glob(f"{hidden_mark(out / 'clip.mp4')}*.part")):  # it appears with the first picture
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < give_up_s
        time.sleep(0.01)
    child.send_signal(number)
    _, err = child.communicate(timeout=120)
    assert child.returncode == code, err
    assert "--resume goes on" in err
    assert names(out) == ["clip.json", "clip.mp4", "clip.npz"]
    motion = load(out / "clip.npz")
    assert 0 < len(motion.frames) < len(there_and_back)
    assert len(times_shown(out / "clip.mp4")) == len(motion.frames) == report_of(out)["frames"]
    assert report_of(out)["complete"] is False
    before = {identity: side_of(motion, identity) for identity in motion.tracks}
    assert command(film, out, settings, "--resume") == 0
    motion = load(out / "clip.npz")
    np.testing.assert_array_equal(motion.frames, range(len(there_and_back)))
    assert np.all(np.diff(motion.frames_time_s) > 0)
    assert {identity: side_of(motion, identity) for identity in motion.tracks} == before
    np.testing.assert_allclose(times_shown(out / "clip.mp4"), motion.frames_time_s, atol=1e-3)
    assert report_of(out)["complete"] is True


@pytest.mark.skipif(os.name == "nt", reason="signals between processes are a POSIX matter")
def test_a_killed_run_loses_little(
    tmp_path: Path, settings: Settings, loaded: None, pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL leaves nothing to whom it hits. While it lives, nobody else writes to its outputs."""
    settings = changed(settings, runtime={"ahead": 1}, smoother={"lookahead_s": 0.1}, output={"checkpoint_s": 0.2}, fit={"passes": 1})
    pictures = [*TWO_PEOPLE, *TWO_PEOPLE[::-1]]
    film = media.write_video(tmp_path / "clip.mp4", pictures, fps=FPS, codec_options={"g": "10"}, audio_s=len(pictures) / FPS)
    out = tmp_path / "out"
    program = [sys.executable, "-c", "import sys; from mchmr_stream.cli import main; sys.exit(main())"]
    child = subprocess.Popen([*program, *command_line(film, out, settings)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    give_up_s = time.monotonic() + 120
    kept = lambda: [size for part in out.glob(f"{hidden_mark(out / 'clip.mp4')}*.part") if (size := part.stat().st_size) > 10_000]
    while not (kept() and list(out.glob(f"{hidden_mark(out / 'clip.npz')}*/checkpoint.npz"))):
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < give_up_s
        time.sleep(0.01)
    for options in ((), ("--resume",), ("--overwrite",)):
        assert command(film, out, settings, *options) == 1
        said = capsys.readouterr().err
        assert re.fullmatch(rf"mchmr: \S+clip\.npz is being written by another run \(process {child.pid} on .*\); wait .*\n", said)
    child.kill()
    child.communicate(timeout=60)
    assert [name for name in names(out) if not name.startswith(".")] == []
    (out / ".mchmr-foreign.part").write_text("not ours")
    assert command(film, out, settings) == 2, "what was kept is not thrown away unasked"
    said = capsys.readouterr().err
    assert re.search(r"a run was killed; the \d+ frames that it kept, .*clip\.\w+ and 2 more exist|exists; --overwrite", said, re.DOTALL)
    first = load(out / "clip.npz")
    assert 0 < len(first.frames) < len(pictures)
    shown = numbers_shown(out / "clip.mp4")
    numbers = [*range(FRAMES), *range(FRAMES)[::-1]]
    assert shown == numbers[: len(shown)]
    assert len(first.frames) <= len(shown)
    assert report_of(out)["error"] == "the run was killed"
    assert names(out) == [".mchmr-foreign.part", "clip.json", "clip.mp4", "clip.npz"], "and the rest is cleaned up"
    assert command(film, out, settings, "--resume") == 0
    assert load(out / "clip.npz").frames.tolist() == list(range(len(pictures)))
    assert numbers_shown(out / "clip.mp4") == numbers
    assert report_of(out)["complete"] is True
