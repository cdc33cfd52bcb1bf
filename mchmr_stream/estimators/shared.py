"""One detector and one network for several pipelines: simultaneous requests become one batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from mchmr_stream.datatypes import CropBatch, CropEstimates, Detections, Frame
from mchmr_stream.estimators.base import SynchronousEstimator
from mchmr_stream.protocols import Detector, MeshEstimator
from mchmr_stream.runtime.concurrency import RequestBatcher


class SharedDetector:
    """Batch the pictures of several pipelines for one detector; implements `protocols.Detector`. Closing it closes that detector."""

    def __init__(self, detector: Detector, members: int, wait_s: float) -> None:
        self._detector = detector
        self._batcher: RequestBatcher[Sequence[Frame], list[Detections]] = RequestBatcher(
            self._detect, members, wait_s, name="shared detector"
        )

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        return self._batcher.request(frames)

    def close(self) -> None:
        self._batcher.close()
        self._detector.close()

    def _detect(self, requests: list[Sequence[Frame]]) -> list[list[Detections]]:
        found = iter(self._detector.detect([frame for frames in requests for frame in frames]))
        return [[next(found) for _ in frames] for frames in requests]


class SharedEstimator(SynchronousEstimator):
    """Batch the crops of several pipelines for one estimator; implements `protocols.MeshEstimator`. Closing it closes that estimator."""

    def __init__(self, estimator: MeshEstimator, members: int, wait_s: float) -> None:
        self._estimator = estimator
        self.info = replace(estimator.info, in_flight=1)
        self._batcher: RequestBatcher[CropBatch, CropEstimates] = RequestBatcher(self._estimate, members, wait_s, name="shared network")

    def estimate(self, batch: CropBatch) -> CropEstimates:
        return self._batcher.request(batch)

    def close(self) -> None:
        self._batcher.close()
        self._estimator.close()

    def _estimate(self, requests: list[CropBatch]) -> list[CropEstimates]:
        """Call the estimator once for each number of views, which may differ while it is being changed."""
        by_views: dict[int, list[int]] = defaultdict(list)
        for i, batch in enumerate(requests):
            by_views[batch.views_px.shape[1]].append(i)
        results: dict[int, CropEstimates] = {}
        for members in by_views.values():
            together = self._estimator.estimate(CropBatch.concat([requests[i] for i in members]))
            results |= zip(members, together.split([len(requests[i]) for i in members]), strict=True)
        return [results[i] for i in range(len(requests))]
