"""HTTP and WebSocket on a separate event loop: the page's files, scenes for watchers, and JSON lines for programs.

The server never waits for a client. A watcher gets the newest scene once it has confirmed the previous ones, so that it neither falls
behind nor slows the run. A program that reads lines gets each one, and is disconnected when too many are queued.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from mchmr_stream.errors import MchmrError, UsageError
from mchmr_stream.runtime.concurrency import RaisingThread
from mchmr_stream.runtime.host_port import HostPort
from mchmr_stream.web.access import PageAccess
from mchmr_stream.web.static_files import load_files, respond

log = logging.getLogger(__name__)

SCENES_IN_FLIGHT = 2
"""Scenes sent to a watcher and not yet confirmed: one is displayed while the next one is transferred."""
STATUS_EVERY_S = 0.5
LARGEST_REQUEST = 4096
MOST_WAITING = 4 << 20
"""Bytes of lines queued for a program; one that reads more slowly is disconnected."""


class _HttpPart(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Watch(_HttpPart):
    """Request to show a source."""

    kind: Literal["watch"]
    source: str


class ShownMessage(_HttpPart):
    """Confirmation that a scene was displayed."""

    kind: Literal["shown"]


class Change(_HttpPart):
    """Request to change a setting."""

    kind: Literal["change"]
    name: str
    value: int | float


class Record(_HttpPart):
    """Request to start a recording."""

    kind: Literal["record"]
    npz: bool
    overlay: bool


class StopRecording(_HttpPart):
    """Request to stop the recording."""

    kind: Literal["stop"]


_REQUESTS: TypeAdapter[Watch | ShownMessage | Change | Record | StopRecording] = TypeAdapter(
    Annotated[Watch | ShownMessage | Change | Record | StopRecording, Field(discriminator="kind")]
)
"""A watcher's messages."""


class _Watcher:
    def __init__(self, connection: ServerConnection, source: str) -> None:
        self.connection = connection
        self.source = source
        self.in_flight = 0
        self.newest: bytes | None = None
        self.may_send = asyncio.Event()


class _Reader:
    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        self.lines: deque[str] = deque()
        self.waiting = 0
        self.has_lines = asyncio.Event()


class PageServer:
    """A server that listens from construction on; `close` ends all connections."""

    def __init__(
        self,
        access: PageAccess,
        sources: list[str],
        *,
        greeting: Callable[[], list[str | bytes]],
        status: Callable[[], str],
        do: Callable[[Change | Record | StopRecording], None],
    ) -> None:
        """Start listening.

        The callables run on the server's threads.

        Args:
            access: Address and token.
            sources: Names of the sources.
            greeting: Returns the first messages for a new watcher.
            status: Returns the message that all watchers get periodically.
            do: Carries out a `Change`, `Record` or `StopRecording`; raises MchmrError where it cannot.

        Raises:
            UsageError: The address is not available.
        """
        self._access, self._sources = access, sources
        self._greeting, self._status, self._do = greeting, status, do
        self._files = load_files()
        place = HostPort(access.host, access.port)
        try:
            self._listener = socket.create_server((place.host, place.port), family=place.family)
        except OSError as error:
            raise UsageError(
                f"the page cannot be at {place}: {error.strerror or error}; give another --page HOST:PORT, or --no-page"
            ) from error
        self.url = access.url(self._listener.getsockname()[1])
        self.watchers: set[_Watcher] = set()
        """Connected pages. Changed on the server's own thread only."""
        self._readers: set[_Reader] = set()
        self.ready_sources: frozenset[str] = frozenset()
        """Sources of which a watcher is ready for a scene. May be read from any thread."""
        self.has_readers = False
        """Whether a program reads lines. May be read from any thread."""
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._serving, self._serves = threading.Event(), False
        self._task = RaisingThread(lambda: self._loop.run_until_complete(self._serve()), name="page")
        self._serving.wait()
        if not self._serves:
            self._task.join()

    def show(self, source: str, message: bytes) -> None:
        """Send a newer scene to the watchers of a source. From any thread.

        Args:
            source: The source.
            message: The scene.
        """
        self._call(self._show, source, message)

    def send_line(self, line: str) -> None:
        """Send a line to all programs that read lines. From any thread."""
        self._call(self._send_line, line)

    def close(self) -> None:
        self._call(self._over.set)
        self._task.join()
        self._loop.close()

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed, so there are no clients any more
            self._loop.call_soon_threadsafe(function, *arguments)

    # ---- on the loop ----------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        # Clients that hang up or speak no HTTP are not logged; failures here are logged by `_handle`.
        quiet = logging.getLogger(f"{__name__}.connections")
        quiet.setLevel(logging.CRITICAL)
        try:
            async with serve(
                self._handle,
                sock=self._listener,
                process_request=self._request,
                compression=None,  # pictures and numbers hardly shrink, and compression takes time
                max_size=LARGEST_REQUEST,
                max_queue=4,
                server_header=None,
                close_timeout=1,
                logger=quiet,
            ):
                self._serves = True
                self._serving.set()
                await self._over.wait()
            await self._loop.shutdown_default_executor()
        finally:
            self._serving.set()

    def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer a request for a file; None continues with the WebSocket handshake."""
        foreign = self._access.is_foreign(request.headers.get_all("Host"), request.headers.get_all("Origin"))
        if foreign is not None:
            return _refuse(HTTPStatus.FORBIDDEN, foreign)
        path = self._access.path_within(request.path)
        if path is None:
            return _refuse(HTTPStatus.FORBIDDEN, "the token is missing or wrong; `mchmr live` printed the address with it when it began")
        if path in ("/watch", "/json"):
            if "websocket" in request.headers.get("Upgrade", "").lower():
                return None
            return _refuse(HTTPStatus.UPGRADE_REQUIRED, f"{path} is a WebSocket")
        file = self._files.get(path)
        if file is None:
            return _refuse(HTTPStatus.NOT_FOUND, "there is no such file here")
        return file.response(",".join(request.headers.get_all("Accept-Encoding")))

    async def _handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        try:
            if self._access.path_within(connection.request.path) == "/json":
                await self._lines(connection)
            else:
                await self._watch(connection)
        except* ConnectionClosed:
            pass
        except* Exception:
            log.exception("a connection of the page failed")
            raise

    async def _watch(self, connection: ServerConnection) -> None:
        watcher = _Watcher(connection, self._sources[0])
        for message in await asyncio.to_thread(self._greeting):
            await connection.send(message)
        self.watchers.add(watcher)
        self._update_demand()
        try:
            async with asyncio.TaskGroup() as together:
                sending = [together.create_task(self._send_scenes(watcher)), together.create_task(self._send_status(connection))]
                async for text in connection:
                    await self._carry_out(watcher, text)
                for task in sending:
                    task.cancel()
        finally:
            self.watchers.discard(watcher)
            self._update_demand()

    async def _send_scenes(self, watcher: _Watcher) -> None:
        while True:
            await watcher.may_send.wait()
            watcher.may_send.clear()
            if watcher.newest is None or watcher.in_flight >= SCENES_IN_FLIGHT:
                continue
            message, watcher.newest = watcher.newest, None
            watcher.in_flight += 1
            self._update_demand()
            await watcher.connection.send(message)

    async def _send_status(self, connection: ServerConnection) -> None:
        while True:
            await connection.send(await asyncio.to_thread(self._status))
            await asyncio.sleep(STATUS_EVERY_S)

    async def _carry_out(self, watcher: _Watcher, text: str | bytes) -> None:
        try:
            message = _REQUESTS.validate_json(text)
        except ValidationError:
            await watcher.connection.send(_message_of("refused", "the page said something that is not understood; load it again"))
            return
        if isinstance(message, ShownMessage):
            watcher.in_flight = max(0, watcher.in_flight - 1)
            watcher.may_send.set()
            self._update_demand()
        elif isinstance(message, Watch):
            if message.source in self._sources:
                watcher.source, watcher.newest = message.source, None
                self._update_demand()
        else:
            try:
                await asyncio.to_thread(self._do, message)
            except MchmrError as error:
                await watcher.connection.send(_message_of("refused", str(error)))
            await watcher.connection.send(await asyncio.to_thread(self._status))

    def _show(self, source: str, message: bytes) -> None:
        for watcher in self.watchers:
            if watcher.source == source:
                watcher.newest = message
                watcher.may_send.set()

    def _update_demand(self) -> None:
        self.ready_sources = frozenset(watcher.source for watcher in self.watchers if watcher.in_flight < SCENES_IN_FLIGHT)
        self.has_readers = bool(self._readers)

    async def _lines(self, connection: ServerConnection) -> None:
        reader = _Reader(connection)
        self._readers.add(reader)
        self._update_demand()
        try:
            async with asyncio.TaskGroup() as together:
                sending = together.create_task(self._send_lines(reader))
                await connection.wait_closed()
                sending.cancel()
        finally:
            self._readers.discard(reader)
            self._update_demand()

    async def _send_lines(self, reader: _Reader) -> None:
        while True:
            await reader.has_lines.wait()
            reader.has_lines.clear()
            while reader.lines:
                line = reader.lines.popleft()
                reader.waiting -= len(line)
                await reader.connection.send(line)

    def _send_line(self, line: str) -> None:
        for reader in self._readers:
            reader.lines.append(line)
            reader.waiting += len(line)
            reader.has_lines.set()
            if reader.waiting > MOST_WAITING:
                log.warning("%s:%s takes the lines too slowly and was cut off", *reader.connection.remote_address[:2])
                reader.lines.clear()
                reader.waiting = 0
                reader.connection.transport.abort()


def _refuse(status: HTTPStatus, why: str) -> Response:
    return respond(status, f"{why}\n".encode(), {"Content-Type": "text/plain; charset=utf-8"})


def _message_of(kind: str, text: str) -> str:
    return json.dumps({"kind": kind, "text": text})
