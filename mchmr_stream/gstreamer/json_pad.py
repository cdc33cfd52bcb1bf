"""The element's request pad: results as JSON lines for another branch of the pipeline."""

from __future__ import annotations

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

Gst.init(None)  # caps cannot be made before
JSON_CAPS = Gst.Caps.from_string("application/x-json")


class JsonPad:
    """The request pad: one buffer per frame, one line of JSON with its line end.

    The pad's state is kept only as its sticky events, which GStreamer removes when the element is stopped.
    """

    def __init__(self, pad: Gst.Pad) -> None:
        self._pad = pad

    def push(self, element: Gst.Element, line: str, of: Gst.Buffer, segment: Gst.Segment | None) -> Gst.FlowReturn:
        """Push a line.

        Args:
            element: The element of the pad.
            line: The line without line end.
            of: The buffer whose timestamps it gets.
            segment: The segment of that buffer.

        Returns:
            The flow of the push.
        """
        self._begin(element, segment)
        buffer = Gst.Buffer.new_wrapped((line + "\n").encode())
        buffer.pts, buffer.duration = of.pts, of.duration
        return self._pad.push(buffer)

    def forward(self, element: Gst.Element, event: Gst.Event, segment: Gst.Segment | None) -> None:
        """Forward an event, after the events that must precede it."""
        if event.type == Gst.EventType.EOS and self._pad.get_sticky_event(event.type, 0) is not None:
            return
        if event.type in (Gst.EventType.EOS, Gst.EventType.GAP):
            self._begin(element, segment)
        self._pad.push_event(event)

    def _begin(self, element: Gst.Element, segment: Gst.Segment | None) -> None:
        """Push the events that must precede the first buffer, also after a flush or an end that was not the last."""
        sticky, before = self._pad.get_sticky_event, self._pad.get_sticky_event(Gst.EventType.SEGMENT, 0)
        if sticky(Gst.EventType.STREAM_START, 0) is None or sticky(Gst.EventType.EOS, 0) is not None:
            self._pad.push_event(Gst.Event.new_stream_start(self._pad.create_stream_id(element, "json")))
            self._pad.push_event(Gst.Event.new_caps(JSON_CAPS))
            before = None
        if segment is None:
            segment = Gst.Segment()
            segment.init(Gst.Format.TIME)
        if before is None or not before.parse_segment().is_equal(segment):
            self._pad.push_event(Gst.Event.new_segment(segment))
