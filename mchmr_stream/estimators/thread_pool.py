"""Run several batches of crops concurrently, each on a thread of its own.

On a CPU a network of small convolutions gains little from more threads per batch, because they synchronise after every layer. Concurrent
batches, each on one thread, keep the cores busy. The results are the same, because the batches are.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import torch

from mchmr_stream.datatypes import CropBatch, CropEstimates
from mchmr_stream.protocols import MeshEstimator


class ThreadPoolEstimator:
    """Run an estimator on `in_flight` batches concurrently; implements `protocols.MeshEstimator`.

    Closing it waits for its threads and leaves the estimator open, because the pool is that of one run and the estimator is not.
    """

    def __init__(self, estimator: MeshEstimator, in_flight: int) -> None:
        self._estimator = estimator
        self.info = replace(estimator.info, in_flight=in_flight)
        # The number of OpenMP threads is a property of each thread.
        self._pool = ThreadPoolExecutor(in_flight, "network", torch.set_num_threads, (torch.get_num_threads(),))

    def estimate(self, batch: CropBatch) -> CropEstimates:
        return self.submit(batch).result()

    def submit(self, batch: CropBatch) -> Future[CropEstimates]:
        return self._pool.submit(self._estimator.estimate, batch)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
