"""Which Triton server is used: servers in order of preference, and opening a link to one that works."""

from __future__ import annotations

import itertools
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mchmr_stream.errors import ServerError, UsageError
from mchmr_stream.runtime.host_port import HostPort
from mchmr_stream.triton.connection import Answer, Connection, Refused, ServerAccess, Stream, StubDied
from mchmr_stream.triton.shared_memory import CropMemory, NoMemory, Place
from mchmr_stream.triton.wire_format import About

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

Shm = Literal["auto", "system", "cuda", "off"]

_CONNECT_S = 3.0
_LOAD_S = 120.0
_REVIVE_S = 0.3
"""Clients wait a random time of up to this before they load a model again, so that one of them does it."""


@dataclass(frozen=True)
class Patience:
    """Time limits, seconds."""

    deadline_s: float = 10.0
    """Of one request."""
    budget_s: float = 60.0
    """From the first failure of a request to its answer, over all attempts."""


@dataclass(eq=False)
class Link:
    """A working connection with its open stream."""

    connection: Connection
    stream: Stream
    number: int
    memory: CropMemory | None
    """Shared memory for the crops; None: they go over gRPC."""
    needs_memory: bool
    """Whether the settings forbid gRPC for the crops."""

    def put_crops(self, request_id: str, crops: Tensor) -> dict[str, Place]:
        """Put a request's crops into shared memory.

        Returns:
            The place of the tensor CROPS; empty if the crops have to go over gRPC.

        Raises:
            NoMemory: There is no room, and the settings demand shared memory.
            ServerError: The server does not accept the region.
        """
        if self.memory is None:
            return {}
        try:
            return {"CROPS": self.memory.put(request_id, crops)}
        except NoMemory as error:
            if self.needs_memory:
                raise
            log.warning("%s; crops now go over gRPC", error)
            self.memory.close(server_is_there=True)
            self.memory = None
            return {}

    def release_crops(self, request_id: str) -> None:
        """Free the shared memory of an answered request."""
        if self.memory is not None:
            self.memory.release(request_id)

    def close(self, *, lost: bool = False) -> None:
        """Close stream, shared memory and connection.

        Args:
            lost: The server does not answer any more.
        """
        self.stream.close()
        if self.memory is not None:
            self.memory.close(server_is_there=not lost)
        self.connection.close()


class ServerList:
    """Opens links to one of several servers that serve the same weights."""

    def __init__(
        self,
        addresses: Sequence[str],
        model: str,
        *,
        expected_sha256: str | None,
        views: int,
        patience: Patience,
        shm: Shm,
        access: ServerAccess,
        on_answer: Callable[[int, Answer], None],
        on_end: Callable[[int, ServerError], None],
    ) -> None:
        """Nothing is connected yet.

        Args:
            addresses: HOST:PORT of gRPC; earlier ones are preferred.
            model: Name of the model.
            expected_sha256: Hash of the weights that must be served; None: those of the first server that works.
            views: Crops per person.
            patience: Time limits.
            shm: Kind of shared memory.
            access: TLS and headers.
            on_answer: Called, on a thread of the link, with the link's number and each answer.
            on_end: Called, on a thread of the link, with the link's number when its stream ends.
        """
        if not addresses:
            raise UsageError("no Triton server was named; expected HOST:PORT")
        self._addresses, self._model, self._expected = list(addresses), model, expected_sha256
        self._views, self._patience, self._shm, self._access = views, patience, shm, access
        self._on_answer, self._on_end = on_answer, on_end
        self._current = 0
        self._numbers = itertools.count(1)

    def __str__(self) -> str:
        return ", ".join(self._addresses)

    def first_link(self) -> tuple[Link, About]:
        """Connect to the first server that works. From then on every server must have its weights.

        Raises:
            ServerError: No server works; the reason is that of the first one.
            UsageError: The weights were made for another number of views.
        """
        reasons: list[ServerError] = []
        for index, address in enumerate(self._addresses):
            try:
                link, about = self._connect(address)
            except ServerError as error:
                reasons.append(error)
                continue
            for reason in reasons:
                log.warning("%s; using %s", reason, address)
            if about.fixed_views not in (None, self._views):
                link.close()
                raise UsageError(
                    f"the weights {about.weights} at {address} were made for {about.fixed_views} views, got {self._views}; "
                    f"set crops.views={about.fixed_views}"
                )
            self._current, self._expected = index, about.weights_sha256
            return link, about
        raise reasons[0]

    def next_link(self) -> Link:
        """Connect again: to the server that was used last, or to the next one that works.

        Raises:
            ServerError: No server works; the reason is that of the last one tried.
        """
        count = len(self._addresses)
        reason: ServerError | None = None
        for index in ((self._current + step) % count for step in range(count)):
            try:
                link, _ = self._connect(self._addresses[index])
            except ServerError as error:
                reason = error
                continue
            log.warning("connected to %s", self._addresses[index])
            self._current = index
            return link
        assert reason is not None
        raise reason

    def _connect(self, address: str) -> tuple[Link, About]:
        """Connect to a server, check its weights and run the network once. Raises ServerError."""
        connection = Connection(address, self._model, self._access)
        try:
            about = connection.about(_CONNECT_S)
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
            number = next(self._numbers)
            stream = connection.stream(lambda answer: self._on_answer(number, answer), lambda error: self._on_end(number, error))
        except BaseException:
            connection.close()
            raise
        return Link(connection, stream, number, memory, needs_memory=self._shm != "auto"), about

    def _revive(self, connection: Connection, about: About) -> None:
        """Load the model again, unless another client has done so meanwhile. Raises ServerError."""
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
        """Register the shared memory that the settings name. Raises ServerError if it is demanded and cannot be had."""
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


def _on_this_machine(address: str) -> bool:
    return HostPort.parse(address, "127.0.0.1:8001").is_loopback
