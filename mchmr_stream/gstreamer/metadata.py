"""Results as metadata of buffers: JSON in a custom meta, and analytics relations for elements of others.

The custom meta is named `MchmrMeta` and has one text field per element, `mchmr-<unique-id>`: a line as described in docs/output.md. It
is tagged as video metadata, so that a conversion of the pixel format keeps it. GStreamer 1.24 and newer have a common format for boxes,
scores and identities, which is added as well.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, GObject, Gst  # noqa: E402

from mchmr_stream.datatypes import Scene  # noqa: E402
from mchmr_stream.errors import MissingPart  # noqa: E402

META = "MchmrMeta"
KIND = "person"
"""Label of a box in the analytics meta."""


def register() -> None:
    """Register the meta in this process, after `Gst.init` and before `attach_json`; repeated calls are allowed.

    Raises:
        MissingPart: GStreamer is older than 1.20.
    """
    if not hasattr(Gst.Meta, "register_custom"):
        raise MissingPart(f"{Gst.version_string()} has no custom metadata, expected 1.20 or newer; use meta=none, or a newer GStreamer")
    if Gst.Meta.get_info(META) is None:
        Gst.Meta.register_custom(META, ["video"], None, None)


def has_analytics() -> bool:
    """Whether this GStreamer has the analytics meta (1.24) and its bindings are installed."""
    return _analytics() is not None


def attach_json(buffer: Gst.Buffer, line: str, unique_id: int) -> None:
    """Attach a line to a buffer.

    Args:
        buffer: A writable buffer.
        line: The line.
        unique_id: The property `unique-id` of the element.
    """
    # PyGObject returns a copy of a meta's structure, so the original is accessed through C.
    library = _library()
    meta = library.gst_buffer_get_custom_meta(hash(buffer), META.encode()) or library.gst_buffer_add_custom_meta(
        hash(buffer), META.encode()
    )
    text = GObject.Value()
    text.init(GObject.TYPE_STRING)
    text.set_string(line)
    library.gst_structure_set_value(library.gst_custom_meta_get_structure(meta), f"mchmr-{unique_id}".encode(), hash(text))


def attach_analytics(buffer: Gst.Buffer, scene: Scene, first_seen: Mapping[int, int]) -> None:
    """Attach a box with score and a track for each person, related to each other. Needs GStreamer 1.24.

    Args:
        buffer: A writable buffer.
        scene: The people.
        first_seen: By identity, the timestamp of the first buffer with this person.
    """
    analytics = _analytics()
    assert analytics is not None  # the element checks `has_analytics` when it starts
    relations = analytics.buffer_add_analytics_relation_meta(buffer)
    kind = GLib.quark_from_string(KIND)
    bodies = scene.bodies
    for identity, box, score in zip(bodies.track_id.tolist(), bodies.boxes_xyxy_px.tolist(), bodies.scores.tolist(), strict=True):
        left, top, right, bottom = (round(edge) for edge in box)
        found, where = relations.add_od_mtd(kind, left, top, right - left, bottom - top, score)
        followed, track = relations.add_tracking_mtd(identity, first_seen[identity])
        if found and followed:
            relations.set_relation(analytics.RelTypes.RELATE_TO, where.id, track.id)


def bus_message(buffer: Gst.Buffer, line: str) -> Gst.Structure:
    """The structure that is posted on the bus for a frame."""
    structure = Gst.Structure.new_empty("mchmr")
    pts = GObject.Value()  # a plain int would become 32 bits: 2.1 s of nanoseconds
    pts.init(GObject.TYPE_UINT64)
    pts.set_uint64(buffer.pts)
    structure.set_value("pts", pts)
    structure.set_value("json", line)
    return structure


def results(buffer: Gst.Buffer, unique_id: int = 0) -> dict[str, Any] | None:
    """Read the results from a buffer.

    Args:
        buffer: The buffer.
        unique_id: The property `unique-id` of the element.

    Returns:
        The line's content; None where there is none.
    """
    meta = buffer.get_custom_meta(META) if Gst.Meta.get_info(META) is not None else None
    text = None if meta is None else meta.get_structure().get_string(f"mchmr-{unique_id}")
    return None if text is None else json.loads(text)


@cache
def _analytics() -> Any:
    try:
        gi.require_version("GstAnalytics", "1.0")
        from gi.repository import GstAnalytics
    except (ValueError, ImportError):
        return None
    return GstAnalytics


@cache
def _library() -> ctypes.CDLL:
    name = ctypes.util.find_library("gstreamer-1.0") or ctypes.util.find_library("gstreamer-1.0-0") or "libgstreamer-1.0.so.0"
    library = ctypes.CDLL(name)
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    for function, result, arguments in (
        ("gst_buffer_get_custom_meta", pointer, [pointer, text]),
        ("gst_buffer_add_custom_meta", pointer, [pointer, text]),
        ("gst_custom_meta_get_structure", pointer, [pointer]),
        ("gst_structure_set_value", None, [pointer, text, pointer]),
    ):
        getattr(library, function).restype, getattr(library, function).argtypes = result, arguments
    return library
