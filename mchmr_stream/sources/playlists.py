"""Files that a playlist refers to: HLS (.m3u8) and FFmpeg's concatenation lists (.ffconcat)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MAX_BYTES = 1 << 20
DEEPEST = 3
"""Maximum depth of nested playlists: HLS has two levels."""
_URI = re.compile(r'URI="([^"]*)"')


def files_listed(path: Path, depth: int = 0) -> list[Path]:
    """Local files that `path` lists if it is a playlist, including nested playlists; empty for any other file."""
    if depth == DEEPEST or not path.is_file():
        return []
    with suppress(OSError), path.open("rb") as file:
        if file.read(8) not in (b"#EXTM3U\n", b"#EXTM3U\r", b"ffconcat"):
            return []
        file.seek(0)
        text = file.read(MAX_BYTES).decode("utf-8", "replace")
        listed = [path.parent / name.removeprefix("file:") for name in _names(text) if "://" not in name]
        return [one for name in listed for one in (name, *files_listed(name, depth + 1))]
    return []


def _names(text: str) -> Iterator[str]:
    is_concat = text.startswith("ffconcat")
    for line in text.splitlines():
        if is_concat:
            with suppress(ValueError):  # an unterminated quote, which libav rejects, too
                words = shlex.split(line)
                yield from words[1:2] if words[:1] == ["file"] else []
        elif line.startswith("#"):
            yield from _URI.findall(line)
        elif line.strip():
            yield line.strip()
