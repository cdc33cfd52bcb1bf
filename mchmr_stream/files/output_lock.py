"""Locks that admit one writing process per output, and removal of files left by killed processes.

A lock proves that a writer is alive, independent of process numbers and of the computer. It is held on a hidden file beside the output, and
the system releases it at the end of the process, however it ends.
"""

from __future__ import annotations

import errno
import logging
import os
import platform
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from mchmr_stream.errors import MchmrError
from mchmr_stream.files.atomic import hidden_mark

log = logging.getLogger(__name__)

_LOCK = "lock"
_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
"""Error numbers for a lock held by another process."""


@contextmanager
def claimed(outputs: Iterable[Path], *, clean: bool = True) -> Iterator[bool]:
    """Hold the locks of outputs, files or folders, within the `with` block.

    Args:
        outputs: The outputs.
        clean: Remove what killed processes left of them.

    Yields:
        Whether all are held. A folder that cannot hold a lock is reported by its writer.

    Raises:
        MchmrError: Another process holds one of them.
    """
    with ExitStack() as held:
        are_held = {output: held.enter_context(_lock(output)) for output in dict.fromkeys(outputs)}
        for output in (output for output, is_held in are_held.items() if is_held and clean):
            remove_left_over(output)
        yield all(are_held.values())


@contextmanager
def claimed_folder(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder that may not exist yet. Parents created for the lock are removed again if they stay empty."""
    missing = [parent for parent in Path(os.path.abspath(folder)).parents if not parent.exists()]
    if missing:
        missing[0].mkdir(parents=True, exist_ok=True)
    try:
        with claimed([folder]):
            yield
    finally:
        with suppress(OSError):  # it is not empty
            for parent in missing:
                parent.rmdir()


def remove_left_over(output: Path) -> None:
    """Remove the hidden files and folders of an output whose lock this process holds, so that no other process writes them."""
    for entry in left_over(output):
        try:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
            log.info("%s, left by a process that was killed, is removed", entry)
        except OSError as error:
            log.warning("%s, left by a process that was killed, cannot be removed: %s", entry, error.strerror or error)


def remove_abandoned(folder: Path, suffix: str, *, unless: str) -> None:
    """Remove hidden files of all outputs in a folder with this ending whose writers were killed, unless a file `unless` was kept."""
    for lock in folder.glob(f".mchmr-*.{_LOCK}"):
        with suppress(OSError):
            output = folder / lock.read_text(errors="surrogateescape").partition("\n")[2]
            is_resumable = any((entry / unless).exists() for entry in left_over(output))
            if _lock_file(output) == lock.absolute() and output.suffix == suffix and not is_resumable:
                with suppress(MchmrError), claimed([output]):  # its writer lives
                    pass


def left_over(output: Path) -> list[Path]:
    """Hidden files and folders of an output, without its lock."""
    lock = _lock_file(output)
    mark = lock.name.removesuffix(_LOCK)
    with suppress(OSError):
        return sorted(entry for entry in lock.parent.iterdir() if entry.name.startswith(mark) and entry != lock)
    return []


def _lock_file(output: Path) -> Path:
    output = Path(os.path.abspath(output))  # "." has no name
    return output.parent / f"{hidden_mark(output)}{_LOCK}"


@contextmanager
def _lock(output: Path) -> Iterator[bool]:
    """Lock an output; yields whether the lock is held."""
    path = _lock_file(output)
    number = _opened_and_locked(path, output)
    if number is None:
        yield False
        return
    try:
        with suppress(OSError):  # a full disk; the lock holds without its owner's name
            os.ftruncate(number, 0)
            os.lseek(number, 0, os.SEEK_SET)
            os.write(number, f"process {os.getpid()} on {platform.node()}\n{output.name}".encode(errors="surrogateescape"))
        yield True
    finally:
        if os.name == "nt":  # an open file cannot be removed there
            os.close(number)
        with suppress(OSError):
            path.unlink()
        if os.name != "nt":
            os.close(number)


def _opened_and_locked(path: Path, output: Path) -> int | None:
    while True:
        try:
            number = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            log.info("%s: no lock beside it (%s)", output, error.strerror or error)
            return None
        try:
            _try_lock(number)
            # The previous owner may have removed the file between opening and locking: such a lock excludes no process.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(number), os.stat(path)):
                    return number
            os.close(number)
        except OSError as error:
            owner = _owner(number)
            os.close(number)
            if error.errno in _HELD:
                raise MchmrError(
                    f"{output} is being written by another run{f' ({owner})' if owner else ''}; wait until it has ended, or write elsewhere"
                ) from None
            with suppress(OSError):
                path.unlink()
            log.warning("%s: this disk has no locks (%s); another run that writes it would not be noticed", output, error.strerror or error)
            return None


def _owner(number: int) -> str:
    """Process and host of the lock's owner, if recorded."""
    with suppress(OSError):
        os.lseek(number, 0, os.SEEK_SET)
        return os.read(number, 200).decode(errors="replace").partition("\n")[0]
    return ""


if os.name == "nt":
    import msvcrt

    def _try_lock(number: int) -> None:
        """Raises OSError at once where somebody else has it."""
        os.lseek(number, 1 << 20, os.SEEK_SET)  # beyond the part that is read
        msvcrt.locking(number, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]

else:
    import fcntl

    def _try_lock(number: int) -> None:
        """Raises OSError at once where somebody else has it."""
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
