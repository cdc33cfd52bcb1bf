"""A file object that sends to a streaming server: a write never blocks longer than `STALL_S`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time

from mchmr_stream.errors import ServerError
from mchmr_stream.video_encoding.relay import ADDRESS

STALL_S = 5.0
"""A server that accepts nothing for this long is given up."""
_SLEEP_S = 0.005


class Push:
    """Send the output of a muxer of `relay.PIPE_FORMAT` to the relay process.

    Args:
        url: Address of the server.
    """

    def __init__(self, url: str) -> None:
        environment = {**os.environ, ADDRESS: url}
        command = [sys.executable, "-m", "mchmr_stream.video_encoding.relay"]
        # A session of its own: Ctrl-C goes to the run only, which then ends the relay.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, start_new_session=True
        )
        assert self._process.stdin is not None
        self._fd = self._process.stdin.fileno()
        os.set_blocking(self._fd, False)
        self._broken = False

    def write(self, data: bytes) -> int:
        """Write all data. Raises ServerError where the server is unreachable or accepts nothing."""
        left, until_s = memoryview(data), time.monotonic() + STALL_S
        while left and not self._broken:
            try:
                left = left[os.write(self._fd, left) :]
            except BlockingIOError as error:
                if time.monotonic() > until_s:
                    self._broken = True
                    raise ServerError(f"takes nothing for {STALL_S:.0f} s") from error
                time.sleep(_SLEEP_S)
            except OSError as error:
                self._broken = True
                raise ServerError(self._reason()) from error
        return len(data)

    def close(self) -> None:
        """Send the rest, or end the process where that takes too long."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(0 if self._broken else STALL_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def _reason(self) -> str:
        """The process's error output after its end, at most one line."""
        assert self._process.stderr is not None
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            return "went away"
        return self._process.stderr.read().decode(errors="replace").strip() or "went away"
