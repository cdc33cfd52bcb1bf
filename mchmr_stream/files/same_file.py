"""Comparison of paths as the file system resolves them, so that no input is replaced by an output.

Names are never compared as text alone: links, and disks that ignore case or the Unicode form, give one file several names.
"""

from __future__ import annotations

import os
import tempfile
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from mchmr_stream.errors import UsageError


def refuse_to_replace(
    inputs: Iterable[str | Path | None], outputs: Iterable[str | Path], advice: str = "choose another name with -o"
) -> None:
    """Check that no output is one of the inputs, or a file in an input folder.

    Args:
        inputs: The inputs; None stands for an option that is not given.
        outputs: The outputs.
        advice: End of the message.

    Raises:
        UsageError: An output would replace an input.
    """
    given = [Path(one) for one in inputs if one is not None]
    for output in map(Path, outputs):
        for one in given:
            if is_same_file(output, one) or (os.path.exists(output) and is_same_file(output.absolute().parent, one)):
                raise UsageError(f"the output {output} would replace the input{'' if one == output else f' {one}'}; {advice}")


def colliding(outputs: Sequence[Path]) -> tuple[int, int] | None:
    """Indices of the first two outputs that would be one file; None if there are none. They need not exist."""
    seen: dict[str, list[int]] = {}
    for place, path in enumerate(outputs):
        alike = seen.setdefault(_loose(path.name), [])
        for earlier in alike:
            if _would_be_same(outputs[earlier], path):
                return earlier, place
        alike.append(place)
    return None


def is_same_file(first: Path, second: Path) -> bool:
    """Whether both exist and are one file, under any names and by hard links."""
    try:
        return os.path.samefile(first, second) or _is_one_entry(first, second)
    except (OSError, ValueError):  # one does not exist, or its name is invalid
        return False


def _is_one_entry(first: Path, second: Path) -> bool:
    """Whether both are names of one entry in a folder. Some drivers number files by the name used, so that `samefile` fails."""
    if _loose(first.name) != _loose(second.name) or not os.path.samefile(first.absolute().parent, second.absolute().parent):
        return False
    return sum(_loose(name) == _loose(first.name) for name in os.listdir(first.absolute().parent)) == 1


def _would_be_same(first: Path, second: Path) -> bool:
    first, second = first.absolute(), second.absolute()
    if first == second or is_same_file(first, second):
        return True
    if os.path.exists(first) or os.path.exists(second) or not first.name or _loose(first.name) != _loose(second.name):
        return False
    return _would_be_same(first.parent, second.parent) and _is_one_name(first, second)


def _is_one_name(first: Path, second: Path) -> bool:
    """Whether the disk resolves both names to one file, tested with an empty file in a temporary folder."""
    if first.name == second.name:
        return True
    disk = next(parent for parent in first.parents if parent.is_dir())
    try:
        with tempfile.TemporaryDirectory(prefix=".mchmr_names_", dir=disk) as folder:
            (Path(folder) / first.name).touch()
            return (Path(folder) / second.name).exists()
    except OSError:  # nothing can be written there, so nothing can be replaced
        return False


def _loose(name: str) -> str:
    """Normalised name: equal for all names that any file system takes as one.

    Case, Unicode form, and dots and blanks at the end are removed.
    """
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold()).rstrip(" .")
