"""Files appear whole or not at all: they are written beside their place and moved there at the end."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mchmr_stream.errors import MchmrError, UsageError


def hidden_mark(path: Path) -> str:
    """How the names of temporary files and folders beside `path` begin.

    Short and ASCII however `path` is called: its own name may leave no room for more, and some libraries take UTF-8 only.
    """
    return f".mchmr-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]}."


def temporary_beside(path: Path, suffix: str = ".part") -> Path:
    """Where a file is written until it is whole. On the same disk as `path`, so that moving it is one step."""
    return path.with_name(f"{hidden_mark(path)}{os.getpid()}{suffix}")


def check_folder(path: Path) -> None:
    """Raises UsageError when `path` cannot be written because its folder is not there, or takes no name of this length."""
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: {path.parent} is not a folder, create it first")
    try:
        path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UsageError(f"cannot write {path}: {error.strerror}; give the input a shorter name") from error


def publish(temporary: Path, path: Path) -> None:
    """Move a finished file to its place; it is on the disk before its name is."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """A full disk, a missing permission or a name that a library does not take, as one line that names the file."""
    try:
        yield
    except OSError as error:
        raise MchmrError(f"cannot write {path}: {error.strerror or error}") from error
    except UnicodeEncodeError as error:
        raise MchmrError(f"cannot write {path}: the library for this format takes names in UTF-8 only; choose another folder") from error
