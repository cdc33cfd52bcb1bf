"""What is written, read back by others: numpy, json, PyAV."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import media
import numpy as np
import pytest
import torch
from places import ROOT
from scipy.spatial.transform import Rotation

from mchmr_stream.body.builds import with_build
from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import forward_kinematics, skin
from mchmr_stream.config import SourceSettings
from mchmr_stream.datatypes import Bodies, Frame, Scene, SourceInfo
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.geometry.camera import Intrinsics, project
from mchmr_stream.motion.motion import load
from mchmr_stream.motion.npz_writer import NpzHeader, NpzSink
from mchmr_stream.rendering.colours import identity_colour
from mchmr_stream.rendering.person_labels import DIGITS, paint_box, paint_number
from mchmr_stream.sinks.overlay import OverlaySink, draw_scene
from mchmr_stream.sinks.run_report import ReportSink
from mchmr_stream.sources import open_source

BODY = with_build(load_body("free"), "neutral")
WIDTH, HEIGHT, VIEWS = 161, 121, 3
CAMERA = Intrinsics.assumed(WIDTH, HEIGHT)
INFO = SourceInfo("clip", WIDTH, HEIGHT, 25.0, frame_count=4)
NAMES = {"body_model": "free", "body_model_sha256": BODY.sha256, "weights": "tiny", "weights_sha256": "ab12"}


def make_scene(index: int, time_s: float, identities: list[int], size: tuple[int, int] = (WIDTH, HEIGHT)) -> Scene:
    """People side by side, 4 m away, standing upright, in front of a grey ramp."""
    rng = np.random.default_rng(index)
    n = len(identities)
    random = lambda *shape: rng.normal(size=(n, *shape)).astype(np.float32)
    upright = np.diag([1.0, -1.0, -1.0]).astype(np.float32)
    bodies = Bodies(
        frame=index,
        time_s=time_s,
        track_id=np.array(identities, np.int64),
        boxes_xyxy_px=np.array([[20 + 50 * i, 15, 65 + 50 * i, 110] for i in range(n)], np.float32).reshape(n, 4),
        scores=rng.random(n).astype(np.float32),
        keypoints_px=random(17, 3),
        global_orient=np.broadcast_to(upright, (n, 3, 3)).copy(),
        body_pose=Rotation.from_rotvec(0.2 * rng.normal(size=(n * 23, 3))).as_matrix().reshape(n, 23, 3, 3).astype(np.float32)
        if n
        else np.zeros((0, 23, 3, 3), np.float32),
        betas=0.5 * random(10),
        transl=np.array([[i - 0.8, 0, 4] for i in range(n)], np.float32).reshape(n, 3),
        views_cam=random(VIEWS, 3),
        confidence=rng.random(n).astype(np.float32),
        interpolated=rng.random(n) < 0.5,
    )
    rotations = torch.from_numpy(bodies.rotations)
    betas, transl = torch.from_numpy(bodies.betas), torch.from_numpy(bodies.transl)
    joints_m = forward_kinematics(BODY, rotations, betas, transl)[0].numpy()
    width, height = size
    ramp = np.linspace(30, 220, width).astype(np.uint8)
    rgb = np.stack([np.broadcast_to(ramp, (height, width)), np.full((height, width), 90), np.broadcast_to(ramp[::-1], (height, width))], -1)
    frame = Frame(index, time_s, np.ascontiguousarray(rgb, np.uint8))
    vertices = lambda: skin(BODY, rotations, betas, transl)[0].numpy()
    return Scene(frame, bodies, CAMERA, joints_m, project(joints_m, CAMERA).astype(np.float32), BODY.faces, vertices)


def write_npz(path: Path, scenes: list[Scene]) -> Path:
    sink = NpzSink(path, NpzHeader(CAMERA, INFO, VIEWS, NAMES, settings={"smoother": {"strength": 1.0}}))
    for scene in scenes:
        sink.write(scene)
    assert not path.exists(), "nothing appears before it is whole"
    sink.close()
    sink.close()
    assert [file.name for file in path.parent.iterdir()] == [path.name], "nothing is left beside it"
    return path


SCENES = [make_scene(0, 0.0, [1]), make_scene(2, 0.08, []), make_scene(4, 0.17, [2, 1]), make_scene(6, 0.24, [2])]


def test_npz_reads_back_with_plain_numpy(tmp_path: Path) -> None:
    with np.load(write_npz(tmp_path / "clip.npz", SCENES), allow_pickle=False) as clip:
        data = {name: clip[name] for name in clip.files}
    assert int(data["schema"]) == 1
    assert (float(data["fps"]), int(data["width"]), int(data["height"])) == (25.0, WIDTH, HEIGHT)
    np.testing.assert_array_equal(data["K"], CAMERA.matrix)
    np.testing.assert_array_equal(data["frames"], [0, 2, 4, 6])
    np.testing.assert_array_equal(data["frames_time_s"], [0.0, 0.08, 0.17, 0.24])
    np.testing.assert_array_equal(data["frame"], [0, 4, 4, 6])
    np.testing.assert_array_equal(data["track_id"], [1, 2, 1, 2])
    for name in ("global_orient", "body_pose", "betas", "transl", "keypoints_px", "confidence", "views_cam", "interpolated"):
        np.testing.assert_array_equal(data[name], np.concatenate([getattr(scene.bodies, name) for scene in SCENES]), name)
    np.testing.assert_array_equal(data["box_xyxy_px"], np.concatenate([scene.bodies.boxes_xyxy_px for scene in SCENES]))
    np.testing.assert_array_equal(data["score"], np.concatenate([scene.bodies.scores for scene in SCENES]))
    np.testing.assert_array_equal(data["joints_m"], np.concatenate([scene.joints_m for scene in SCENES]))
    np.testing.assert_array_equal(data["joints_px"], np.concatenate([scene.joints_px for scene in SCENES]))
    assert data["joint_names"][0] == "pelvis"
    assert data["keypoint_names"][16] == "right_ankle"
    assert str(data["body_model_sha256"]) == BODY.sha256
    assert json.loads(str(data["settings"])) == {"smoother": {"strength": 1.0}}


def test_load_gives_people(tmp_path: Path) -> None:
    motion = load(write_npz(tmp_path / "clip.npz", SCENES))
    assert list(motion.tracks) == [1, 2]
    second = motion.tracks[2]
    np.testing.assert_array_equal(second.frame, [4, 6])
    np.testing.assert_array_equal(second.transl, [SCENES[2].bodies.transl[0], SCENES[3].bodies.transl[0]])
    np.testing.assert_allclose(motion.reproject(second), second.joints_px, atol=1e-3)
    assert motion.settings["smoother"]["strength"] == 1.0
    assert (motion.body_model, motion.weights, motion.weights_sha256) == ("free", "tiny", "ab12")


@pytest.mark.parametrize("scenes", [[], [SCENES[1]]], ids=["no frames", "no people"])
def test_npz_without_rows_is_a_file_too(tmp_path: Path, scenes: list[Scene]) -> None:
    motion = load(write_npz(tmp_path / "clip.npz", scenes))
    assert motion.tracks == {}
    assert len(motion.frames) == len(scenes)
    with np.load(tmp_path / "clip.npz", allow_pickle=False) as clip:
        assert clip["views_cam"].shape == (0, VIEWS, 3)


def test_memory_does_not_grow_with_the_video(tmp_path: Path) -> None:
    import tracemalloc

    sink = NpzSink(tmp_path / "long.npz", NpzHeader(CAMERA, INFO, VIEWS, NAMES, settings={}))
    for _ in range(20):
        sink.write(SCENES[2])
    tracemalloc.start()
    for _ in range(2000):
        sink.write(SCENES[2])
    sink.close()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "long.npz").stat().st_size > 6_000_000
    assert peak < 4_000_000


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"schema": np.array(2)}, "schema 2, this version reads schema 1"),
        ({"schema": None}, "lacks schema"),
        ({"joints_m": None}, "lacks joints_m"),
        ({"betas": np.zeros((4, 9), np.float32)}, r"betas is float32 of shape \(4, 9\), expected float32 of shape \(4, 10\)"),
        ({"transl": np.zeros((3, 3), np.float32)}, r"transl is float32 of shape \(3, 3\)"),
        ({"track_id": np.zeros(4)}, "track_id is float64"),
        ({"K": np.eye(2)}, "K is float64"),
        ({"fps": np.array("fast")}, "fps is"),
        ({"settings": np.array("{")}, "settings is no JSON"),
        ({"joint_names": np.array(["pelvis"])}, "joint_names is"),
        ({"frame": np.array([{}], object)}, "pickled Python objects"),
    ],
)
def test_foreign_and_damaged_files_are_refused_in_one_line(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    with np.load(write_npz(tmp_path / "clip.npz", SCENES)) as clip:
        data = {**{name: clip[name] for name in clip.files}, **change}
    np.savez(tmp_path / "other.npz", **{name: value for name, value in data.items() if value is not None})
    with pytest.raises(InputError, match=match) as caught:
        load(tmp_path / "other.npz")
    assert "\n" not in str(caught.value)


def test_truncated_and_missing_files_are_refused(tmp_path: Path) -> None:
    whole = write_npz(tmp_path / "clip.npz", SCENES).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    for name in ("cut.npz", "none.npz"):
        with pytest.raises(InputError, match=name):
            load(tmp_path / name)


def test_folders_that_are_not_there_are_a_usage_error(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "clip"
    with pytest.raises(UsageError, match="create it first"):
        NpzSink(path, NpzHeader(CAMERA, INFO, VIEWS, NAMES, settings={}))
    with pytest.raises(UsageError, match="create it first"):
        OverlaySink(path, INFO)
    with pytest.raises(UsageError, match="create it first"):
        ReportSink(path, INFO, settings={}, names={})


def test_scripts_of_the_documentation_run(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "output.md").read_text()
    mesh, check = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    path = write_npz(tmp_path / "clip.npz", SCENES)
    done = subprocess.run([sys.executable, "-c", check, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("4 frames, 2 people, 4 rows\nlargest difference ")
    assert float(done.stdout.split()[-2]) < 0.01
    names: dict[str, Any] = {}
    exec(mesh.replace("clip.npz", str(path)), names)
    np.testing.assert_allclose(names["joints_m"], names["track"].joints_m, atol=1e-5)
    np.testing.assert_allclose(names["vertices_m"][0], SCENES[0].vertices_m()[0], atol=1e-5)


def test_documentation_names_every_column(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "output.md").read_text()
    with np.load(write_npz(tmp_path / "clip.npz", SCENES)) as clip:
        assert [name for name in clip.files if f"`{name}`" not in page] == []


def test_report_says_what_happened(tmp_path: Path) -> None:
    sink = ReportSink(tmp_path / "clip.json", INFO, settings={"a": 1}, names=NAMES)
    for scene in SCENES:
        sink.write(scene)
    seconds = {"decode": [0.001 * i for i in range(1, 101)], "never": []}
    sink.finish(complete=True, warnings=["two frames were damaged"], seconds=seconds)
    sink.close()
    report = json.loads((tmp_path / "clip.json").read_text())
    assert report["complete"] is True
    assert (report["frames"], report["frames_with_people"]) == (4, 3)
    assert (report["first_time_s"], report["last_time_s"]) == (0.0, 0.24)
    people = {person["track_id"]: person for person in report["people"]}
    assert (people[1]["first_time_s"], people[1]["last_time_s"], people[1]["rows"]) == (0.0, 0.17, 2)
    assert (people[2]["first_time_s"], people[2]["last_time_s"], people[2]["rows"]) == (0.17, 0.24, 2)
    assert report["timings_ms"] == {"decode": {"p50": 50.5, "p95": 95.05, "p99": 99.01, "calls": 100}}
    assert report["warnings"] == ["two frames were damaged"]
    assert report["names"]["weights"] == "tiny"
    assert report["versions"]["torch"] == torch.__version__


def test_report_of_a_run_that_broke_off_is_not_complete(tmp_path: Path) -> None:
    sink = ReportSink(tmp_path / "clip.json", INFO, settings={}, names={})
    sink.write(SCENES[0])
    sink.close()
    report = json.loads((tmp_path / "clip.json").read_text())
    assert (report["complete"], report["frames"]) == (False, 1)


# The overlay.


def write_overlay(path: Path, scenes: list[Scene], **options: Any) -> Path:
    sink = OverlaySink(path, INFO, **options)
    for scene in scenes:
        sink.write(scene)
    assert not path.exists(), "nothing appears before it is whole"
    sink.close()
    sink.close()
    return path


def pictures(path: Path) -> list[tuple[float, np.ndarray]]:
    with av.open(str(path)) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def test_overlay_reads_back(tmp_path: Path) -> None:
    """Odd size, uneven times, a first frame that is not at 0."""
    times = [5.0, 5.04, 5.11, 5.4]
    scenes = [make_scene(i, time_s, [1, 2] if i != 1 else []) for i, time_s in enumerate(times)]
    path = write_overlay(tmp_path / "clip.mp4", scenes, quality=10)
    assert list(tmp_path.iterdir()) == [path]
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (video.width, video.height) == (WIDTH + 1, HEIGHT + 1)
        assert len(container.streams.audio) == 0
        assert float(video.duration * video.time_base) == pytest.approx(0.4 + 0.04, abs=0.002)
    seen = pictures(path)
    assert [time_s for time_s, _ in seen] == pytest.approx([0, 0.04, 0.11, 0.4], abs=1e-4)
    for scene, (_, picture) in zip(scenes, seen, strict=True):
        difference = picture[:HEIGHT, :WIDTH].astype(float) - draw_scene(scene)
        assert np.abs(difference.mean((0, 1))).max() < 2, "colours are the same on average"
        assert np.abs(difference).mean() < 4


def test_times_that_do_not_advance_are_kept_apart(tmp_path: Path) -> None:
    seen = pictures(write_overlay(tmp_path / "clip.mp4", [make_scene(i, 0.5, []) for i in range(3)]))
    assert len({time_s for time_s, _ in seen}) == 3


def test_early_stop_leaves_a_whole_file(tmp_path: Path) -> None:
    assert len(pictures(write_overlay(tmp_path / "clip.mp4", SCENES[:1]))) == 1


def test_no_frames_no_file_and_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        OverlaySink(tmp_path / "clip.mp4", INFO).close()
    assert "no frame came" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_another_size_is_refused(tmp_path: Path) -> None:
    sink = OverlaySink(tmp_path / "clip.mp4", INFO)
    sink.write(make_scene(0, 0, []))
    with pytest.raises(Exception, match="is 90x80, the video was begun with 161x121"):
        sink.write(make_scene(1, 0.04, [], size=(90, 80)))
    sink.close()
    assert len(pictures(tmp_path / "clip.mp4")) == 1


def test_bodies_are_drawn_where_they_project() -> None:
    scene = make_scene(0, 0, [1, 2])
    changed = (draw_scene(scene) != scene.frame.rgb).any(-1)
    inner = [0, 1, 2, 3, 6, 9, 4, 5]  # pelvis, hips, spine, knees: well inside the body
    for x, y in scene.joints_px[:, inner].reshape(-1, 2).round().astype(int):
        assert changed[y, x]
    assert not changed[:3].any()
    assert not changed[:, 140:].any()


def test_one_colour_per_identity_and_others_differ() -> None:
    scene = make_scene(0, 0, [7])
    x, y = scene.joints_px[0, 3].round().astype(int)
    as_seven, again = draw_scene(scene, opacity=1)[y, x], draw_scene(make_scene(0, 3.0, [7]), opacity=1)[y, x]
    np.testing.assert_array_equal(as_seven, again)
    colours = np.array([identity_colour(i) for i in range(1, 13)])
    apart = np.abs(colours[:, None] - colours[None]).max(-1) + np.eye(len(colours))
    assert apart.min() > 0.1
    assert colours.min() >= 0
    assert colours.max() <= 1


def test_numbers_are_readable() -> None:
    """Each digit matches the picture of itself better than that of any other."""

    def shape(digit: str) -> np.ndarray:
        rgb = np.zeros((40, 40, 3), np.uint8)
        paint_number(rgb, int(digit), (0, 40), np.zeros(3, np.float32), 40)
        return rgb[..., 0] / 255.0

    shapes = {digit: shape(digit) for digit in DIGITS}
    assert len(shapes) == 10
    for digit, drawn in shapes.items():
        assert 0.03 < drawn.mean() < 0.5
        assert all(np.abs(drawn - other).mean() > 0.02 for name, other in shapes.items() if name != digit)


@pytest.mark.parametrize("box", [(-50, -50, 500, 500), (10, 10, 12, 11), (-20, 5, -5, 30), (np.nan, 0, 5, 5), (1e9, 0, 2e9, 5)])
def test_marks_stay_inside_the_picture(box: tuple[float, ...]) -> None:
    rgb = np.zeros((40, 60, 3), np.uint8)
    paint_box(rgb, np.array(box, np.float32), np.ones(3, np.float32), 2)
    paint_number(rgb, 12345678901234567890, (0, 0), np.ones(3, np.float32), 16)
    inside = np.zeros((9, 9, 3), np.uint8)
    paint_box(inside, np.array([2, 3, 6, 7], np.float32), np.ones(3, np.float32), 1)
    expected = np.zeros((9, 9), bool)
    expected[3:8, 2:7] = True
    expected[4:7, 3:6] = False
    np.testing.assert_array_equal(inside[..., 0] > 0, expected)


# Sound.


def write_clip_with_sound(path: Path, codec: str, rate: int = 48000, quiet_s: float = 1.0, total_s: float = 2.0) -> Path:
    """Silence, then a tone from `quiet_s` on; ten grey pictures a second."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream(codec, rate=rate, layout="mono")
        for i in range(int(total_s * 10)):
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 80, np.uint8), format="rgb24")))
            at = (np.arange(rate // 10) + i * (rate // 10)) / rate
            wave = np.where(at >= quiet_s, 0.5 * np.sin(2 * np.pi * 440 * at), 0)
            frame = av.AudioFrame.from_ndarray((wave[None] * 32767).astype(np.int16), format="s16p", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, i * (rate // 10), Fraction(1, rate)
            container.mux(sound.encode(frame))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


def loudness(path: Path) -> tuple[str, np.ndarray]:
    """Codec, and the root mean square of every tenth of a second on the file's clock."""
    with av.open(str(path)) as container:
        track = container.streams.audio[0]
        samples: dict[int, list[float]] = {}
        for frame in container.decode(track):
            values = frame.to_ndarray().astype(float).ravel()
            values = values / 32768 if "s16" in frame.format.name else values
            samples.setdefault(int((frame.time + 0.5 * frame.samples / frame.sample_rate) * 10), []).append(
                float(np.sqrt((values**2).mean()))
            )
        return track.codec_context.name, np.array([np.mean(samples.get(tenth, [0.0])) for tenth in range(max(samples) + 1)])


@pytest.mark.parametrize(
    ("name", "codec", "written"),
    [
        ("clip.mp4", "aac", "aac"),
        ("clip.ts", "aac", "aac"),
        ("clip.mkv", "libopus", "opus"),
        ("clip.mkv", "pcm_s16le", "aac"),
        ("clip.mkv", "flac", "aac"),
    ],
)
def test_sound_stays_in_step(tmp_path: Path, name: str, codec: str, written: str) -> None:
    """The tone starts at 1 s. An overlay of 0.5 s to 1.5 s has it from its middle on, and ends with its pictures."""
    source = write_clip_with_sound(tmp_path / name, codec)
    out = tmp_path / "overlay.mp4"
    write_overlay(out, [make_scene(i, 0.5 + i / 10, []) for i in range(10)], audio_from=str(source))
    got, loud = loudness(out)
    assert got == written
    assert len(loud) in (10, 11)
    assert loud[:4].max() < 0.02
    assert loud[6:10].min() > 0.2
    with av.open(str(out)) as container:
        assert len(list(container.decode(video=0))) == 10


def test_sound_far_into_a_file_is_found(tmp_path: Path) -> None:
    source = write_clip_with_sound(tmp_path / "clip.mp4", "aac", quiet_s=6.0, total_s=8.0)
    write_overlay(tmp_path / "overlay.mp4", [make_scene(i, 5.5 + i / 10, []) for i in range(10)], audio_from=str(source))
    _, loud = loudness(tmp_path / "overlay.mp4")
    assert loud[:4].max() < 0.02
    assert loud[6:10].min() > 0.2


@pytest.mark.parametrize("kind", ["times of decoding", "avi"])
def test_sound_is_as_long_as_the_pictures_where_timestamps_do_not_hold(tmp_path: Path, kind: str) -> None:
    if kind == "avi":
        options = {"pts": range(0, 120, 2), "time_base": Fraction(1, 60), "codec_options": {"bf": "2"}}
        path = media.write_video(tmp_path / "b.avi", media.counter_pictures(60), 60, audio_s=2.0, **options)
    else:
        path = media.write_with_times_of_decoding(tmp_path / "es.mp4", 60, audio_s=2.0)
    with open_source(path, SourceSettings()) as source:
        sink = OverlaySink(tmp_path / "overlay.mp4", source.info, audio_from=str(path))
        for frame in source.frames():
            sink.write(make_scene(frame.index, frame.time_s, []))
        sink.close()
    with av.open(str(tmp_path / "overlay.mp4")) as container:
        assert {stream.type for stream in container.streams} == {"video", "audio"}
        for stream in container.streams:
            assert float(stream.duration * stream.time_base) == pytest.approx(2.0, abs=0.07), stream.type


def test_sources_without_sound_give_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    silent = write_overlay(tmp_path / "silent.mp4", SCENES[:2])
    (tmp_path / "broken.mp4").write_text("no video")
    with caplog.at_level(logging.WARNING):
        write_overlay(tmp_path / "a.mp4", SCENES[:2], audio_from=str(silent))
        assert caplog.text == ""
        write_overlay(tmp_path / "b.mp4", SCENES[:2], audio_from=str(tmp_path / "broken.mp4"))
    assert "the overlay has no sound" in caplog.text
    for name in ("a.mp4", "b.mp4"):
        assert len(pictures(tmp_path / name)) == 2
