"""Base of estimators that compute in the calling thread."""

from __future__ import annotations

from concurrent.futures import Future

from mchmr_stream.datatypes import CropBatch, CropEstimates


class SynchronousEstimator:
    """A `MeshEstimator` that computes in the calling thread.

    A subclass implements `estimate` and sets `name` (str), `weights_sha256` (str) and `crop_size_hw` ((height, width) in pixels).
    """

    in_flight = 1
    """Number of concurrent batches: `submit` blocks until the result is ready."""
    body_sha256: str | None = None
    """Hash of the free body that the weights were trained on; None: unknown."""
    trained_on_smpl = False
    """Whether betas are those of SMPL, which mean nothing on the free body."""
    fixed_views: int | None = None
    """The only number of views it takes; None: any."""

    def estimate(self, batch: CropBatch) -> CropEstimates:
        """Estimate a batch.

        Args:
            batch: Crops of n people, perhaps of several frames; n may be 0.

        Returns:
            n bodies, in the order of the batch.
        """
        raise NotImplementedError

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

    def close(self) -> None:
        """Nothing is held."""
