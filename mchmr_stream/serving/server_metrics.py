"""What a server says of its work: Triton's statistics over gRPC, and its Prometheus metrics over HTTP."""

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
    """Totals since the model was loaded; the difference of two is what was done between them."""

    requests: int
    """answered"""
    failures: int
    people: int
    executions: int
    """times that the network ran: people of several requests may share one"""
    queue_s: float
    """all requests together, waiting for an instance"""
    compute_s: float
    """all executions together, data in and out included"""

    def __sub__(self, earlier: ModelWork) -> ModelWork:
        return ModelWork(*(getattr(self, field.name) - getattr(earlier, field.name) for field in fields(self)))

    @property
    def mean_batch(self) -> float:
        """People in one execution."""
        return self.people / self.executions if self.executions else 0.0

    @property
    def requests_per_execution(self) -> float:
        """How many requests shared one execution: what dynamic batching brought about."""
        return self.requests / self.executions if self.executions else 0.0


def model_work(connection: Connection, timeout_s: float = 5.0) -> ModelWork:
    """Triton's own counts. Raises ServerError."""
    said = connection.statistics(timeout_s)
    per_request = said.inference_stats
    batches = said.batch_stats
    nanoseconds = sum(part.ns for batch in batches for part in (batch.compute_input, batch.compute_infer, batch.compute_output))
    return ModelWork(
        requests=per_request.success.count,
        failures=per_request.fail.count,
        people=said.inference_count,
        executions=said.execution_count,
        queue_s=per_request.queue.ns * 1e-9,
        compute_s=nanoseconds * 1e-9,
    )


def prometheus_metrics(url: str, timeout_s: float = 5.0) -> dict[str, float]:
    """Every sample of a metrics address, by name and labels as Prometheus writes them. Raises ServerError."""
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
