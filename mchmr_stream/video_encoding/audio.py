"""The source's sound in the overlay: copied where MP4 supports its codec, else encoded as AAC."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction

import av
import av.error

log = logging.getLogger(__name__)

COPIED = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus"})
"""Codecs that MP4 players support."""
_MICROSECOND = 1_000_000


class Sound:
    """Write the first sound track of a file to an open MP4, in step with the pictures.

    Use `open_sound`, because a file may have no sound.

    Args:
        source: The file with the sound.
        output: The open MP4.
        start_s: Output time 0 in seconds after the first picture of the source's video stream.
        video_stream: Index of that stream.
    """

    def __init__(
        self, source: av.container.InputContainer, output: av.container.OutputContainer, start_s: float, video_stream: int
    ) -> None:
        self._source, self._output = source, output
        self._track = source.streams.audio[0]
        video = source.streams.video[video_stream] if len(source.streams.video) > video_stream else None
        first_picture_s = float((video.start_time or 0) * video.time_base) if video is not None else 0.0
        self._zero_s = first_picture_s + start_s
        self._copied = self._track.codec_context.name in COPIED
        if self._copied:
            self._out = output.add_stream_from_template(self._track)
        else:
            rate = self._track.codec_context.sample_rate
            self._out = output.add_stream("aac", rate=rate if rate in (44100, 48000) else 48000)
        if start_s > 1:
            source.seek(int(self._zero_s * _MICROSECOND))
        self._pieces = self._copied_packets() if self._copied else self._encoded_packets()
        self._held: tuple[float, av.Packet] | None = None
        self._ended = False

    def play_until(self, time_s: float) -> None:
        """Write all packets before this output time."""
        while not self._ended:
            try:
                piece = self._held or next(self._pieces, None)
            except av.error.FFmpegError as error:
                log.warning("%s: the sound ends early, it cannot be read on: %s", self._source.name, error)
                piece = None
            if piece is None:
                self._ended = True
                return
            self._held = piece
            if piece[0] >= time_s:
                return
            self._held = None
            self._output.mux(piece[1])

    def close(self) -> None:
        self._source.close()

    def _copied_packets(self) -> Iterator[tuple[float, av.Packet]]:
        zero_ticks = round(self._zero_s / self._track.time_base)
        last_dts = zero_ticks - 1
        for packet in self._source.demux(self._track):
            # Packets before the start are dropped: sound starts up to one packet (about 0.02 s) late. Packets out of order, as in
            # joined recordings, would make the muxer refuse the file.
            if packet.pts is None or packet.dts is None or packet.pts < zero_ticks or packet.dts <= last_dts:
                continue
            last_dts = packet.dts
            packet.pts -= zero_ticks
            packet.dts -= zero_ticks
            time_s = float(packet.pts * self._track.time_base)
            packet.stream = self._out
            yield time_s, packet

    def _encoded_packets(self) -> Iterator[tuple[float, av.Packet]]:
        for frame in self._source.decode(self._track):
            if frame.pts is None or frame.time is None:
                continue
            time_s = frame.time - self._zero_s
            if time_s < 0:
                continue
            frame.time_base = Fraction(1, frame.sample_rate)
            frame.pts = round(time_s * frame.sample_rate)
            for packet in self._out.encode(frame):
                yield time_s, packet
        for packet in self._out.encode(None):
            yield 0.0, packet


def open_sound(path: str, output: av.container.OutputContainer, start_s: float, video_stream: int = 0) -> Sound | None:
    """Open the sound of a file.

    Args:
        path: The file with the sound.
        output: The open MP4.
        start_s: Output time 0 in seconds after the first picture.
        video_stream: Index of the video stream of the pictures.

    Returns:
        The sound; None if there is none. A file that cannot be opened gives a warning and no sound.
    """
    try:
        source = av.open(path)
    except (OSError, av.error.FFmpegError) as error:
        log.warning("%s: the overlay has no sound, the file cannot be opened: %s", path, error)
        return None
    if not source.streams.audio:
        source.close()
        return None
    return Sound(source, output, start_s, video_stream)
