"""The element's request pad: results as lines for another branch of the pipeline."""

from __future__ import annotations

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

JSON_CAPS = Gst.Caps.from_string("application/x-json")


class JsonPad:
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
