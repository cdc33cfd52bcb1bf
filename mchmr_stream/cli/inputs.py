"""Expansion of input names on the command line: files, patterns that the shell did not expand, and folders."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from mchmr_stream.errors import UsageError

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".3gp", ".wmv", ".asf", ".flv", ".ogv",
    ".mxf", ".vob", ".gif",
)  # fmt: skip
"""Suffixes by which videos in a folder are recognised. A file that is named itself may have any suffix."""


def video_inputs(names: Iterable[str]) -> list[str]:
    """Expand the inputs of `mchmr video`: a folder or pattern of videos to these videos; one of pictures stays one input.

    Raises:
        UsageError: a name is a URL, or no file matches it.
    """
    return [found for name in names for found in _videos_of(name)]


def bodies_inputs(paths: Iterable[Path]) -> list[Path]:
    """Expand files of bodies: a folder to the .npz files in it, a pattern to the matching files.

    Raises:
        UsageError: no file matches.
    """
    return [Path(found) for path in paths for found in _bodies_of(str(path))]


def _videos_of(name: str) -> Sequence[str]:
    from mchmr_stream.sources.file_kind import IMAGE_SUFFIXES

    _refuse_url(name, ", or follow it with `mchmr live {url}`")
    if os.path.isdir(name):
        pictures, videos = _in_folder(name, IMAGE_SUFFIXES), _in_folder(name, VIDEO_SUFFIXES)
        if pictures and videos:
            log.warning(
                "%s holds pictures, which are read; its %d videos are not: name them, as in '%s'",
                name, len(videos), os.path.join(name, f"*{Path(videos[0]).suffix}"),
            )  # fmt: skip
        return [name] if pictures or not videos else videos
    if _is_pattern(name):
        found = _matches(name)
        is_one_sequence = all(Path(one).suffix.lower() in IMAGE_SUFFIXES for one in found) and len({Path(one).parent for one in found}) == 1
        return [name] if is_one_sequence else found
    return [name]


def _bodies_of(name: str) -> Sequence[str]:
    _refuse_url(name, "")
    if os.path.isdir(name):
        found = _in_folder(name, (".npz",))
        if not found:
            raise UsageError(f"{name} is a folder without .npz files, expected bodies as written by `mchmr video`")
        return found
    return _matches(name) if _is_pattern(name) else [name]


def _refuse_url(name: str, advice: str) -> None:
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", name)  # a Path collapses two slashes to one
    if found is not None and not os.path.exists(name):
        url = f"{found[1]}://{found[2]}"
        raise UsageError(f"{url} is a URL, expected a file or a folder; fetch it first{advice.format(url=url)}")


def _is_pattern(name: str) -> bool:
    return re.search(r"[*?\[]", name) is not None and not os.path.lexists(name)


def _matches(pattern: str) -> list[str]:
    found = _sorted(glob.glob(pattern, recursive=True))
    if not found:
        raise UsageError(f"no file matches {pattern}, expected a file, a folder, or a pattern that some files match")
    return found


def _in_folder(folder: str, suffixes: Sequence[str]) -> list[str]:
    names = (name for name in os.listdir(folder) if name.lower().endswith(tuple(suffixes)) and not name.startswith("."))
    return _sorted(os.path.join(folder, name) for name in names)


def _sorted(names: Iterable[str]) -> list[str]:
    """The files among the names in natural order, clip2 before clip10."""
    from mchmr_stream.sources.picture_files import natural_key

    return sorted(filter(os.path.isfile, names), key=lambda name: (os.path.dirname(name), natural_key(Path(name))))
