"""Standard output and standard error that take whatever is printed: any name, and also where they are closed or full."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress


def make_usable() -> None:
    r"""Open what was closed by the shell (`>&-`), and write what the encoding lacks as \x and \u escapes.

    A file opened later would otherwise get the closed stream's number, and libraries that print would write into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        if getattr(sys, name) is None:
            # No context manager: it stays open as long as the process.
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def output_failure() -> OSError | None:
    """Flush standard output. Returns why it does not take what was printed (a full disk, a reader that has gone), or None.

    After a failure the rest is dropped, so that Python does not complain again at exit.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        with suppress(OSError):  # a stream without a file descriptor
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error
    return None
