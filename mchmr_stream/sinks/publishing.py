"""Files appear whole or not at all: they are written beside their place and moved there at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mchmr_stream.errors import MchmrError, UsageError


def check_folder(path: Path) -> None:
    """Raises UsageError when `path` cannot be written because its folder is not there."""
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: {path.parent} is not a folder, create it first")


def temporary_beside(path: Path) -> Path:
    """Where a file is written until it is whole. On the same disk as `path`, so that moving it is one step."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def publish(temporary: Path, path: Path) -> None:
    """Move a finished file to its place; it is on the disk before its name is."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """A full disk or a missing permission, as one line that names the file."""
    try:
        yield
    except OSError as error:
        raise MchmrError(f"cannot write {path}: {error.strerror or error}") from error
