"""Continuation of an earlier run's overlay: its H.264 pictures are copied, not encoded again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.bitstream import BitStreamFilterContext

from mchmr_stream.errors import InputError

_NOTE = "mchmr-stream overlay, first picture at {} s of the source"
_ADVICE = "move it away to resume without its pictures, or use --overwrite"
_START_CODE = re.compile(rb"\x00\x00\x00?\x01")
_PARAMETER_SETS = (7, 8)
"""NAL unit types of sequence and picture parameter sets, ITU-T H.264 table 7-1."""


def note(first_s: float) -> str:
    """The comment in an overlay's metadata: the source's time at its time 0."""
    return _NOTE.format(repr(first_s))


def parameter_sets(annex_b: bytes) -> list[bytes]:
    """The parameter sets of a stream. Pictures can share a track only where these are equal."""
    return [unit for unit in _START_CODE.split(annex_b) if unit and unit[0] & 0x1F in _PARAMETER_SETS]


class EarlierOverlay:
    """Read an overlay of this package.

    Args:
        path: The file.

    Raises:
        InputError: The file is something else, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with av.open(str(path)) as container:
                video = container.streams.video[0]
                self.size = (video.width, video.height)
                written = re.fullmatch(_NOTE.format(r"(\S+)"), container.metadata.get("comment", ""))
                self.parameter_sets = parameter_sets(bytes(next(self._annex_b(container, video))))
        except (OSError, av.error.FFmpegError, IndexError, StopIteration) as error:
            raise InputError(f"{path} cannot be read as an overlay ({error}); {_ADVICE}") from error
        if written is None:
            raise InputError(f"{path} is not an overlay that mchmr wrote; {_ADVICE}")
        self.first_s = float(written[1])
        """The source's time at time 0 of this file."""

    def packets(self) -> Iterator[tuple[float, av.Packet]]:
        """Each coded picture with its time in this file, in Annex B format, as from an encoder and as muxers expect it."""
        with av.open(str(self.path)) as container:
            for packet in self._annex_b(container, container.streams.video[0]):
                yield _time_s(packet.pts, packet.time_base), packet

    def pictures(self) -> Iterator[tuple[float, av.VideoFrame]]:
        """Each picture with its time in this file, decoded."""
        with av.open(str(self.path)) as container:
            for picture in container.decode(video=0):
                yield _time_s(picture.pts, picture.time_base), picture

    @staticmethod
    def _annex_b(container: av.container.InputContainer, video: av.VideoStream) -> Iterator[av.Packet]:
        annex_b = BitStreamFilterContext("h264_mp4toannexb", video)
        with suppress(av.error.InvalidDataError):  # a killed run may leave a truncated file; the caller reports missing pictures
            for packet in container.demux(video):
                if packet.size and not packet.is_corrupt:  # an empty packet marks the end
                    yield from annex_b.filter(packet)


def _time_s(pts: int, time_base: Fraction) -> float:
    return float(pts * time_base)
