"""Run one tritonserver and clean up after the end of the server, its parent, or both.

`tritonserver.py` starts it as a separate process (`python -I -S supervisor.py PREFIX FOLDER COMMAND...`), with the standard library
only. Its standard input is a pipe from the parent: when that closes, because the parent closed it or has died, the server is stopped.
Finally no process of the server, no /dev/shm file whose name begins with PREFIX, and no FOLDER is left. The exit code is the server's.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

GRACE_S = 15
_PR_SET_PDEATHSIG = 1


def main(prefix: str, folder: str, command: list[str]) -> int:
    """Run a server until it ends or the standard input closes.

    Args:
        prefix: Prefix of the server's files in /dev/shm, which are removed.
        folder: A folder that is removed.
        command: The server's command line.

    Returns:
        Its exit code.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # only the pipe ends this process
    libc = ctypes.CDLL(None)

    def at_start() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # for the case that this process is killed

    # A separate process group, by which model processes that outlive a killed server are found.
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=at_start, process_group=0)
    threading.Thread(target=_stop_at_end_of_input, args=(server,), daemon=True).start()
    code = server.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    for left in Path("/dev/shm").glob(f"{prefix}*"):
        left.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    return code if code >= 0 else 128 - code


def _stop_at_end_of_input(server: subprocess.Popen[bytes]) -> None:
    while os.read(0, 1024):
        pass
    server.terminate()
    try:
        server.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        server.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
