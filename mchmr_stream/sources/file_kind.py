"""What kind of input a file is, by its name and its first bytes."""

from __future__ import annotations

import os
from pathlib import Path

from mchmr_stream.sources.picture_header import Animation, animation

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".ppm", ".pgm")
"""File names that are read as still pictures; every other file is read as video (GIF too, it moves)."""

UNREAD_PICTURES = (
    ".heic", ".heif", ".jxl", ".svg", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".rw2", ".orf",
)  # fmt: skip
"""Pictures that nothing here can read."""

_HEAD_BYTES = 1 << 16
"""Where an animation says that it is one."""


def animation_in(path: Path) -> Animation | None:
    """Which kind of animated picture a file is; None for every other file, folder or pattern."""
    try:
        with path.open("rb") as file:
            return animation(file.read(_HEAD_BYTES))
    except OSError:  # a folder or a pattern, or it is said later what is wrong
        return None


def is_picture(path: Path) -> bool:
    """Whether a file is one picture that does not move."""
    return path.suffix.lower() in IMAGE_SUFFIXES and os.path.isfile(path) and animation_in(path) is None
