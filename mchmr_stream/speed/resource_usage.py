"""Resource usage of a piece of work: wall time, CPU time of all threads, peak memory, and GPU use where there is one."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_SAMPLE_EVERY_S = 0.1
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Usage:
    """Resources used in a `with` block, filled in at its end."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    """of this process, all threads; without a server's"""
    peak_memory_mib: float | None = None
    """peak memory of the process during the block, including what was loaded before; None where the system does not provide it"""
    gpu_percent: float | None = None
    """mean share of time in which the GPU computed; None without NVIDIA's management library"""
    gpu_peak_memory_mib: float | None = None
    """peak memory of torch; None without CUDA"""


@dataclass(frozen=True)
class Timed:
    """A number of frames with times and resources."""

    frames: int
    each_s: list[float]
    usage: Usage

    @property
    def frames_per_s(self) -> float:
        return self.frames / self.usage.wall_s

    @property
    def cpu_s_per_frame(self) -> float:
        return self.usage.cpu_s / self.frames

    def percentiles_ms(self) -> tuple[float, float, float]:
        """Return p50, p95 and p99 of `each_s`."""
        p50, p95, p99 = (1e3 * np.percentile(self.each_s, (50, 95, 99))).tolist()
        return p50, p95, p99


@contextmanager
def measured() -> Iterator[Usage]:
    """Measure the resources of the `with` block."""
    import torch

    usage, cuda = Usage(), torch.cuda.is_available()
    has_peak = _forget_peak()
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    with _gpu_samples() as samples:
        wall, cpu = time.perf_counter(), time.process_time()
        yield usage
        if cuda:
            torch.cuda.synchronize()
        usage.wall_s, usage.cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    usage.peak_memory_mib = _peak_mib(has_peak)
    if cuda:
        usage.gpu_peak_memory_mib = torch.cuda.max_memory_reserved() / 2**20
    if samples:
        usage.gpu_percent = sum(samples) / len(samples)


def _forget_peak() -> bool:
    """Reset the peak memory (Linux); False where that is not possible."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return _STATUS.exists()


def _peak_mib(since_forgotten: bool) -> float | None:
    if since_forgotten:
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    import sys

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


@contextmanager
def _gpu_samples() -> Iterator[list[float]]:
    """GPU use in percent, sampled on a thread; stays empty without a GPU."""
    samples: list[float] = []
    pynvml = _management_library()
    if pynvml is None:
        yield samples
        return
    import torch

    over = threading.Event()
    handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}")

    def sample() -> None:
        while not over.wait(_SAMPLE_EVERY_S):
            with contextlib.suppress(pynvml.NVMLError):  # a missed sample does not matter
                samples.append(float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu))

    thread = threading.Thread(target=sample, name="gpu use", daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()
        pynvml.nvmlShutdown()


def _management_library() -> Any | None:
    import torch

    if not torch.cuda.is_available():
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml
