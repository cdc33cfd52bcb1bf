"""Live scenes as JSON lines for TCP clients: `nc 127.0.0.1 PORT` shows them."""

from __future__ import annotations

import logging
import socket

from mchmr_stream.datatypes import Moment
from mchmr_stream.errors import UsageError
from mchmr_stream.runtime.host_port import HostPort
from mchmr_stream.sinks.json_lines import moment_line

log = logging.getLogger(__name__)

MOST_WAITING = 4 << 20
"""Bytes queued per client; a client that reads more slowly is disconnected."""


class JsonTcpSink:
    """A TCP server of JSON lines; implements `protocols.LiveSink`. It needs no client and never blocks on one."""

    def __init__(self, host: str, port: int) -> None:
        """Start listening.

        Args:
            host: Host or address.
            port: Port; 0 takes a free one, see `address`.

        Raises:
            UsageError: The port is not available.
        """
        place = HostPort(host, port)
        try:
            self._listener = socket.create_server((host, port), family=place.family)
        except OSError as error:
            raise UsageError(f"cannot listen on {place}: {error.strerror or error}; choose another port") from error
        self._listener.setblocking(False)
        self._readers: dict[socket.socket, bytearray] = {}

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the server."""
        host, port = self._listener.getsockname()[:2]
        return host, port

    def write(self, moment: Moment) -> None:
        self._accept()
        line = (moment_line(moment) + "\n").encode() if self._readers else b""
        for reader, waiting in list(self._readers.items()):
            waiting += line
            try:
                del waiting[: reader.send(waiting)]
            except BlockingIOError:
                pass
            except OSError:
                self._drop(reader, None)
                continue
            if len(waiting) > MOST_WAITING:
                self._drop(reader, "takes the lines too slowly and was cut off")

    def close(self) -> None:
        for reader in list(self._readers):
            self._drop(reader, None)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                reader, _ = self._listener.accept()
            except BlockingIOError:
                return
            reader.setblocking(False)
            self._readers[reader] = bytearray()

    def _drop(self, reader: socket.socket, why: str | None) -> None:
        if why is not None:
            log.warning("%s:%s %s", *reader.getpeername()[:2], why)
        del self._readers[reader]
        reader.close()
