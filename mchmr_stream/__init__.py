"""Video in, everyone in it as 3D bodies out.

    import mchmr_stream
    for scene in mchmr_stream.stream("clip.mp4"):
        print(scene.frame.time_s, scene.bodies.track_id, scene.joints_m.shape)
    motion = mchmr_stream.load("out/clip.npz")

Names are loaded when first used, so that ``import mchmr_stream`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mchmr_stream.config import Settings, load_settings
    from mchmr_stream.errors import InputError, MchmrError, MissingPart, TruncatedInput, UsageError
    from mchmr_stream.job import VideoResult, process_video
    from mchmr_stream.motion import Motion, Track, load
    from mchmr_stream.pipeline import Pipeline, stream
    from mchmr_stream.records import Bodies, Frame, Scene

__version__ = "0.1.0"

_HOME = {
    "Settings": "config",
    "load_settings": "config",
    "InputError": "errors",
    "MchmrError": "errors",
    "MissingPart": "errors",
    "TruncatedInput": "errors",
    "UsageError": "errors",
    "VideoResult": "job",
    "process_video": "job",
    "Motion": "motion",
    "Track": "motion",
    "load": "motion",
    "Pipeline": "pipeline",
    "stream": "pipeline",
    "Bodies": "records",
    "Frame": "records",
    "Scene": "records",
}

__all__ = [
    "Bodies", "Frame", "InputError", "MchmrError", "MissingPart", "Motion", "Pipeline", "Scene", "Settings", "Track", "TruncatedInput",
    "UsageError", "VideoResult", "load", "load_settings", "process_video", "stream",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mchmr_stream' has no attribute {name!r}")
    return getattr(import_module(f"mchmr_stream.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
