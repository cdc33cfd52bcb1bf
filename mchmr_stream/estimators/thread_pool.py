"""Several batches of crops at the same time, each on a thread of its own.

On a CPU a network of small convolutions hardly gains from more threads for one frame, as they wait for each other at every layer. Two
frames side by side, each with its own thread, keep the cores busy. What comes out is the same: a frame's crops are still one batch.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import torch

from mchmr_stream.datatypes import CropBatch, CropEstimates
from mchmr_stream.protocols import MeshEstimator


class ThreadPoolEstimator:
    """Another estimator, at work on `in_flight` batches at once; implements `protocols.MeshEstimator`.

    Closing it waits for its threads and leaves the other estimator open: it may have been lent to one run.
    """

    def __init__(self, estimator: MeshEstimator, in_flight: int) -> None:
        self._estimator = estimator
        self.info = replace(estimator.info, in_flight=in_flight)
        # The size of a thread's OpenMP team is the thread's own.
        self._pool = ThreadPoolExecutor(in_flight, "network", torch.set_num_threads, (torch.get_num_threads(),))

    def estimate(self, batch: CropBatch) -> CropEstimates:
        return self.submit(batch).result()

    def submit(self, batch: CropBatch) -> Future[CropEstimates]:
        return self._pool.submit(self._estimator.estimate, batch)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
