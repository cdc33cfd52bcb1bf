"""Deinterlacing of pictures."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
from av.filter import Graph


@dataclass(frozen=True)
class DecodedFrame:
    """A decoded picture and its position in the source."""

    index: int
    time_s: float
    picture: av.VideoFrame


class Deinterlacer:
    """Filters pictures with libav's bwdif from the first interlaced one on; progressive ones pass unchanged.

    Each input picture gives one output picture, one picture later, since the filter uses both neighbours.
    """

    def __init__(self) -> None:
        self.used = False
        """Whether an interlaced picture was found."""

    def run(self, frames: Iterator[DecodedFrame]) -> Iterator[DecodedFrame]:
        """Yield the frames, deinterlaced."""
        bwdif: _Bwdif | None = None
        for frame in frames:
            self.used = self.used or frame.picture.interlaced_frame
            if not self.used:
                yield frame
                continue
            if bwdif is not None and not bwdif.accepts(frame.picture):
                yield from bwdif.drain()
                bwdif = None
            bwdif = bwdif or _Bwdif(frame.picture)
            yield from bwdif.push(frame)
        if bwdif is not None:
            yield from bwdif.drain()


class _Bwdif:
    """The filter for pictures of one size and format."""

    def __init__(self, picture: av.VideoFrame) -> None:
        self._layout = _layout(picture)
        self._waiting: deque[DecodedFrame] = deque()
        self._graph = Graph()
        # Matrix and range are set as well: the output would otherwise have the defaults.
        source = self._graph.add(
            "buffer",
            video_size=f"{picture.width}x{picture.height}",
            pix_fmt=picture.format.name,
            time_base="1/1000",
            pixel_aspect="1/1",
            colorspace=str(int(picture.colorspace)),
            range=str(int(picture.color_range)),
        )
        bwdif = self._graph.add("bwdif", "mode=send_frame:deint=interlaced")
        self._graph.link_nodes(source, bwdif, self._graph.add("buffersink")).configure()

    def accepts(self, picture: av.VideoFrame) -> bool:
        return _layout(picture) == self._layout

    def push(self, frame: DecodedFrame) -> Iterator[DecodedFrame]:
        picture = frame.picture
        picture.pts, picture.time_base = frame.index, Fraction(1, 1000)  # the filter only requires increasing times
        self._waiting.append(frame)
        self._graph.vpush(picture)
        yield from self._pull()

    def drain(self) -> Iterator[DecodedFrame]:
        """Yield the pictures still in the filter at the end of the stream."""
        self._graph.vpush(None)
        yield from self._pull()

    def _pull(self) -> Iterator[DecodedFrame]:
        while self._waiting:
            try:
                picture = self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):  # it needs the next picture first, or is empty
                return
            frame = self._waiting.popleft()
            yield DecodedFrame(frame.index, frame.time_s, picture)


def _layout(picture: av.VideoFrame) -> tuple[int, int, str]:
    return picture.width, picture.height, picture.format.name
