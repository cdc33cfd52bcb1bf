"""Photos are no clip: found to be none, each seen alone, with a picture for a picture."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import av
import media
import numpy as np
import pytest
from people import people_picture, people_pictures
from PIL import ExifTags, Image

from mchmr_stream.cli.still_inputs import expanded
from mchmr_stream.config import Settings, load_settings, settings_from
from mchmr_stream.datatypes import Bodies, Frame, Scene
from mchmr_stream.errors import EncodingError, TruncatedInput, UsageError
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.jobs.video_job import VideoResult, process_video
from mchmr_stream.motion.motion import load
from mchmr_stream.pipeline import pipeline as pipeline_module
from mchmr_stream.pipeline.factory import open_input
from mchmr_stream.pipeline.pipeline import Pipeline, stream
from mchmr_stream.sinks.still_overlay import StillOverlaySink
from mchmr_stream.sources.stills import stills_in

WIDTH, HEIGHT = 480, 270


def room(*people: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A room with a person of a colour at each place: (left, colour)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    grey = 150 + 40 * np.sin(x / 23 + seed) + 30 * np.cos(y / 31 + 2 * seed) + 15 * np.sin((x + y) / 7 + seed)
    picture = np.repeat(grey[..., None], 3, 2)
    for left, colour in people:
        picture[40:260, left : left + 70] = colour + 20 * np.sin(np.arange(220)[:, None, None] / 5)
    return picture.clip(0, 255).astype(np.uint8)


def folder_of(folder: Path, pictures: list[np.ndarray], name: str = "frame_{:04d}.jpg", step_s: float | None = None) -> Path:
    folder.mkdir()
    begin = datetime(2026, 5, 1, 12)
    for number, picture in enumerate(pictures):
        exif = Image.Exif()
        if step_s is not None:
            taken = begin + timedelta(seconds=number * step_s)
            exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = taken.strftime("%Y:%m:%d %H:%M:%S")
        Image.fromarray(picture).save(folder / name.format(number), exif=exif, quality=90)
    return folder


WALK = [room((100 + 6 * number, 30)) for number in range(12)]
"""Somebody crosses a room in two and a half seconds, at 25 pictures per second."""


def why(path: Path | str, *overrides: str) -> str | None:
    stills = stills_in(path, load_settings(None, list(overrides)))
    return None if stills is None else stills.why


# --- what is a clip


@pytest.mark.parametrize("name", ["frame_{:04d}.jpg", "{}.png", "cam1-{}-left.jpg"])
def test_a_numbered_sequence_remains_a_clip(tmp_path, name):
    assert why(folder_of(tmp_path / "clip", WALK, name)) is None


def test_a_clip_may_pan_flicker_and_have_a_cut(tmp_path):
    wide = np.concatenate([room((100, 30)), room((300, 220))], 1)
    pan = [np.roll(wide, -15 * number, 1)[:, :WIDTH] for number in range(8)]
    dimmed = [(picture * (0.97 if number % 2 else 1)).astype(np.uint8) for number, picture in enumerate(pan)]
    assert why(folder_of(tmp_path / "clip", [*dimmed, *(room((200, 90), seed=5) for _ in range(4))])) is None


def test_burst_shots_remain_a_clip(tmp_path):
    assert why(folder_of(tmp_path / "burst", WALK, "IMG_{:04d}.jpg", step_s=0.1)) is None


# --- what is none


def test_different_people_before_one_camera_stand_alone(tmp_path):
    """The background is the same everywhere, names are numbered, sizes are one: what the pictures show says it."""
    colours = (20, 230, 90, 250, 40)
    assert why(folder_of(tmp_path / "visitors", [room((180, colour)) for colour in colours])) == (
        "what they show does not go on from one to the next"
    )
    assert why(folder_of(tmp_path / "empty", [room((180, 20)), room(), room((60, 20)), room()])) is not None


def test_other_places_stand_alone(tmp_path):
    assert why(folder_of(tmp_path / "travels", [room((100, 30), seed=seed) for seed in range(5)])) is not None
    assert why(folder_of(tmp_path / "two", [room((100, 30), seed=seed) for seed in (0, 3)])) is not None


def test_names_sizes_and_dates_say_it_too(tmp_path):
    named = tmp_path / "named"
    named.mkdir()
    for number, name in enumerate(("anna", "bob", "carol")):
        Image.fromarray(WALK[number]).save(named / f"{name}.jpg")
    assert why(named) == "their names are no numbered sequence"
    sizes = [picture[: HEIGHT - 20 * number] for number, picture in enumerate(WALK[:4])]
    assert why(folder_of(tmp_path / "sizes", sizes)) == "they differ in size"
    assert why(folder_of(tmp_path / "dates", WALK, "IMG_{:04d}.jpg", step_s=35)) == "their EXIF dates are 35 s apart"


def test_upright_and_lying_photos_of_one_camera_differ_in_size(tmp_path):
    folder = folder_of(tmp_path / "turned", [])
    for number, picture in enumerate(WALK[:4]):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6 if number % 2 else 1
        Image.fromarray(picture).save(folder / f"IMG_{number}.jpg", exif=exif)
    assert why(folder) == "they differ in size"


@pytest.mark.parametrize(
    "override", ["source.pictures=clip", "source.images_fps=2", "source.end_s=1", "camera.static=true", "detector.kind=boxes"]
)
def test_settings_that_mean_a_film_make_it_one(tmp_path, override):
    folder = folder_of(tmp_path / "visitors", [room((180, colour)) for colour in (20, 230, 90)])
    assert why(folder, override) is None


def test_stills_can_be_asked_for_and_every_second_be_taken(tmp_path):
    folder = folder_of(tmp_path / "clip", WALK)
    assert why(folder, "source.pictures=stills") == "source.pictures is stills"
    every = stills_in(folder, load_settings(None, ["source.pictures=stills", "source.every=5"]))
    assert [path.name for path in every.paths] == ["frame_0000.jpg", "frame_0005.jpg", "frame_0010.jpg"]


def test_one_picture_stands_alone_and_what_moves_is_none(tmp_path):
    folder = folder_of(tmp_path / "one", WALK[:1])
    assert why(folder / "frame_0000.jpg") == ""
    assert why(folder) == "it is one picture"
    assert why(folder / "*.jpg") == "it is one picture"
    frames = [Image.fromarray(picture) for picture in WALK[:3]]
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:], duration=40)
    clip = media.write_video(tmp_path / "clip.mp4", WALK[:3])
    for path in (tmp_path / "moving.png", clip, tmp_path / "missing", tmp_path / "missing_*.jpg"):
        assert stills_in(path, Settings()) is None


def test_photos_of_a_real_camera(shared):
    photos = shared / "media" / "faults" / "photos"
    assert why(photos) == "what they show does not go on from one to the next"


def test_frames_of_real_clips_are_clips_down_to_ten_per_second(shared, tmp_path):
    for name, step in (("asl-walk.mkv", 3), ("store-aisle-detection.gif", 1)):
        folder = tmp_path / Path(name).stem
        folder.mkdir()
        with av.open(str(shared / "media" / name)) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number % step == 0 and number < 12 * step:
                    frame.to_image().save(folder / f"{number:05d}.jpg")
        assert why(folder) is None, name


# --- what comes out


def test_a_folder_becomes_its_pictures_and_that_is_said_once(tmp_path):
    folder = folder_of(tmp_path / "visitors", [room((180, colour)) for colour in (20, 230, 90)], "p{}.jpg")
    said: list[str] = []
    inputs = expanded([str(folder), "clip.mp4"], Path("out"), Settings(), said.append)
    assert [str(one.paths.bodies) for one in inputs] == [*(f"out/visitors/p{number}.npz" for number in range(3)), "out/clip.npz"]
    assert [str(one.paths.overlay) for one in inputs] == [*(f"out/visitors/p{number}.jpg" for number in range(3)), "out/clip.mp4"]
    (line,) = said
    assert "visitors: 3 pictures, each on its own, as what they show does not go on" in line
    assert "--set source.pictures=clip" in line


@pytest.fixture
def settings(quick_settings: Settings) -> Settings:
    return settings_from({**quick_settings.model_dump(), "smoother": {"kind": "two-sided"}, "fit": {"kind": "map"}})


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, quick_pipeline: Pipeline, settings: Settings) -> Pipeline:
    using = Pipeline(settings, quick_pipeline.components)
    monkeypatch.setattr(using, "close", lambda: None)
    monkeypatch.setattr(pipeline_module, "Pipeline", lambda settings: using)
    return using


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two people, nobody, and one person, painted: no clip."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, places in {"a": [(-0.9, 0.3, 4.5), (0.9, 0.3, 4.0)], "b": [], "c": [(0.2, 0.3, 3.6)]}.items():
        media.write_image(folder / f"{name}.png", people_picture(0, places))
    return folder


def one(path: Path, out: Path, pipeline: Pipeline, **options: bool) -> VideoResult:
    return process_video(path, out, pipeline.settings, pipeline=pipeline, **options)


def test_a_photo_gives_a_picture(photos, tmp_path, loaded):
    result = one(photos / "a.png", tmp_path / "out", loaded)
    assert (result.complete, result.frames, result.people) == (True, 1, 2)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.json", "a.npz", "a.png"]
    with Image.open(tmp_path / "out" / "a.png") as drawn, Image.open(photos / "a.png") as picture:
        assert drawn.size == picture.size
        assert (np.asarray(drawn) != np.asarray(picture)).any(-1).mean() > 0.02  # the bodies
    motion = load(tmp_path / "out" / "a.npz")
    assert [len(track) for track in motion.tracks.values()] == [1, 1]
    report = json.loads((tmp_path / "out" / "a.json").read_text())
    assert report["source"]["still"] is True
    assert report["settings"]["smoother"]["kind"] == "none"
    again = one(photos / "a.png", tmp_path / "out", loaded, resume=True)
    assert (again.complete, again.message) == (True, "was complete already")


def test_a_photo_is_drawn_upright_and_as_what_it_was(tmp_path, loaded):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(np.rot90(people_picture(0, [(0.2, 0.3, 3.6)]))).save(tmp_path / "phone.JPG", exif=exif, quality=95)
    result = one(tmp_path / "phone.JPG", tmp_path / "out", loaded)
    assert result.overlay == tmp_path / "out" / "phone.jpg"
    with Image.open(result.overlay) as drawn:
        assert (drawn.format, drawn.size, drawn.getexif().get(ExifTags.Base.Orientation, 1)) == ("JPEG", (320, 240), 1)


def test_as_a_clip_it_gives_a_film(photos, tmp_path, loaded):
    loaded.settings = settings_from({**loaded.settings.model_dump(), "source": {"pictures": "clip"}})
    result = one(photos, tmp_path / "out", loaded)
    assert (result.frames, result.overlay) == (3, tmp_path / "out" / "photos.mp4")
    assert json.loads((tmp_path / "out" / "photos.json").read_text())["source"]["still"] is False


def test_photos_in_one_call_are_refused_by_their_right_name(photos, tmp_path, loaded):
    with pytest.raises(UsageError, match=r"holds 3 single pictures \(their names are no numbered sequence\).*source\.pictures to clip"):
        one(photos, tmp_path / "out", loaded)
    assert not (tmp_path / "out").exists()


def test_nothing_goes_from_one_photo_to_the_next(photos, loaded):
    """Streamed together they give what each gives alone, to the last bit; nobody is seen in the empty one."""
    together = list(stream(photos, loaded.settings))
    assert [(scene.frame.index, scene.bodies.frame, len(scene)) for scene in together] == [(0, 0, 2), (1, 1, 0), (2, 2, 1)]
    assert together[2].bodies.track_id.tolist() == [1]
    for scene, path in zip(together, sorted(photos.iterdir()), strict=True):
        (alone,) = _scenes_of(path, loaded)
        for column in ("global_orient", "body_pose", "betas", "transl", "joint_sd_m"):
            np.testing.assert_array_equal(getattr(scene.bodies, column), getattr(alone.bodies, column))


def test_a_photo_is_not_smoothed(photos, loaded):
    """A smoother leaves out what it does not trust, and bodies are aligned after it: with a photo neither happens."""
    (alone,) = _scenes_of(photos / "a.png", loaded)
    loaded.settings = settings_from({**loaded.settings.model_dump(), "smoother": {"kind": "none"}})
    (unsmoothed,) = _scenes_of(photos / "a.png", loaded)
    for column in ("global_orient", "body_pose", "betas", "transl"):
        np.testing.assert_array_equal(getattr(alone.bodies, column), getattr(unsmoothed.bodies, column))


def _scenes_of(path: Path, pipeline: Pipeline) -> list[Scene]:
    source, intrinsics = open_input(path, pipeline.settings)
    with source:
        return list(pipeline.scenes(source, intrinsics))


def test_a_damaged_photo_costs_only_itself(photos, loaded):
    (photos / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    scenes = stream(photos, loaded.settings)
    assert [next(scenes).frame.index for _ in range(2)] == [0, 2]
    with pytest.raises(TruncatedInput, match=r"1 of 3 pictures are damaged; the first: .*b\.png"):
        next(scenes)


def test_walking_people_are_a_clip(tmp_path):
    pictures = [picture[20:] for picture in people_pictures(10, [((-1.0, 0.3, 4.5), (-0.4, 0.3, 4.5))])]
    assert why(folder_of(tmp_path / "walk", pictures)) is None


def test_a_picture_too_large_for_jpeg_costs_the_overlay_only(tmp_path: Path) -> None:
    sink = StillOverlaySink(tmp_path / "wide.jpg")
    sink.path.write_bytes(b"of another run")
    none = np.zeros((0, 24, 3), np.float32)
    frame = Frame(0, 0.0, np.zeros((2, 65_501, 3), np.uint8))
    scene = Scene(
        frame, Bodies.empty(0, 0.0, 1), Intrinsics.assumed(65_501, 2), none, none[..., :2], np.zeros((0, 3), np.int64), lambda: none
    )
    with pytest.raises(EncodingError, match="JPEG holds pictures of up to 65500 px a side, this one has 65501x2"):
        sink.write(scene)
    sink.give_up()
    assert not list(tmp_path.iterdir())
