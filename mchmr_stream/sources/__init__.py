"""Where pictures come from: video files, folders of pictures, single pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mchmr_stream.config import SourceSettings
from mchmr_stream.errors import InputError

if TYPE_CHECKING:
    from mchmr_stream.sources.images import ImageSource
    from mchmr_stream.sources.video import VideoSource

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif")
"""File names that are read as still pictures; every other file is read as video (GIF too, it moves)."""


def open_source(path: str | Path, settings: SourceSettings) -> VideoSource | ImageSource:
    """Open a video file, a folder of pictures, one picture, or a pattern such as `shots/cam1_*.png`.

    What comes back is a `Source` and a context manager. PyAV is loaded here, not when this module is imported.

    Raises InputError when it cannot be read, UsageError when the settings do not fit it.
    """
    path = Path(path)
    if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        from mchmr_stream.sources.images import ImageSource

        return ImageSource(path, settings, IMAGE_SUFFIXES)
    if path.suffix.lower() in (".heic", ".heif"):
        raise InputError(f"{path} is a HEIC picture, expected one of {' '.join(IMAGE_SUFFIXES)}; save it as JPEG or PNG first")
    from mchmr_stream.sources.video import VideoSource

    return VideoSource(path, settings)
