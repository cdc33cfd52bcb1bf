"""Live scenes as lines for whoever connects: `nc 127.0.0.1 PORT` shows them."""

from __future__ import annotations

import logging
import socket

from mchmr_stream.datatypes import Moment
from mchmr_stream.errors import UsageError
from mchmr_stream.sinks.json_lines import moment_line

log = logging.getLogger(__name__)

MOST_WAITING = 4 << 20
"""Bytes that may wait for a reader; one who takes them more slowly than they come is cut off."""


class JsonTcpSink:
    """A TCP server of JSON lines; implements `protocols.LiveSink`. Nobody has to be connected, and nobody is waited for."""

    def __init__(self, host: str, port: int) -> None:
        """`port` 0 takes a free one (`address` says which). Raises UsageError where it cannot listen there."""
        try:
            self._listener = socket.create_server((host, port))
        except OSError as error:
            raise UsageError(f"cannot listen on {host}:{port}: {error.strerror or error}; choose another port") from error
        self._listener.setblocking(False)
        self._readers: dict[socket.socket, bytearray] = {}

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on."""
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
