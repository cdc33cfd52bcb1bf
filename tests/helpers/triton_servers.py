"""Real Triton servers for tests, and what can befall them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from mchmr_stream.serving.tritonserver import TritonServer
from mchmr_stream.serving.tritonserver_binary import TritonBinary


class MortalServer:
    """A server that can be killed and started again at the same address."""

    def __init__(self, binary: TritonBinary, repository: Path, *arguments: str) -> None:
        self._binary, self._repository, self._arguments = binary, repository, arguments
        self._ports = (0, 0, 0)
        self._server: TritonServer | None = None
        self.start()

    @property
    def address(self) -> str:
        return self.running.grpc_address

    @property
    def running(self) -> TritonServer:
        assert self._server is not None
        return self._server

    def start(self, *, wait: bool = True) -> None:
        self._server = TritonServer(self._binary, self._repository, ports=self._ports, arguments=self._arguments)
        self._ports = (self._server.grpc_port, self._server.http_port, self._server.metrics_port)
        self._server.start()
        if wait:
            self._server.wait()

    def kill(self) -> None:
        """SIGKILL, as the kernel does when memory runs out."""
        pid = self.running.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        self.running.stop()

    def model_processes(self) -> list[int]:
        """The python backend's own."""
        return children(self.running.pid or 0)

    def stop(self) -> None:
        self.running.stop()


def children(pid: int) -> list[int]:
    found = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in tasks.read_text().split()]
    return found


def gone(pid: int, within_s: float = 20) -> bool:
    """Whether a process ends in time. A zombie has ended."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False
