"""Start in the middle of a video without decoding the part before it, with correct frame indices."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator
from itertools import pairwise

import av

from mchmr_stream.sources.container import gives_one_picture_per_packet, stores_display_times
from mchmr_stream.sources.timestamps import MAX_JUMP_S, ROUNDING_S

SEEK_MARGIN_S = 1.0
"""Containers seek by decoding time, which precedes the presentation time by at most this much."""

MAX_HELD_BYTES = 1 << 28
"""Memory for packets between a keyframe and the start (256 MiB); beyond it, decoding from the beginning is no slower."""


class CannotSkip(Exception):
    """Frames cannot be counted without decoding them; the file has to be decoded from the beginning."""


class StartSkipper:
    """Drops the packets before the last keyframe ahead of a start time.

    A frame's index is the number of packets presented before it, which holds if each packet gives one picture. This is checked at the first
    selected frame, which must be the earliest packet from the start on. Files with a complete index (MP4, MOV) are entered near the start;
    others are read from the beginning without decoding.
    """

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream, first_pts: int, start_s: float) -> None:
        """Prepare the container.

        Args:
            container: The open file.
            stream: Its video stream.
            first_pts: Timestamp of the first frame of the stream.
            start_s: Start in seconds from it.

        Raises:
            CannotSkip: The format does not permit it.
        """
        if not gives_one_picture_per_packet(stream) or not stores_display_times(container):
            raise CannotSkip
        self._first_pts = first_pts
        self._start_pts = first_pts + math.ceil((start_s - ROUNDING_S) / stream.time_base)
        self._max_jump = int(MAX_JUMP_S / stream.time_base)
        self._shown_pts: list[int] = []
        self._counted = False
        self._frames_before = 0
        self._entered = self._enter(container, stream)
        self._stream = stream

    def packets(self, packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
        """Yield the packets from that keyframe on. Raises CannotSkip if timestamps are missing."""
        held: list[av.Packet] = []
        held_bytes = 0
        for packet in packets:
            if packet.pts is None:
                raise CannotSkip
            if packet.is_keyframe and packet.pts <= self._start_pts:
                held, held_bytes = [], 0
            if self._entered and not self._shown_pts:
                self._frames_before = self._count_before(packet)
            if not packet.is_discard:
                self._shown_pts.append(packet.pts)
            held.append(packet)
            held_bytes += packet.size
            if held_bytes > MAX_HELD_BYTES:
                raise CannotSkip
            if packet.dts is not None and packet.dts >= self._start_pts:  # no later packet can be shown before the start
                break
        yield from held
        held.clear()
        for packet in packets:
            if not self._counted and packet.pts is not None and not packet.is_discard:
                self._shown_pts.append(packet.pts)
            yield packet

    def index_of(self, frame: av.VideoFrame) -> int:
        """Index of the first selected frame. Raises CannotSkip if it is not the expected one."""
        shown = sorted(pts for pts in self._shown_pts if pts >= self._first_pts)
        steps = [later - earlier for earlier, later in pairwise(shown)]
        if any(not 0 < step <= self._max_jump for step in steps):  # `Clock` would repair such times
            raise CannotSkip
        position = bisect.bisect_left(shown, self._start_pts)
        if position == len(shown) or shown[position] != frame.pts:
            raise CannotSkip
        self._counted = True
        return self._frames_before + position

    def _enter(self, container: av.container.InputContainer, stream: av.VideoStream) -> bool:
        """Seek if the container lists every packet; returns True if it did."""
        entries = stream.index_entries
        complete = stream.frames == len(entries) > 0 and container.format.name.startswith("mov")
        if not complete or stream.start_time != self._first_pts or any(entry.is_discard for entry in entries):
            return False
        target = self._start_pts - int(SEEK_MARGIN_S / stream.time_base)
        try:
            container.seek(max(target, self._first_pts), stream=stream)
        except av.error.FFmpegError as error:
            raise CannotSkip from error
        return True

    def _count_before(self, packet: av.Packet) -> int:
        """Number of packets that the index lists before the one reached by seeking."""
        entries = self._stream.index_entries
        position = -1 if packet.dts is None else entries.search_timestamp(packet.dts)
        if position < 0 or entries[position].timestamp != packet.dts or not packet.is_keyframe or packet.pts > self._start_pts:
            raise CannotSkip
        return position
