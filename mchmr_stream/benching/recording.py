"""What every stage was asked in a run of the pipeline, kept so that it can be asked the same again, alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, cast

from mchmr_stream.build import Parts
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.pipeline import Pipeline
from mchmr_stream.protocols import Source
from mchmr_stream.records import CropBatch, CropEstimates, Detections, Frame, Scene, SourceInfo, Tracks


class First:
    """The first frames of a source, as a source."""

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
    """Calls in their order, with all that they were given; frames and crops stay in memory."""

    detected: list[list[Frame]] = field(default_factory=list)
    cropped: list[tuple[Frame, Tracks, Intrinsics]] = field(default_factory=list)
    batches: list[CropBatch] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)

    @property
    def people_per_frame(self) -> float:
        """Of the finished scenes."""
        return sum(map(len, self.scenes)) / max(1, len(self.scenes))


def record(pipeline: Pipeline, source: Source, intrinsics: Intrinsics) -> Recording:
    """Run the pipeline once over a short source."""
    recording, parts = Recording(), pipeline.parts
    detector, cropper, estimator = _Detector(parts, recording), _Cropper(parts, recording), _Estimator(parts, recording)
    pipeline.parts = replace(parts, detector=cast(Any, detector), cropper=cast(Any, cropper), estimator=cast(Any, estimator))
    try:
        recording.scenes = list(pipeline.scenes(source, intrinsics))
    finally:
        pipeline.parts = parts
    return recording


class _Stands:
    """In for a part: what is not written down goes to the part itself."""

    def __init__(self, part: object, recording: Recording) -> None:
        self._part: Any = part
        self._recording = recording

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)


class _Detector(_Stands):
    def __init__(self, parts: Parts, recording: Recording) -> None:
        super().__init__(parts.detector, recording)

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        self._recording.detected.append(list(frames))
        return self._part.detect(frames)


class _Cropper(_Stands):
    def __init__(self, parts: Parts, recording: Recording) -> None:
        super().__init__(parts.cropper, recording)

    def crop(self, frame: Frame, tracks: Tracks, intrinsics: Intrinsics) -> CropBatch:
        self._recording.cropped.append((frame, tracks, intrinsics))
        return self._part.crop(frame, tracks, intrinsics)


class _Estimator(_Stands):
    def __init__(self, parts: Parts, recording: Recording) -> None:
        super().__init__(parts.estimator, recording)

    def estimate(self, batch: CropBatch) -> CropEstimates:
        self._recording.batches.append(batch)
        return self._part.estimate(batch)

    def submit(self, batch: CropBatch) -> Future[CropEstimates]:
        self._recording.batches.append(batch)
        return self._part.submit(batch)
