"""One contiguous piece of video through the pipeline: between changes of caps or segment, flushes, or ends."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import Gst, GstVideo  # noqa: E402

from mchmr_stream.datatypes import Frame, Scene, SourceInfo  # noqa: E402
from mchmr_stream.gstreamer.buffer_pixels import Pictures  # noqa: E402
from mchmr_stream.pipeline.factory import with_camera  # noqa: E402
from mchmr_stream.pipeline.live_settings import AdjustableSettings  # noqa: E402
from mchmr_stream.pipeline.pipeline import Pipeline  # noqa: E402
from mchmr_stream.runtime.concurrency import Channel, RaisingThread, Stopwatch  # noqa: E402
from mchmr_stream.sinks.overlay import draw_scene  # noqa: E402


class VideoSegment:
    """Buffers to scenes. `take` is called on the streaming thread, `deliver` on the segment's own thread.

    Args:
        pipeline: The pipeline.
        adjust: Settings that may change meanwhile.
        info: The caps.
        segment: GStreamer's segment.
        deliver: Sends a finished frame on.
        fail: Reports an exception.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        adjust: AdjustableSettings,
        info: GstVideo.VideoInfo,
        segment: Gst.Segment | None,
        deliver: Callable[[Gst.Buffer, Scene, VideoSegment], Gst.FlowReturn],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._fps = info.fps_n / info.fps_d if info.fps_n and info.fps_d else 30.0
        self.watch = Stopwatch(last=60)
        self.delivered = 0
        self._pipeline, self._adjust, self._deliver, self._fail = pipeline, adjust, deliver, fail
        self._pictures: Pictures = Pictures(info)
        self._buffers = BufferSource(SourceInfo("gstreamer", info.width, info.height, self._fps))
        self._source, self._intrinsics = with_camera(self._buffers, pipeline.settings)
        self._segment = segment
        self._sign = -1.0 if segment is not None and segment.rate < 0 else 1.0
        self._last_s: float | None = None
        self._identities_before: int | None = None
        self._lock = threading.Lock()
        self._held: deque[Gst.Buffer | tuple[Gst.Event, Callable[[Gst.Event], bool]]] = deque()
        self._abandoned = False
        self._flow = Gst.FlowReturn.OK
        self._task = RaisingThread(self._work, name="mchmr")

    def take(self, buffer: Gst.Buffer, index: int) -> Gst.FlowReturn:
        """Pass a buffer in; block until the pipeline takes it.

        Args:
            buffer: The buffer.
            index: Number of its frame.

        Returns:
            The flow of the pushes so far.
        """
        frame = Frame(index, self._time_s(buffer), self._pictures.read(buffer))
        with self._lock:
            self._held.append(buffer)
        if not self._buffers.put(frame):
            return self._flow if self._flow != Gst.FlowReturn.OK else Gst.FlowReturn.FLUSHING
        return self._flow

    def take_event(self, event: Gst.Event, forward: Callable[[Gst.Event], bool]) -> bool:
        """Queue a serialized event behind the buffers before it; without such buffers it is forwarded at once.

        Args:
            event: The event.
            forward: Sends it on.

        Returns:
            The result of `forward`; True if it is queued.
        """
        with self._lock:
            if self._held:
                self._held.append((event, forward))
                return True
        return forward(event)

    def identities_before(self, seen: int) -> int:
        """Offset of this segment's identities, so that none is used twice: the number of identities before its first one."""
        if self._identities_before is None:
            self._identities_before = seen
        return self._identities_before

    def draw(self, buffer: Gst.Buffer, scene: Scene) -> None:
        """Draw the people into a writable buffer."""
        before = scene.frame.rgb if self._source is self._buffers else self._pictures.read(buffer)
        painted = self.watch.call("draw", draw_scene, scene)
        self._pictures.paint(buffer, before, painted)

    def finish(self) -> None:
        """Block until everything is sent."""
        self._buffers.end()
        self._task.join()

    def abandon(self) -> None:
        """Stop taking and sending."""
        self._abandoned = True
        self._buffers.close()

    def join(self) -> None:
        """Wait for the thread."""
        self._task.join()

    def film_s(self, time_s: float) -> float:
        """Stream time in seconds of one of the pipeline's times."""
        return self._sign * time_s

    def _time_s(self, buffer: Gst.Buffer) -> float:
        """Rising seconds: the stream time, negative for reverse playback."""
        if buffer.pts == Gst.CLOCK_TIME_NONE:
            self._last_s = 0.0 if self._last_s is None else self._last_s + 1 / self._fps
            return self._last_s
        place, sign = buffer.pts, 1
        if self._segment is not None:
            sign, place = self._segment.to_stream_time_full(Gst.Format.TIME, buffer.pts)
        self._last_s = self._sign * (sign or 1) * place / Gst.SECOND
        return self._last_s

    def _work(self) -> None:
        try:
            scenes = self._pipeline.scenes(self._source, self._intrinsics, watch=self.watch, live=True, adjust=self._adjust)
            with closing(scenes):
                for scene in scenes:
                    if self._abandoned:
                        return
                    self.delivered += 1
                    self._flow = self._deliver(self._held[0], scene, self)
                    self._release()
                    if self._flow != Gst.FlowReturn.OK:
                        return
        except Exception as error:  # noqa: BLE001 - posted on the bus
            if not self._abandoned:
                self._fail(error)  # before upstream, which reports a failure without its reason
            self._flow = Gst.FlowReturn.ERROR
        finally:
            self._buffers.close()

    def _release(self) -> None:
        """Remove the first buffer and forward the events queued behind it. It is kept until now, so that no event overtakes it."""
        with self._lock:
            self._held.popleft()
        while True:
            with self._lock:
                if not self._held or isinstance(self._held[0], Gst.Buffer):
                    return
                event, forward = self._held[0]
            forward(event)
            with self._lock:
                self._held.popleft()


class BufferSource:
    """The pictures of buffers, one at a time; implements `protocols.Source`."""

    def __init__(self, info: SourceInfo) -> None:
        self.info = info
        self.warnings: list[str] = []
        self._channel: Channel[Frame] = Channel(0)

    def put(self, frame: Frame) -> bool:
        """Block until the pipeline takes the frame; False once the source is closed."""
        return self._channel.put(frame)

    def end(self) -> None:
        self._channel.end()

    def frames(self) -> Iterator[Frame]:
        return iter(self._channel)

    def close(self) -> None:
        self._channel.close()
