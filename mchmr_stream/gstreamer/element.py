"""The GStreamer element `mchmr`: video in, the same video out with each person's body as metadata, optionally drawn.

Buffers are processed by the same `Pipeline` as other inputs. The streaming thread passes their pictures to a `VideoSegment`, whose own
thread takes finished scenes and pushes the buffers, in order, each once. New caps, a new segment and the end of the stream finish a
video segment, a flush drops it, and the next buffer starts another one.

docs/gstreamer.md explains its use. Heavy modules are imported only when an element is set to READY.
"""

from __future__ import annotations

import threading
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import GObject, Gst, GstVideo  # noqa: E402

from mchmr_stream.errors import MchmrError, UsageError  # noqa: E402
from mchmr_stream.gstreamer import metadata  # noqa: E402
from mchmr_stream.gstreamer.caps import VIDEO_CAPS, answer_caps, propose_allocation  # noqa: E402
from mchmr_stream.gstreamer.json_pad import JSON_CAPS, JsonPad  # noqa: E402
from mchmr_stream.gstreamer.latency import Latency, Lateness  # noqa: E402
from mchmr_stream.gstreamer.properties import ADJUSTABLE, META_KINDS, PROPERTIES, defaults, overrides  # noqa: E402

if TYPE_CHECKING:
    from mchmr_stream.datatypes import Scene
    from mchmr_stream.gstreamer.video_segment import VideoSegment
    from mchmr_stream.pipeline.live_settings import AdjustableSettings
    from mchmr_stream.pipeline.pipeline import Pipeline

EVERYTHING = Gst.BufferCopyFlags.FLAGS | Gst.BufferCopyFlags.TIMESTAMPS | Gst.BufferCopyFlags.META | Gst.BufferCopyFlags.MEMORY
"""The flags of `Gst.Buffer.copy` in C; in Python it only increments the reference count."""


class MchmrElement(Gst.Element):
    """The element. Properties are described in `PROPERTIES`; those of READY are read when the element leaves NULL."""

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
        self._properties: dict[str, Any] = defaults()
        self._lock = threading.RLock()
        self._pipeline: Pipeline | None = None
        self._adjust: AdjustableSettings | None = None
        self._analytics = False
        self._info: GstVideo.VideoInfo | None = None
        self._segment: Gst.Segment | None = None
        self._run: VideoSegment | None = None
        self._flushing = False
        self._frames = 0
        self._identities = 0
        self._first_seen: dict[int, int] = {}
        self._late = Lateness()
        self._latency = Latency()
        self._json: JsonPad | None = None

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
        """Get a property."""
        return self._properties[prop.name]

    def do_set_property(self, prop: Any, value: Any) -> None:
        """Set a property; adjustable ones take effect at once."""
        self._properties[prop.name] = value
        setting = ADJUSTABLE.get(prop.name)
        if setting is None or self._adjust is None or self._pipeline is None:
            return
        section, name = setting.split(".")
        try:
            self._adjust.change(setting, value or getattr(getattr(self._pipeline.settings, section), name))
        except UsageError as error:  # a property cannot reject a value
            self._post(Gst.MessageType.WARNING, Gst.LibraryError.quark(), Gst.LibraryError.SETTINGS, str(error))

    def do_request_new_pad(self, template: Gst.PadTemplate, name: str | None, caps: Gst.Caps | None) -> Gst.Pad | None:
        """Add the JSON pad; there can be one."""
        with self._lock:
            if self._json is not None:
                return None
            pad = Gst.Pad.new_from_template(template, "json")
            self._json = JsonPad(pad)
        pad.set_active(True)
        self.add_pad(pad)
        return pad

    def do_release_pad(self, pad: Gst.Pad) -> None:
        """Remove the JSON pad."""
        with self._lock:
            self._json = None
        pad.set_active(False)
        self.remove_pad(pad)

    # ---- states -------------------------------------------------------------------------------------------------------

    def do_change_state(self, transition: Gst.StateChange) -> Gst.StateChangeReturn:
        """Load on READY, reset on PAUSED, and release everything on the way back."""
        try:
            if transition == Gst.StateChange.NULL_TO_READY:
                self._load()
            elif transition == Gst.StateChange.READY_TO_PAUSED:
                self._forget()
            elif transition == Gst.StateChange.PAUSED_TO_READY and self._run is not None:
                self._run.abandon()  # unblocks the streaming thread, so that its pad can be deactivated
            result = Gst.Element.do_change_state(self, transition)
            if transition == Gst.StateChange.PAUSED_TO_READY:
                self._abort()
            elif transition == Gst.StateChange.READY_TO_NULL and self._pipeline is not None:
                self._pipeline.close()
                self._pipeline = self._adjust = None
            return result
        except Exception as error:  # noqa: BLE001 - PyGObject prints an exception that leaves here and reports success
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
        from mchmr_stream.pipeline.pipeline import Pipeline

        settings = load_settings(self._properties["config"] or None, overrides(self._properties))
        self._pipeline = Pipeline(settings)
        self._adjust = self._pipeline.adjustable()

    def _forget(self) -> None:
        self._info = self._segment = None
        self._flushing = False
        self._frames = self._identities = 0
        self._first_seen = {}
        self._late = Lateness()

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
        except Exception as error:  # noqa: BLE001 - PyGObject prints an exception that leaves here and reports success
            self._fail(error)
            return Gst.FlowReturn.ERROR

    def _begin(self) -> VideoSegment:
        if self._info is None or self._pipeline is None or self._adjust is None:
            raise UsageError("a buffer came before its caps; put a capsfilter such as video/x-raw,format=RGB before mchmr")
        from mchmr_stream.gstreamer.video_segment import VideoSegment

        return VideoSegment(self._pipeline, self._adjust, self._info, self._segment, self._deliver, self._fail)

    def _deliver(self, buffer: Gst.Buffer, scene: Scene, run: VideoSegment) -> Gst.FlowReturn:
        """Send one finished frame on, on the segment's thread."""
        scene = replace(scene, bodies=replace(scene.bodies, time_s=run.film_s(scene.bodies.time_s)))
        if len(scene):
            identities = scene.bodies.track_id + run.identities_before(self._identities)
            scene = replace(scene, bodies=replace(scene.bodies, track_id=identities))
            self._identities = max(self._identities, int(identities.max()))
        draws = self._properties["draw"] and len(scene) > 0
        # A copy is writable; the pixels are copied only where they change.
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
            self.post_message(Gst.Message.new_element(self, metadata.bus_message(buffer, line)))
        with self._lock:
            json_pad = self._json
        if line is not None and json_pad is not None:
            flow = json_pad.push(self, line, buffer, self._segment)
            if flow not in (Gst.FlowReturn.OK, Gst.FlowReturn.NOT_LINKED, Gst.FlowReturn.EOS):
                return flow
        if self._latency.measure(run.delivered, run.watch):
            self.post_message(Gst.Message.new_latency(self))
        return self.srcpad.push(out)

    def _line(self, buffer: Gst.Buffer, scene: Scene) -> str | None:
        """The frame as a line of JSON, if any output needs it."""
        if self._properties["meta"] not in ("auto", "json") and not self._properties["messages"] and self._json is None:
            return None
        from mchmr_stream.sinks.json_lines import scene_line

        pts = None if buffer.pts == Gst.CLOCK_TIME_NONE else buffer.pts
        return scene_line(scene, unique_id=self._properties["unique-id"], pts_ns=pts)

    def _is_late(self, buffer: Gst.Buffer) -> bool:
        """Whether a sink has reported by QoS that this frame is too late; it is then dropped and counted."""
        message = self._late.of(self, buffer, self._segment, self._frames) if self._properties["qos"] else None
        if message is not None:
            self.post_message(message)
        return message is not None

    def _latency_s(self) -> float:
        return 0.0 if self._pipeline is None else self._latency.seconds(self._pipeline.settings.smoother, self._info)

    def _finish(self) -> None:
        """Let the segment send everything, on the streaming thread, before the event that ends it is forwarded."""
        run, self._run = self._run, None
        if run is not None:
            run.finish()

    def _abort(self) -> None:
        """End the segment and drop its content."""
        run, self._run = self._run, None
        if run is not None:
            run.abandon()
            run.join()

    # ---- events -------------------------------------------------------------------------------------------------------

    def _sink_event(self, pad: Gst.Pad, parent: Gst.Object, event: Gst.Event) -> bool:
        try:
            return self._handle(event)
        except Exception as error:  # noqa: BLE001 - PyGObject prints an exception that leaves here and returns False
            self._fail(error)
            return False

    def _handle(self, event: Gst.Event) -> bool:
        kind = event.type
        if kind == Gst.EventType.FLUSH_START:
            self._flushing = True
            done = self._forward(event)  # first, so that a push that is blocked downstream returns
            self._abort()
            return done
        if kind == Gst.EventType.FLUSH_STOP:
            self._abort()  # a buffer that arrived while the flush began may have started another segment
            self._flushing = False
            self._segment = None
            self._late.forget()
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
            self._late.process(event)
        return self.sinkpad.push_event(event)

    # ---- queries ------------------------------------------------------------------------------------------------------

    def _sink_query(self, pad: Gst.Pad, parent: Gst.Object, query: Gst.Query) -> bool:
        if query.type in (Gst.QueryType.CAPS, Gst.QueryType.ACCEPT_CAPS):
            return answer_caps(self.srcpad, query)
        if query.type == Gst.QueryType.ALLOCATION:
            return propose_allocation(query, self._latency_s())
        if query.type == Gst.QueryType.DRAIN:
            self._finish()
        return pad.query_default(parent, query)

    def _src_query(self, pad: Gst.Pad, parent: Gst.Object, query: Gst.Query) -> bool:
        if query.type in (Gst.QueryType.CAPS, Gst.QueryType.ACCEPT_CAPS):
            return answer_caps(self.sinkpad, query)
        if query.type == Gst.QueryType.LATENCY and self.sinkpad.peer_query(query):
            live, least, most = query.parse_latency()
            added = int(self._latency_s() * Gst.SECOND)
            query.set_latency(live, least + added, most if most == Gst.CLOCK_TIME_NONE else most + added)
            return True
        return pad.query_default(parent, query)

    # ---- errors -------------------------------------------------------------------------------------------------------

    def _fail(self, error: BaseException) -> None:
        """Post an error on the bus; its debug text has the traceback."""
        domain, code = Gst.StreamError.quark(), Gst.StreamError.FAILED
        if isinstance(error, UsageError):
            domain, code = Gst.LibraryError.quark(), Gst.LibraryError.SETTINGS
        text = str(error) if isinstance(error, MchmrError) else f"{type(error).__name__}: {error}"
        self._post(Gst.MessageType.ERROR, domain, code, " ".join(text.split()), "".join(traceback.format_exception(error)))

    def _post(self, kind: Gst.MessageType, domain: int, code: int, text: str, debug: str | None = None) -> None:
        self.message_full(kind, domain, int(code), text, debug, __file__, "mchmr", 0)


GObject.type_register(MchmrElement)
FACTORY = ("mchmr", Gst.Rank.NONE, MchmrElement)
"""Name, rank and class, the arguments of the plugin loader and of `Gst.Element.register(None, *FACTORY)`."""
