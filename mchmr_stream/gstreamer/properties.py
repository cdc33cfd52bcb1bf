"""Properties of the element, and the settings behind them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GObject, Gst  # noqa: E402

META_KINDS = ("auto", "json", "analytics", "none")

_READWRITE = GObject.ParamFlags.READWRITE
_MAX = 2**31 - 1
_PLAYING = Gst.PARAM_MUTABLE_PLAYING
_READY = Gst.PARAM_MUTABLE_READY

PROPERTIES = {
    "config": (str, "config", "settings file as printed by `mchmr config`, or a name: fast, accurate; none: the defaults", None,
               _READWRITE | _READY),
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

ADJUSTABLE = {"views": "crops.views", "interval": "detector.interval"}
"""Properties that may change in PLAYING, and the settings behind them."""


def defaults() -> dict[str, Any]:
    """Default value of each property."""
    return {name: described[-2] for name, described in PROPERTIES.items()}


def overrides(properties: Mapping[str, Any]) -> list[str]:
    """The settings that properties override, as `section.name=value`."""
    given = {
        "crops.views": properties["views"],
        "runtime.device": properties["device"],
        "detector.interval": properties["interval"],
        "tracker.max_people": properties["max-people"],
        "triton.servers": [server.strip() for server in (properties["triton"] or "").split(",") if server.strip()],
    }
    return [f"{name}={json.dumps(value)}" for name, value in given.items() if value]
