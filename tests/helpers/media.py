"""Small media files for tests, made on the spot with PyAV so that none has to be stored."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

CORNERS = {"top left": (230, 20, 20), "top right": (20, 200, 20), "bottom left": (20, 20, 230), "bottom right": (220, 220, 20)}
"""What `corner_picture` shows: four colours that no turn or mirror maps onto themselves."""


def corner_picture(width: int = 64, height: int = 48) -> Picture:
    """A picture with another colour in each quarter."""
    picture = np.zeros((height, width, 3), np.uint8)
    half_h, half_w = height // 2, width // 2
    picture[:half_h, :half_w] = CORNERS["top left"]
    picture[:half_h, half_w:] = CORNERS["top right"]
    picture[half_h:, :half_w] = CORNERS["bottom left"]
    picture[half_h:, half_w:] = CORNERS["bottom right"]
    return picture


def counter_picture(number: int, width: int = 64, height: int = 48) -> Picture:
    """A picture that carries `number` (0..255) as eight black or white bars; `read_counter` reads it back."""
    bits = [(number >> bit) & 1 for bit in range(8)]
    bars = np.repeat(np.array(bits, np.uint8) * 200 + 20, -(-width // 8))[:width]
    return np.ascontiguousarray(np.broadcast_to(bars[None, :, None], (height, width, 3)))


def read_counter(picture: Picture) -> int:
    """The number that `counter_picture` drew, also after lossy coding and scaling."""
    row = picture[picture.shape[0] // 2].mean(axis=-1)
    bar = picture.shape[1] / 8
    return sum(1 << bit for bit in range(8) if row[int((bit + 0.5) * bar)] > 120)


def counter_pictures(count: int, width: int = 64, height: int = 48) -> list[Picture]:
    return [counter_picture(number, width, height) for number in range(count)]


def noise_pictures(count: int, width: int = 160, height: int = 120, seed: int = 0) -> list[Picture]:
    """Pictures that hardly compress, so that damage at a random place hits picture data."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


def _again_when_refused(write: Callable[..., Path]) -> Callable[..., Path]:
    """libav's MP4 writer refuses HEVC now and then ("not yet implemented"), and takes the same the next time."""

    @functools.wraps(write)
    def retrying(*args: Any, **kwargs: Any) -> Path:
        for _ in range(30):
            try:
                return write(*args, **kwargs)
            except av.error.PatchWelcomeError:
                continue
        return write(*args, **kwargs)

    return retrying


@_again_when_refused
def write_video(
    path: Path,
    frames: Sequence[Picture],
    fps: float | Fraction = 30,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    *,
    codec_options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    rotation_deg: int = 0,
    flip_horizontal: bool = False,
    sample_aspect_ratio: Fraction | None = None,
    colorspace: str | None = None,
    color_range: str | None = None,
    color_trc: int | None = None,
    audio_s: float = 0.0,
    extra_videos: Sequence[Sequence[Picture]] = (),
) -> Path:
    """Encode RGB pictures; the container is chosen by the file's suffix. Returns `path`.

    pts, time_base: own timestamps (both or none). rotation_deg: display matrix, counter-clockwise as players turn it.
    colorspace, color_range: names of PyAV's ("ITU709", "JPEG"), converted to and written as tags.
    color_trc: tag of the transfer function as ITU-T H.273 numbers them; nothing is converted.
    audio_s: adds that much of a 440 Hz tone. extra_videos: further video streams.
    """
    rate = Fraction(fps).limit_denominator(1001)
    lossless = {"crf": "10"} if codec in ("libx264", "libx265") else {}
    with av.open(str(path), "w", options=container_options or {}) as container:
        pictures = [frames, *extra_videos]
        streams = []
        for video in pictures:
            stream = container.add_stream(codec, rate=rate, options={**lossless, **(codec_options or {})})
            stream.height, stream.width = video[0].shape[:2]
            stream.pix_fmt = pix_fmt
            if codec == "libx265":
                stream.codec_context.options = {"x265-params": "log-level=none", **stream.codec_context.options}
            if time_base is not None:
                stream.codec_context.time_base = time_base
            if rotation_deg or flip_horizontal:
                stream.set_display_rotation(rotation_deg, hflip=flip_horizontal)
            if sample_aspect_ratio is not None:
                stream.codec_context.sample_aspect_ratio = sample_aspect_ratio
            if colorspace is not None:
                stream.codec_context.colorspace = {"ITU709": 1, "ITU601": 6}[colorspace]
            if color_range is not None:
                stream.codec_context.color_range = {"MPEG": 1, "JPEG": 2}[color_range]
            if color_trc is not None:
                stream.codec_context.color_trc = color_trc
            streams.append(stream)
        sound = container.add_stream("aac", rate=16000, layout="mono") if audio_s else None
        for video, stream in zip(pictures, streams, strict=True):
            for number, picture in enumerate(video):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame = frame.reformat(
                    format=pix_fmt,
                    dst_colorspace=colorspace,
                    dst_color_range=color_range,
                )
                if pts is not None:
                    frame.pts, frame.time_base = pts[number], time_base
                else:
                    frame.pts, frame.time_base = number, 1 / rate
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        if sound is not None:
            _add_tone(container, sound, audio_s)
    return path


def write_with_times_of_decoding(path: Path, count: int, **more: Any) -> Path:
    """H.264 whose pictures are decoded in another order than shown, with the times of decoding given as those of showing."""
    options = {"bf": "3", "g": "24"}
    made = write_video(path.with_name("sound.mp4"), counter_pictures(count), codec_options=options, **more)
    with av.open(str(made)) as source, av.open(str(path), "w") as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        first = None
        for packet in source.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == "video":
                first = packet.dts if first is None else first
                packet.pts = packet.dts = packet.dts - first  # from 0 on, so that no container drops the first ones
            packet.stream = streams[packet.stream_index]
            target.mux(packet)
    return path


def write_audio(path: Path, seconds: float = 1.0) -> Path:
    """A file with sound only."""
    with av.open(str(path), "w") as container:
        _add_tone(container, container.add_stream("aac", rate=16000, layout="mono"), seconds)
    return path


def _add_tone(container: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    for start in range(0, int(seconds * 16000), 1024):
        samples = 0.1 * np.sin(2 * np.pi * 440 * (start + np.arange(1024)) / 16000)
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def write_image(path: Path, picture: Picture, pix_fmt: str | None = None) -> Path:
    """One picture; the format is chosen by the suffix (png, jpg, bmp, webp, tiff). (h, w, 4) keeps its alpha in png and webp."""
    suffix = path.suffix.lower()
    codec = {".png": "png", ".jpg": "mjpeg", ".jpeg": "mjpeg", ".bmp": "bmp", ".tiff": "tiff", ".webp": "libwebp"}[suffix]
    has_alpha = picture.shape[2] == 4
    default_fmt = {".png": "rgba" if has_alpha else "rgb24", ".bmp": "bgr24", ".tiff": "rgb24", ".webp": "bgra"}.get(suffix, "yuvj420p")
    encoder = av.CodecContext.create(codec, "w")
    encoder.height, encoder.width = picture.shape[:2]
    encoder.pix_fmt, encoder.time_base = pix_fmt or default_fmt, Fraction(1, 25)
    if codec == "mjpeg":
        encoder.qmin = encoder.qmax = 2
    frame = av.VideoFrame.from_ndarray(picture, format="rgba" if has_alpha else "rgb24").reformat(format=encoder.pix_fmt)
    frame.pts = 0
    path.write_bytes(b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)]))
    return path


def cut_file(path: Path, keep: float, to: Path) -> Path:
    """The first part of a file, as after a broken download."""
    data = path.read_bytes()
    to.write_bytes(data[: int(len(data) * keep)])
    return to


def damage_file(path: Path, to: Path, *, start: float = 0.3, end: float = 0.7, holes: int = 20, size: int = 64, seed: int = 0) -> Path:
    """Overwrite `holes` places between two fractions of the file with random bytes."""
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(int(len(data) * start), int(len(data) * end) - size, holes):
        data[place : place + size] = rng.bytes(size)
    to.write_bytes(data)
    return to
