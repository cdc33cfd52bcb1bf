"""Names of the output files: STEM.npz, STEM.mp4 and STEM.json in one folder."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_JPEG = (".jpg", ".jpeg", ".jfif")


@dataclass(frozen=True)
class OutputPaths:
    """The output files of one input. The settings determine which of them are written."""

    stem: str
    bodies: Path
    """STEM.npz"""
    overlay: Path
    """STEM.mp4; STEM.jpg or STEM.png of a picture"""
    report: Path
    """STEM.json"""
    rerun: Path
    """STEM.rrd"""

    def wanted(self, *, overlay: bool, rerun: bool) -> list[Path]:
        """Files that a run with these settings writes.

        Args:
            overlay: Whether the overlay is written.
            rerun: Whether the Rerun recording is written.

        Returns:
            The paths.
        """
        return [self.bodies, self.report, *([self.overlay] if overlay else []), *([self.rerun] if rerun else [])]


def output_paths(name: str | Path, out_dir: str | Path, *, still: bool = False) -> OutputPaths:
    """Name the output files of an input.

    Args:
        name: A file, whose name without suffix is the stem; a folder; or a pattern, which counts without its wildcards.
        out_dir: Folder of the outputs.
        still: The input is a single picture: the overlay is a picture, too, a JPEG of a JPEG and else a PNG.

    Returns:
        The paths.
    """
    stem, folder = _stem(Path(name)), Path(out_dir)
    overlay = ".mp4" if not still else ".jpg" if Path(name).suffix.lower() in _JPEG else ".png"
    return OutputPaths(stem, folder / f"{stem}.npz", folder / f"{stem}{overlay}", folder / f"{stem}.json", folder / f"{stem}.rrd")


def plain_name(name: str) -> str:
    """A source's name for use in a file name or a topic: ASCII letters, digits and dashes."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "source"


def _stem(path: Path) -> str:
    # os.path, because Path's methods raise for names that no file can have.
    if os.path.isdir(path):
        return path.resolve().name
    if os.path.isfile(path):
        return path.stem
    # A pattern that consists of wildcards (shots/*.png) is named after its folder.
    return re.sub(r"[*?\[\]]", "", path.stem).strip("._- ") or path.resolve().parent.name
