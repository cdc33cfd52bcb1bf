"""Input: video files, folders of pictures, single pictures."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mchmr_stream.config import SourceSettings
from mchmr_stream.errors import InputError
from mchmr_stream.sources.file_kind import IMAGE_SUFFIXES, UNREAD_PICTURES, animation_in

if TYPE_CHECKING:
    from mchmr_stream.sources.picture_files import PictureSource
    from mchmr_stream.sources.video_file import VideoSource


def open_source(path: str | Path, settings: SourceSettings) -> VideoSource | PictureSource:
    """Open a video file, a folder of pictures, one picture, or a pattern such as `shots/cam1_*.png`.

    Animated PNG, AVIF and WebP files are videos. PyAV is imported here, not when this module is imported.

    Args:
        path: The input.
        settings: Section `source` of the configuration.

    Returns:
        A `Source` that is also a context manager.

    Raises:
        InputError: The input cannot be read.
        UsageError: The settings do not fit it.
    """
    refuse_url(path)
    path = Path(path)
    suffix = path.suffix.lower()
    if path.is_dir() or suffix in IMAGE_SUFFIXES:
        return _open_pictures(path, settings)
    if suffix in UNREAD_PICTURES:
        kind, expected = suffix[1:].upper(), " ".join(IMAGE_SUFFIXES)
        raise InputError(f"{path} is a {kind} picture, expected one of {expected}; save it as JPEG or PNG first")
    from mchmr_stream.sources.video_file import VideoSource

    return VideoSource(path, settings)


def refuse_url(path: str | Path) -> None:
    """Raise InputError if the path is a URL."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)) and not os.path.exists(path):  # a Path keeps one of two slashes
        raise InputError(f"{path} is a URL, expected a file or a folder; fetch it first, or follow it with `mchmr live`")


def _open_pictures(path: Path, settings: SourceSettings) -> VideoSource | PictureSource:
    from mchmr_stream.sources.picture_files import ImageSource
    from mchmr_stream.sources.video_file import VideoSource

    kind = animation_in(path)
    if kind == "webp":
        from mchmr_stream.sources.animated_webp import AnimatedWebp

        return AnimatedWebp(path, settings)
    if kind == "png":
        return VideoSource(path, settings)
    if kind == "avif":  # its first stream is the still picture for viewers without animation
        return VideoSource(path, settings.model_copy(update={"stream": settings.stream + 1}))
    return ImageSource(path, settings, IMAGE_SUFFIXES)
