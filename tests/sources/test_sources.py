"""Sources against files made on the spot: what a user feeds in must come out upright, in time, complete, or with a clear word."""

from __future__ import annotations

import io
import struct
import weakref
from fractions import Fraction
from pathlib import Path

import av
import media
import numpy as np
import pytest
import torch
from av.codec.hwaccel import hwdevices_available
from components import import_or_skip
from PIL import Image

from mchmr_stream.config import SourceSettings
from mchmr_stream.datatypes import Frame
from mchmr_stream.errors import InputError, MchmrError, TruncatedInput, UsageError
from mchmr_stream.sources import open_source, video_file
from mchmr_stream.sources.container import list_streams
from mchmr_stream.sources.picture_header import picture_size
from mchmr_stream.sources.timestamps import BestStamps, Clock


def read(path: Path, **settings: object) -> list[Frame]:
    with open_source(path, SourceSettings(**settings)) as source:
        return list(source.frames())


def read_damaged(path: Path, **settings: object) -> tuple[list[Frame], str]:
    """Frames before the error, and the error's text."""
    frames: list[Frame] = []
    with open_source(path, SourceSettings(**settings)) as source, pytest.raises(TruncatedInput) as error:
        frames.extend(source.frames())  # keeps what came before the error
    assert "\n" not in str(error.value)
    return frames, str(error.value)


def counters(frames: list[Frame]) -> list[int]:
    return [media.read_counter(frame.rgb) for frame in frames]


def assert_corners(rgb: np.ndarray, expected: np.ndarray, tolerance: int = 30) -> None:
    """The same colour in the middle of each quarter, and the same size."""
    assert rgb.shape == expected.shape
    height, width = rgb.shape[:2]
    for y in (height // 4, 3 * height // 4):
        for x in (width // 4, 3 * width // 4):
            np.testing.assert_allclose(rgb[y, x].astype(int), expected[y, x].astype(int), atol=tolerance)


# --- what is decoded -------------------------------------------------------------------------------------------------------

CODECS = [
    ("libx264", "mp4", "yuv420p"), ("libx264", "mkv", "yuv420p10le"), ("libx264", "mov", "yuv422p"), ("libx264", "ts", "yuv420p"),
    ("libx264", "avi", "yuv420p"), ("libx264", "flv", "yuv420p"), ("libx264", "h264", "yuv420p"), ("libx265", "mp4", "yuv420p"),
    ("libx265", "mkv", "yuv420p10le"), ("libvpx", "webm", "yuv420p"), ("libvpx-vp9", "webm", "yuv420p"), ("libsvtav1", "mp4", "yuv420p"),
    ("mpeg4", "avi", "yuv420p"), ("mpeg2video", "mpg", "yuv420p"), ("mjpeg", "mov", "yuvj420p"), ("prores_ks", "mov", "yuv422p10le"),
    ("ffv1", "mkv", "yuv444p"), ("gif", "gif", "rgb8"), ("wmv2", "wmv", "yuv420p"),
]  # fmt: skip


@pytest.mark.parametrize(("codec", "suffix", "pix_fmt"), CODECS)
def test_every_common_codec_gives_all_frames_in_order(tmp_path: Path, codec: str, suffix: str, pix_fmt: str) -> None:
    path = media.write_video(tmp_path / f"clip.{suffix}", media.counter_pictures(40, 128, 96), 25, codec, pix_fmt)
    with open_source(path, SourceSettings()) as source:
        frames = list(source.frames())
        assert source.warnings == []
    assert counters(frames) == list(range(40))
    assert [frame.index for frame in frames] == list(range(40))
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(40) / 25, atol=0.0011)
    assert source.info.fps == pytest.approx(25, rel=0.01)
    assert (source.info.width, source.info.height) == (128, 96)
    assert source.info.frame_count is None or abs(source.info.frame_count - 40) <= 2
    assert source.info.path == str(path)


@pytest.mark.parametrize("size", [(65, 49), (35, 27), (66, 50), (33, 64)])
def test_odd_sizes_come_out_straight_with_whole_rows(tmp_path: Path, size: tuple[int, int]) -> None:
    picture = media.corner_picture(*size)
    path = media.write_video(tmp_path / "odd.mkv", [picture] * 2, codec="ffv1", pix_fmt="yuv444p")
    for frame in read(path):
        assert frame.rgb.strides[1:] == (3, 1)
        np.testing.assert_allclose(frame.rgb.astype(int), picture.astype(int), atol=4)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("name", hwdevices_available())
def test_without_the_hardware_the_cpu_decodes_and_it_is_said(tmp_path: Path, name: str, interlaced: bool) -> None:
    if name == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has the hardware")
    options = {"flags": "+ildct+ilme", "x264-params": "tff=1"} if interlaced else None
    path = media.write_video(tmp_path / "clip.mp4", [media.corner_picture()] * 6, codec_options=options)
    with open_source(path, SourceSettings(hwaccel=name)) as source:
        frames = list(source.frames())
        said = [text for text in source.warnings if "on the CPU" in text]
    assert len(said) == 1
    assert name in said[0]
    for frame, plain in zip(frames, read(path), strict=True):
        np.testing.assert_array_equal(frame.rgb, plain.rgb)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_the_gpu_decodes_the_same_pictures(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "clip.mp4", [media.corner_picture(256, 192)] * 6)
    with open_source(path, SourceSettings(hwaccel="cuda")) as source:
        frames = list(source.frames())
        assert not source.warnings
    for frame, plain in zip(frames, read(path), strict=True):
        np.testing.assert_allclose(frame.rgb.astype(int), plain.rgb.astype(int), atol=4)


def test_unknown_hardware_is_refused_with_what_there_is(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "clip.mp4", [media.corner_picture()] * 2)
    with pytest.raises(UsageError, match="abacus.*offers"):
        open_source(path, SourceSettings(hwaccel="abacus"))


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le"])
@pytest.mark.parametrize("colorspace", [None, "ITU709", "ITU601"])
@pytest.mark.parametrize("color_range", [None, "MPEG", "JPEG"])
def test_colours_survive_every_matrix_and_range(tmp_path: Path, pix_fmt: str, colorspace: str | None, color_range: str | None) -> None:
    picture = media.corner_picture()
    path = media.write_video(tmp_path / "c.mp4", [picture] * 2, pix_fmt=pix_fmt, colorspace=colorspace, color_range=color_range)
    assert_corners(read(path)[0].rgb, picture, tolerance=6)


def test_hdr_is_told(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "hlg.mp4", [media.corner_picture()] * 2, pix_fmt="yuv420p10le", color_trc=18)
    with open_source(path, SourceSettings()) as source:
        assert "HDR (HLG)" in source.warnings[0]


def test_frames_are_owned_by_the_caller(tmp_path: Path) -> None:
    """Painting into a frame must not show up in a later one, also where libav would hand out the decoder's own picture."""
    picture = media.corner_picture()
    path = media.write_video(tmp_path / "raw.avi", [picture] * 3, codec="png", pix_fmt="rgb24")
    with open_source(path, SourceSettings()) as source:
        for frame in source.frames():
            np.testing.assert_array_equal(frame.rgb, picture)
            frame.rgb[:] = 0


def test_transparency_is_laid_over_black(tmp_path: Path) -> None:
    rgba = np.dstack([media.corner_picture(), np.full((48, 64), 128, np.uint8)])
    (frame,) = read(media.write_image(tmp_path / "half.png", rgba))
    np.testing.assert_allclose(frame.rgb.astype(float), rgba[..., :3] * (128 / 255), atol=1)


# --- geometry --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_display_matrix_is_applied(tmp_path: Path, degrees: int, mirrored: bool) -> None:
    """PyAV documents `set_display_rotation` as a counter-clockwise turn, mirrored after it."""
    picture = media.corner_picture(64, 48)
    path = media.write_video(tmp_path / "turned.mp4", [picture] * 2, rotation_deg=degrees, flip_horizontal=mirrored)
    expected = np.rot90(picture, degrees // 90)
    expected = expected[:, ::-1] if mirrored else expected
    with open_source(path, SourceSettings()) as source:
        frame = next(iter(source.frames()))
        assert (source.info.height, source.info.width) == expected.shape[:2]
    assert_corners(frame.rgb, expected)
    assert frame.rgb.flags.c_contiguous


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_agrees_with_another_player(tmp_path: Path, degrees: int) -> None:
    cv2 = import_or_skip("cv2")
    path = media.write_video(tmp_path / "turned.mp4", [media.corner_picture(64, 48)] * 2, rotation_deg=degrees)
    shown = cv2.VideoCapture(str(path)).read()[1][..., ::-1]
    assert_corners(read(path)[0].rgb, shown, tolerance=8)


def test_rotation_written_by_a_phone(tmp_path: Path) -> None:
    """A phone held upright writes the matrix 0 1 -1 0: players turn clockwise. Patched in, so that no PyAV call decides the sign."""
    picture = media.corner_picture(64, 48)
    data = bytearray(media.write_video(tmp_path / "plain.mp4", [picture] * 2).read_bytes())
    matrix = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8  # version and flags, times and ids, reserved, layer to volume
    one = 1 << 16
    assert struct.unpack_from(">9i", data, matrix) == (one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", data, matrix, 0, one, 0, -one, 0, 0, 48 << 16, 0, 1 << 30)
    path = tmp_path / "phone.mp4"
    path.write_bytes(data)
    assert_corners(read(path)[0].rgb, np.rot90(picture, -1))


@pytest.mark.parametrize("aspect", [Fraction(2, 1), Fraction(1, 2), Fraction(4, 3)])
@pytest.mark.parametrize("degrees", [0, 90])
def test_pixels_become_square(tmp_path: Path, aspect: Fraction, degrees: int) -> None:
    picture = media.corner_picture(96, 48)
    path = media.write_video(tmp_path / "sar.mp4", [picture] * 2, sample_aspect_ratio=aspect, rotation_deg=degrees)
    expected = np.rot90(media.corner_picture(round(96 * aspect), 48), degrees // 90)
    with open_source(path, SourceSettings()) as source:
        frame = next(iter(source.frames()))
        assert (source.info.height, source.info.width) == expected.shape[:2]
    assert_corners(frame.rgb, expected)


def test_size_change_in_the_middle_is_fitted_on_black(tmp_path: Path) -> None:
    """A camera that switches from 64x48 to 96x32: the later frames keep their shape and get bars above and below."""
    wide, narrow = media.corner_picture(96, 32), media.corner_picture(64, 48)
    first = media.write_video(tmp_path / "a.h264", [narrow] * 5)
    second = media.write_video(tmp_path / "b.h264", [wide] * 5)
    path = tmp_path / "both.h264"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    with open_source(path, SourceSettings()) as source:
        frames = list(source.frames())
        assert [text for text in source.warnings if "size changes" in text] == source.warnings != []
    assert {frame.rgb.shape for frame in frames} == {(48, 64, 3)}
    assert len(frames) == 10
    assert_corners(frames[0].rgb, narrow)
    fitted = frames[-1].rgb
    assert fitted[:13].max() == 0
    assert fitted[-13:].max() == 0
    assert_corners(fitted[13:34], media.corner_picture(64, 21))


def combed(count: int) -> list[np.ndarray]:
    """A bar that moves between the two fields of each frame, as an interlaced camera sees it."""
    pictures = []
    for number in range(count):
        picture = np.full((96, 128, 3), 30, np.uint8)
        picture[1::2, 10 + 4 * number : 30 + 4 * number] = 220  # the encoder takes the lower field for the first
        picture[0::2, 12 + 4 * number : 32 + 4 * number] = 220
        pictures.append(picture)
    return pictures


def comb_strength(picture: np.ndarray) -> float:
    """How much rows differ from the rows next to them."""
    return float(np.abs(np.diff(picture[..., 0].astype(float), axis=0)).mean())


def test_interlaced_video_is_deinterlaced(tmp_path: Path) -> None:
    pictures = combed(12)
    options = {"flags": "+ilme+ildct"}
    path = media.write_video(tmp_path / "tv.mp4", pictures, 25, pix_fmt="yuv422p", codec_options=options, colorspace="ITU709")
    with open_source(path, SourceSettings()) as source:
        frames = list(source.frames())
        assert len([text for text in source.warnings if "interlaced" in text]) == 1
    assert [frame.index for frame in frames] == list(range(12))
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(12) / 25, atol=1e-6)
    assert max(comb_strength(frame.rgb) for frame in frames[1:-1]) < 0.25 * comb_strength(pictures[5])
    for picture, frame in zip(pictures, frames, strict=True):  # the bar is where the first field shows it, in the right colour
        bar = np.flatnonzero(picture[1, :, 0] > 128)
        assert frame.rgb[40, bar[2:-2]].min() > 190
    assert [frame.index for frame in read(path, start_s=0.2, every=2)] == [5, 7, 9, 11]


# --- time ------------------------------------------------------------------------------------------------------------------

IRREGULAR_MS = [0, 33, 70, 180, 181, 400, 433, 1000, 1010, 1500]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_variable_rate_times_come_from_timestamps(tmp_path: Path, suffix: str) -> None:
    path = media.write_video(
        tmp_path / f"vfr.{suffix}", media.counter_pictures(10), pts=IRREGULAR_MS, time_base=Fraction(1, 1000), codec_options={"bf": "2"}
    )
    frames = read(path)
    np.testing.assert_allclose([frame.time_s * 1000 for frame in frames], IRREGULAR_MS, atol=0.6)
    later = read(path, start_s=0.2)
    assert [(frame.index, round(frame.time_s, 3)) for frame in later] == [(5, 0.4), (6, 0.433), (7, 1.0), (8, 1.01), (9, 1.5)]
    assert counters(later) == [5, 6, 7, 8, 9]


@pytest.mark.parametrize("suffix", ["ts", "mkv", "mp4"])
def test_times_start_at_zero_whatever_the_container_says(tmp_path: Path, suffix: str) -> None:
    stamps = [90_000 * 7 + 3000 * number for number in range(20)]
    path = media.write_video(tmp_path / f"late.{suffix}", media.counter_pictures(20), pts=stamps, time_base=Fraction(1, 90_000))
    np.testing.assert_allclose([frame.time_s for frame in read(path)], np.arange(20) / 30, atol=0.0011)
    assert counters(read(path, start_s=0.3, end_s=0.5)) == [9, 10, 11, 12, 13, 14]


def test_gif_keeps_its_delays(tmp_path: Path) -> None:
    stamps = [0, 10, 15, 50, 52, 100]
    path = media.write_video(
        tmp_path / "a.gif", media.counter_pictures(6), codec="gif", pix_fmt="rgb8", pts=stamps, time_base=Fraction(1, 100)
    )
    frames = read(path)
    np.testing.assert_allclose([frame.time_s for frame in frames], np.array(stamps) / 100, atol=1e-6)
    assert counters(frames) == list(range(6))


def test_joined_recordings_keep_counting_time(tmp_path: Path) -> None:
    """Two broadcast recordings put end to end: timestamps fall back, times must not."""
    one = media.write_video(tmp_path / "one.ts", media.counter_pictures(20))
    path = tmp_path / "two.ts"
    path.write_bytes(one.read_bytes() * 2)
    with open_source(path, SourceSettings()) as source:
        frames = list(source.frames())
        assert any("timestamps jump" in text for text in source.warnings)
    assert [frame.index for frame in frames] == list(range(40))
    np.testing.assert_allclose(np.diff([frame.time_s for frame in frames]), 1 / 30, atol=0.002)
    assert counters(read(path, start_s=0.8)) == counters(frames[24:])


# --- start, end, every -----------------------------------------------------------------------------------------------------

SEEK_CASES = [
    ("libx264", "mp4", {"g": "12", "bf": "3"}), ("libx264", "mkv", {"g": "12", "bf": "3"}), ("libx264", "ts", {"g": "12", "bf": "3"}),
    ("libx264", "mp4", {"g": "12", "bf": "3", "x264-params": "open-gop=1"}), ("libx264", "mkv", {"g": "9", "x264-params": "open-gop=1"}),
    ("libx264", "ts", {"g": "30", "x264-params": "intra-refresh=1"}), ("libx264", "mkv", {"g": "500"}),
    ("libx265", "mp4", {"g": "10", "bf": "3", "x265-params": "log-level=none:open-gop=1"}),
    ("libx265", "mkv", {"g": "10", "x265-params": "log-level=none:open-gop=1"}),
    ("libvpx", "webm", {"g": "10", "auto-alt-ref": "1", "lag-in-frames": "8"}),
    ("libvpx-vp9", "webm", {"g": "10", "auto-alt-ref": "1", "lag-in-frames": "8"}), ("libsvtav1", "mp4", {"g": "16", "preset": "12"}),
    ("libsvtav1", "mkv", {"g": "16", "preset": "12"}), ("mpeg4", "avi", {"g": "10", "bf": "2"}), ("mjpeg", "avi", {}),
    ("mpeg2video", "mpg", {"g": "10", "bf": "2"}), ("gif", "gif", {}),
]  # fmt: skip


@pytest.mark.parametrize(("codec", "suffix", "options"), SEEK_CASES)
def test_starting_late_gives_the_same_frames_as_reading_on(tmp_path: Path, codec: str, suffix: str, options: dict[str, str]) -> None:
    pix_fmt = {"mjpeg": "yuvj420p", "gif": "rgb8"}.get(codec, "yuv420p")
    rng = np.random.default_rng(3)
    pictures = [picture + rng.integers(0, 20, picture.shape, dtype=np.uint8) for picture in media.counter_pictures(75, 128, 96)]
    path = media.write_video(tmp_path / f"clip.{suffix}", pictures, 25, codec, pix_fmt, codec_options=options)
    whole = {frame.index: frame for frame in read(path)}
    for start_s in (0.04, 0.4, 1.0, 1.28, 2.92):
        frames = read(path, start_s=start_s)
        first = round(start_s * 25)
        assert [frame.index for frame in frames] == list(range(first, 75))
        for frame in frames:
            assert frame.time_s == whole[frame.index].time_s
            np.testing.assert_array_equal(frame.rgb, whole[frame.index].rgb)


def test_start_end_and_every_select(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "clip.mp4", media.counter_pictures(60), 30)
    settings = SourceSettings(start_s=0.5, end_s=1.5, every=4)
    with open_source(path, settings) as source:
        frames = list(source.frames())
    assert counters(frames) == [frame.index for frame in frames] == list(range(15, 45, 4))
    assert source.info.frame_count == len(frames)
    assert source.info.fps == pytest.approx(7.5)


def test_a_late_start_does_not_decode_what_comes_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"g": "10"}
    for suffix in ("mp4", "mkv"):
        path = media.write_video(tmp_path / f"clip.{suffix}", media.counter_pictures(200), 25, codec_options=options)
        source = open_source(path, SourceSettings(start_s=7.6))
        decoded = []
        real_decode = video_file.decode

        def counting(reader, stream, packets, damage, decoded=decoded, real_decode=real_decode):  # type: ignore[no-untyped-def]
            return real_decode(reader, stream, (decoded.append(packet) or packet for packet in packets), damage)

        monkeypatch.setattr(video_file, "decode", counting)
        assert counters(list(source.frames())) == list(range(190, 200))
        monkeypatch.undo()
        assert len(decoded) <= 20, suffix


def test_skipped_frames_are_not_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = media.write_video(tmp_path / "clip.mp4", media.counter_pictures(30))
    calls = []
    real = video_file.PictureConverter.rgb
    monkeypatch.setattr(video_file.PictureConverter, "rgb", lambda self, *rest: calls.append(1) or real(self, *rest))
    assert len(read(path, every=10)) == len(calls) == 3


def test_settings_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "clip.mp4", media.counter_pictures(10))
    with pytest.raises(UsageError, match=r"end_s is 1.*after source\.start_s, 2"):
        open_source(path, SourceSettings(start_s=2, end_s=1))
    for start_s in (0.5, 100):
        with pytest.raises(UsageError, match="no frame from"):
            read(path, start_s=start_s)


# --- streams ---------------------------------------------------------------------------------------------------------------


def test_second_video_stream_can_be_chosen(tmp_path: Path) -> None:
    pictures = [media.counter_picture(number) for number in range(100, 110)]
    path = media.write_video(tmp_path / "two.mkv", media.counter_pictures(10), extra_videos=[pictures])
    assert counters(read(path)) == list(range(10))
    assert counters(read(path, stream=1)) == list(range(100, 110))
    with pytest.raises(UsageError, match=r"source\.stream is 2.* 2 video stream.*0: h264 64x48"):
        open_source(path, SourceSettings(stream=2))
    assert len(list_streams(path)) == 2


def test_cover_picture_is_not_a_video(tmp_path: Path) -> None:
    song = media.write_audio(tmp_path / "song.m4a", 1.0)
    cover = media.write_image(tmp_path / "cover.png", media.corner_picture())
    path = tmp_path / "covered.mp4"
    with av.open(str(song)) as source, av.open(str(path), "w") as target:
        sound = target.add_stream_from_template(source.streams.audio[0])
        picture = target.add_stream("png", rate=1)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "rgb24"
        picture.disposition = av.stream.Disposition.attached_pic
        packet = av.Packet(cover.read_bytes())
        packet.stream, packet.pts, packet.dts, packet.time_base = picture, 0, 0, Fraction(1, 1)
        target.mux(packet)
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = sound
                target.mux(packet)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    with pytest.raises(InputError, match="holds no video"):
        open_source(path, SourceSettings())


def test_sound_beside_the_video_changes_nothing(tmp_path: Path) -> None:
    """Sound that ends long before or goes on long after the pictures is no damage."""
    for suffix in ("mp4", "mkv", "ts"):
        for seconds in (0.2, 6.0):
            path = media.write_video(tmp_path / f"{seconds}.{suffix}", media.counter_pictures(30), audio_s=seconds)
            assert counters(read(path)) == list(range(30))


# --- damage ----------------------------------------------------------------------------------------------------------------

FASTSTART = {"movflags": "+faststart"}


@pytest.mark.parametrize(
    ("codec", "suffix"), [("libx264", "mp4"), ("libx264", "mkv"), ("libx264", "avi"), ("libx264", "flv"), ("libx264", "ts"),
    ("libx265", "mp4"), ("libvpx-vp9", "webm"), ("mjpeg", "mov"), ("mpeg4", "mp4"), ("gif", "gif")],
)  # fmt: skip
def test_file_without_its_end_gives_what_is_there_and_says_so(tmp_path: Path, codec: str, suffix: str) -> None:
    pix_fmt = {"mjpeg": "yuvj420p", "gif": "rgb8"}.get(codec, "yuv420p")
    options = FASTSTART if suffix in ("mp4", "mov") else {}
    whole = media.write_video(
        tmp_path / f"whole.{suffix}", media.noise_pictures(60), 20, codec, pix_fmt, codec_options={"g": "10"}, container_options=options
    )
    assert len(read(whole)) == 60
    frames, text = read_damaged(media.cut_file(whole, 0.6, tmp_path / f"cut.{suffix}"))
    assert 25 <= len(frames) <= 37
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert f"{len(frames)} frames were delivered" in text
    if suffix != "ts":  # has no declared length
        assert "the data ends at" in text or "breaks off" in text
    assert len(read(tmp_path / f"cut.{suffix}", end_s=0.5)) == 10  # what was asked for is whole


@pytest.mark.parametrize(("codec", "suffix"), [("libx264", "mp4"), ("libx265", "mp4"), ("mjpeg", "mov"), ("libsvtav1", "mp4")])
def test_zeroed_middle_is_skipped_counted_and_told(tmp_path: Path, codec: str, suffix: str) -> None:
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    options = {"g": "10", "preset": "12"} if codec == "libsvtav1" else {"g": "10"}
    path = media.write_video(
        tmp_path / f"rot.{suffix}", media.noise_pictures(90), 30, codec, pix_fmt, codec_options=options, container_options=FASTSTART
    )
    data = bytearray(path.read_bytes())
    low, high = int(len(data) * 0.4), int(len(data) * 0.6)
    data[low:high] = bytes(high - low)
    path.write_bytes(data)
    frames, text = read_damaged(path)
    assert 55 <= len(frames) < 90
    assert frames[-1].time_s == pytest.approx(89 / 30, abs=0.01)
    assert "could not be decoded" in text


@pytest.mark.parametrize(("codec", "suffix"), [("libvpx", "webm"), ("libvpx-vp9", "webm")])
def test_hole_in_a_matroska_file_is_noticed(tmp_path: Path, codec: str, suffix: str) -> None:
    """The demuxer jumps over it without a word."""
    options = {"g": "10", "deadline": "realtime", "cpu-used": "8"}
    path = media.write_video(tmp_path / f"hole.{suffix}", media.noise_pictures(60), 30, codec, codec_options=options)
    data = bytearray(path.read_bytes())
    low, high = int(len(data) * 0.4), int(len(data) * 0.6)
    data[low:high] = bytes(high - low)
    path.write_bytes(data)
    frames, text = read_damaged(path)
    assert 20 <= len(frames) < 60
    assert "could not be read" in text


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_bit_rot_is_told_with_place_and_count(tmp_path: Path, suffix: str) -> None:
    whole = media.write_video(tmp_path / f"whole.{suffix}", media.noise_pictures(60), 30, codec_options={"g": "10"})
    frames, text = read_damaged(media.damage_file(whole, tmp_path / f"rot.{suffix}", start=0.5, end=0.7))
    assert len(frames) >= 55
    assert "partly unreadable, first at 0." in text or "partly unreadable, first at 1." in text


def test_damage_outside_the_wanted_part_does_not_count(tmp_path: Path) -> None:
    whole = media.write_video(tmp_path / "whole.mp4", media.noise_pictures(90), 30, codec_options={"g": "10"})
    path = media.damage_file(whole, tmp_path / "rot.mp4", start=0.45, end=0.55)
    assert len(read_damaged(path)[0]) >= 85
    assert len(read(path, end_s=1.0)) == 30
    assert [frame.index for frame in read(path, start_s=2.0)] == list(range(60, 90))


def test_healthy_oddities_raise_no_alarm(tmp_path: Path) -> None:
    stream_like = io.BytesIO()
    stream_like.seekable = lambda: False  # type: ignore[method-assign]
    with av.open(stream_like, "w", format="matroska") as container:  # as a browser records: no length in the header
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for picture in media.counter_pictures(30):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    (tmp_path / "recorded.mkv").write_bytes(stream_like.getvalue())
    media.write_video(tmp_path / "fragments.mp4", media.counter_pictures(30), container_options={"movflags": "frag_keyframe+empty_moov"})
    media.write_video(
        tmp_path / "slow.mp4", media.counter_pictures(30), pts=[700 * number for number in range(30)], time_base=Fraction(1, 1000)
    )
    for name in ("recorded.mkv", "fragments.mp4", "slow.mp4"):
        with open_source(tmp_path / name, SourceSettings()) as source:
            assert counters(list(source.frames())) == list(range(30)), name
            assert source.warnings == [], name


def test_edit_list_that_hides_the_first_frames(tmp_path: Path) -> None:
    """What a phone writes when a video was trimmed: the file holds frames from the keyframe on, shown from a later one."""
    whole = media.write_video(tmp_path / "whole.mp4", media.counter_pictures(60), 30, codec_options={"bf": "2", "g": "20"})
    path = tmp_path / "trimmed.mp4"
    with av.open(str(whole)) as source, av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        shift = int(Fraction(7, 30) / source.streams.video[0].time_base)
        for packet in source.demux(video=0):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                target.mux(packet)
    frames = read(path)
    assert counters(frames) == list(range(7, 60))
    assert [frame.index for frame in frames] == list(range(53))
    later = read(path, start_s=1.0)
    assert [(frame.index, number) for frame, number in zip(later, counters(later), strict=True)] == [(n, n + 7) for n in range(30, 53)]


@pytest.mark.parametrize(("codec", "suffix"), [("libx264", "mp4"), ("libx264", "mkv"), ("libx264", "ts"), ("mpeg4", "avi"), ("gif", "gif")])
def test_no_damage_brings_out_an_error_of_pyav(tmp_path: Path, codec: str, suffix: str) -> None:
    """Damage anywhere, headers and index included: frames that are in order, or one of our errors."""
    pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
    whole = media.write_video(tmp_path / f"whole.{suffix}", media.noise_pictures(12, 64, 48), codec=codec, pix_fmt=pix_fmt)
    for seed in range(12):
        path = media.damage_file(whole, tmp_path / f"{seed}.{suffix}", start=0, end=1, holes=1 + seed, size=8, seed=seed)
        indices = []
        try:
            with open_source(path, SourceSettings(start_s=0.1 if seed % 2 else None)) as source:
                indices.extend(frame.index for frame in source.frames())
        except MchmrError as error:
            assert "\n" not in str(error)  # noqa: PT017
        assert indices == list(range(indices[0], indices[0] + len(indices))) if indices else True


# --- what cannot be opened -------------------------------------------------------------------------------------------------


def test_unreadable_inputs_get_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is not a video\n" * 50)
    (tmp_path / "folder").mkdir()
    (tmp_path / "photo.heic").write_bytes(b"\0" * 100)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("this is not a picture")
    media.write_audio(tmp_path / "song.m4a")
    media.cut_file(media.write_video(tmp_path / "whole.mp4", media.noise_pictures(10)), 0.5, tmp_path / "noindex.mp4")
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nother.ts\n#EXT-X-ENDLIST\n")
    expected = {
        "missing.mp4": "does not exist", "missing.png": "does not exist", "empty.mp4": "is empty", "text.mp4": "cannot be read as video",
        "folder": "holds no pictures", "photo.heic": "HEIC", "song.m4a": "holds no video", "noindex.mp4": "without its index",
        "empty.png": "is empty", "text.jpg": "cannot be read as a picture", "list.m3u8": "list.m3u8", "none_*.png": "no pictures match",
    }  # fmt: skip
    for name, words in expected.items():
        with pytest.raises(InputError) as error:
            open_source(tmp_path / name, SourceSettings())
        assert words in str(error.value)
        assert name in str(error.value)
        assert "\n" not in str(error.value)
        assert not isinstance(error.value, TruncatedInput)


def test_video_of_broken_packets_only_is_refused(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "rot.mov", media.noise_pictures(10), codec="mjpeg", pix_fmt="yuvj420p", container_options=FASTSTART)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    data[start:] = bytes(len(data) - start)
    path.write_bytes(data)
    with pytest.raises(InputError, match="no picture could be decoded"):
        open_source(path, SourceSettings())


def test_names_that_libav_would_misread(tmp_path: Path) -> None:
    """A colon looks like a protocol, a % like a numbered series."""
    media.write_video(tmp_path / "a:b%03d.mp4", media.counter_pictures(5))
    assert len(read(tmp_path / "a:b%03d.mp4")) == 5
    media.write_image(tmp_path / "100%d.png", media.corner_picture())
    assert len(read(tmp_path / "100%d.png")) == 1


# --- life cycle ------------------------------------------------------------------------------------------------------------


def test_source_can_be_read_twice_and_left_early(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "clip.mp4", media.counter_pictures(20))
    source = open_source(path, SourceSettings())
    frames = source.frames()
    assert next(frames).index == 0
    assert counters(list(source.frames())) == list(range(20))
    frames = source.frames()
    kept = next(frames)
    source.close()
    assert list(frames) == []
    assert media.read_counter(kept.rgb) == 0


def test_frames_are_let_go(tmp_path: Path) -> None:
    """Memory must not grow with the length of the video."""
    path = media.write_video(tmp_path / "clip.mp4", media.counter_pictures(50))
    alive: list[weakref.ref[Frame]] = []
    with open_source(path, SourceSettings()) as source:
        for frame in source.frames():
            alive.append(weakref.ref(frame))
            assert sum(reference() is not None for reference in alive) <= 2


# --- pictures --------------------------------------------------------------------------------------------------------------


def test_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    for number in (1, 2, 3, 9, 10, 11, 100):
        media.write_image(tmp_path / f"img{number}.png", media.counter_picture(number))
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "._img1.png").write_text("left by a file manager")
    with open_source(tmp_path, SourceSettings(images_fps=10, every=2)) as source:
        frames = list(source.frames())
        assert source.warnings == []
    assert counters(frames) == [1, 3, 10, 100]
    assert [frame.index for frame in frames] == [0, 2, 4, 6]
    np.testing.assert_allclose([frame.time_s for frame in frames], [0, 0.2, 0.4, 0.6])
    assert (source.info.frame_count, source.info.fps, source.info.path) == (4, 5.0, None)
    assert counters(read(tmp_path, images_fps=10, start_s=0.15, end_s=0.5)) == [3, 9, 10]
    assert counters(read(tmp_path / "img1?.png")) == [10, 11]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff"])
def test_single_pictures(tmp_path: Path, suffix: str) -> None:
    picture = media.corner_picture(65, 49) if suffix in ("png", "bmp", "tiff") else media.corner_picture()
    (frame,) = read(media.write_image(tmp_path / f"one.{suffix}", picture))
    assert (frame.index, frame.time_s) == (0, 0.0)
    assert_corners(frame.rgb, picture, tolerance=8)


def add_exif(path: Path, orientation: int, order: str) -> Path:
    """Write the EXIF tag Orientation into a JPEG, PNG or WebP file."""
    tag = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    block = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HIH", 42, 8, 1) + tag + bytes(4)
    data = path.read_bytes()
    if path.suffix == ".jpg":
        segment = b"Exif\0\0" + block
        data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
    elif path.suffix == ".png":
        end = data.rindex(b"IEND") - 4
        data = data[:end] + struct.pack(">I4s", len(block), b"eXIf") + block + bytes(4) + data[end:]
    else:
        data += struct.pack("<4sI", b"EXIF", len(block)) + block
        data = data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    """Against the table of the EXIF standard: where the stored first row and first column belong."""
    upright = media.corner_picture(64, 48)
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1), 7: upright[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    path = media.write_image(tmp_path / f"turned.{suffix}", np.ascontiguousarray(stored))
    (frame,) = read(add_exif(path, orientation, "<" if orientation % 2 else ">"))
    assert_corners(frame.rgb, upright, tolerance=10)


def test_exif_agrees_with_pillow(tmp_path: Path) -> None:
    image, image_ops = import_or_skip("PIL.Image"), import_or_skip("PIL.ImageOps")
    for orientation in range(1, 9):
        path = add_exif(media.write_image(tmp_path / f"{orientation}.jpg", media.corner_picture()), orientation, ">")
        assert_corners(read(path)[0].rgb, np.asarray(image_ops.exif_transpose(image.open(path))), tolerance=10)


def test_unreadable_pictures_are_skipped_and_told_at_the_end(tmp_path: Path) -> None:
    for number in range(5):
        media.write_image(tmp_path / f"{number}.png", media.counter_picture(number))
    media.cut_file(media.write_image(tmp_path / "x.png", media.noise_pictures(1)[0]), 0.5, tmp_path / "2.png")
    (tmp_path / "x.png").unlink()
    frames, text = read_damaged(tmp_path)
    assert counters(frames) == [frame.index for frame in frames] == [0, 1, 3, 4]
    assert "1 of 5 pictures" in text
    assert "2.png" in text


def test_cut_jpeg_is_delivered_and_told(tmp_path: Path) -> None:
    """The decoder fills the missing part with grey without a word."""
    whole = media.write_image(tmp_path / "whole.jpg", media.noise_pictures(1)[0])
    assert len(read(whole)) == 1
    frames, text = read_damaged(media.cut_file(whole, 0.7, tmp_path / "cut.jpg"))
    assert len(frames) == 1
    assert "cut off" in text


def test_pictures_of_another_size_are_fitted(tmp_path: Path) -> None:
    media.write_image(tmp_path / "1.png", media.corner_picture(64, 48))
    media.write_image(tmp_path / "2.png", media.corner_picture(48, 96))
    with open_source(tmp_path, SourceSettings()) as source:
        first, second = source.frames()
        assert len(source.warnings) == 1
    assert first.rgb.shape == second.rgb.shape == (48, 64, 3)
    assert second.rgb[:, :20].max() == 0
    assert second.rgb[:, -20:].max() == 0
    assert_corners(second.rgb[:, 20:44], media.corner_picture(24, 48), tolerance=10)


def test_picture_bomb_is_refused(tmp_path: Path) -> None:
    """A header that claims 400 megapixels must not make anyone set that memory aside."""
    data = bytearray(media.write_image(tmp_path / "bomb.png", media.corner_picture()).read_bytes())
    struct.pack_into(">II", data, 16, 20_000, 20_000)
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(InputError, match=r"bomb\.png"):
        open_source(tmp_path / "bomb.png", SourceSettings())


# --- real clips ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_real_clips_match_plain_decoding(shared: Path) -> None:
    for path in sorted((shared / "media").glob("*.*")):
        if path.suffix not in (".mkv", ".mp4", ".gif"):
            continue
        with av.open(str(path)) as container, open_source(path, SourceSettings(end_s=8)) as source:
            for plain, frame in zip(container.decode(video=0), source.frames(), strict=False):
                assert frame.time_s == pytest.approx(plain.time)
                np.testing.assert_array_equal(frame.rgb, plain.to_ndarray(format="rgb24"))
            assert source.warnings == []


# --- timestamps that do not hold ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "mov", "flv"])
def test_times_of_decoding_given_as_those_of_showing_still_rise_evenly(tmp_path: Path, suffix: str) -> None:
    path = media.write_with_times_of_decoding(tmp_path / f"es.{suffix}", 60)
    with open_source(path, SourceSettings()) as source:
        frames = list(source.frames())
        assert source.warnings == []
        assert source.info.fps == pytest.approx(30, abs=0.01)
    assert counters(frames) == sorted(counters(frames))
    assert len(frames) == 60
    steps = np.diff([frame.time_s for frame in frames])
    np.testing.assert_allclose(steps[6:], 1 / 30, atol=0.0011)
    assert frames[-1].time_s == pytest.approx(59 / 30, abs=0.08)
    later = read(path, start_s=1.0)
    assert later[0].time_s == pytest.approx(1.0, abs=0.001)
    assert [(frame.index, frame.time_s) for frame in later] == [(frame.index, frame.time_s) for frame in frames[-len(later) :]]
    assert counters(later) == counters(frames)[-len(later) :]


def test_times_are_those_of_ffprobe() -> None:
    """`best_effort_timestamp` of FFmpeg 8.1, from times of showing and of decoding; at the end, where it falls back, there is none."""
    pts = [0, 1536, 1024, 2048, 512, 3584, 3072, 4096, 2560, None, 5120, None]
    dts = [512, 1536, 2048, 2560, 3072, 3584, 4096, 4608, 5120, 5632, None, None]
    stamps = BestStamps()
    best = [stamps.of(*both) for both in zip(pts, dts, strict=True)]
    assert best == [0, 1536, 2048, 2560, 3072, 3584, 4096, 4608, 5120, 5632, None, None]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_avi_with_reordered_pictures(tmp_path: Path, codec: str) -> None:
    path = media.write_video(tmp_path / "b.avi", media.counter_pictures(60), 30, codec, codec_options={"bf": "2"})
    with open_source(path, SourceSettings()) as source:
        np.testing.assert_allclose([frame.time_s for frame in source.frames()], np.arange(60) / 30, atol=1e-6)
        assert (source.info.fps, source.info.frame_count, source.warnings) == (30, 60, [])


@pytest.mark.parametrize("options", [{}, {"bf": "2"}], ids=["in order", "reordered"])
def test_avi_with_two_places_for_each_picture(tmp_path: Path, options: dict[str, str]) -> None:
    """As encoders write it that count fields: 60 places a second in the header, and pictures at each second one."""
    stamps = range(0, 120, 2)
    path = media.write_video(
        tmp_path / "b.avi", media.counter_pictures(60), 60, codec_options=options, pts=stamps, time_base=Fraction(1, 60)
    )
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 60, "the fault is there"
    with open_source(path, SourceSettings(every=2)) as source:
        np.testing.assert_allclose([frame.time_s for frame in source.frames()], np.arange(0, 60, 2) / 30, atol=1e-6)
        assert (source.info.fps, source.info.frame_count, source.warnings) == (15, 30, [])


@pytest.mark.parametrize(
    ("stamps", "times"),
    [
        ([0, 1, 2, 2, 3, 4], [0, 1, 2, 2.5, 3, 4]),
        ([0, 3, 1, 4, 5], [0, 3, 3.5, 4, 5]),
        ([5, 6, 7, 5, 8, None, 10], [0, 1, 2, 2.5, 3, 4, 5]),
        ([0, 1, 2, *range(-40, -36), 3], [0, 1, 2, 3, 4, 5, 6, 46]),
        ([100, *range(90, 110)], [number / 2 for number in range(17)] + [9, 10, 11, 12]),
    ],
    ids=["two at one time", "one before its turn", "one far before", "another recording", "slightly back for good"],
)
def test_a_timestamp_before_its_turn_moves_no_others(stamps: list[int | None], times: list[float]) -> None:
    clock = Clock(1.0)
    assert [clock.time_s(None if stamp is None else float(stamp)) for stamp in stamps] == times


# --- sizes and animations of picture files -------------------------------------------------------------------------------------


def huge(kind: str, width: int = 12_000, height: int = 12_080) -> bytes:
    """The beginning of a file of 145 million pixels; nothing of it needs to be decoded to know that."""
    box = lambda name, content: struct.pack(">I4s", 8 + len(content), name) + content
    riff = lambda chunks: b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks
    match kind:
        case "jpg":
            frame = struct.pack(">BHHB", 8, height, width, 3) + bytes(9)
            return b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xc2" + struct.pack(">H", 2 + len(frame)) + frame
        case "png":
            return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", width, height, 8, 2, 0, 0, 0) + bytes(4)
        case "bmp":
            return b"BM" + bytes(12) + struct.pack("<IiiHH", 40, width, -height, 1, 24) + bytes(24)
        case "tif" | "tiff":
            order = "<" if kind == "tif" else ">"
            entry = lambda tag, value: struct.pack(order + "HHI", tag, 3, 1) + struct.pack(order + "H2x", value)
            start = b"II*\0" if kind == "tif" else b"MM\0*"
            return start + struct.pack(order + "IH", 8, 2) + entry(256, width) + entry(257, height) + bytes(4)
        case "avif":
            sizes = b"".join(box(b"ispe", struct.pack(">III", 0, *size)) for size in ((160, 120), (width, height)))
            return box(b"ftyp", b"avif\0\0\0\0avifmif1") + box(b"meta", bytes(4) + sizes)
        case "webp":
            canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
            return riff(b"VP8X" + struct.pack("<IB3x", 10, 0) + canvas)
        case "lossy.webp":
            return riff(b"VP8 " + struct.pack("<I3s3sHH", 10, bytes(3), b"\x9d\x01\x2a", width, height))
    assert kind == "lossless.webp"
    return riff(b"VP8L" + struct.pack("<IBI", 6, 0x2F, (width - 1) | (height - 1) << 14) + bytes(1))


@pytest.mark.parametrize("kind", ["jpg", "png", "bmp", "tif", "tiff", "avif", "webp", "lossy.webp", "lossless.webp"])
def test_a_picture_that_is_too_large_is_refused_with_the_limit(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"huge.{kind}"
    path.write_bytes(huge(kind))
    with pytest.raises(InputError) as error:
        open_source(path, SourceSettings())
    assert str(error.value) == f"{path}: 12000x12080 pixels are 145 million, at most 134 million are read; scale it down first"
    for end in range(len(huge(kind))):  # cut off anywhere in its header: still one line
        path.write_bytes(huge(kind)[:end])
        with pytest.raises(InputError):
            open_source(path, SourceSettings())


def test_a_large_picture_among_others_is_skipped_with_the_limit(tmp_path: Path) -> None:
    media.write_image(tmp_path / "1.png", media.corner_picture())
    (tmp_path / "2.jpg").write_bytes(huge("jpg"))
    with open_source(tmp_path, SourceSettings()) as source, pytest.raises(TruncatedInput, match=r"1 of 2 .*2.jpg: .* at most 134 million"):
        list(source.frames())


def test_sizes_in_headers_are_those_that_pillow_reads(tmp_path: Path) -> None:
    picture = Image.fromarray(media.corner_picture(70, 50))
    for name, options in (
        ("a.jpg", {}), ("b.jpg", {"progressive": True}), ("a.png", {}), ("a.bmp", {}), ("a.gif", {}), ("a.tif", {}), ("a.webp", {}),
        ("b.webp", {"lossless": True}), ("c.webp", {"exif": b"Exif\0\0"}), ("a.avif", {}),
    ):  # fmt: skip
        picture.save(tmp_path / name, **options)
        assert picture_size((tmp_path / name).read_bytes()) == (70, 50), name


def animated(path: Path, durations_ms: list[int]) -> list[int]:
    """A file with pictures of even grey, made by Pillow; returns the grey values."""
    greys = [20 * number + 10 for number in range(len(durations_ms))]
    first, *more = [Image.new("RGB", (64, 48), (grey, grey, grey)) for grey in greys]
    first.save(path, save_all=True, append_images=more, duration=durations_ms, **({"lossless": True} if path.suffix == ".webp" else {}))
    return greys


@pytest.mark.parametrize("suffix", [".webp", ".png", ".avif", ".gif"])
def test_animated_pictures_are_read_as_videos(tmp_path: Path, suffix: str) -> None:
    durations_ms = [100, 50, 200, 100, 100, 100]
    greys = animated(path := tmp_path / f"a{suffix}", durations_ms)
    with open_source(path, SourceSettings()) as source:
        frames = list(source.frames())
        assert (source.info.width, source.info.height, source.warnings) == (64, 48, [])
    np.testing.assert_allclose([frame.time_s for frame in frames], [0, 0.1, 0.15, 0.35, 0.45, 0.55], atol=1e-6)
    np.testing.assert_allclose([frame.rgb.mean() for frame in frames], greys, atol=3)
    later = read(path, start_s=0.12, end_s=0.5, every=2)
    assert [(frame.index, frame.time_s) for frame in later] == [(2, pytest.approx(0.15)), (4, pytest.approx(0.45))]


def test_an_animated_webp_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    animated(path := tmp_path / "a.webp", [100] * 6)
    with pytest.raises(InputError, match="animated WebP.*; give it alone, or save one picture of it"):
        open_source(tmp_path, SourceSettings())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="a.webp"):
        read(path)
    path.write_bytes(huge("webp").replace(struct.pack("<IB", 10, 0), struct.pack("<IB", 10, 2)))
    with pytest.raises(InputError, match="at most 134 million are read"):
        open_source(path, SourceSettings())


def test_of_a_file_with_pages_the_first_is_read_and_that_is_said(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (64, 48), (grey, grey, grey)) for grey in (50, 150)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with open_source(tmp_path / "a.tif", SourceSettings()) as source:
        (frame,) = source.frames()
        assert "holds several pictures; of such files the first one is read" in source.warnings[0]
    assert frame.rgb.mean() == 50


@pytest.mark.parametrize("name", ["a.heic", "a.JXL", "a.psd", "a.cr2"])
def test_pictures_that_nothing_reads_are_named_as_pictures(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"II*\0" + bytes(60))
    with pytest.raises(InputError, match=rf"{name} is a {name[2:].upper()} picture, expected one of .*; save it as JPEG or PNG first"):
        open_source(tmp_path / name, SourceSettings())
