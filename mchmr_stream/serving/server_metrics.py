"""Server metrics: Triton's statistics over gRPC, and its Prometheus metrics over HTTP."""

from __future__ import annotations

import re
import urllib.request
from dataclasses import dataclass, fields

from mchmr_stream.errors import ServerError
from mchmr_stream.triton.connection import Connection

_SAMPLE = re.compile(r"^(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")
_MOST_BYTES = 10_000_000


@dataclass(frozen=True)
class ModelWork:
    """Totals since the model was loaded; the difference of two is the work between them."""

    requests: int
    """successful ones"""
    failures: int
    people: int
    executions: int
    """runs of the network; several requests may share one"""
    queue_s: float
    """of all requests, waiting for an instance"""
    compute_s: float
    """of all executions, including input and output"""

    def __sub__(self, earlier: ModelWork) -> ModelWork:
        return ModelWork(*(getattr(self, field.name) - getattr(earlier, field.name) for field in fields(self)))

    @property
    def mean_batch(self) -> float:
        """People per execution."""
        return self.people / self.executions if self.executions else 0.0

    @property
    def requests_per_execution(self) -> float:
        """Requests per execution: the effect of dynamic batching."""
        return self.requests / self.executions if self.executions else 0.0


def model_work(connection: Connection, timeout_s: float = 5.0) -> ModelWork:
    """Read Triton's statistics.

    Args:
        connection: Connection to the server.
        timeout_s: Time limit, seconds.

    Returns:
        The totals.

    Raises:
        ServerError: The server is unreachable.
    """
    totals = connection.statistics(timeout_s)
    per_request = totals.inference_stats
    batches = totals.batch_stats
    nanoseconds = sum(part.ns for batch in batches for part in (batch.compute_input, batch.compute_infer, batch.compute_output))
    return ModelWork(
        requests=per_request.success.count,
        failures=per_request.fail.count,
        people=totals.inference_count,
        executions=totals.execution_count,
        queue_s=per_request.queue.ns * 1e-9,
        compute_s=nanoseconds * 1e-9,
    )


def prometheus_metrics(url: str, timeout_s: float = 5.0) -> dict[str, float]:
    """Read a metrics address.

    Args:
        url: http://HOST:PORT/metrics.
        timeout_s: Time limit, seconds.

    Returns:
        Each sample, by name and labels as Prometheus writes them.

    Raises:
        ServerError: The address is unreachable.
    """
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as reply:
            text = reply.read(_MOST_BYTES).decode()
    except (OSError, ValueError) as error:
        raise ServerError(f"no metrics at {url}: {error}; expected http://HOST:PORT/metrics as `mchmr serve` prints it") from error
    samples = {}
    for line in text.splitlines():
        found = _SAMPLE.match(line)
        if found is not None:
            labels = f"{{{found['labels']}}}" if found["labels"] else ""
            samples[found["name"] + labels] = float(found["value"])
    return samples
