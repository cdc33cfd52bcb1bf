"""What the element says about time: how much later frames leave it, and which ones a sink has no use for any more."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import Gst, GstVideo  # noqa: E402

if TYPE_CHECKING:
    from mchmr_stream.config import SmootherSettings
    from mchmr_stream.runtime.concurrency import Stopwatch

PROCESSING_S = 0.1
"""What is declared for processing until it has been measured."""
MEASURE_EVERY = 15
"""frames"""


class Latency:
    """How long after it came a frame may leave: the smoother's look-ahead, which ends with a frame, and processing."""

    def __init__(self) -> None:
        self._processing_s = PROCESSING_S

    def seconds(self, smoother: SmootherSettings, info: GstVideo.VideoInfo | None) -> float:
        frame_s = info.fps_d / info.fps_n if info is not None and info.fps_n else 1 / 30
        ahead_s = smoother.lookahead_s + frame_s if smoother.kind == "two-sided" else 0.0
        return ahead_s + self._processing_s

    def measure(self, delivered: int, watch: Stopwatch) -> bool:
        """True where processing takes longer than was said; more is said from now on.

        A frame may wait for the one before: twice the time.
        """
        if delivered % MEASURE_EVERY:
            return False
        needed_s = 2 * sum(statistics.median(seconds) for seconds in watch.seconds.values())
        if needed_s <= self._processing_s:
            return False
        self._processing_s = 1.25 * needed_s
        return True


class Lateness:
    """What sinks said by QoS events, and how many frames were dropped for it."""

    def __init__(self) -> None:
        self.dropped = 0
        self._earliest: int | None = None

    def forget(self) -> None:
        """Of a flush: what was late then is not now."""
        self._earliest = None

    def hear(self, event: Gst.Event) -> None:
        """A QoS event."""
        _, _, late_by, timestamp = event.parse_qos()
        if timestamp != Gst.CLOCK_TIME_NONE:
            # Late by so much now: the next ones will be, too, unless as much again is left out.
            self._earliest = max(0, timestamp + (2 * late_by if late_by > 0 else late_by))

    def of(self, element: Gst.Element, buffer: Gst.Buffer, segment: Gst.Segment | None, frames: int) -> Gst.Message | None:
        """The message about a frame that cannot be in time any more and is to be dropped; None where it can. `frames`: how many came."""
        if self._earliest is None or segment is None or buffer.pts == Gst.CLOCK_TIME_NONE:
            return None
        running = segment.to_running_time(Gst.Format.TIME, buffer.pts)
        if running == Gst.CLOCK_TIME_NONE or running >= self._earliest:
            return None
        self.dropped += 1
        stream = segment.to_stream_time(Gst.Format.TIME, buffer.pts)
        message = Gst.Message.new_qos(element, False, running, stream, buffer.pts, buffer.duration)
        message.set_qos_stats(Gst.Format.BUFFERS, frames, self.dropped)
        return message
