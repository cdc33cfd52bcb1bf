"""The network on a Triton server: a bounded number of requests in flight, answers in order, and none lost when the server is.

One thread owns everything that can go wrong. It is told of requests, answers and broken streams through one queue, so that
what happens is a sequence: a request stays outstanding, with its crops, until its answer is here; when a server is lost all
outstanding requests are sent again, to the next one or to the same one come back.
"""

from __future__ import annotations

import itertools
import logging
import queue
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal

from mchmr_stream.datatypes import CropBatch, CropEstimates, EstimatorInfo
from mchmr_stream.errors import ServerError, UsageError
from mchmr_stream.runtime.backoff import Backoff
from mchmr_stream.runtime.concurrency import Stopwatch
from mchmr_stream.runtime.host_port import HostPort
from mchmr_stream.triton.connection import Answer, Connection, Gone, Refused, ServerAccess, Stream, StubDied
from mchmr_stream.triton.shared_memory import CropMemory, NoMemory, Place
from mchmr_stream.triton.wire_format import About, empty_estimates, input_specs, request_arrays

log = logging.getLogger(__name__)

Shm = Literal["auto", "system", "cuda", "off"]

_CONNECT_S = 3.0
_LOAD_S = 120.0
_REVIVE_S = 0.3
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0


@dataclass(frozen=True)
class Patience:
    """How long to wait. `deadline_s` of one request, `budget_s` of everything done to get its answer after a first failure."""

    deadline_s: float = 10.0
    budget_s: float = 60.0


@dataclass(eq=False)
class _Request:
    """Some people of one batch, until they are answered."""

    batch: CropBatch
    people: slice
    future: Future[CropEstimates]
    submitted: float
    sent: float = 0.0
    failing_since: float | None = None
    failures: int = 0
    again_at: float | None = None
    """set where this one request failed: when to try it on its own"""


@dataclass(eq=False)
class _Link:
    """A working connection with its open stream."""

    connection: Connection
    stream: Stream
    number: int
    memory: CropMemory | None


@dataclass(frozen=True)
class _Ended:
    link: int
    error: ServerError


class TritonEstimator:
    """`CropBatch` in, `CropEstimates` out, by one of `servers` (HOST:PORT of gRPC; the first that works is used).

    `expected_sha256`: of the weights that must be served; None takes any. Connects at once: raises ServerError where none
    of the servers can be used. Later a lost server is waited for within `patience.budget_s`.
    """

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
        if not servers:
            raise UsageError("no Triton server was named; expected HOST:PORT")
        self._in_flight = in_flight
        self.watch = Stopwatch()
        """seconds of `copy` (crops into the request) and `round trip` (from sending to the answer)"""
        self._servers, self._model, self._expected = list(servers), model, expected_sha256
        self._patience, self._shm, self._access = patience or Patience(), shm, access or ServerAccess()
        self._views = views
        self._at = 0
        """index of the server that is used"""
        self._ids = itertools.count()
        self._link_numbers = itertools.count(1)
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._outstanding: dict[str, _Request] = {}
        self._retry_at = 0.0
        self._backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        self._trouble: ServerError | None = None
        self._failed: ServerError | None = None
        self._closed = False
        self._room = threading.BoundedSemaphore(in_flight)
        self._link: _Link | None = self._first_link()
        self._thread = threading.Thread(target=self._run, name="triton", daemon=True)
        self._thread.start()

    def estimate(self, batch: CropBatch) -> CropEstimates:
        """Send one batch and wait. Raises ServerError when no server answers within the budget."""
        return self.submit(batch).result()

    def submit(self, batch: CropBatch) -> Future[CropEstimates]:
        """Send one batch; waits while `in_flight` batches are on their way."""
        whole: Future[CropEstimates] = Future()
        if len(batch) == 0:
            whole.set_result(empty_estimates(batch.views_px.shape[1]))
            return whole
        self._room.acquire()
        whole.add_done_callback(lambda _: self._room.release())
        most = self._most_people
        requests = [_Request(batch, slice(start, start + most), Future(), time.monotonic()) for start in range(0, len(batch), most)]
        _join(whole, [request.future for request in requests])
        for request in requests:
            self._events.put(request)
        return whole

    def close(self) -> None:
        """What is in flight is given up."""
        if self._closed:
            return
        self._closed = True
        self._events.put(None)
        self._thread.join()

    def _first_link(self) -> _Link:
        """Raises the last server's reason where none can be used."""
        reasons: list[ServerError] = []
        for index in range(len(self._servers)):
            try:
                link, about = self._connect(self._servers[index], None)
            except ServerError as error:
                reasons.append(error)
                continue
            for reason in reasons:
                log.warning("%s; using %s", reason, self._servers[index])
            self._at = index
            if about.fixed_views not in (None, self._views):
                self._drop(link)
                raise UsageError(
                    f"the weights {about.weights} at {self._servers[index]} were made for {about.fixed_views} views, got {self._views}; "
                    f"set crops.views={about.fixed_views}"
                )
            self._expected = about.weights_sha256  # from now on every server must have these
            self.info = EstimatorInfo(
                about.weights, about.weights_sha256, about.crop_size_hw, about.fixed_views, about.body_sha256, about.trained_on_smpl,
                self._in_flight,
            )  # fmt: skip
            self._most_people = link.connection.most_people
            return link
        raise reasons[0]

    def _connect(self, address: str, timeout_s: float | None) -> tuple[_Link, About]:
        """A link to a server that has the right weights and really computes. Raises ServerError."""
        connection = Connection(address, self._model, self._access)
        try:
            about = connection.about(timeout_s or _CONNECT_S)
            if self._expected not in (None, about.weights_sha256):
                raise Refused(
                    f"Triton at {address} serves other weights: {about.weights} with SHA-256 {about.weights_sha256[:16]}, expected "
                    f"{self._expected[:16]}; serve those, set network.weights to what is served, or accept it with "
                    "--set triton.any_weights=true"
                )
            try:
                connection.probe(about, self._patience.deadline_s)
            except StubDied:
                self._revive(connection, about)
            memory = self._memory(connection, about)
            number = next(self._link_numbers)
            stream = connection.stream(
                lambda answer: self._events.put((number, answer)), lambda error: self._events.put(_Ended(number, error))
            )
        except BaseException:
            connection.close()
            raise
        return _Link(connection, stream, number, memory), about

    def _revive(self, connection: Connection, about: About) -> None:
        """Load the model again, unless another client just did. Raises ServerError."""
        time.sleep(random.uniform(0, _REVIVE_S))
        try:
            connection.probe(about, self._patience.deadline_s)
        except StubDied as died:
            log.warning("%s; loading the model again", died)
            try:
                connection.reload(_LOAD_S)
            except Refused as refusal:
                raise Refused(f"{died}, and the server does not load it again: {refusal}; restart the server") from refusal
            connection.probe(about, self._patience.deadline_s)

    def _memory(self, connection: Connection, about: About) -> CropMemory | None:
        """What `shm` asks for. Raises ServerError where it asks for what there cannot be."""
        if self._shm == "off" or (self._shm == "auto" and not _on_this_machine(connection.address)):
            return None
        height, width = about.crop_size_hw
        try:
            return CropMemory(
                connection, "cuda" if self._shm == "cuda" else "system", self._views * 3 * height * width, self._patience.deadline_s
            )
        except ServerError as error:
            if self._shm == "auto":
                level = logging.WARNING if isinstance(error, NoMemory) else logging.INFO
                log.log(level, "no shared memory with %s (%s): crops go over gRPC", connection.address, error)
                return None
            raise Refused(f"--shm {self._shm} cannot be had with {connection.address}: {error}") from error

    def _run(self) -> None:
        while True:
            try:
                event = self._events.get(timeout=self._wait_s())
            except queue.Empty:
                event = ()
            if event is None:
                break
            try:
                self._handle(event)
                self._look_after()
            except ServerError as error:
                self._fail(error)
            except Exception as error:  # a fault of ours: whoever waits for an answer must hear of it, not wait for ever
                log.exception("the Triton client failed")
                self._fail(ServerError(f"the Triton client failed ({type(error).__name__}: {error}); run with --debug and report it"))
        if self._link is not None:
            self._drop(self._link)
        self._fail(ServerError("the estimator was closed"))

    def _handle(self, event: Any) -> None:
        if isinstance(event, _Request):
            if self._failed is not None:
                event.future.set_exception(self._failed)
                return
            request_id = str(next(self._ids))
            self._outstanding[request_id] = event
            if self._link is not None:
                self._send(self._link, request_id, event)
            else:
                event.failing_since = event.submitted
        elif isinstance(event, _Ended):
            if self._link is not None and event.link == self._link.number:
                self._lose(event.error)
        elif event:
            number, answer = event
            self._answered(number, answer)

    def _answered(self, link: int, answer: Answer) -> None:
        request = self._outstanding.get(answer.request_id)
        # A late answer of an earlier link: the request was sent again, or is done.
        if request is None or self._link is None or link != self._link.number:
            return
        if answer.estimates is None:
            assert answer.error is not None
            if isinstance(answer.error, StubDied):
                self._lose(answer.error)  # what it was computing will never be answered: all of it has to be sent again
            else:
                self._put_off(request, answer.error)
            return
        self._done(answer.request_id, answer.estimates)

    def _done(self, request_id: str, estimates: CropEstimates) -> None:
        request = self._outstanding.pop(request_id)
        if self._link is not None and self._link.memory is not None:
            self._link.memory.release(request_id)
        self.watch.add("round trip", time.monotonic() - request.sent)
        self._trouble = None
        request.future.set_result(estimates)

    def _put_off(self, request: _Request, error: ServerError) -> None:
        """This one request failed: try it again, alone, after a pause."""
        now = time.monotonic()
        request.failing_since = request.failing_since or now
        request.failures += 1
        request.again_at = now + self._backoff.pause_s(request.failures)
        self._trouble = error
        log.info("%s; trying again", error)

    def _look_after(self) -> None:
        """Whatever is due: requests to try again, deadlines, connecting again, giving up."""
        now = time.monotonic()
        for request_id, request in list(self._outstanding.items()):
            if request.failing_since is not None and now - request.failing_since > self._patience.budget_s:
                raise ServerError(
                    f"Triton at {', '.join(self._servers)} did not come back within triton.budget_s={self._patience.budget_s:g} s: "
                    f"{self._trouble or 'no answer'}"
                )
            if self._link is None:
                continue
            if request.again_at is not None and now >= request.again_at:
                self._try_alone(self._link, request_id, request)
            elif request.again_at is None and now - request.sent > self._patience.deadline_s:
                late = f"Triton at {self._link.connection.address} gave no answer within triton.deadline_s={self._patience.deadline_s:g} s"
                self._lose(ServerError(late))
        if self._link is None and self._outstanding and time.monotonic() >= self._retry_at:
            self._reconnect()

    def _try_alone(self, link: _Link, request_id: str, request: _Request) -> None:
        """Outside of the stream, where an error comes with its kind."""
        arrays = request_arrays(request.batch, request.people)
        message = link.connection.message(request_id, arrays, input_specs(self.info.crop_size_hw))
        try:
            estimates = link.connection.infer(message, self._patience.deadline_s)
        except Refused as error:
            if "has no model" not in str(error):
                raise
            self._put_off(request, error)  # it was there: somebody is loading it again
        except (Gone, StubDied) as error:
            self._lose(error)
        except ServerError as error:
            self._put_off(request, error)
        else:
            self._done(request_id, estimates)

    def _lose(self, error: ServerError) -> None:
        """The server is gone, or as good as gone."""
        assert self._link is not None
        log.warning("lost %s: %s", self._link.connection.address, error)
        self._drop(self._link, lost=True)
        self._link, self._trouble = None, error
        now = time.monotonic()
        for request in self._outstanding.values():
            request.failing_since = request.failing_since or now
            request.again_at = None
        self._retry_at = now
        self._backoff.reset()

    def _reconnect(self) -> None:
        """One round over all servers, the one last used first; everything outstanding is sent again."""
        for step in range(len(self._servers)):
            index = (self._at + step) % len(self._servers)
            try:
                link, _ = self._connect(self._servers[index], None)
            except ServerError as error:
                self._trouble = error
                continue
            log.warning("connected to %s", self._servers[index])
            self._at, self._link = index, link
            for request_id, request in self._outstanding.items():
                self._send(link, request_id, request)
                if self._link is None:
                    break
            return
        self._retry_at = time.monotonic() + self._backoff.next_s()

    def _send(self, link: _Link, request_id: str, request: _Request) -> None:
        start = time.perf_counter()
        elsewhere: dict[str, Place] = {}
        if link.memory is not None:
            try:
                elsewhere["CROPS"] = link.memory.put(request_id, request.batch.crops[request.people])
            except NoMemory as error:
                if self._shm != "auto":
                    raise
                log.warning("%s; crops now go over gRPC", error)
                link.memory.close(server_is_there=True)
                link.memory = None
            except ServerError as error:
                self._lose(error)
                return
        arrays = request_arrays(request.batch, request.people, with_crops=not elsewhere)
        message = link.connection.message(request_id, arrays, input_specs(self.info.crop_size_hw), elsewhere)
        self.watch.add("copy", time.perf_counter() - start)
        request.sent = time.monotonic()
        link.stream.send(message)

    def _wait_s(self) -> float | None:
        """Until something is due; None while nothing is outstanding."""
        if not self._outstanding:
            return None
        now, due = time.monotonic(), []
        for request in self._outstanding.values():
            if request.failing_since is not None:
                due.append(request.failing_since + self._patience.budget_s)
            if self._link is not None:
                due.append(request.again_at if request.again_at is not None else request.sent + self._patience.deadline_s)
        if self._link is None:
            due.append(self._retry_at)
        return max(0.0, min(due) - now) + 0.001

    def _fail(self, error: ServerError) -> None:
        """Nothing more can be done: everyone who waits is told."""
        self._failed = error
        for request in self._outstanding.values():
            request.future.set_exception(error)
        self._outstanding.clear()

    def _drop(self, link: _Link, *, lost: bool = False) -> None:
        link.stream.close()
        if link.memory is not None:
            link.memory.close(server_is_there=not lost)
        link.connection.close()


def _on_this_machine(address: str) -> bool:
    return HostPort.parse(address, "127.0.0.1:8001").is_loopback


def _join(whole: Future[CropEstimates], parts: list[Future[CropEstimates]]) -> None:
    """`whole` is done when all `parts` are, or one has failed."""
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
