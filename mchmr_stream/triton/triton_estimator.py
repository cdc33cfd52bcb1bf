"""The network on a Triton server: several requests in flight, and none lost when the server is.

One thread makes all decisions. Requests, answers and ends of streams reach it through one queue, one after the other. A request stays
outstanding, with its crops, until its answer has arrived. When a server is lost, all outstanding requests are sent again, to the next
server or to the same one when it is back.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

from mchmr_stream.datatypes import CropBatch, CropEstimates, EstimatorInfo
from mchmr_stream.errors import ServerError
from mchmr_stream.runtime.backoff import Backoff
from mchmr_stream.runtime.concurrency import Stopwatch
from mchmr_stream.triton.connection import Answer, Gone, Refused, ServerAccess, StubDied
from mchmr_stream.triton.requests_in_flight import Request, RequestsInFlight, join_futures
from mchmr_stream.triton.server_list import Link, Patience, ServerList, Shm
from mchmr_stream.triton.shared_memory import NoMemory
from mchmr_stream.triton.wire_format import empty_estimates, input_specs, request_arrays

log = logging.getLogger(__name__)

_PAUSES_S = 0.05, 1.0
"""Of the back-off between attempts: the first and the longest."""


@dataclass(frozen=True)
class _Answered:
    link: int
    answer: Answer


@dataclass(frozen=True)
class _Ended:
    link: int
    error: ServerError


_Event = Request | _Answered | _Ended | Literal["close", "none"]


class TritonEstimator:
    """Estimates bodies on a Triton server; implements `protocols.MeshEstimator`."""

    def __init__(
        self,
        servers: Sequence[str],
        model: str,
        *,
        expected_sha256: str | None,
        views: int,
        in_flight: int = 4,
        patience: Patience | None = None,
        shm: Shm = "auto",
        access: ServerAccess | None = None,
    ) -> None:
        """Connect to the first server that works. A server that is lost later is waited for within `patience.budget_s`.

        Args:
            servers: HOST:PORT of gRPC; earlier ones are preferred.
            model: Name of the model.
            expected_sha256: Hash of the weights that must be served; None: any weights.
            views: Crops per person.
            in_flight: Maximum number of batches without a result.
            patience: Time limits; None: the defaults.
            shm: Kind of shared memory for the crops.
            access: TLS and headers; None: neither.

        Raises:
            ServerError: No server works.
            UsageError: No server is named, or the weights were made for another number of views.
        """
        self.watch = Stopwatch()
        """Seconds of `copy` (crops into the request) and `round trip` (from sending to the answer)."""
        self._patience = patience or Patience()
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._servers = ServerList(
            servers, model, expected_sha256=expected_sha256, views=views, patience=self._patience, shm=shm, access=access or ServerAccess(),
            on_answer=lambda link, answer: self._events.put(_Answered(link, answer)),
            on_end=lambda link, error: self._events.put(_Ended(link, error)),
        )  # fmt: skip
        self._retry_at, self._backoff = 0.0, Backoff(*_PAUSES_S)
        self._outstanding = RequestsInFlight(self._patience, self._backoff)
        self._trouble: ServerError | None = None
        """The last failure since the last answer."""
        self._failed: ServerError | None = None
        """Why no request is taken any more."""
        self._closed = False
        self._room = threading.BoundedSemaphore(in_flight)
        self._link: Link | None
        self._link, about = self._servers.first_link()
        self.info = EstimatorInfo(
            about.weights, about.weights_sha256, about.crop_size_hw, about.fixed_views, about.body_sha256, about.trained_on_smpl, in_flight
        )
        self._most_people = self._link.connection.most_people
        self._thread = threading.Thread(target=self._run, name="triton", daemon=True)
        self._thread.start()

    def estimate(self, batch: CropBatch) -> CropEstimates:
        """Send one batch and wait for its result. Raises ServerError if no server answers within the budget."""
        return self.submit(batch).result()

    def submit(self, batch: CropBatch) -> Future[CropEstimates]:
        """Send one batch, in as many requests as the server's largest batch demands. Blocks while `in_flight` batches have no result."""
        whole: Future[CropEstimates] = Future()
        if len(batch) == 0:
            whole.set_result(empty_estimates(batch.views_px.shape[1]))
            return whole
        self._room.acquire()
        whole.add_done_callback(lambda _: self._room.release())
        most = self._most_people
        requests = [Request(batch, slice(start, start + most), time.monotonic()) for start in range(0, len(batch), most)]
        join_futures(whole, [request.future for request in requests])
        for request in requests:
            self._events.put(request)
        return whole

    def close(self) -> None:
        """End the connection. Batches in flight fail."""
        if self._closed:
            return
        self._closed = True
        self._events.put("close")
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                event = self._events.get(timeout=self._wait_s())
            except queue.Empty:
                event = "none"
            if event == "close":
                break
            try:
                self._handle(event)
                self._handle_due()
            except ServerError as error:
                self._fail(error)
            except Exception as error:  # a bug: the futures must fail, or their owners would wait for ever
                log.exception("the Triton client failed")
                self._fail(ServerError(f"the Triton client failed ({type(error).__name__}: {error}); run with --debug and report it"))
        if self._link is not None:
            self._link.close()
        self._fail(ServerError("the estimator was closed"))

    def _handle(self, event: _Event) -> None:
        match event:
            case Request():
                self._accept(event)
            case _Ended():
                if self._link is not None and event.link == self._link.number:
                    self._lose(event.error)
            case _Answered():
                self._take(event.link, event.answer)

    def _accept(self, request: Request) -> None:
        if self._failed is not None:
            request.future.set_exception(self._failed)
            return
        request_id = self._outstanding.add(request)
        if self._link is not None:
            self._send(self._link, request_id, request)
        else:
            request.failing_since = request.submitted

    def _take(self, link: int, answer: Answer) -> None:
        request = self._outstanding.get(answer.request_id)
        # A late answer of an earlier link: the request was sent again, or is done.
        if request is None or self._link is None or link != self._link.number:
            return
        if answer.estimates is not None:
            self._done(answer.request_id, answer.estimates)
            return
        assert answer.error is not None
        if isinstance(answer.error, StubDied):
            self._lose(answer.error)  # the model's process took all of its requests with it: they have to be sent again
        else:
            self._put_off(request, answer.error)

    def _done(self, request_id: str, estimates: CropEstimates) -> None:
        request = self._outstanding.answered(request_id)
        if self._link is not None:
            self._link.release_crops(request_id)
        self.watch.add("round trip", time.monotonic() - request.sent)
        self._trouble = None
        request.future.set_result(estimates)

    def _put_off(self, request: Request, error: ServerError) -> None:
        self._outstanding.put_off(request)
        self._trouble = error
        log.info("%s; trying again", error)

    def _handle_due(self) -> None:
        """Handle what is due by the clock: failed requests, deadlines, reconnecting. Raises ServerError when a budget is used up."""
        now = time.monotonic()
        for request_id, request in self._outstanding:
            if self._outstanding.is_over_budget(request, now):
                raise ServerError(
                    f"Triton at {self._servers} did not come back within triton.budget_s={self._patience.budget_s:g} s: "
                    f"{self._trouble or 'no answer'}"
                )
            if self._link is None:
                continue
            if request.again_at is not None and now >= request.again_at:
                self._try_alone(self._link, request_id, request)
            elif request.again_at is None and self._outstanding.is_late(request, now):
                late = f"Triton at {self._link.connection.address} gave no answer within triton.deadline_s={self._patience.deadline_s:g} s"
                self._lose(ServerError(late))
        if self._link is None and self._outstanding and time.monotonic() >= self._retry_at:
            self._reconnect()

    def _try_alone(self, link: Link, request_id: str, request: Request) -> None:
        """Send a request outside of the stream, where an error arrives with its kind."""
        arrays = request_arrays(request.batch, request.people)
        message = link.connection.message(request_id, arrays, input_specs(self.info.crop_size_hw))
        try:
            estimates = link.connection.infer(message, self._patience.deadline_s)
        except Refused as error:
            if "has no model" not in str(error):
                raise
            self._put_off(request, error)  # the model was there before: another client is loading it again
        except (Gone, StubDied) as error:
            self._lose(error)
        except ServerError as error:
            self._put_off(request, error)
        else:
            self._done(request_id, estimates)

    def _lose(self, error: ServerError) -> None:
        """Drop a server that is gone or does not answer."""
        assert self._link is not None
        log.warning("lost %s: %s", self._link.connection.address, error)
        self._link.close(lost=True)
        self._link, self._trouble = None, error
        self._outstanding.server_lost()
        self._retry_at = time.monotonic()
        self._backoff.reset()

    def _reconnect(self) -> None:
        """Try each server once, beginning with the last one used, and send all outstanding requests again."""
        try:
            self._link = link = self._servers.next_link()
        except ServerError as error:
            self._trouble = error
            self._retry_at = time.monotonic() + self._backoff.next_s()
            return
        for request_id, request in self._outstanding:
            self._send(link, request_id, request)
            if self._link is None:
                break

    def _send(self, link: Link, request_id: str, request: Request) -> None:
        start = time.perf_counter()
        try:
            elsewhere = link.put_crops(request_id, request.batch.crops[request.people])
        except NoMemory:
            raise
        except ServerError as error:
            self._lose(error)
            return
        arrays = request_arrays(request.batch, request.people, with_crops=not elsewhere)
        message = link.connection.message(request_id, arrays, input_specs(self.info.crop_size_hw), elsewhere)
        self.watch.add("copy", time.perf_counter() - start)
        request.sent = time.monotonic()
        link.stream.send(message)

    def _wait_s(self) -> float | None:
        """Seconds until `_handle_due` has something to do; None while nothing is outstanding."""
        if not self._outstanding:
            return None
        due = [self._outstanding.next_due(is_linked=self._link is not None), self._retry_at if self._link is None else None]
        return max(0.0, min(one for one in due if one is not None) - time.monotonic()) + 0.001

    def _fail(self, error: ServerError) -> None:
        """End all outstanding requests, and refuse those that follow."""
        self._failed = error
        self._outstanding.fail(error)
