"""Programs that watch the page without a browser, and what they are sent taken apart."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect


class Watcher:
    """As the page's script: shows everything at once, and says so."""

    def __init__(self, url: str, **options: Any) -> None:
        self._open = ExitStack()
        self.socket: ClientConnection = self._open.enter_context(connect(url.replace("http", "ws", 1) + "watch", max_size=None, **options))
        self.hello = json.loads(self.socket.recv())
        self.body, self.faces = unpack(self.socket.recv())
        self.told: list[dict[str, Any]] = []

    def send(self, **message: Any) -> None:
        self.socket.send(json.dumps(message))

    def scene(self, timeout_s: float = 30) -> bytes:
        """The next one; what else comes is kept in `told`."""
        until_s = time.monotonic() + timeout_s
        while True:
            message = self.socket.recv(timeout=until_s - time.monotonic())
            if isinstance(message, bytes):
                self.send(kind="shown")
                return message
            self.told.append(json.loads(message))

    def hear(self, kind: str, timeout_s: float = 30) -> dict[str, Any]:
        """The next message of that kind; what was told before is forgotten."""
        until_s = time.monotonic() + timeout_s
        while True:
            message = self.socket.recv(timeout=until_s - time.monotonic())
            if isinstance(message, str) and json.loads(message)["kind"] == kind:
                return json.loads(message)
            if isinstance(message, bytes):
                self.send(kind="shown")

    def scenes_for(self, seconds: float) -> list[bytes]:
        until_s, scenes = time.monotonic() + seconds, []
        while time.monotonic() < until_s:
            try:
                scenes.append(self.scene(until_s - time.monotonic()))
            except (TimeoutError, ConnectionClosed):
                break
        return scenes

    def close(self) -> None:
        self._open.close()


def unpack(message: bytes | str) -> tuple[dict[str, Any], bytes]:
    """The header, and what follows it."""
    assert isinstance(message, bytes)
    length = int.from_bytes(message[:4], "little")
    return json.loads(message[4 : 4 + length]), message[4 + length :]


def points_and_picture(message: bytes, vertices: int) -> tuple[dict[str, Any], NDArray[np.float64], bytes]:
    """The header; (n, 24 + vertices, 3) camera axes, m; the JPEG file."""
    header, rest = unpack(message)
    count = len(header["people"]) * (24 + vertices) * 3
    whole = np.frombuffer(rest, "<i2", count).reshape(len(header["people"]), 24 + vertices, 3)
    pelvis_m = np.array([person["pelvis_m"] for person in header["people"]]).reshape(-1, 1, 3)
    return header, whole * header["unit_m"] + pelvis_m, rest[2 * count :]
