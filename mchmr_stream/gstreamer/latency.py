"""Timing: the latency that the element adds, and the frames that are too late for a sink."""

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
"""Processing time that is declared until it is measured."""
MEASURE_EVERY = 15
"""frames"""


class Latency:
    """Time from a frame's arrival to its departure: the smoother's look-ahead, which ends with a frame, and processing."""

    def __init__(self) -> None:
        self._processing_s = PROCESSING_S

    def seconds(self, smoother: SmootherSettings, info: GstVideo.VideoInfo | None) -> float:
        """Compute the latency.

        Args:
            smoother: Settings of the smoother.
            info: The caps; None if unknown.

        Returns:
            Seconds.
        """
        frame_s = info.fps_d / info.fps_n if info is not None and info.fps_n else 1 / 30
        ahead_s = smoother.lookahead_s + frame_s if smoother.kind == "two-sided" else 0.0
        return ahead_s + self._processing_s

    def measure(self, delivered: int, watch: Stopwatch) -> bool:
        """Measure the processing time. A frame may wait for the previous one, so the time counts twice.

        Args:
            delivered: Frames sent so far.
            watch: Seconds of each stage.

        Returns:
            True if the latency has increased and must be announced.
        """
        if delivered % MEASURE_EVERY:
            return False
        needed_s = 2 * sum(statistics.median(seconds) for seconds in watch.seconds.values())
        if needed_s <= self._processing_s:
            return False
        self._processing_s = 1.25 * needed_s
        return True


class Lateness:
    """Lateness that sinks report by QoS events, and the number of frames dropped for it."""

    def __init__(self) -> None:
        self.dropped = 0
        self._earliest: int | None = None

    def forget(self) -> None:
        """Reset on a flush, after which earlier reports are void."""
        self._earliest = None

    def process(self, event: Gst.Event) -> None:
        """Process a QoS event."""
        _, _, late_by, timestamp = event.parse_qos()
        if timestamp != Gst.CLOCK_TIME_NONE:
            # Late by this much now: the next frames will be, too, unless the same time again is skipped.
            self._earliest = max(0, timestamp + (2 * late_by if late_by > 0 else late_by))

    def of(self, element: Gst.Element, buffer: Gst.Buffer, segment: Gst.Segment | None, frames: int) -> Gst.Message | None:
        """Decide whether a frame is too late.

        Args:
            element: Sender of the message.
            buffer: The frame.
            segment: Its segment.
            frames: Frames that arrived so far.

        Returns:
            The message about a frame that is dropped; None for a frame in time.
        """
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
