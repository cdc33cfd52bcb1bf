"""Negotiation with the element's neighbours: formats and buffers."""

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
"""Pixels must be square, as in all sources; put `videoscale` in front for others."""


def answer_caps(other: Gst.Pad, query: Gst.Query) -> bool:
    """Answer a caps query. Input and output have the same caps, one of the supported formats.

    Args:
        other: The pad opposite to the queried one.
        query: A CAPS or ACCEPT_CAPS query, which gets the result.

    Returns:
        True.
    """
    if query.type == Gst.QueryType.CAPS:
        possible = other.peer_query_caps(VIDEO_CAPS).intersect(VIDEO_CAPS)
        requested = query.parse_caps()
        query.set_caps_result(possible if requested is None else requested.intersect_full(possible, Gst.CapsIntersectMode.FIRST))
        return True
    caps = query.parse_accept_caps()
    query.set_accept_caps_result(caps.can_intersect(VIDEO_CAPS) and (not other.is_linked() or other.peer_query_accept_caps(caps)))
    return True


def propose_allocation(query: Gst.Query, held_s: float) -> bool:
    """Answer an allocation query. Buffers are held back, so that their pool needs more of them; their rows may be padded.

    Args:
        query: The query, which gets the result.
        held_s: Seconds for which buffers are held back.

    Returns:
        False for unknown caps.
    """
    caps, _ = query.parse_allocation()
    info = None if caps is None else GstVideo.VideoInfo.new_from_caps(caps)
    if info is None:
        return False
    fps = info.fps_n / info.fps_d if info.fps_n and info.fps_d else 30.0
    query.add_allocation_pool(None, info.size, math.ceil(held_s * fps) + 4, 0)
    query.add_allocation_meta(GstVideo.video_meta_api_get_type(), None)
    return True
