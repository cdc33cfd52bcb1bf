"""Animated WebP, which libav does not support, decoded with Pillow."""

from __future__ import annotations

import io
from itertools import accumulate
from pathlib import Path

import av
import numpy as np
from PIL import Image

from mchmr_stream.config import SourceSettings
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.sources.picture_converter import Orientation, check_size
from mchmr_stream.sources.picture_files import Picture, PictureSource
from mchmr_stream.sources.picture_header import picture_size, webp_durations_ms
from mchmr_stream.sources.timestamps import TimeWindow

SHORTEST_MS, SHORT_MS = 10, 100
"""Browsers show pictures with a duration of up to the first value for the second."""


class AnimatedWebp(PictureSource):
    """Pictures of an animated WebP at the times at which a browser shows them; transparency is composited over black."""

    def __init__(self, path: Path, settings: SourceSettings) -> None:
        """Open the file.

        Raises:
            InputError: The file cannot be read.
            UsageError: The settings do not fit it.
        """
        if settings.stream:
            raise UsageError(f"source.stream is {settings.stream}, but an animated picture has one stream, 0")
        self._path = path
        data = path.read_bytes()
        check_size(path, *(picture_size(data) or (0, 0)))
        shown_s = [(SHORT_MS if one <= SHORTEST_MS else one) / 1000 for one in webp_durations_ms(data)]
        if not shown_s:
            raise InputError(f"{path} is an animated WebP without pictures; save it again")
        self._times_s = [0.0, *accumulate(shown_s)]
        self._image = _opened(path, data)
        super().__init__(path.name, len(shown_s), len(shown_s) / self._times_s[-1], TimeWindow.of(settings))

    def _first_size(self) -> tuple[int, int]:
        return self._image.size

    def _read(self, index: int) -> Picture:
        try:
            self._image.seek(index)
            rgba = np.array(self._image.convert("RGBA"))
        except (OSError, EOFError, ValueError) as error:
            raise InputError(f"{self._path}: picture {index} cannot be read ({error})") from error
        return av.VideoFrame.from_ndarray(rgba, format="rgba"), Orientation(), None

    def _time_s(self, index: int) -> float:
        return self._times_s[index]


def _opened(path: Path, data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data))
    except OSError as error:
        raise InputError(f"{path} cannot be read as an animated WebP ({error}); save it again") from error
