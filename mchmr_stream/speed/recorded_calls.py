"""Recording of the inputs of all stages in a run of the pipeline, to repeat the same calls on a stage alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar, cast

from mchmr_stream.datatypes import Bodies, CropBatch, CropEstimates, Detections, Frame, Scene, SourceInfo, Tracks
from mchmr_stream.fitting.body_fitter import Measured
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.pipeline.pipeline import Pipeline
from mchmr_stream.protocols import Source
from mchmr_stream.runtime.concurrency import Stopwatch

T = TypeVar("T")


class First:
    """A source that ends after the first frames of another one."""

    def __init__(self, source: Source, frames: int) -> None:
        self._source, self._frames = source, frames

    @property
    def info(self) -> SourceInfo:
        return self._source.info

    @property
    def warnings(self) -> list[str]:
        return self._source.warnings

    def frames(self) -> Iterator[Frame]:
        return islice(self._source.frames(), self._frames)

    def close(self) -> None:
        self._source.close()


@dataclass
class Recording:
    """Calls in order with their inputs; frames and crops stay in memory."""

    detected: list[list[Frame]] = field(default_factory=list)
    refined: list[tuple[Frame, Tracks, Intrinsics]] = field(default_factory=list)
    """empty if the detector's keypoints are used"""
    cropped: list[tuple[Frame, Tracks, Intrinsics]] = field(default_factory=list)
    batches: list[CropBatch] = field(default_factory=list)
    fitted: list[list[Measured]] = field(default_factory=list)
    """empty if no bodies are fitted"""
    aligned: list[tuple[int, list[Bodies]]] = field(default_factory=list)
    """smoothed bodies before keypoint alignment, and the number of entries of `fitted` at that time"""
    scenes: list[Scene] = field(default_factory=list)

    @property
    def people_per_frame(self) -> float:
        """Mean number of people in the finished scenes."""
        return sum(map(len, self.scenes)) / max(1, len(self.scenes))


def record(pipeline: Pipeline, source: Source, intrinsics: Intrinsics) -> Recording:
    """Run the pipeline once over a short source."""
    recording, own = Recording(), pipeline.components
    watched = pipeline.with_components(
        detector=_Detector(own.detector, recording),
        cropper=_Cropper(own.cropper, recording),
        estimator=_Estimator(own.estimator, recording),
        batches_at_once=own.batches_at_once,
        frames_together=own.frames_together,
    )
    recording.scenes = list(watched.scenes(source, intrinsics, watch=_Watch(recording)))
    return recording


class _Watch(Stopwatch):
    """A listener of all stage calls; it records the inputs of stages that are created for each run."""

    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self._recording = recording

    def call(self, stage: str, function: Callable[..., T], *args: object) -> T:
        if stage == "keypoints":
            self._recording.refined.append(cast(Any, args))
        elif stage == "fit":
            self._recording.fitted.append(list(cast(Any, args[0])))
        elif stage == "align":
            self._recording.aligned.append((len(self._recording.fitted), list(cast(Any, args[0]))))
        return super().call(stage, function, *args)


class _Stands:
    """A proxy of a component that records calls; other attributes are those of the component."""

    def __init__(self, component: object, recording: Recording) -> None:
        self._component: Any = component
        self._recording = recording

    def __getattr__(self, name: str) -> Any:
        return getattr(self._component, name)


class _Detector(_Stands):
    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        self._recording.detected.append(list(frames))
        return self._component.detect(frames)


class _Cropper(_Stands):
    def crop(self, frame: Frame, tracks: Tracks, intrinsics: Intrinsics) -> CropBatch:
        self._recording.cropped.append((frame, tracks, intrinsics))
        return self._component.crop(frame, tracks, intrinsics)


class _Estimator(_Stands):
    def estimate(self, batch: CropBatch) -> CropEstimates:
        self._recording.batches.append(batch)
        return self._component.estimate(batch)

    def submit(self, batch: CropBatch) -> Future[CropEstimates]:
        self._recording.batches.append(batch)
        return self._component.submit(batch)
