"""Base of estimators that compute in the calling thread."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Future
from functools import cached_property

from mchmr_stream.datatypes import CropBatch, CropEstimates, EstimatorInfo


class SynchronousEstimator(ABC):
    """A `MeshEstimator` that computes in the calling thread.

    A subclass implements `estimate` and sets `name`, `weights_sha256` and `crop_size_hw`. One with more to say (`EstimatorInfo`) sets
    `info` instead of these three.
    """

    name: str
    """Name of the weights, as written to files and messages."""
    weights_sha256: str
    """Hash of the weights, as written to files."""
    crop_size_hw: tuple[int, int]
    """Height and width of its crops, pixels."""

    @cached_property
    def info(self) -> EstimatorInfo:
        """Its weights and crops; one batch at a time, with any number of views."""
        return EstimatorInfo(self.name, self.weights_sha256, self.crop_size_hw)

    @abstractmethod
    def estimate(self, batch: CropBatch) -> CropEstimates:
        """Estimate a batch.

        Args:
            batch: Crops of n people, perhaps of several frames; n may be 0.

        Returns:
            n bodies, in the order of the batch.
        """

    def submit(self, batch: CropBatch) -> Future[CropEstimates]:
        """Call `estimate`.

        Args:
            batch: As for `estimate`.

        Returns:
            A future that is done.
        """
        done: Future[CropEstimates] = Future()
        done.set_result(self.estimate(batch))
        return done

    def close(self) -> None:  # noqa: B027 - most estimators have nothing to release
        """Nothing is held."""
