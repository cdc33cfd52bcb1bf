"""What the files that come out are called: STEM.npz, STEM.mp4 and STEM.json in one folder."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_JPEG = (".jpg", ".jpeg", ".jfif")


@dataclass(frozen=True)
class OutputPaths:
    """The files of one input. Which of them are written is the settings' matter."""

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
        """The files that a run with these settings writes."""
        return [self.bodies, self.report, *([self.overlay] if overlay else []), *([self.rerun] if rerun else [])]


def output_paths(name: str | Path, out_dir: str | Path, *, still: bool = False) -> OutputPaths:
    """The files for an input: a file's name without its suffix, a folder's name, a pattern's name without its wildcards.

    `still`: it is one picture that stands alone; the overlay is a picture, too, a JPEG of a JPEG.
    """
    stem, folder = _stem(Path(name)), Path(out_dir)
    overlay = ".mp4" if not still else ".jpg" if Path(name).suffix.lower() in _JPEG else ".png"
    return OutputPaths(stem, folder / f"{stem}.npz", folder / f"{stem}{overlay}", folder / f"{stem}.json", folder / f"{stem}.rrd")


def plain_name(name: str) -> str:
    """A source's name as part of a file's name or a topic: ASCII letters, digits and dashes."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "source"


def _stem(path: Path) -> str:
    # os.path, as Path's own questions raise for names that no file can have.
    if os.path.isdir(path):
        return path.resolve().name
    if os.path.isfile(path):
        return path.stem
    # A pattern that is nothing but wildcards (shots/*.png) is called after its folder.
    return re.sub(r"[*?\[\]]", "", path.stem).strip("._- ") or path.resolve().parent.name
