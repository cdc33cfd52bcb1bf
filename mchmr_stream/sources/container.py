"""Opening of media files and reading of all packets that are readable."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.format import Flags
from av.stream import Disposition

from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.sources.damage_report import Damage
from mchmr_stream.sources.picture_converter import check_size

DURATION_IS_DECLARED = ("mov", "matroska", "avi", "flv", "asf")
"""Containers that declare their duration in the header; for others libav estimates it from the data."""

JOINED_RECORDINGS = ("mpegts", "mpeg")
"""Containers that stay playable when recordings are concatenated: times may jump, and packets at the seams may be marked damaged."""

MATROSKA = "matroska,webm"

COUNTED = frozenset({"image2pipe", "yuv4mpegpipe", "rawvideo"})
"""Formats without timestamps that libav does not mark as such."""

MAX_UNUSED_BYTES = 4096
"""Maximum gap between two packets of an intact Matroska file; typical are a few dozen bytes."""

MAX_FAILURES = 100
"""Reading stops after this many failures without a packet between them."""

MAX_SILENT_LOSS = 8
"""Pictures that may be missing without an error before it counts as damage."""

ONE_PICTURE_PER_PACKET = frozenset({"h264", "hevc", "vvc", "av1", "vp9", "mjpeg", "prores", "dnxhd", "ffv1", "png", "huffyuv", "utvideo"})
"""Codecs (libav's names) in which, unless interlaced, each packet yields one picture. In VP8 and MPEG-4 some yield none."""


def open_container(path: Path, hwaccel: str | None = None) -> av.container.InputContainer:
    """Open a media file.

    Args:
        path: The file.
        hwaccel: Kind of device, as FFmpeg names it. Streams that it supports are decoded on it, others on the CPU.

    Returns:
        The open container.

    Raises:
        InputError: The file cannot be opened; errors of PyAV are never raised.
    """
    try:
        if not path.exists():
            raise InputError(f"{path} does not exist, expected a video file, a picture or a folder of pictures")
        if path.is_file() and path.stat().st_size == 0:
            raise InputError(f"{path} is empty (0 bytes), expected a video; copy or record it again")
        # "file:" keeps libav from taking a colon in the name for a protocol; the whitelist keeps playlists from the network.
        device = None if hwaccel is None else HWAccel(hwaccel, allow_software_fallback=True)
        return av.open(f"file:{path}", container_options={"protocol_whitelist": "file"}, metadata_errors="replace", hwaccel=device)
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(f"{path} cannot be read as video ({reason(error)}); {_advice(path)}") from error


def check_hwaccel(name: str) -> None:
    """Raise UsageError for a kind of device that this PyAV does not support."""
    known = hwdevices_available()
    if name not in known:
        raise UsageError(f"source.hwaccel is {name!r}, this PyAV offers {', '.join(known) or 'none'}; null decodes on the CPU")


def reason(error: Exception) -> str:
    """Message of libav or of the system, without numbers and paths."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _advice(path: Path) -> str:
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return "check that it is a file and that you may read it"
    if head[4:8] == b"ftyp":
        return "it is an MP4 or MOV without its index: the recording or download broke off before the end; get the whole file"
    return "expected a video file that ffmpeg can play; if players show it, convert it to MP4 first"


def video_streams(container: av.container.InputContainer) -> list[av.VideoStream]:
    """Video streams with motion: cover pictures of songs and thumbnails are left out."""
    still = Disposition.attached_pic | Disposition.timed_thumbnails
    return [stream for stream in container.streams.video if not stream.disposition & still]


def list_streams(path: str | Path) -> list[str]:
    """Describe each video stream of a file in one line: codec, size and rate. Raises InputError if the file cannot be read."""
    with open_container(Path(path)) as container:
        return [_describe(stream) for stream in video_streams(container)]


def _describe(stream: av.VideoStream) -> str:
    codec = stream.codec_context
    if codec is None:
        return "unknown codec"
    return f"{codec.name} {codec.width}x{codec.height} at {float(stream.average_rate or 0):.4g} frames/s"


def choose_stream(container: av.container.InputContainer, path: Path, number: int) -> av.VideoStream:
    """Select a video stream.

    Args:
        container: The open file.
        path: Its path, for messages.
        number: Number of the stream among the video streams, from 0.

    Returns:
        The stream.

    Raises:
        InputError: No video stream can be decoded.
        UsageError: The number is too high.
    """
    streams = video_streams(container)
    if not streams:
        others = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise InputError(f"{path} holds no video (found: {others}), expected a file with moving pictures")
    if number >= len(streams):
        listing = "; ".join(f"{place}: {_describe(stream)}" for place, stream in enumerate(streams))
        raise UsageError(f"source.stream is {number}, but {path} has {len(streams)} video stream(s) ({listing})")
    stream = streams[number]
    codec = stream.codec_context
    if codec is None:
        raise InputError(f"{path}: this PyAV has no decoder for its video; convert it to H.264 first")
    check_size(path, codec.width, codec.height)
    return stream


def gives_one_picture_per_packet(stream: av.VideoStream) -> bool:
    return stream.codec_context.codec.canonical_name in ONE_PICTURE_PER_PACKET


def stores_display_times(container: av.container.InputContainer) -> bool:
    """False for AVI, which stores pictures in coding order and no presentation times."""
    return container.format.name != "avi"


def has_clock(container: av.container.InputContainer) -> bool:
    """False for formats without timestamps: libav counts their pictures at a rate that it assumes or that a header declares."""
    name = container.format.name
    return not (container.format.flags & Flags.no_timestamps.value or name in COUNTED or name.endswith("_pipe"))


class PacketReader:
    """Reads one video stream of a container to the end, past errors, and records damage."""

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream, damage: Damage) -> None:
        self._container = container
        self._stream = stream
        self._damage = damage
        self._start_s = (container.start_time or 0) / av.time_base
        self._reached_s = 0.0
        self._next_byte: int | None = None
        self._started = False

    def packets(self) -> Iterator[av.Packet]:
        """Yield each packet of the stream that contains data."""
        failures = 0
        while failures <= MAX_FAILURES:
            try:
                # All streams are read, not only this one: if sound continues after the last picture, the file is complete.
                for packet in self._container.demux():
                    if not packet.size:  # an empty packet would flush the decoder
                        continue
                    failures = 0
                    self._record_position(packet)
                    if packet.stream_index == self._stream.index:
                        self._started = True
                        yield packet
                self._check_end()
                return
            except av.error.BlockingIOError:  # some demuxers return this while they search for the next intact position
                failures += 1
            except (av.error.FFmpegError, OSError):
                failures += 1
                self._damage.unreadable.add(self._reached_s)
        self._damage.end_s = self._reached_s
        self._check_end()

    def time_s(self, packet: av.Packet) -> float:
        """Time of a packet in seconds from the start of the container."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        return self._reached_s if stamp is None else float(stamp * packet.time_base) - self._start_s

    def _record_position(self, packet: av.Packet) -> None:
        time_s = self.time_s(packet)
        self._reached_s = max(self._reached_s, time_s + float((packet.duration or 0) * packet.time_base))
        if packet.pos is not None and self._container.format.name == MATROSKA:
            # Its packets are adjacent; after damage the demuxer resynchronises without an error.
            if self._next_byte is not None and packet.pos - self._next_byte > MAX_UNUSED_BYTES:
                self._damage.unreadable.add(time_s)
            has_more = packet.has_sidedata("matroska_block_additional")  # follows the packet; transparency for example
            self._next_byte = None if has_more else packet.pos + packet.size
        if packet.is_corrupt and self._started:
            joined = self._container.format.name in JOINED_RECORDINGS
            (self._damage.suspect if joined else self._damage.unreadable).add(time_s)

    def _check_end(self) -> None:
        """Compare the end of the data with the declared duration."""
        name = self._container.format.name
        if name == "gif":
            if self._gif_is_cut():
                self._damage.end_s = self._reached_s
            return
        if name.split(",")[0] not in DURATION_IS_DECLARED:
            return
        declared_s = (self._container.duration or 0) / av.time_base
        if name == "avi" and self._stream.average_rate:  # the index is rebuilt from the data, the header is not
            declared_s = max(declared_s, float(self._stream.frames / Fraction(self._stream.average_rate)))
        # Headers are rounded, sound is padded, and the last picture may lack a duration: only a clear gap counts.
        tolerance_s = 0.5 + min(0.02 * declared_s, 10.0)
        # Most headers count from time zero, not from the first packet.
        if self._reached_s + max(self._start_s, 0.0) < declared_s - tolerance_s:
            self._damage.end_s, self._damage.declared_s = self._reached_s, declared_s

    def _gif_is_cut(self) -> bool:
        """A GIF does not declare its length, but ends with a semicolon."""
        path = Path(self._container.name.removeprefix("file:"))
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - 4096))
            tail = file.read().rstrip(b"\0\r\n")
        return not tail.endswith(b";")


def decode(reader: PacketReader, stream: av.VideoStream, packets: Iterator[av.Packet], damage: Damage) -> Iterator[av.VideoFrame]:
    """Yield each picture that can be decoded, in temporal order. Other packets are skipped and counted as damage."""
    lost = 0
    interlaced = False
    for packet in packets:
        try:
            pictures = packet.decode()
        except av.error.FFmpegError:
            damage.undecodable.add(reader.time_s(packet))
            continue
        lost += (not packet.is_discard) - len(pictures)
        for picture in pictures:
            interlaced = interlaced or picture.interlaced_frame
            yield picture
    try:
        pictures = stream.codec_context.decode(None)  # those still in the decoder
    except av.error.FFmpegError:
        damage.undecodable.add(None)
        return
    yield from pictures
    lost -= len(pictures)
    # Some decoders drop damaged pictures silently. A few are missing in intact files, too: those before the first keyframe, and
    # the two fields of an interlaced picture may be in two packets.
    if lost > MAX_SILENT_LOSS and gives_one_picture_per_packet(stream) and not interlaced:
        damage.undecodable.add(None, lost)
