"""A tritonserver process: start on a model repository, wait until it computes, stop without leaving anything behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from mchmr_stream.errors import MchmrError, MissingPart, ServerError
from mchmr_stream.runtime.host_port import HostPort
from mchmr_stream.serving import supervisor
from mchmr_stream.serving.tritonserver_binary import TritonBinary
from mchmr_stream.triton.connection import Connection, ServerAccess
from mchmr_stream.triton.wire_format import MODEL, About

_KEPT_LINES = 400
_NEVER = threading.Event()


class TritonServer:
    """A context manager that runs tritonserver.

    Args:
        binary: The program.
        repository: A folder as written by `model_repository.py`.
        host: Address that it listens on.
        ports: gRPC, HTTP and metrics; 0 picks a free one.
        relay: Gets each line of the server's log.
        arguments: Further arguments of tritonserver.
    """

    def __init__(
        self,
        binary: TritonBinary,
        repository: Path,
        *,
        host: str = "127.0.0.1",
        ports: tuple[int, int, int] = (0, 0, 0),
        relay: Callable[[str], None] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.host = host
        self.grpc_port, self.http_port, self.metrics_port = _free_ports(host, ports)
        self._binary, self._repository, self._arguments, self._relay = binary, repository, arguments, relay
        self._shm_prefix = f"mchmr_{uuid.uuid4().hex[:12]}_"
        self._log: deque[str] = deque(maxlen=_KEPT_LINES)
        self._supervisor_process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    @property
    def grpc_address(self) -> str:
        """HOST:PORT for connections from this machine."""
        return str(HostPort(self._own_host, self.grpc_port))

    @property
    def http_url(self) -> str:
        """Triton's HTTP address."""
        return f"http://{HostPort(self._own_host, self.http_port)}"

    @property
    def metrics_url(self) -> str:
        """Address of the metrics, as Prometheus text."""
        return f"http://{HostPort(self._own_host, self.metrics_port)}/metrics"

    @property
    def _own_host(self) -> str:
        return "127.0.0.1" if self.host == "0.0.0.0" else self.host

    @property
    def pid(self) -> int | None:
        """Process id of the server while it runs."""
        if self._supervisor_process is None or self._supervisor_process.poll() is not None:
            return None
        children = Path(f"/proc/{self._supervisor_process.pid}/task/{self._supervisor_process.pid}/children").read_text().split()
        return int(children[0]) if children else None

    @property
    def exit_code(self) -> int | None:
        """Exit code; None while it runs."""
        return self._supervisor_process.poll() if self._supervisor_process is not None else None

    def start(self) -> None:
        """Start the server without waiting (see `wait`). A folder for the backends is created, which the supervisor removes."""
        folder = Path(tempfile.mkdtemp(prefix="mchmr-triton-"))
        command = [*self._command(folder), *self._arguments]
        self._supervisor_process = subprocess.Popen(
            [sys.executable, "-I", "-S", supervisor.__file__, self._shm_prefix, str(folder), *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            env=self._environment(), start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read_log, name="triton log", daemon=True)
        self._reader.start()

    def wait(self, timeout_s: float = 120, access: ServerAccess | None = None, stop: threading.Event | None = None) -> About | None:
        """Wait until a real inference has succeeded.

        Args:
            timeout_s: Time limit, seconds.
            access: Credentials and TLS of the connection.
            stop: Ends the wait.

        Returns:
            The server's description of its model; None if `stop` was set.

        Raises:
            ServerError: The server ended, with its own reason, or is not ready in time.
        """
        until = time.monotonic() + timeout_s
        with Connection(self.grpc_address, MODEL, access or ServerAccess()) as connection:
            while True:
                try:
                    about = connection.about(timeout_s=5)
                    connection.probe(about, timeout_s=max(1.0, until - time.monotonic()))
                    return about
                except MchmrError as error:
                    last = error
                if self.exit_code is not None:
                    assert self._reader is not None
                    self._reader.join()
                    raise ServerError(f"tritonserver ended with exit code {self.exit_code}: {self.reason()}")
                if time.monotonic() > until:
                    raise ServerError(f"tritonserver is not ready after {timeout_s:g} s: {self.reason()} ({last})")
                if (stop or _NEVER).wait(0.05):
                    return None

    def stop(self) -> int | None:
        """Stop the server and wait until nothing of it is left. Returns its exit code, None if it never ran."""
        if self._supervisor_process is None:
            return None
        assert self._supervisor_process.stdin is not None
        self._supervisor_process.stdin.close()
        code = self._supervisor_process.wait()
        if self._reader is not None:
            self._reader.join()
        return code

    def __enter__(self) -> TritonServer:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _command(self, folder: Path) -> list[str]:
        backends = []
        if self._binary.backend_files:
            python = folder / "python"
            python.mkdir()
            for file in self._binary.backend_files:
                (python / file.name).symlink_to(file)
            backends = [f"--backend-directory={folder}"]
        return [
            str(self._binary.path),
            f"--model-repository={self._repository.resolve()}",
            *backends,
            # The server does not restart a model process that died: a client must be able to load the model again.
            "--model-control-mode=explicit",
            f"--load-model={MODEL}",
            "--disable-auto-complete-config",
            f"--grpc-address={self.host}", f"--grpc-port={self.grpc_port}",
            f"--http-address={self.host}", f"--http-port={self.http_port}",
            f"--metrics-address={self.host}", f"--metrics-port={self.metrics_port}",
            *([] if _nvidia_driver() else ["--allow-gpu-metrics=false"]),
            "--exit-timeout-secs=5",
            f"--backend-config=python,shm-region-prefix-name={self._shm_prefix}",
        ]  # fmt: skip

    def _environment(self) -> dict[str, str]:
        """Environment with this interpreter, its libpython and this package, for the model's isolated process."""
        env = dict(os.environ)
        env.pop("PYTHONHOME", None)
        package_root = str(Path(__file__).resolve().parents[2])
        before = {"PATH": [str(Path(sys.executable).parent)], "PYTHONPATH": [package_root]}
        before["LD_LIBRARY_PATH"] = [str(folder) for folder in self._binary.library_folders]
        for name, folders in before.items():
            env[name] = os.pathsep.join([*folders, *([env[name]] if env.get(name) else [])])
        return env

    def _read_log(self) -> None:
        assert self._supervisor_process is not None
        assert self._supervisor_process.stdout is not None
        for line in self._supervisor_process.stdout:
            self._log.append(line.rstrip())
            if self._relay is not None:
                self._relay(line.rstrip())

    def reason(self) -> str:
        """The first error in the server's log."""
        lines = list(self._log)
        complaints = [line for line in lines if line.startswith(("E", "error", "Failed", "failed")) or "error" in line.lower()]
        return (complaints or lines or ["it said nothing"])[0][:500]


def _free_ports(host: str, requested: tuple[int, int, int]) -> tuple[int, int, int]:
    """Choose ports. Raises MissingPart where one is taken, because tritonserver itself would end with a page of messages."""
    sockets = []
    try:
        for port in requested:
            listener = socket.socket(socket.AF_INET)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sockets.append(listener)
            try:
                listener.bind((host, port))
            except OSError as error:
                raise MissingPart(f"cannot serve on {HostPort(host, port)}: {error.strerror}; choose another with --port") from error
        grpc, http, metrics = (listener.getsockname()[1] for listener in sockets)
        return grpc, http, metrics
    finally:
        for listener in sockets:
            listener.close()


def _nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists()
