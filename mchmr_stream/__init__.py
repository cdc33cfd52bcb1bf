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
    from mchmr_stream.datatypes import Bodies, CropBatch, CropEstimates, Detections, Frame, Moment, Scene, SourceInfo, Tracks
    from mchmr_stream.errors import InputError, MchmrError, MissingPart, TruncatedInput, UsageError
    from mchmr_stream.estimators.base import SynchronousEstimator
    from mchmr_stream.export.formats import export_motion
    from mchmr_stream.geometry.camera import Intrinsics
    from mchmr_stream.jobs.video_job import VideoResult, process_video
    from mchmr_stream.live.run import LiveRun, SourceStatus
    from mchmr_stream.motion.motion import Motion, Track, load
    from mchmr_stream.pipeline.factory import Components
    from mchmr_stream.pipeline.pipeline import Pipeline, stream
    from mchmr_stream.protocols import Detector, LiveSink, MeshEstimator, Source

__version__ = "0.1.0"

_HOME = {
    "Bodies": "datatypes",
    "Components": "pipeline.factory",
    "CropBatch": "datatypes",
    "CropEstimates": "datatypes",
    "Detections": "datatypes",
    "Detector": "protocols",
    "Frame": "datatypes",
    "InputError": "errors",
    "Intrinsics": "geometry.camera",
    "LiveRun": "live.run",
    "LiveSink": "protocols",
    "MchmrError": "errors",
    "MeshEstimator": "protocols",
    "MissingPart": "errors",
    "Moment": "datatypes",
    "Motion": "motion.motion",
    "Pipeline": "pipeline.pipeline",
    "Scene": "datatypes",
    "Settings": "config",
    "Source": "protocols",
    "SourceInfo": "datatypes",
    "SourceStatus": "live.run",
    "SynchronousEstimator": "estimators.base",
    "Track": "motion.motion",
    "Tracks": "datatypes",
    "TruncatedInput": "errors",
    "UsageError": "errors",
    "VideoResult": "jobs.video_job",
    "export_motion": "export.formats",
    "load": "motion.motion",
    "load_settings": "config",
    "process_video": "jobs.video_job",
    "stream": "pipeline.pipeline",
}
"""Public name -> the module that it is loaded from."""

__all__ = [
    "Bodies",
    "Components",
    "CropBatch",
    "CropEstimates",
    "Detections",
    "Detector",
    "Frame",
    "InputError",
    "Intrinsics",
    "LiveRun",
    "LiveSink",
    "MchmrError",
    "MeshEstimator",
    "MissingPart",
    "Moment",
    "Motion",
    "Pipeline",
    "Scene",
    "Settings",
    "Source",
    "SourceInfo",
    "SourceStatus",
    "SynchronousEstimator",
    "Track",
    "Tracks",
    "TruncatedInput",
    "UsageError",
    "VideoResult",
    "export_motion",
    "load",
    "load_settings",
    "process_video",
    "stream",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mchmr_stream' has no attribute {name!r}")
    return getattr(import_module(f"mchmr_stream.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
