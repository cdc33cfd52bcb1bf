"""Standard output and standard error that accept any text, also when they are closed or full."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress


def make_usable() -> None:
    r"""Open streams that the shell closed (`>&-`), and write characters outside of the encoding as \x and \u escapes.

    A file opened later would otherwise get the closed stream's number, and libraries that print would write into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this stream's
        if getattr(sys, name) is None:
            # No context manager: it stays open until the process ends.
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def output_failure() -> OSError | None:
    """Flush standard output; return the error (a full disk, a closed pipe), or None.

    After a failure the rest is dropped, so that Python does not report it again at exit.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        with suppress(OSError):  # a stream without a file descriptor
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error
    return None
