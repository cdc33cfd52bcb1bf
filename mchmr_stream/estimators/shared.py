"""One detector and one network for several pipelines: what they ask at the same time is answered in one batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from mchmr_stream.datatypes import CropBatch, CropEstimates, Detections, Frame
from mchmr_stream.estimators.base import SynchronousEstimator
from mchmr_stream.protocols import Detector, MeshEstimator
from mchmr_stream.runtime.concurrency import RequestBatcher


class SharedDetector:
    """Another detector, asked for one picture of each pipeline at once; implements `protocols.Detector`. Closing it closes the other."""

    def __init__(self, detector: Detector, members: int, wait_s: float) -> None:
        self._detector = detector
        self._gathering: RequestBatcher[Sequence[Frame], list[Detections]] = RequestBatcher(
            self._detect, members, wait_s, name="shared detector"
        )

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        return self._gathering.request(frames)

    def close(self) -> None:
        self._gathering.close()
        self._detector.close()

    def _detect(self, asked: list[Sequence[Frame]]) -> list[list[Detections]]:
        found = iter(self._detector.detect([frame for frames in asked for frame in frames]))
        return [[next(found) for _ in frames] for frames in asked]


class SharedEstimator(SynchronousEstimator):
    """Another estimator, given the crops of all pipelines at once; implements `protocols.MeshEstimator`. Closing it closes the other."""

    def __init__(self, estimator: MeshEstimator, members: int, wait_s: float) -> None:
        self._estimator = estimator
        self.info = replace(estimator.info, in_flight=1)
        self._gathering: RequestBatcher[CropBatch, CropEstimates] = RequestBatcher(self._estimate, members, wait_s, name="shared network")

    def estimate(self, batch: CropBatch) -> CropEstimates:
        return self._gathering.request(batch)

    def close(self) -> None:
        self._gathering.close()
        self._estimator.close()

    def _estimate(self, asked: list[CropBatch]) -> list[CropEstimates]:
        """One call for each number of views: it may just have been changed for some."""
        by_views: dict[int, list[int]] = defaultdict(list)
        for i, batch in enumerate(asked):
            by_views[batch.views_px.shape[1]].append(i)
        answers: dict[int, CropEstimates] = {}
        for members in by_views.values():
            together = self._estimator.estimate(CropBatch.concat([asked[i] for i in members]))
            answers |= zip(members, together.split([len(asked[i]) for i in members]), strict=True)
        return [answers[i] for i in range(len(asked))]
