"""Atomic files: they are written under a temporary name beside the destination and renamed at the end."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mchmr_stream.errors import MchmrError, UsageError


def hidden_mark(path: Path) -> str:
    """Prefix of the names of temporary files and folders beside `path`.

    It is short and ASCII for any name: a longer one may exceed the limit of the file system, and some libraries accept UTF-8 only.
    """
    return f".mchmr-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]}."


def temporary_beside(path: Path, suffix: str = ".part") -> Path:
    """Temporary path for a file that is being written. It is on the same disk as `path`, so that the rename is atomic."""
    return path.with_name(f"{hidden_mark(path)}{os.getpid()}{suffix}")


def check_folder(path: Path) -> None:
    """Raise UsageError if `path` cannot be written because its folder does not exist or the name is too long."""
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
    """Rename a finished file to its destination, after its content is synchronised to the disk."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


@contextmanager
def atomic_file(path: Path, suffix: str = ".part") -> Iterator[Path]:
    """Yield a temporary path; what was written there replaces `path` at the end, or is removed after an exception.

    `suffix`: ending of the temporary path, for libraries that choose the format by it.
    """
    temporary = temporary_beside(path, suffix)
    try:
        yield temporary
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Convert a full disk, a missing permission or an unsupported name to a one-line error that names the file."""
    try:
        yield
    except OSError as error:
        raise MchmrError(f"cannot write {path}: {error.strerror or error}") from error
    except UnicodeEncodeError as error:
        raise MchmrError(f"cannot write {path}: the library for this format takes names in UTF-8 only; choose another folder") from error
