"""Kind of an input file, by its name and its first bytes."""

from __future__ import annotations

import os
from pathlib import Path

from mchmr_stream.sources.picture_header import Animation, animation

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".ppm", ".pgm")
"""File names that are read as still pictures; every other file is read as video (also GIF, which is animated)."""

UNREAD_PICTURES = (
    ".heic", ".heif", ".jxl", ".svg", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".rw2", ".orf",
)  # fmt: skip
"""Picture formats without a decoder here."""

_HEAD_BYTES = 1 << 16
"""The mark of an animation lies within so many bytes."""


def animation_in(path: Path) -> Animation | None:
    """Kind of animation in a picture file; None for any other file, folder or pattern."""
    try:
        with path.open("rb") as file:
            return animation(file.read(_HEAD_BYTES))
    except OSError:  # a folder or a pattern; other errors are reported when it is opened
        return None


def is_picture(path: Path) -> bool:
    """Whether a file is one picture without animation."""
    return path.suffix.lower() in IMAGE_SUFFIXES and os.path.isfile(path) and animation_in(path) is None
