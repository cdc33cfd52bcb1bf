"""Going on after an earlier run: each sink by itself, and who is who across the seam. tests/jobs/test_video_job.py does it all together."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Generator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import media
import numpy as np
import pytest

from mchmr_stream.config import Settings, settings_from
from mchmr_stream.datatypes import Bodies, Frame, Scene, SourceInfo
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.files.content_hash import Content, MadeOf, content_of
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.motion.motion import COLUMNS, load
from mchmr_stream.motion.npz_writer import NpzHeader, NpzSink
from mchmr_stream.motion.resume import EarlierRun
from mchmr_stream.sinks.overlay import OverlaySink
from mchmr_stream.sinks.run_report import ReportSink

WIDTH, HEIGHT, FPS = 63, 48, 25.0
CAMERA = Intrinsics.assumed(WIDTH, HEIGHT)
INFO = SourceInfo("clip.mp4", WIDTH, HEIGHT, FPS, frame_count=20)
NAMES = {"body_model": "free", "body_model_sha256": "ab", "weights": "tiny", "weights_sha256": "cd"}

MADE_OF = MadeOf(Path("clip.mp4"), Path("clip.mp4"), Content(1, 1000, "ab12"))

Box = tuple[float, float, float, float]


def scene(index: int, people: dict[int, Box] | None = None, time_s: float | None = None) -> Scene:
    """A picture that carries its own number, and people who are only boxes: their bodies are noise, too far off to be seen."""
    rng = np.random.default_rng(index)
    people = people or {}
    n = len(people)
    random = lambda *shape: rng.normal(size=(n, *shape)).astype(np.float32)
    time_s = index / FPS if time_s is None else time_s
    bodies = Bodies(
        frame=index,
        time_s=time_s,
        track_id=np.array(list(people), np.int64),
        boxes_xyxy_px=np.array(list(people.values()), np.float32).reshape(n, 4),
        scores=random(),
        keypoints_px=random(17, 3),
        global_orient=random(3, 3),
        body_pose=random(23, 3, 3),
        betas=random(10),
        transl=random(3),
        views_cam=random(2, 3),
        confidence=random(),
        interpolated=rng.random(n) < 0.5,
    )
    frame = Frame(index, time_s, media.counter_picture(index, WIDTH, HEIGHT))
    far_away = lambda: np.full((n, 3, 3), 1e6, np.float32)
    return Scene(frame, bodies, CAMERA, random(24, 3), random(24, 2), np.array([[0, 1, 2]]), far_away)


def write_npz(path: Path, scenes: Sequence[Scene], earlier: Path | None = None, *, info: SourceInfo = INFO, **changes: Any) -> Path:
    names = NAMES | {name: changes.pop(name) for name in NAMES if name in changes}
    sink = NpzSink(path, NpzHeader(**{"intrinsics": CAMERA, "info": info, "views": 2, "settings": {}, "names": names, **changes}))
    if earlier is not None:
        sink.extend(load(earlier))
    for one in scenes:
        sink.write(one)
    sink.close()
    return path


def write_overlay(path: Path, scenes: Sequence[Scene], earlier: Path | None = None, **options: Any) -> Path:
    sink = OverlaySink(path, INFO, **options)
    if earlier is not None:
        sink.extend(load(earlier))
    for one in scenes:
        sink.write(one)
    sink.close()
    assert [file.name for file in path.parent.iterdir() if file.name.startswith(".")] == [], "nothing is left beside it"
    return path


def shown(path: Path) -> list[tuple[int, float]]:
    """Number and time of every picture of an overlay."""
    with av.open(str(path)) as container:
        return [(media.read_counter(frame.to_ndarray(format="rgb24")), frame.time) for frame in container.decode(video=0)]


LEFT, RIGHT = (2.0, 5.0, 22.0, 45.0), (40.0, 5.0, 60.0, 45.0)
PEOPLE = [{1: LEFT}, {}, {1: LEFT, 2: RIGHT}, {2: RIGHT}, {2: RIGHT, 3: LEFT}, {1: LEFT}]


# The numbers.


@pytest.mark.parametrize("seam", [0, 1, 2, 5, 6])
def test_two_parts_hold_what_one_run_holds(tmp_path: Path, seam: int) -> None:
    scenes = [scene(2 * i, people) for i, people in enumerate(PEOPLE)]
    whole = write_npz(tmp_path / "whole.npz", scenes)
    first = write_npz(tmp_path / "first.npz", scenes[:seam])
    both = write_npz(tmp_path / "both.npz", scenes[seam:], earlier=first)
    with np.load(whole) as expected, np.load(both) as got:
        assert got.files == expected.files
        for name in expected.files:
            np.testing.assert_array_equal(got[name], expected[name], name)
            assert got[name].dtype == expected[name].dtype


def test_a_file_may_be_gone_on_with_in_place(tmp_path: Path) -> None:
    path = tmp_path / "clip.npz"
    for start in (0, 2, 4):
        write_npz(path, [scene(start, {1: LEFT}), scene(start + 1, {1: LEFT})], earlier=path if start else None)
    motion = load(path)
    np.testing.assert_array_equal(motion.frames, range(6))
    np.testing.assert_array_equal(motion.tracks[1].frame, range(6))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"views": 3}, "another number of crops"),
        ({"body_model_sha256": "ef"}, "another body model"),
        ({"weights_sha256": "ef"}, "other weights"),
        ({"info": dataclasses.replace(INFO, width=64)}, "pictures of another size"),
        ({"intrinsics": Intrinsics.from_fov(WIDTH, HEIGHT, 60)}, "another camera"),
    ],
)
def test_numbers_made_in_another_way_are_not_mixed(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    first = write_npz(tmp_path / "first.npz", [scene(0, {1: LEFT})])
    before = first.read_bytes()
    with pytest.raises(UsageError, match=match):
        write_npz(first, [], earlier=first, **changes)
    assert first.read_bytes() == before


def test_giving_up_leaves_what_was_there(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "clip.npz", [scene(0, {1: LEFT})])
    movie = write_overlay(tmp_path / "clip.mp4", [scene(0)])
    before = path.read_bytes(), movie.read_bytes()
    for sink in (NpzSink(path, NpzHeader(CAMERA, INFO, 2, NAMES, settings={})), OverlaySink(movie, INFO)):
        sink.write(scene(1, {1: LEFT}))
        sink.discard()
        sink.close()
    assert (path.read_bytes(), movie.read_bytes()) == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["clip.mp4", "clip.npz"]


def test_the_report_counts_both_runs(tmp_path: Path) -> None:
    scenes = [scene(i, people) for i, people in enumerate(PEOPLE)]
    contents = []
    for name, seam in (("whole", 0), ("parts", 3)):
        sink = ReportSink(tmp_path / f"{name}.json", INFO, settings={}, names={})
        if seam:
            sink.extend(load(write_npz(tmp_path / "first.npz", scenes[:seam])))
        for one in scenes[seam:]:
            sink.write(one)
        sink.finish(complete=True)
        sink.close()
        contents.append(json.loads((tmp_path / f"{name}.json").read_text()))
    of_each_run = {"date": None, "wall_s": None}
    assert contents[0] | of_each_run == contents[1] | of_each_run
    assert contents[0]["frames_with_people"] == 5


# The pictures.


def test_pictures_of_both_runs_are_shown_once_each_and_on_one_clock(tmp_path: Path) -> None:
    """Uneven times that do not begin at 0, three runs, the first of one picture only."""
    times_s = [3.0, 3.04, 3.13, 3.2, 3.21, 3.5, 3.6, 3.64]
    scenes = [scene(i, time_s=time_s) for i, time_s in enumerate(times_s)]
    npz, movie = tmp_path / "clip.npz", tmp_path / "clip.mp4"
    for start, end in ((0, 1), (1, 5), (5, 8)):
        write_overlay(movie, scenes[start:end], earlier=npz if start else None)
        write_npz(npz, scenes[start:end], earlier=npz if start else None)
    numbers, seen_s = zip(*shown(movie), strict=True)
    assert list(numbers) == list(range(8))
    np.testing.assert_allclose(seen_s, np.array(times_s) - 3.0, atol=1e-4)
    with av.open(str(movie)) as container:
        video = container.streams.video[0]
        assert float(video.duration * video.time_base) == pytest.approx(0.64 + 1 / FPS, abs=0.002)
        assert sum(packet.is_keyframe for packet in container.demux(video) if packet.size) == 3, "copied, each run begins with one"


def test_copied_pictures_are_the_same_bytes_of_light(tmp_path: Path) -> None:
    """Encoding once more would change noise."""
    pictures = media.noise_pictures(6, WIDTH, HEIGHT)
    scenes = [dataclasses.replace(scene(i), frame=Frame(i, i / FPS, picture)) for i, picture in enumerate(pictures)]
    npz, movie = write_npz(tmp_path / "clip.npz", scenes[:4]), write_overlay(tmp_path / "clip.mp4", scenes[:4])
    decode = lambda: [frame.to_ndarray(format="rgb24") for frame in av.open(str(movie)).decode(video=0)]
    before = decode()
    write_overlay(movie, scenes[4:], earlier=npz)
    after = decode()
    assert len(after) == 6
    np.testing.assert_array_equal(after[:4], before)


def test_pictures_of_another_encoder_are_encoded_once_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Other settings stand in for another version of x264: their parameter sets differ, so a copy would show garbage."""
    scenes = [scene(i) for i in range(9)]
    npz = write_npz(tmp_path / "clip.npz", scenes[:5])
    movie = write_overlay(tmp_path / "clip.mp4", scenes[:5], quality=40, preset="ultrafast")
    with caplog.at_level(logging.WARNING):
        write_overlay(movie, scenes[5:], earlier=npz)
    assert "encoded once more" in caplog.text
    numbers, seen_s = zip(*shown(movie), strict=True)
    assert list(numbers) == list(range(9))
    np.testing.assert_allclose(seen_s, np.arange(9) / FPS, atol=1e-4)


def test_without_earlier_pictures_the_overlay_begins_here_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scenes = [scene(i) for i in range(9)]
    npz, movie = write_npz(tmp_path / "clip.npz", scenes[:4]), tmp_path / "clip.mp4"
    with caplog.at_level(logging.WARNING):
        write_overlay(movie, scenes[4:6], earlier=npz)
    assert "clip.mp4 is not there" in caplog.text
    assert shown(movie) == [(4, 0.0), (5, pytest.approx(0.04))]
    caplog.clear()
    write_npz(npz, scenes[4:6], earlier=npz)
    write_overlay(movie, scenes[6:], earlier=npz)
    assert shown(movie) == [(i, pytest.approx((i - 4) / FPS, abs=1e-4)) for i in range(4, 9)], "the next run keeps that clock"
    assert caplog.text == "", "what is missing was said once"


def test_pictures_without_numbers_are_left_out_and_missing_ones_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scenes = [scene(i) for i in range(8)]
    movie = write_overlay(tmp_path / "clip.mp4", scenes[:5])
    npz = write_npz(tmp_path / "clip.npz", scenes[:4])
    write_overlay(movie, scenes[4:], earlier=npz)
    assert [number for number, _ in shown(movie)] == list(range(8))
    assert caplog.text == ""
    npz = write_npz(tmp_path / "clip.npz", scenes)
    write_overlay(tmp_path / "short.mp4", scenes[:6])
    with caplog.at_level(logging.WARNING):
        write_overlay(tmp_path / "short.mp4", [scene(8)], earlier=npz)
    assert "lacks 2 of the 8 pictures" in caplog.text
    assert [number for number, _ in shown(tmp_path / "short.mp4")] == [0, 1, 2, 3, 4, 5, 8]


def test_no_new_picture_leaves_the_overlay_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    npz, movie = write_npz(tmp_path / "clip.npz", [scene(0)]), write_overlay(tmp_path / "clip.mp4", [scene(0)])
    before = movie.read_bytes()
    write_overlay(movie, [], earlier=npz)
    assert movie.read_bytes() == before
    assert caplog.text == ""


def test_a_film_that_is_no_overlay_is_not_touched(tmp_path: Path) -> None:
    npz = write_npz(tmp_path / "clip.npz", [scene(0)])
    foreign = media.write_video(tmp_path / "foreign.mp4", media.counter_pictures(3, 64, HEIGHT))
    text = tmp_path / "text.mp4"
    text.write_text("no film")
    write_overlay(tmp_path / "cut.mp4", [scene(i) for i in range(5)])
    cut = media.cut_file(tmp_path / "cut.mp4", 0.3, tmp_path / "cut.mp4")
    for path, match in ((foreign, "is not an overlay that mchmr wrote"), (text, "cannot be read"), (cut, "cannot be read")):
        before = path.read_bytes()
        with pytest.raises(InputError, match=match) as caught:
            write_overlay(path, [scene(1)], earlier=npz)
        assert "\n" not in str(caught.value)
        assert path.read_bytes() == before


@pytest.mark.parametrize(("suffix", "codec", "written"), [("mp4", "aac", "aac"), ("mkv", "pcm_s16le", "aac"), ("mkv", "libopus", "opus")])
def test_the_sound_is_whole(tmp_path: Path, suffix: str, codec: str, written: str) -> None:
    """A second of silence, then a tone; pictures from 0.4 s to 1.6 s in two runs, the seam in the silence."""
    source = _beep(tmp_path / f"source.{suffix}", codec)
    scenes = [scene(i) for i in range(10, 40)]
    npz = write_npz(tmp_path / "clip.npz", scenes[:7])
    movie = write_overlay(tmp_path / "clip.mp4", scenes[:7], audio_from=str(source))
    write_overlay(movie, scenes[7:], earlier=npz, audio_from=str(source))
    assert [number for number, _ in shown(movie)] == list(range(10, 40))
    with av.open(str(movie)) as container:
        track = container.streams.audio[0]
        assert track.codec_context.name == written
        pieces = [
            (frame.time, float(np.abs(_as_float(frame)).max()), frame.samples / frame.sample_rate) for frame in container.decode(track)
        ]
    ends_s = pieces[-1][0] + pieces[-1][2]
    assert ends_s == pytest.approx(1.2, abs=0.1)
    assert sum(length_s for *_, length_s in pieces) == pytest.approx(ends_s, abs=0.1), "no gap and nothing twice"
    assert max(peak for time_s, peak, _ in pieces if time_s < 0.5) < 0.05
    assert min(peak for time_s, peak, _ in pieces if 0.7 < time_s < 1.0) > 0.2


def _beep(path: Path, codec: str) -> Path:
    rate = 48000
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream(codec, rate=rate, layout="mono")
        for i in range(50):
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
            at_s = (np.arange(rate // 25) + i * (rate // 25)) / rate
            wave = np.where(at_s >= 1, 0.5 * np.sin(2 * np.pi * 440 * at_s), 0)
            frame = av.AudioFrame.from_ndarray((wave[None] * 32767).astype(np.int16), format="s16p", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, i * (rate // 25), Fraction(1, rate)
            container.mux(sound.encode(frame))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


def _as_float(frame: av.AudioFrame) -> np.ndarray:
    values = frame.to_ndarray()
    return values / 32768 if values.dtype == np.int16 else values


# Who is who.


def earlier_run(folder: Path, scenes: Sequence[Scene], settings: Settings | None = None) -> EarlierRun:
    settings = settings or Settings()
    write_npz(folder / "clip.npz", scenes, settings=settings.model_dump(mode="json"), made_of=MADE_OF.plain())
    (folder / "clip.json").write_text(json.dumps({"complete": False, "frames": len(scenes)}))
    return EarlierRun(folder / "clip.npz", folder / "clip.json", settings, MADE_OF)


def play(scenes: Sequence[Scene]) -> Generator[Scene]:
    yield from scenes


def names_after(earlier: EarlierRun, scenes: Sequence[Scene]) -> list[list[int]]:
    return [one.bodies.track_id.tolist() for one in earlier.only_new(play(scenes))]


def test_people_keep_their_names_and_newcomers_get_new_ones(tmp_path: Path) -> None:
    """Earlier: 1 left long ago, 2 on the left, 5 on the right. The new run calls them 2 and 1, and a third person comes."""
    middle = (23.0, 5.0, 38.0, 45.0)
    first = [scene(0, {1: LEFT})] + [scene(i, {2: LEFT, 5: RIGHT}) for i in range(100, 110)]
    again = [scene(i, {1: RIGHT, 2: LEFT}) for i in range(105, 112)] + [scene(112, {1: RIGHT, 2: LEFT, 3: middle}), scene(113, {3: middle})]
    assert names_after(earlier_run(tmp_path, first), again) == [[5, 2], [5, 2], [5, 2, 6], [6]]


def test_frames_of_the_earlier_run_do_not_come_again(tmp_path: Path) -> None:
    earlier = earlier_run(tmp_path, [scene(i) for i in range(0, 30, 3)])
    new = [one.frame.index for one in earlier.only_new(play([scene(i) for i in range(21, 40, 3)]))]
    assert new == [30, 33, 36, 39]


def test_two_people_who_meet_at_the_seam_are_told_apart(tmp_path: Path) -> None:
    """For most of the common frames they are apart; in the last ones their boxes lie on each other."""
    meeting = (20.0, 5.0, 42.0, 45.0)
    first = [scene(i, {1: LEFT, 2: RIGHT}) for i in range(8)] + [scene(i, {1: meeting, 2: meeting}) for i in (8, 9)]
    again = [scene(i, {1: RIGHT, 2: LEFT}) for i in range(8)] + [scene(i, {1: meeting, 2: meeting}) for i in (8, 9, 10)]
    assert names_after(earlier_run(tmp_path, first), again) == [[2, 1]]


def test_nobody_takes_the_name_of_somebody_elsewhere(tmp_path: Path) -> None:
    first = [scene(i, {1: LEFT}) for i in range(5)]
    again = [scene(i, {1: RIGHT}) for i in range(2, 7)]
    assert names_after(earlier_run(tmp_path, first), again) == [[2], [2]]


@pytest.mark.parametrize(("max_lost_s", "start_s"), [(1.0, 8.48), (0.1, 8.48), (4.0, 5.48)])
def test_the_warm_up_is_long_enough_for_the_tracker(tmp_path: Path, max_lost_s: float, start_s: float) -> None:
    settings = settings_from({"tracker": {"max_lost_s": max_lost_s}, "source": {"start_s": 1.0}})
    earlier = earlier_run(tmp_path, [scene(i) for i in range(25, 250)], settings)
    resumed = earlier.settings_to_resume(settings)
    assert resumed.source.start_s == pytest.approx(start_s)
    assert resumed.source.start_s in earlier.motion.frames_time_s
    assert resumed.model_dump(exclude={"source"}) == settings.model_dump(exclude={"source"})


def test_a_short_or_empty_earlier_run_is_gone_through_from_its_start(tmp_path: Path) -> None:
    settings = settings_from({"source": {"start_s": 1.0}})
    assert earlier_run(tmp_path, [scene(25), scene(26)], settings).settings_to_resume(settings).source.start_s == 1.0
    empty = earlier_run(tmp_path, [], settings)
    assert empty.settings_to_resume(settings) == settings
    assert names_after(empty, [scene(25, {1: LEFT})]) == [[1]]


def test_expected_frames_are_those_of_both_runs(tmp_path: Path) -> None:
    earlier = earlier_run(tmp_path, [scene(i) for i in range(200)])
    start_s = earlier.settings_to_resume(Settings()).source.start_s
    assert start_s is not None
    rest = dataclasses.replace(INFO, frame_count=1000 - round(start_s * FPS))
    assert earlier.with_total_frames(rest).frame_count == 1000
    assert earlier.with_total_frames(dataclasses.replace(INFO, frame_count=None)).frame_count is None


def test_closing_the_new_scenes_closes_what_they_come_from(tmp_path: Path) -> None:
    ended = []

    def scenes() -> Generator[Scene]:
        try:
            yield from (scene(i) for i in range(10))
        finally:
            ended.append(True)

    upstream = scenes()  # held here, so that it does not end by being forgotten
    new = earlier_run(tmp_path, [scene(0)]).only_new(upstream)
    assert next(new).frame.index == 1
    new.close()
    assert ended == [True]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"smoother": {"strength": 2.0}}, r"smoother\.strength 1\.0, now it is 2\.0"),
        ({"source": {"every": 2}}, r"source\.every 1, now it is 2"),
        ({"output": {"overlay": False}}, r"output\.overlay True, now it is False"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    earlier_run(tmp_path, [scene(0)])
    with pytest.raises(UsageError, match=match):
        EarlierRun(tmp_path / "clip.npz", tmp_path / "clip.json", settings_from(change), MADE_OF)


def test_another_input_is_refused_and_the_line_names_both(tmp_path: Path) -> None:
    earlier_run(tmp_path, [scene(0)])
    (tmp_path / "clip.mp4").write_bytes(bytes(2000))
    other = MadeOf(tmp_path / "clip.mp4", tmp_path / "clip.mp4", content_of(tmp_path / "clip.mp4"))
    named = r"another input, clip\.mp4 \(1000 bytes, hash ab12\), now it is clip\.mp4 \(2000 bytes, .*; use --overwrite"
    with pytest.raises(UsageError, match=named):
        EarlierRun(tmp_path / "clip.npz", tmp_path / "clip.json", Settings(), other)
    pipe = dataclasses.replace(MADE_OF, content=None)
    with pytest.raises(UsageError, match="is a pipe or a device, .* use --overwrite"):
        EarlierRun(tmp_path / "clip.npz", tmp_path / "clip.json", Settings(), pipe)


def test_what_a_setting_names_counts_by_its_content(tmp_path: Path) -> None:
    """Weights that were copied are the same; a camera file of the same name that was edited is another."""
    weights, camera = Content(1, 10, "aa"), Content(1, 20, "bb")
    settings = settings_from({"network": {"weights": "a/net.safetensors"}, "camera": {"intrinsics": "camera.json"}})
    begun = dataclasses.replace(MADE_OF, setting_files={"network.weights": weights, "camera.intrinsics": camera})
    write_npz(tmp_path / "clip.npz", [scene(0)], settings=settings.model_dump(mode="json"), made_of=begun.plain())
    moved = settings_from({"network": {"weights": "b/net.safetensors"}, "camera": {"intrinsics": "camera.json"}})
    EarlierRun(tmp_path / "clip.npz", tmp_path / "clip.json", moved, begun)
    edited = dataclasses.replace(begun, setting_files={"network.weights": weights, "camera.intrinsics": Content(1, 20, "cc")})
    with pytest.raises(UsageError, match=r"camera\.intrinsics camera\.json \(20 bytes, hash bb\), which is now 20 bytes, hash cc"):
        EarlierRun(tmp_path / "clip.npz", tmp_path / "clip.json", settings, edited)


def test_a_file_of_an_earlier_version_is_taken_for_this_input_and_that_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It names no input, and lacks a setting that came later."""
    then = Settings().model_dump(mode="json")
    del then["body"]["build"], then["source"]["pictures"]
    write_npz(tmp_path / "clip.npz", [scene(0)], settings=then)
    (tmp_path / "clip.json").write_text('{"complete": true, "frames": 1, "source": {"name": "clip.mp4"}}')
    assert EarlierRun(tmp_path / "clip.npz", tmp_path / "clip.json", Settings(), MADE_OF).complete
    assert [record.message for record in caplog.records if "earlier version" in record.message and "--overwrite" in record.message]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("said", [[], {"name": "a"}, {"name": "a", "bytes": "x", "files": 1, "sampled_sha256": "a", "setting_files": {}}])
def test_nonsense_about_the_input_is_one_line(tmp_path: Path, said: Any) -> None:
    earlier_run(tmp_path, [scene(0)])
    with np.load(tmp_path / "clip.npz") as arrays:
        np.savez(tmp_path / "clip.npz", **{**arrays, "made_of": np.array(json.dumps(said))})
    with pytest.raises(InputError, match=r"clip\.npz: made_of"):
        EarlierRun(tmp_path / "clip.npz", tmp_path / "clip.json", Settings(), MADE_OF)


def test_it_may_go_on_elsewhere(tmp_path: Path) -> None:
    earlier_run(tmp_path, [scene(0)])
    other_machine = settings_from({"runtime": {"device": "cuda", "threads": 3, "ahead": 16}})
    assert EarlierRun(tmp_path / "clip.npz", tmp_path / "clip.json", other_machine, MADE_OF).complete is False


@pytest.mark.parametrize(
    ("report", "complete"),
    [
        ('{"complete": true, "frames": 2, "source": {"sampled_sha256": "ab12"}}', True),
        ('{"complete": false, "frames": 2, "source": {"sampled_sha256": "ab12"}}', False),
        ('{"complete": true, "frames": 3, "source": {"sampled_sha256": "ab12"}}', False),
        ('{"complete": true, "frames": 2, "source": {"sampled_sha256": "cd34"}}', False),
        ('{"complete": true, "frames": 2, "source": []}', False),
        ("[]", False),
        ("{", False),
        (None, False),
    ],
)
def test_complete_is_what_the_report_of_these_frames_says(tmp_path: Path, report: str | None, complete: bool) -> None:
    earlier_run(tmp_path, [scene(0), scene(1)])
    (tmp_path / "clip.json").unlink()
    if report is not None:
        (tmp_path / "clip.json").write_text(report)
    assert EarlierRun(tmp_path / "clip.npz", tmp_path / "clip.json", Settings(), MADE_OF).complete is complete


def test_every_column_is_carried_over() -> None:
    """A column added to the file must be one that people have, or `extend` cannot carry it."""
    from mchmr_stream.motion.motion import Track

    assert set(COLUMNS) <= {field.name for field in dataclasses.fields(Track)}
