"""What every estimator has in common that computes where it is called."""

from __future__ import annotations

from concurrent.futures import Future

from mchmr_stream.records import CropBatch, CropEstimates


class SynchronousEstimator:
    """Base of estimators that have an `estimate` and nothing to wait for."""

    in_flight = 1
    body_sha256: str | None = None
    trained_on_smpl = False
    fixed_views: int | None = None

    def estimate(self, batch: CropBatch) -> CropEstimates:
        """Of one batch."""
        raise NotImplementedError

    def submit(self, batch: CropBatch) -> Future[CropEstimates]:
        """Of one batch; it is done when this returns."""
        done: Future[CropEstimates] = Future()
        done.set_result(self.estimate(batch))
        return done

    def close(self) -> None:
        """Nothing is held open."""
