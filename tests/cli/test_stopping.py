"""Signals ask a run to finish: from the keyboard, from the system, and from a terminal that goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from places import ROOT

WORK = """
import sys, time
from pathlib import Path
from mchmr_stream.cli.stopping import StopOnSignals
folder = Path(sys.argv[1])
with StopOnSignals() as stop:
    (folder / "ready").touch()
    until_s = time.monotonic() + 20
    while not stop.event.is_set() and time.monotonic() < until_s:
        time.sleep(0.01)
    time.sleep(0.3)  # the other signals of a terminal that goes come in this time
    print("some more on standard error", file=sys.stderr, flush=True)
    print("a result", flush=True)
    (folder / "written").write_text(str(stop.exit_code))
sys.exit(stop.exit_code)
"""

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals between processes are a POSIX matter")


def wait_for(path: Path) -> None:
    give_up_s = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < give_up_s
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_work_is_finished(tmp_path: Path, number: signal.Signals) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", WORK, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    wait_for(tmp_path / "ready")
    child.send_signal(number)
    if number == signal.SIGHUP:
        child.send_signal(number)  # the system and the shell both send one
    out, err = child.communicate(timeout=30)
    assert child.returncode == 128 + number
    assert (tmp_path / "written").read_text() == str(128 + number)
    assert "stopping, what is done is being written" in err
    assert out == "a result\n"


def test_a_terminal_that_goes_keeps_nothing_from_being_written(tmp_path: Path) -> None:
    """As when ssh breaks off: SIGHUP comes, and everything that is printed from then on fails."""
    import pty

    number, terminal = pty.fork()
    if number == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-c", WORK, str(tmp_path)])
    wait_for(tmp_path / "ready")
    os.close(terminal)
    _, status = os.waitpid(number, 0)
    assert (tmp_path / "written").read_text() == str(128 + signal.SIGHUP)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP


def test_under_nohup_a_terminal_that_goes_is_nothing(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", WORK, str(tmp_path)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    wait_for(tmp_path / "ready")
    child.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=30)
    assert (tmp_path / "written").read_text() == str(128 + signal.SIGTERM)
