"""Requests that were submitted and have no answer yet: their deadlines, failures and next attempts."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

from mchmr_stream.datatypes import CropBatch, CropEstimates
from mchmr_stream.errors import ServerError
from mchmr_stream.runtime.backoff import Backoff
from mchmr_stream.triton.server_list import Patience


@dataclass(eq=False)
class Request:
    """Some people of one batch, until they are answered. Times are those of `time.monotonic`."""

    batch: CropBatch
    people: slice
    submitted: float
    future: Future[CropEstimates] = field(default_factory=Future)
    sent: float = 0.0
    failing_since: float | None = None
    failures: int = 0
    again_at: float | None = None
    """After a failure of this request alone: time of its next attempt, outside of the stream."""


class RequestsInFlight:
    """Outstanding requests by their identifiers. Used by one thread."""

    def __init__(self, patience: Patience, backoff: Backoff) -> None:
        self._patience, self._backoff = patience, backoff
        self._ids = itertools.count()
        self._requests: dict[str, Request] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[tuple[str, Request]]:
        """Iterate over a copy, so that requests can be removed meanwhile."""
        return iter(list(self._requests.items()))

    def add(self, request: Request) -> str:
        """Keep a request until its answer arrives, and return its identifier."""
        request_id = str(next(self._ids))
        self._requests[request_id] = request
        return request_id

    def get(self, request_id: str) -> Request | None:
        """Return a request; None if it has been answered."""
        return self._requests.get(request_id)

    def answered(self, request_id: str) -> Request:
        """Remove a request."""
        return self._requests.pop(request_id)

    def put_off(self, request: Request) -> None:
        """Schedule another attempt of a request that failed alone, with exponential back-off."""
        now = time.monotonic()
        request.failing_since = request.failing_since or now
        request.failures += 1
        request.again_at = now + self._backoff.pause_s(request.failures)

    def server_lost(self) -> None:
        """All requests have failed; they are sent again by the next link."""
        now = time.monotonic()
        for request in self._requests.values():
            request.failing_since = request.failing_since or now
            request.again_at = None

    def is_over_budget(self, request: Request, now: float) -> bool:
        """Return whether a request has been failing for longer than `Patience.budget_s`."""
        return request.failing_since is not None and now - request.failing_since > self._patience.budget_s

    def is_late(self, request: Request, now: float) -> bool:
        """Return whether a request that was sent has had no answer for longer than `Patience.deadline_s`."""
        return now - request.sent > self._patience.deadline_s

    def next_due(self, *, is_linked: bool) -> float | None:
        """Compute when the first request has to be looked at.

        Args:
            is_linked: A server is connected.

        Returns:
            Time by `time.monotonic`; None if no request has a limit.
        """
        due = []
        for request in self._requests.values():
            if request.failing_since is not None:
                due.append(request.failing_since + self._patience.budget_s)
            if is_linked:
                due.append(request.again_at if request.again_at is not None else request.sent + self._patience.deadline_s)
        return min(due, default=None)

    def fail(self, error: ServerError) -> None:
        """End all requests with an error."""
        for request in self._requests.values():
            request.future.set_exception(error)
        self._requests.clear()


def join_futures(whole: Future[CropEstimates], parts: list[Future[CropEstimates]]) -> None:
    """Resolve `whole` to the joined results when all `parts` are done, or to the first error."""
    left = threading.Semaphore(len(parts) - 1)

    def finished(part: Future[CropEstimates]) -> None:
        error = part.exception()
        if error is not None:
            if not whole.done():
                whole.set_exception(error)
        elif not left.acquire(blocking=False):
            whole.set_result(CropEstimates.concat([part.result() for part in parts]))

    for part in parts:
        part.add_done_callback(finished)
