"""Identity of the inputs of a run, independent of their names: size and a sampled hash, fast for files of any length.

For a long file the hash covers the head, the tail and stretches between, so two files that differ only elsewhere have equal hashes. Encoded
videos differ: the sizes of pictures are in the index at the head or the tail. For several files it covers all names and sizes, and head,
middle and tail of each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from mchmr_stream.errors import InputError

_ENDS_BYTES = 1 << 20
_STRETCH_BYTES = 1 << 16
_STRETCHES = 32
_OF_MANY_BYTES = 1 << 14
"""Size of head, middle and tail of one file among several."""

Files = Path | Sequence[Path]
"""One file, or several in order."""


@dataclass(frozen=True)
class Content:
    """Size and hash, as written to files: JSON takes the fields as they are."""

    files: int
    bytes: int
    sampled_sha256: str

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Read from a mapping. Raises KeyError, TypeError or ValueError if it is invalid."""
        return cls(int(plain["files"]), int(plain["bytes"]), str(plain["sampled_sha256"]))

    def begins(self, files: Files) -> bool:
        """Whether the input begins with this content and continues: a resumed download, or added pictures."""
        if isinstance(files, Path):
            return self.files == 1 and self.bytes < _size(files) and _file_content(files, self.bytes) == self
        return self.files < len(files) and _several_content(files[: self.files]) == self

    def __str__(self) -> str:
        several = f"{self.files} files, " if self.files > 1 else ""
        return f"{several}{self.bytes} bytes, hash {self.sampled_sha256[:8]}"


@dataclass(frozen=True)
class MadeOf:
    """Input of a run and the files named by its settings."""

    path: Path
    files: Files
    content: Content | None
    """None if it cannot be read twice: a pipe, a device"""
    setting_files: Mapping[str, Content] = field(default_factory=dict)
    """By setting, as in `camera.intrinsics`"""

    def plain(self) -> dict[str, Any]:
        """Convert for JSON: `name`, the input's `Content`, `setting_files`."""
        content = {} if self.content is None else asdict(self.content)
        return {"name": self.path.name, **content, "setting_files": {name: asdict(one) for name, one in self.setting_files.items()}}

    def __str__(self) -> str:
        return f"{self.path.name} ({self.content or 'a pipe or a device'})"


def content_of(files: Files) -> Content | None:
    """Content of files; None for a pipe or a device. Raises InputError in one line if a file cannot be read."""
    several = [files] if isinstance(files, Path) else files
    if not all(file.is_file() for file in several):
        return None
    return _file_content(files, _size(files)) if isinstance(files, Path) else _several_content(files)


def _file_content(path: Path, length: int) -> Content:
    """Content of the first `length` bytes."""
    digest = hashlib.sha256(str(length).encode())
    for part in _parts(path, _stretches(length)):
        digest.update(part)
    return Content(1, length, digest.hexdigest())


def _stretches(length: int) -> list[tuple[int, int]]:
    """Start and length of the sampled parts. A short file is read completely."""
    between = length - 2 * _ENDS_BYTES - _STRETCH_BYTES
    if between <= _STRETCHES * _STRETCH_BYTES:
        return [(0, length)]
    starts = [_ENDS_BYTES + between * number // (_STRETCHES - 1) for number in range(_STRETCHES)]
    return [(0, _ENDS_BYTES), *((start, _STRETCH_BYTES) for start in starts), (length - _ENDS_BYTES, _ENDS_BYTES)]


def _several_content(paths: Sequence[Path]) -> Content:
    digest = hashlib.sha256()
    total = 0
    for path in paths:
        size = _size(path)
        digest.update(f"{path.name}\0{size}\n".encode(errors="surrogatepass"))
        for part in _parts(path, _few_stretches(size)):
            digest.update(part)
        total += size
    return Content(len(paths), total, digest.hexdigest())


def _few_stretches(length: int) -> list[tuple[int, int]]:
    if length <= 3 * _OF_MANY_BYTES:
        return [(0, length)]
    return [(start, _OF_MANY_BYTES) for start in (0, (length - _OF_MANY_BYTES) // 2, length - _OF_MANY_BYTES)]


def _parts(path: Path, stretches: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            for start, count in stretches:
                file.seek(start)
                yield file.read(count)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); check that you may read it") from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); check that it is there") from error
