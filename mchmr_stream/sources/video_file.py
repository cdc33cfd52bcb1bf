"""Video files, decoded with PyAV."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Self

import av

from mchmr_stream.config import SourceSettings
from mchmr_stream.datatypes import Frame, SourceInfo
from mchmr_stream.errors import InputError, TruncatedInput, UsageError
from mchmr_stream.sources.container import (
    DURATION_IS_DECLARED,
    JOINED_RECORDINGS,
    PacketReader,
    check_hwaccel,
    choose_stream,
    decode,
    open_container,
    reason,
    stores_display_times,
)
from mchmr_stream.sources.damage_report import Damage
from mchmr_stream.sources.deinterlace import DecodedFrame, Deinterlacer
from mchmr_stream.sources.picture_converter import Orientation, PictureConverter, square_pixel_size
from mchmr_stream.sources.seeking import CannotSkip, StartSkipper
from mchmr_stream.sources.timestamps import MAX_JUMP_S, MAX_REORDERED, BestStamps, Clock, TimeWindow

PROBE_PACKETS = 1000
"""A file is refused if none of so many first packets gives a picture."""

HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
"""Transfer functions (ITU-T H.273) whose pictures look flat without tone mapping."""


@dataclass(frozen=True)
class _Probe:
    """Properties found at the first picture of the stream."""

    orientation: Orientation
    sample_aspect: Fraction | None
    width: int
    height: int
    fps: float
    frame_count: int | None
    first_pts: int | None
    """None if it has none, or if presentation times are known to be invalid"""
    interlaced: bool
    hdr: str | None


class VideoSource:
    """One video stream of a file, upright and with square pixels.

    Times are seconds from the first frame of the stream, from the container's timestamps, at any offset; rates may vary. If presentation
    times do not increase, decoding times are used (`timestamps.BestStamps`). Frame.index counts the decoded frames of the stream from 0,
    including those before the start and between. `every` counts from the first frame at or after the start. `info.fps` is the rate of the
    delivered frames.

    The display matrix of the container is applied, pixels are made square, and frames flagged as interlaced are deinterlaced. Frames of
    another size than the first are fitted into it on black; transparency is composited over black.

    Damaged files yield each frame that can be decoded, then raise TruncatedInput. Damage before the start or after the end does not count.
    Damage that no decoder or container reports stays undetected: inside HEVC, VP9 and AV1 pictures, and pieces missing from the middle of
    containers without frame counts.

    It is used from one thread at a time; each call of `frames` reads the file again.
    """

    def __init__(self, path: str | Path, settings: SourceSettings) -> None:
        """Open and probe the file.

        Args:
            path: The file.
            settings: Section `source` of the configuration.

        Raises:
            InputError: The file contains no video.
            UsageError: The settings do not fit.
        """
        self._path = Path(path)
        self._stream_number = settings.stream
        self._window = TimeWindow.of(settings)
        self._hwaccel = settings.hwaccel
        if self._hwaccel is not None:
            check_hwaccel(self._hwaccel)
        self._warnings: list[str] = []
        self._closed = False
        self._running: Generator[Frame] | None = None
        self._probe = _probe(self._path, settings.stream, skips=self._window.start_s > 0)
        fps = self._probe.fps
        self._info = SourceInfo(
            name=self._path.name,
            width=self._probe.width,
            height=self._probe.height,
            fps=fps / settings.every,
            frame_count=self._window.count(self._probe.frame_count, fps),
            path=str(self._path),
        )
        if self._probe.hdr:
            self._warn(f"the video is HDR ({self._probe.hdr}); it is read without tone mapping, so colours look flat")

    @property
    def info(self) -> SourceInfo:
        return self._info

    @property
    def warnings(self) -> list[str]:
        return self._warnings

    def frames(self) -> Iterator[Frame]:
        """Yield the selected frames in temporal order.

        Raises:
            TruncatedInput: After the last frame, if the file is damaged or its end is missing.
            UsageError: The file ends before `start_s`.
        """
        self.close()
        self._closed = False
        self._running = self._selected_frames()
        return self._running

    def close(self) -> None:
        """Close the file. Frames already yielded stay valid."""
        self._closed = True
        if self._running is not None:
            with suppress(ValueError):  # another thread is running it: it stops at its next frame
                self._running.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _warn(self, text: str) -> None:
        if text not in self._warnings:
            self._warnings.append(text)

    def _selected_frames(self) -> Generator[Frame]:
        first_pts = self._probe.first_pts
        if self._window.start_s > 0 and first_pts is not None and not self._probe.interlaced:
            try:
                yield from self._read(first_pts)
                return
            except CannotSkip:  # raised before the first frame is yielded
                pass
        yield from self._read(None)

    def _read(self, skip_from_pts: int | None) -> Generator[Frame]:
        """Read the frames; `skip_from_pts` is the timestamp of the stream's first frame, to skip to the start; None decodes all."""
        damage = Damage(self._window)
        delivered = 0
        with self._open() as container:
            stream = choose_stream(container, self._path, self._stream_number)
            if self._hwaccel is not None and not stream.codec_context.is_hwaccel:
                self._decode_on_cpu(f"it does not decode {stream.codec_context.name} here")
            # With frame threads FFmpeg sometimes (2 of 60 times) does not report a concealed picture. If the container declares no
            # length, that is the only sign of a missing end, so a single thread decodes such files.
            stream.thread_type = "NONE" if container.format.name in JOINED_RECORDINGS else "AUTO"
            deinterlacer = Deinterlacer()
            converter = PictureConverter(self._probe.width, self._probe.height)
            first_index: int | None = None
            for frame in deinterlacer.run(self._decoded(container, stream, damage, skip_from_pts)):
                if self._window.is_after(frame.time_s) or self._closed:
                    break
                if self._window.is_before(frame.time_s):
                    continue
                first_index = frame.index if first_index is None else first_index
                if (frame.index - first_index) % self._window.every == 0:
                    rgb = converter.rgb(frame.picture, self._probe.orientation, self._probe.sample_aspect)
                    self._note(deinterlacer, converter)
                    delivered += 1
                    yield Frame(frame.index, frame.time_s, rgb)
        self._finish(damage, delivered)

    def _open(self) -> av.container.InputContainer:
        """Open the file again, decoded by the requested hardware if available."""
        if self._hwaccel is not None and self._probe.interlaced:
            self._decode_on_cpu("interlaced pictures have to be put together on the CPU")
        if self._hwaccel is not None:
            try:
                return open_container(self._path, self._hwaccel)
            except InputError as error:  # the file itself was readable before
                cause = error.__cause__
                self._decode_on_cpu(f"this machine gives no such device ({reason(cause if isinstance(cause, Exception) else error)})")
        return open_container(self._path)

    def _decode_on_cpu(self, why: str) -> None:
        self._warn(f"it is decoded on the CPU, not by {self._hwaccel}: {why}")
        self._hwaccel = None

    def _decoded(
        self, container: av.container.InputContainer, stream: av.VideoStream, damage: Damage, skip_from_pts: int | None
    ) -> Iterator[DecodedFrame]:
        """Pictures with index and time, not converted yet: unselected pictures cost only decoding."""
        joined = container.format.name in JOINED_RECORDINGS
        clock = Clock(self._probe.fps, first_s=self._seconds(stream, skip_from_pts), max_jump_s=MAX_JUMP_S if joined else None)
        stamps = BestStamps() if stores_display_times(container) else None
        reader = PacketReader(container, stream, damage)
        packets = reader.packets()
        skipper = None
        if skip_from_pts is not None:
            skipper = StartSkipper(container, stream, skip_from_pts, self._window.start_s)
            packets = skipper.packets(packets)
        index = 0
        for picture in decode(reader, stream, packets, damage):
            time_s = clock.time_s(self._seconds(stream, picture.dts if stamps is None else stamps.of(picture.pts, picture.dts)))
            if clock.jumped_at_s is not None:
                self._warn(f"timestamps jump at {clock.jumped_at_s:.1f} s (joined recordings?); later times continue from there")
            if self._window.is_before(time_s):
                index += 1
                if skipper is None:
                    yield DecodedFrame(index - 1, time_s, picture)
                continue
            if skipper is not None:
                if stamps is not None and not stamps.shown_are_sound:
                    raise CannotSkip
                index, skipper = skipper.index_of(picture), None
            if picture.is_corrupt:
                damage.patched.add(time_s)
            yield DecodedFrame(index, time_s, picture)
            index += 1
        if skipper is not None:  # no frame followed, possibly because of timestamps that run backwards
            raise CannotSkip

    @staticmethod
    def _seconds(stream: av.VideoStream, stamp: int | None) -> float | None:
        return None if stamp is None else float(stamp * stream.time_base)

    def _note(self, deinterlacer: Deinterlacer, converter: PictureConverter) -> None:
        if deinterlacer.used:
            self._warn("the video is interlaced; it is deinterlaced (bwdif), one frame for each pair of fields")
        if converter.fitted:
            self._warn(f"the picture size changes within the video; all frames are fitted into {converter.width}x{converter.height}")

    def _finish(self, damage: Damage, delivered: int) -> None:
        if damage.suspect.count:
            self._warn(damage.suspect.text("packet is marked as damaged", "packets are marked as damaged"))
        if damage and not self._closed:
            text = f"{self._path}: {damage.text()}; {delivered} frames were delivered"
            self._warn(text)
            raise TruncatedInput(f"{text}; copy or download the file again if it should be whole")
        if not delivered and not self._closed:
            raise UsageError(f"{self._path} has no frame from {self._window.start_s:g} s on, expected source.start_s within the video")


def _probe(path: Path, stream_number: int, *, skips: bool) -> _Probe:
    """Decode the first picture, with `skips` some more to check presentation times. Raises InputError if there is none."""
    with open_container(path) as container:
        stream = choose_stream(container, path, stream_number)
        stream.codec_context.thread_count = 1  # threads would read ahead before the first picture
        damage = Damage()
        reader = PacketReader(container, stream, damage)
        pictures = decode(reader, stream, islice(reader.packets(), PROBE_PACKETS), damage)
        first = next(pictures, None)
        if first is None:
            detail = damage.text() or "it holds no pictures"
            raise InputError(f"{path}: no picture could be decoded ({detail}), expected a video; the file is broken or of an unknown kind")
        orientation = Orientation.of_frame(first)
        sample_aspect = stream.sample_aspect_ratio
        width, height = orientation.size(*square_pixel_size(first.width, first.height, sample_aspect))
        fps = _fps(container, stream, first.pts is not None)
        holds = not skips or _shown_times_hold(first, islice(pictures, 2 * MAX_REORDERED))
        return _Probe(
            orientation=orientation,
            sample_aspect=sample_aspect,
            width=width,
            height=height,
            fps=fps,
            frame_count=_frame_count(container, stream, fps),
            first_pts=first.pts if holds else None,
            interlaced=first.interlaced_frame,
            hdr=HDR_TRANSFERS.get(int(stream.codec_context.color_trc)),
        )


def _shown_times_hold(first: av.VideoFrame, following: Iterator[av.VideoFrame]) -> bool:
    stamps = BestStamps()
    for picture in chain([first], following):
        stamps.of(picture.pts, picture.dts)
    return stamps.shown_are_sound


def _fps(container: av.container.InputContainer, stream: av.VideoStream, has_times: bool) -> float:
    """Nominal rate. For streams without timestamps libav invents an average of 25; that of AVI counts empty entries, too."""
    average = stream.average_rate if has_times and stores_display_times(container) else None
    for rate in (average, stream.guessed_rate, stream.base_rate, stream.average_rate if has_times else None):
        if rate and 0 < rate <= 1000:
            return float(rate)
    return 25.0


def _frame_count(container: av.container.InputContainer, stream: av.VideoStream, fps: float) -> int | None:
    if stream.frames > 0:
        places_per_frame = 1.0 if stores_display_times(container) else float(stream.average_rate or fps) / fps
        return round(stream.frames / max(places_per_frame, 1.0))
    if stream.duration is not None:
        return round(float(stream.duration * stream.time_base) * fps)
    if container.duration is not None:
        counts_from_zero = container.format.name.split(",")[0] in DURATION_IS_DECLARED
        skipped = max(container.start_time or 0, 0) if counts_from_zero else 0
        return round((container.duration - skipped) / av.time_base * fps)
    return None
