"""The element's request pad: results as lines for another branch of the pipeline."""

from __future__ import annotations

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

Gst.init(None)  # caps cannot be made before
JSON_CAPS = Gst.Caps.from_string("application/x-json")


class JsonPad:
    """The request pad: one buffer per frame, a line of JSON with its end.

    What has been said on the pad is kept by the pad alone, as its sticky events: GStreamer forgets them when the element is stopped.
    """

    def __init__(self, pad: Gst.Pad) -> None:
        self._pad = pad

    def push(self, element: Gst.Element, line: str, of: Gst.Buffer, segment: Gst.Segment | None) -> Gst.FlowReturn:
        self._begin(element, segment)
        buffer = Gst.Buffer.new_wrapped((line + "\n").encode())
        buffer.pts, buffer.duration = of.pts, of.duration
        return self._pad.push(buffer)

    def forward(self, element: Gst.Element, event: Gst.Event, segment: Gst.Segment | None) -> None:
        if event.type == Gst.EventType.EOS and self._pad.get_sticky_event(event.type, 0) is not None:
            return
        if event.type in (Gst.EventType.EOS, Gst.EventType.GAP):
            self._begin(element, segment)
        self._pad.push_event(event)

    def _begin(self, element: Gst.Element, segment: Gst.Segment | None) -> None:
        """What has to come before the first buffer, after a flush, and after an end that was not the last."""
        said, before = self._pad.get_sticky_event, self._pad.get_sticky_event(Gst.EventType.SEGMENT, 0)
        if said(Gst.EventType.STREAM_START, 0) is None or said(Gst.EventType.EOS, 0) is not None:
            self._pad.push_event(Gst.Event.new_stream_start(self._pad.create_stream_id(element, "json")))
            self._pad.push_event(Gst.Event.new_caps(JSON_CAPS))
            before = None
        if segment is None:
            segment = Gst.Segment()
            segment.init(Gst.Format.TIME)
        if before is None or not before.parse_segment().is_equal(segment):
            self._pad.push_event(Gst.Event.new_segment(segment))
