"""What the element agrees on with its neighbours: formats and buffers."""

from __future__ import annotations

import math

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import Gst, GstVideo  # noqa: E402

Gst.init(None)  # caps cannot be made before
VIDEO_CAPS = Gst.Caps.from_string(
    "video/x-raw, format=(string){ RGB, RGBA, BGR, NV12 }, width=[1,max], height=[1,max], pixel-aspect-ratio=(fraction)1/1"
)
"""Pixels must be square, as everywhere behind a source; `videoscale` in front makes them so."""


def answer_caps(other: Gst.Pad, query: Gst.Query) -> bool:
    """A query about caps at one pad, `other` being the opposite one. What goes in comes out: both sides agree on one of our formats."""
    if query.type == Gst.QueryType.CAPS:
        possible = other.peer_query_caps(VIDEO_CAPS).intersect(VIDEO_CAPS)
        wanted = query.parse_caps()
        query.set_caps_result(possible if wanted is None else wanted.intersect_full(possible, Gst.CapsIntersectMode.FIRST))
        return True
    caps = query.parse_accept_caps()
    query.set_accept_caps_result(caps.can_intersect(VIDEO_CAPS) and (not other.is_linked() or other.peer_query_accept_caps(caps)))
    return True


def propose_allocation(query: Gst.Query, held_s: float) -> bool:
    """Buffers are held back for `held_s`, so their pool must have more of them; their rows may be padded."""
    caps, _ = query.parse_allocation()
    info = None if caps is None else GstVideo.VideoInfo.new_from_caps(caps)
    if info is None:
        return False
    fps = info.fps_n / info.fps_d if info.fps_n and info.fps_d else 30.0
    query.add_allocation_pool(None, info.size, math.ceil(held_s * fps) + 4, 0)
    query.add_allocation_meta(GstVideo.video_meta_api_get_type(), None)
    return True
