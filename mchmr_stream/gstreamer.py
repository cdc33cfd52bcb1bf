"""The GStreamer element `mchmr`: video in, the same video out with everyone's body as metadata, drawn in if wanted.

Buffers go through the same `Pipeline` as everything else. The streaming thread that brings them hands their pictures to a run;
the run's own thread takes finished scenes and sends the buffers on, in order, each once. A run is one unbroken stretch of video:
new caps, a new segment and the end of the stream finish it, a flush drops it, and the next buffer begins another one.

docs/gstreamer.md says how to use it. Nothing heavy is imported before an element is set to READY.
"""

from __future__ import annotations

import json
import logging
import math
import statistics
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import GObject, Gst, GstVideo  # noqa: E402

from mchmr_stream.errors import MchmrError, UsageError  # noqa: E402
from mchmr_stream.gst import metadata  # noqa: E402
from mchmr_stream.streaming import Channel, Stopwatch, Task  # noqa: E402

if TYPE_CHECKING:
    from mchmr_stream.adjusting import AdjustableSettings
    from mchmr_stream.gst.pictures import Picture, Pictures
    from mchmr_stream.pipeline import Pipeline
    from mchmr_stream.records import Frame, Scene, SourceInfo

Gst.init(None)

log = logging.getLogger(__name__)

VIDEO_CAPS = Gst.Caps.from_string(
    "video/x-raw, format=(string){ RGB, RGBA, BGR, NV12 }, width=[1,max], height=[1,max], pixel-aspect-ratio=(fraction)1/1"
)
"""Pixels must be square, as everywhere behind a source; `videoscale` in front makes them so."""
JSON_CAPS = Gst.Caps.from_string("application/x-json")
META_KINDS = ("auto", "json", "analytics", "none")
PROCESSING_S = 0.1
"""What is declared for processing until it has been measured."""
MEASURE_EVERY = 15
"""frames"""

EVERYTHING = Gst.BufferCopyFlags.FLAGS | Gst.BufferCopyFlags.TIMESTAMPS | Gst.BufferCopyFlags.META | Gst.BufferCopyFlags.MEMORY
"""What `Gst.Buffer.copy` copies in C; in Python it only counts one reference more."""

_READWRITE = GObject.ParamFlags.READWRITE
_MAX = 2**31 - 1
_PLAYING = Gst.PARAM_MUTABLE_PLAYING
_READY = Gst.PARAM_MUTABLE_READY

PROPERTIES = {
    "config": (str, "config", "settings file as printed by `mchmr config`; none: the defaults", None, _READWRITE | _READY),
    "views": (int, "views", "crops of each person, fewer is faster; 0: as configured", 0, 9, 0, _READWRITE | _PLAYING),
    "device": (str, "device", "auto, cpu, cuda or cuda:N; none: as configured", None, _READWRITE | _READY),
    "triton": (str, "triton", "HOST:PORT,... of Triton servers that run the network; none: as configured", None, _READWRITE | _READY),
    "draw": (bool, "draw", "draw the bodies into the picture", True, _READWRITE | _PLAYING),
    "interval": (int, "interval", "ask the detector on each n-th frame; 0: as configured", 0, _MAX, 0, _READWRITE | _PLAYING),
    "max-people": (int, "max-people", "keep only so many people, the largest; 0: as configured", 0, _MAX, 0, _READWRITE | _READY),
    "unique-id": (int, "unique-id", "tells the results of several such elements apart", 0, _MAX, 0, _READWRITE | _READY),
    "meta": (str, "meta", "what is put on buffers: auto (json, and analytics where there is one), json, analytics, none", "auto",
             _READWRITE | _READY),
    "messages": (bool, "messages", "post an element message `mchmr` with the JSON line of every frame", False, _READWRITE | _PLAYING),
    "qos": (bool, "qos", "drop frames that a sink says would come too late", True, _READWRITE | _PLAYING),
}  # fmt: skip


class MchmrElement(Gst.Element):
    """See the module. Properties are described in `PROPERTIES`; those of READY are read when the element leaves NULL."""

    __gtype_name__ = "MchmrElement"
    __gstmetadata__ = (
        "People in 3D",
        "Filter/Analyzer/Effect/Video",
        "Everyone in the picture as a 3D body (SMPL format), as metadata, JSON lines and overlay",
        "mchmr-stream",
    )
    __gsttemplates__ = (
        Gst.PadTemplate.new("sink", Gst.PadDirection.SINK, Gst.PadPresence.ALWAYS, VIDEO_CAPS),
        Gst.PadTemplate.new("src", Gst.PadDirection.SRC, Gst.PadPresence.ALWAYS, VIDEO_CAPS),
        Gst.PadTemplate.new("json", Gst.PadDirection.SRC, Gst.PadPresence.REQUEST, JSON_CAPS),
    )
    __gproperties__ = PROPERTIES

    def __init__(self) -> None:
        super().__init__()
        self._properties: dict[str, Any] = {name: described[-2] for name, described in PROPERTIES.items()}
        self._lock = threading.RLock()
        self._pipeline: Pipeline | None = None
        self._adjust: AdjustableSettings | None = None
        self._analytics = False
        self._info: GstVideo.VideoInfo | None = None
        self._segment: Gst.Segment | None = None
        self._run: _Run | None = None
        self._flushing = False
        self._frames = 0
        self._identities = 0
        self._first_seen: dict[int, int] = {}
        self._earliest: int | None = None
        self._dropped = 0
        self._processing_s = PROCESSING_S
        self._json: _JsonPad | None = None

        self.sinkpad = Gst.Pad.new_from_template(self.get_pad_template("sink"), "sink")
        self.sinkpad.set_chain_function_full(self._chain)
        self.sinkpad.set_event_function_full(self._sink_event)
        self.sinkpad.set_query_function_full(self._sink_query)
        self.srcpad = Gst.Pad.new_from_template(self.get_pad_template("src"), "src")
        self.srcpad.set_event_function_full(self._src_event)
        self.srcpad.set_query_function_full(self._src_query)
        self.add_pad(self.sinkpad)
        self.add_pad(self.srcpad)

    # ---- properties and pads ------------------------------------------------------------------------------------------

    def do_get_property(self, prop: Any) -> Any:
        return self._properties[prop.name]

    def do_set_property(self, prop: Any, value: Any) -> None:
        self._properties[prop.name] = value
        setting = {"views": "crops.views", "interval": "detector.interval"}.get(prop.name)
        if setting is None or self._adjust is None or self._pipeline is None:
            return
        section, name = setting.split(".")
        try:
            self._adjust.change(setting, value or getattr(getattr(self._pipeline.settings, section), name))
        except UsageError as error:  # a property cannot refuse a value
            self._post(Gst.MessageType.WARNING, Gst.LibraryError.quark(), Gst.LibraryError.SETTINGS, str(error))

    def do_request_new_pad(self, template: Gst.PadTemplate, name: str | None, caps: Gst.Caps | None) -> Gst.Pad | None:
        with self._lock:
            if self._json is not None:
                return None
            pad = Gst.Pad.new_from_template(template, "json")
            self._json = _JsonPad(pad)
        pad.set_active(True)
        self.add_pad(pad)
        return pad

    def do_release_pad(self, pad: Gst.Pad) -> None:
        with self._lock:
            self._json = None
        pad.set_active(False)
        self.remove_pad(pad)

    # ---- states -------------------------------------------------------------------------------------------------------

    def do_change_state(self, transition: Gst.StateChange) -> Gst.StateChangeReturn:
        try:
            if transition == Gst.StateChange.NULL_TO_READY:
                self._load()
            elif transition == Gst.StateChange.READY_TO_PAUSED:
                self._forget()
            elif transition == Gst.StateChange.PAUSED_TO_READY and self._run is not None:
                self._run.abandon()  # a blocked streaming thread lets go, so that its pad can be shut
            result = Gst.Element.do_change_state(self, transition)
            if transition == Gst.StateChange.PAUSED_TO_READY:
                self._abort()
            elif transition == Gst.StateChange.READY_TO_NULL and self._pipeline is not None:
                self._pipeline.close()
                self._pipeline = self._adjust = None
            return result
        except Exception as error:  # noqa: BLE001 - what leaves here is printed by PyGObject and taken for success
            self._fail(error)
            return Gst.StateChangeReturn.FAILURE

    def _load(self) -> None:
        """Read the properties and load the networks. Raises MchmrError."""
        if self._properties["meta"] not in META_KINDS:
            raise UsageError(f"meta is {self._properties['meta']!r}, expected one of {', '.join(META_KINDS)}")
        has_analytics = metadata.has_analytics()
        if self._properties["meta"] == "analytics" and not has_analytics:
            raise UsageError(
                f"meta=analytics needs GStreamer 1.24 with its introspection files, this is {Gst.version_string()}; use meta=json"
            )
        self._analytics = has_analytics and self._properties["meta"] in ("auto", "analytics")
        if self._properties["meta"] in ("auto", "json"):
            metadata.register()

        from mchmr_stream.config import load_settings
        from mchmr_stream.pipeline import Pipeline

        settings = load_settings(self._properties["config"] or None, self._overrides())
        self._pipeline = Pipeline(settings)
        self._adjust = self._pipeline.adjustable()

    def _overrides(self) -> list[str]:
        given = {
            "crops.views": self._properties["views"],
            "runtime.device": self._properties["device"],
            "detector.interval": self._properties["interval"],
            "tracker.max_people": self._properties["max-people"],
            "triton.servers": [server.strip() for server in (self._properties["triton"] or "").split(",") if server.strip()],
        }
        return [f"{name}={json.dumps(value)}" for name, value in given.items() if value]

    def _forget(self) -> None:
        self._info = self._segment = self._earliest = None
        self._flushing = False
        self._frames = self._identities = self._dropped = 0

    # ---- buffers ------------------------------------------------------------------------------------------------------

    def _chain(self, pad: Gst.Pad, parent: Gst.Object, buffer: Gst.Buffer) -> Gst.FlowReturn:
        try:
            if self._flushing:
                return Gst.FlowReturn.FLUSHING
            if self._is_late(buffer):
                return Gst.FlowReturn.OK
            if self._run is None:
                self._run = self._begin()
            flow = self._run.take(buffer, self._frames)
            self._frames += 1
            return flow
        except Exception as error:  # noqa: BLE001 - what leaves here is printed by PyGObject and taken for success
            self._fail(error)
            return Gst.FlowReturn.ERROR

    def _begin(self) -> _Run:
        if self._info is None or self._pipeline is None or self._adjust is None:
            raise UsageError("a buffer came before its caps; put a capsfilter such as video/x-raw,format=RGB before mchmr")
        return _Run(self._pipeline, self._adjust, self._info, self._segment, self._deliver, self._fail)

    def _deliver(self, buffer: Gst.Buffer, scene: Scene, run: _Run) -> Gst.FlowReturn:
        """One finished frame, on the run's thread."""
        scene = replace(scene, bodies=replace(scene.bodies, time_s=run.film_s(scene.bodies.time_s)))
        if len(scene):
            identities = scene.bodies.track_id + run.identities_before(self._identities)
            scene = replace(scene, bodies=replace(scene.bodies, track_id=identities))
            self._identities = max(self._identities, int(identities.max()))
        draws = self._properties["draw"] and len(scene) > 0
        # A copy may be written to; the pixels are copied too only where they are to change.
        out = buffer.copy_deep() if draws else buffer.copy_region(EVERYTHING, 0, buffer.get_size())
        if draws:
            run.draw(out, scene)
        line = self._line(buffer, scene)
        if line is not None and self._properties["meta"] in ("auto", "json"):
            metadata.attach_json(out, line, self._properties["unique-id"])
        if self._analytics:
            self._first_seen = {identity: self._first_seen.get(identity, buffer.pts) for identity in scene.bodies.track_id.tolist()}
            metadata.attach_analytics(out, scene, self._first_seen)
        if line is not None and self._properties["messages"]:
            self.post_message(Gst.Message.new_element(self, _message(buffer, line)))
        with self._lock:
            json_pad = self._json
        if line is not None and json_pad is not None:
            flow = json_pad.push(self, line, buffer, self._segment)
            if flow not in (Gst.FlowReturn.OK, Gst.FlowReturn.NOT_LINKED, Gst.FlowReturn.EOS):
                return flow
        self._measure(run)
        return self.srcpad.push(out)

    def _line(self, buffer: Gst.Buffer, scene: Scene) -> str | None:
        """The frame as JSON, where anybody wants it."""
        if self._properties["meta"] not in ("auto", "json") and not self._properties["messages"] and self._json is None:
            return None
        from mchmr_stream.sinks.json_lines import scene_line

        pts = None if buffer.pts == Gst.CLOCK_TIME_NONE else buffer.pts
        return scene_line(scene, unique_id=self._properties["unique-id"], pts_ns=pts)

    def _is_late(self, buffer: Gst.Buffer) -> bool:
        """Whether a sink has said that this frame cannot be in time any more; it is dropped and counted then."""
        if self._earliest is None or self._segment is None or not self._properties["qos"] or buffer.pts == Gst.CLOCK_TIME_NONE:
            return False
        running = self._segment.to_running_time(Gst.Format.TIME, buffer.pts)
        if running == Gst.CLOCK_TIME_NONE or running >= self._earliest:
            return False
        self._dropped += 1
        stream = self._segment.to_stream_time(Gst.Format.TIME, buffer.pts)
        message = Gst.Message.new_qos(self, False, running, stream, buffer.pts, buffer.duration)
        message.set_qos_stats(Gst.Format.BUFFERS, self._frames, self._dropped)
        self.post_message(message)
        return True

    def _finish(self) -> None:
        """Let the run send everything on; called on the streaming thread, before what ends the run is sent on itself."""
        run, self._run = self._run, None
        if run is not None:
            run.finish()

    def _abort(self) -> None:
        """End the run and drop what is in it."""
        run, self._run = self._run, None
        if run is not None:
            run.abandon()
            run.join()

    # ---- events -------------------------------------------------------------------------------------------------------

    def _sink_event(self, pad: Gst.Pad, parent: Gst.Object, event: Gst.Event) -> bool:
        try:
            return self._handle(event)
        except Exception as error:  # noqa: BLE001 - what leaves here is printed by PyGObject and taken for False
            self._fail(error)
            return False

    def _handle(self, event: Gst.Event) -> bool:
        kind = event.type
        if kind == Gst.EventType.FLUSH_START:
            self._flushing = True
            done = self._forward(event)  # first, so that a push that is blocked behind us returns
            self._abort()
            return done
        if kind == Gst.EventType.FLUSH_STOP:
            self._abort()  # a buffer that was on its way in when the flush began may have begun another run
            self._flushing = False
            self._earliest = self._segment = None
            return self._forward(event)
        if not Gst.EventType.get_flags(kind) & Gst.EventTypeFlags.SERIALIZED:
            return self._forward(event)
        if kind == Gst.EventType.CAPS:
            return self._set_caps(event)
        if kind == Gst.EventType.SEGMENT:
            segment = event.parse_segment().copy()
            if self._segment is None or not segment.is_equal(self._segment):
                self._finish()
                self._segment = segment
            return self._forward(event)
        if kind in (Gst.EventType.EOS, Gst.EventType.STREAM_START):
            self._finish()
            return self._forward(event)
        run = self._run
        if run is not None:
            return run.take_event(event, self._forward)
        return self._forward(event)

    def _forward(self, event: Gst.Event) -> bool:
        kind = event.type
        with self._lock:
            json_pad = self._json
        if json_pad is not None and kind in (Gst.EventType.FLUSH_START, Gst.EventType.FLUSH_STOP, Gst.EventType.EOS, Gst.EventType.GAP):
            json_pad.forward(self, event, self._segment)
        return self.srcpad.push_event(event)

    def _set_caps(self, event: Gst.Event) -> bool:
        caps = event.parse_caps()
        self._finish()
        info = GstVideo.VideoInfo.new_from_caps(caps)
        if info is None:
            self._fail(UsageError(f"caps are {caps.to_string()}, expected {VIDEO_CAPS.to_string()}"))
            return False
        self._info = info
        return self._forward(event)

    def _src_event(self, pad: Gst.Pad, parent: Gst.Object, event: Gst.Event) -> bool:
        if event.type == Gst.EventType.QOS:
            _, _, late_by, timestamp = event.parse_qos()
            if timestamp != Gst.CLOCK_TIME_NONE:
                # Late by so much now: the next ones will be, too, unless as much again is left out.
                self._earliest = max(0, timestamp + (2 * late_by if late_by > 0 else late_by))
        return self.sinkpad.push_event(event)

    # ---- queries ------------------------------------------------------------------------------------------------------

    def _sink_query(self, pad: Gst.Pad, parent: Gst.Object, query: Gst.Query) -> bool:
        if query.type in (Gst.QueryType.CAPS, Gst.QueryType.ACCEPT_CAPS):
            return self._query_caps(pad, self.srcpad, query)
        if query.type == Gst.QueryType.ALLOCATION:
            return self._propose_allocation(query)
        if query.type == Gst.QueryType.DRAIN:
            self._finish()
        return pad.query_default(parent, query)

    def _src_query(self, pad: Gst.Pad, parent: Gst.Object, query: Gst.Query) -> bool:
        if query.type in (Gst.QueryType.CAPS, Gst.QueryType.ACCEPT_CAPS):
            return self._query_caps(pad, self.sinkpad, query)
        if query.type == Gst.QueryType.LATENCY and self.sinkpad.peer_query(query):
            live, least, most = query.parse_latency()
            added = int(self._latency_s() * Gst.SECOND)
            query.set_latency(live, least + added, most if most == Gst.CLOCK_TIME_NONE else most + added)
            return True
        return pad.query_default(parent, query)

    def _query_caps(self, pad: Gst.Pad, other: Gst.Pad, query: Gst.Query) -> bool:
        """What goes in comes out: both sides agree on one of our formats."""
        if query.type == Gst.QueryType.CAPS:
            possible = other.peer_query_caps(VIDEO_CAPS).intersect(VIDEO_CAPS)
            wanted = query.parse_caps()
            query.set_caps_result(possible if wanted is None else wanted.intersect_full(possible, Gst.CapsIntersectMode.FIRST))
            return True
        caps = query.parse_accept_caps()
        query.set_accept_caps_result(caps.can_intersect(VIDEO_CAPS) and (not other.is_linked() or other.peer_query_accept_caps(caps)))
        return True

    def _propose_allocation(self, query: Gst.Query) -> bool:
        """Buffers are held back, so their pool must have more of them; their rows may be padded."""
        caps, _ = query.parse_allocation()
        info = None if caps is None else GstVideo.VideoInfo.new_from_caps(caps)
        if info is None:
            return False
        fps = info.fps_n / info.fps_d if info.fps_n and info.fps_d else 30.0
        query.add_allocation_pool(None, info.size, math.ceil(self._latency_s() * fps) + 4, 0)
        query.add_allocation_meta(GstVideo.video_meta_api_get_type(), None)
        return True

    # ---- latency ------------------------------------------------------------------------------------------------------

    def _latency_s(self) -> float:
        """How long after it came a frame may leave: the smoother's look-ahead, which ends with a frame, and processing."""
        if self._pipeline is None:
            return 0.0
        smoother, info = self._pipeline.settings.smoother, self._info
        frame_s = info.fps_d / info.fps_n if info is not None and info.fps_n else 1 / 30
        ahead_s = smoother.lookahead_s + frame_s if smoother.kind == "two-sided" else 0.0
        return ahead_s + self._processing_s

    def _measure(self, run: _Run) -> None:
        """Declare more where processing takes longer than was said. A frame may wait for the one before: twice the time."""
        if run.delivered % MEASURE_EVERY:
            return
        needed_s = 2 * sum(statistics.median(seconds) for seconds in run.watch.seconds.values())
        if needed_s > self._processing_s:
            self._processing_s = 1.25 * needed_s
            self.post_message(Gst.Message.new_latency(self))

    # ---- errors -------------------------------------------------------------------------------------------------------

    def _fail(self, error: BaseException) -> None:
        """Put an error on the bus; the trace is in its debug text."""
        domain, code = Gst.StreamError.quark(), Gst.StreamError.FAILED
        if isinstance(error, UsageError):
            domain, code = Gst.LibraryError.quark(), Gst.LibraryError.SETTINGS
        text = str(error) if isinstance(error, MchmrError) else f"{type(error).__name__}: {error}"
        self._post(Gst.MessageType.ERROR, domain, code, " ".join(text.split()), "".join(traceback.format_exception(error)))

    def _post(self, kind: Gst.MessageType, domain: int, code: int, text: str, debug: str | None = None) -> None:
        self.message_full(kind, domain, int(code), text, debug, __file__, "mchmr", 0)


class _Run:
    """One unbroken stretch of video through the pipeline. `take` is called on the streaming thread, `deliver` on the run's own."""

    def __init__(
        self,
        pipeline: Pipeline,
        adjust: AdjustableSettings,
        info: GstVideo.VideoInfo,
        segment: Gst.Segment | None,
        deliver: Callable[[Gst.Buffer, Scene, _Run], Gst.FlowReturn],
        fail: Callable[[BaseException], None],
    ) -> None:
        from mchmr_stream.build import with_camera
        from mchmr_stream.gst.pictures import Pictures
        from mchmr_stream.records import SourceInfo

        self._fps = info.fps_n / info.fps_d if info.fps_n and info.fps_d else 30.0
        self.watch = Stopwatch(last=60)
        self.delivered = 0
        self._pipeline, self._adjust, self._deliver, self._fail = pipeline, adjust, deliver, fail
        self._pictures: Pictures = Pictures(info)
        self._buffers = _BufferSource(SourceInfo("gstreamer", info.width, info.height, self._fps))
        self._source, self._intrinsics = with_camera(self._buffers, pipeline.settings)
        self._segment = segment
        self._sign = -1.0 if segment is not None and segment.rate < 0 else 1.0
        self._last_s: float | None = None
        self._identities_before: int | None = None
        self._lock = threading.Lock()
        self._held: deque[Gst.Buffer | tuple[Gst.Event, Callable[[Gst.Event], bool]]] = deque()
        self._pictures_before: deque[Picture] = deque()
        self._abandoned = False
        self._flow = Gst.FlowReturn.OK
        self._task = Task(self._work, name="mchmr")

    def take(self, buffer: Gst.Buffer, index: int) -> Gst.FlowReturn:
        """Give a buffer in; waits until the pipeline takes it. Returns how sending on has gone so far."""
        from mchmr_stream.records import Frame

        frame = Frame(index, self._time_s(buffer), self._pictures.read(buffer))
        with self._lock:
            self._held.append(buffer)
        if not self._buffers.put(frame):
            return self._flow if self._flow != Gst.FlowReturn.OK else Gst.FlowReturn.FLUSHING
        return self._flow

    def take_event(self, event: Gst.Event, forward: Callable[[Gst.Event], bool]) -> bool:
        """An event that belongs between the buffers; it is sent on when those before it have been."""
        with self._lock:
            if self._held:
                self._held.append((event, forward))
                return True
        return forward(event)

    def identities_before(self, seen: int) -> int:
        """What to add to this run's identities, so that none is used twice: how many there were when its first one came."""
        if self._identities_before is None:
            self._identities_before = seen
        return self._identities_before

    def draw(self, buffer: Gst.Buffer, scene: Scene) -> None:
        """Paint everyone into a buffer that may be written to."""
        from mchmr_stream.sinks.overlay import draw_scene

        before = scene.frame.rgb if self._source is self._buffers else self._pictures.read(buffer)
        painted = self.watch.call("draw", draw_scene, scene)
        self._pictures.paint(buffer, before, painted)

    def finish(self) -> None:
        """Wait until everything has been sent on."""
        self._buffers.end()
        self._task.join()

    def abandon(self) -> None:
        """Take and send nothing any more."""
        self._abandoned = True
        self._buffers.close()

    def join(self) -> None:
        self._task.join()

    def film_s(self, time_s: float) -> float:
        """The place in the film, seconds, of a time as the pipeline has it."""
        return self._sign * time_s

    def _time_s(self, buffer: Gst.Buffer) -> float:
        """Seconds that grow from buffer to buffer: the place in the film, negative where it is played backwards."""
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
                self._fail(error)  # before upstream learns of it, which only says that something failed
            self._flow = Gst.FlowReturn.ERROR
        finally:
            self._buffers.close()

    def _release(self) -> None:
        """The first buffer is gone; what waited behind it goes, too. It was kept until now, so that no event overtakes it."""
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


class _BufferSource:
    """The pictures of buffers, one at a time; implements `protocols.Source`."""

    def __init__(self, info: SourceInfo) -> None:
        self.info = info
        self.warnings: list[str] = []
        self._channel: Channel[Frame] = Channel(0)

    def put(self, frame: Frame) -> bool:
        """Waits until the pipeline takes it; False once it does not any more."""
        return self._channel.put(frame)

    def end(self) -> None:
        self._channel.end()

    def frames(self) -> Iterator[Frame]:
        return iter(self._channel)

    def close(self) -> None:
        self._channel.close()


class _JsonPad:
    """The request pad: one buffer per frame, a line of JSON with its end."""

    def __init__(self, pad: Gst.Pad) -> None:
        self._pad = pad
        self._begun = False
        self._segment: Gst.Segment | None = None

    def push(self, element: Gst.Element, line: str, of: Gst.Buffer, segment: Gst.Segment | None) -> Gst.FlowReturn:
        self._begin(element, segment)
        buffer = Gst.Buffer.new_wrapped((line + "\n").encode())
        buffer.pts, buffer.duration = of.pts, of.duration
        return self._pad.push(buffer)

    def forward(self, element: Gst.Element, event: Gst.Event, segment: Gst.Segment | None) -> None:
        if event.type in (Gst.EventType.EOS, Gst.EventType.GAP):
            self._begin(element, segment)
        elif event.type == Gst.EventType.FLUSH_STOP:
            self._segment = None
        self._pad.push_event(event)

    def _begin(self, element: Gst.Element, segment: Gst.Segment | None) -> None:
        """What has to come before the first buffer, or after a flush."""
        if not self._begun:
            self._begun = True
            self._pad.push_event(Gst.Event.new_stream_start(self._pad.create_stream_id(element, "json")))
            self._pad.push_event(Gst.Event.new_caps(JSON_CAPS))
        if segment is None:
            segment = Gst.Segment()
            segment.init(Gst.Format.TIME)
        if self._segment is None or not self._segment.is_equal(segment):
            self._segment = segment
            self._pad.push_event(Gst.Event.new_segment(segment))


def _message(buffer: Gst.Buffer, line: str) -> Gst.Structure:
    structure = Gst.Structure.new_empty("mchmr")
    pts = GObject.Value()  # a plain int would become 32 bits: 2.1 s of nanoseconds
    pts.init(GObject.TYPE_UINT64)
    pts.set_uint64(buffer.pts)
    structure.set_value("pts", pts)
    structure.set_value("json", line)
    return structure


GObject.type_register(MchmrElement)
FACTORY = ("mchmr", Gst.Rank.NONE, MchmrElement)
"""Name, rank and class, as the loader and `Gst.Element.register(None, *FACTORY)` want them."""
