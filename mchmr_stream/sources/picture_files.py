"""Folders of pictures, patterns, and single pictures."""

from __future__ import annotations

import io
import re
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import av

from mchmr_stream.config import SourceSettings
from mchmr_stream.datatypes import Frame, SourceInfo
from mchmr_stream.errors import InputError, TruncatedInput, UsageError
from mchmr_stream.sources.container import reason
from mchmr_stream.sources.picture_converter import MAX_PIXELS, Orientation, PictureConverter, check_size
from mchmr_stream.sources.picture_header import animation, exif_orientation, jpeg_is_cut, picture_size, tiff_has_pages
from mchmr_stream.sources.timestamps import TimeWindow

Picture = tuple[av.VideoFrame, Orientation, str | None]
"""Decoded picture, its orientation, and a description of its damage, if any."""


class PictureSource(ABC):
    """Base class of sources that read pictures one by one, each with its own time."""

    def __init__(self, name: str, count: int, fps: float, window: TimeWindow, *, still: bool = False) -> None:
        self._count, self._fps, self._window = count, fps, window
        self._warnings: list[str] = []
        self._closed = False
        self._running: Generator[Frame] | None = None
        width, height = self._first_size()
        self._info = SourceInfo(name, width, height, fps / window.every, window.count(count, fps), still=still)

    @property
    def info(self) -> SourceInfo:
        return self._info

    @property
    def warnings(self) -> list[str]:
        return self._warnings

    def frames(self) -> Iterator[Frame]:
        """Yield the selected pictures. Raises TruncatedInput after the last one if some are unreadable or truncated."""
        self.close()
        self._closed = False
        self._running = self._selected_frames()
        return self._running

    def close(self) -> None:
        self._closed = True
        if self._running is not None:
            with suppress(ValueError):  # another thread is running it: it stops at its next frame
                self._running.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    @abstractmethod
    def _first_size(self) -> tuple[int, int]:
        """Width and height of the first picture, upright. Raises InputError if none can be read."""

    @abstractmethod
    def _read(self, index: int) -> Picture:
        """Read one picture. Raises InputError."""

    @abstractmethod
    def _time_s(self, index: int) -> float:
        """Time of a picture, seconds."""

    def _selected_frames(self) -> Generator[Frame]:
        converter = PictureConverter(self._info.width, self._info.height)
        broken: list[str] = []
        chosen = [index for index in range(self._count) if self._is_selected(index)][:: self._window.every]
        if not chosen:
            raise UsageError(f"{self._count} pictures at {self._fps:g} per second end before source.start_s, {self._window.start_s:g} s")
        delivered = 0
        for index in chosen:
            if self._closed:
                return
            try:
                picture, orientation, fault = self._read(index)
            except InputError as error:
                broken.append(str(error))
                self._warnings.append(f"skipped: {error}")
                continue
            if fault is not None:
                broken.append(fault)
                self._warnings.append(fault)
            rgb = converter.rgb(picture, orientation)
            if converter.fitted and not any(text.startswith("pictures differ") for text in self._warnings):
                self._warnings.append(f"pictures differ in size; all are fitted into {converter.width}x{converter.height}")
            delivered += 1
            yield Frame(index, self._time_s(index), rgb)
        if broken:
            raise TruncatedInput(f"{len(broken)} of {len(chosen)} pictures are damaged, {delivered} were delivered; the first: {broken[0]}")

    def _is_selected(self, index: int) -> bool:
        time_s = self._time_s(index)
        return not self._window.is_before(time_s) and not self._window.is_after(time_s)


class ImageSource(PictureSource):
    """Pictures as if filmed at `images_fps`, in natural order of their names (img2 before img10).

    Frame.index is the position in that order, from 0, including unreadable pictures: a missing picture leaves a gap in time. The first
    readable picture sets the size; others are fitted into it on black. EXIF orientation is applied; transparency is composited over black.
    Of a file with several pictures the first one is read, with a warning.
    """

    def __init__(self, path: str | Path, settings: SourceSettings, suffixes: Sequence[str]) -> None:
        """List the pictures.

        Args:
            path: A folder, one picture, or a pattern for names in one folder.
            settings: Section `source` of the configuration.
            suffixes: Lower-case endings of files to read.

        Raises:
            InputError: No picture can be read.
            UsageError: The settings do not fit.
        """
        self._path = Path(path)
        if settings.stream:
            raise UsageError(f"source.stream is {settings.stream}, but pictures have one stream, 0")
        window = TimeWindow.of(settings)
        self._paths = find_pictures(self._path, suffixes)
        name, still = self._path.name or self._path.resolve().name, self._path.is_file() and settings.pictures != "clip"
        super().__init__(name, len(self._paths), settings.images_fps, window, still=still)

    def _first_size(self) -> tuple[int, int]:
        errors = []
        for picture_path in self._paths:
            try:
                picture, orientation, _, _ = _read_picture(picture_path)
            except InputError as error:
                errors.append(str(error))
                continue
            return orientation.size(picture.width, picture.height)
        if len(errors) == 1:
            raise InputError(errors[0])
        raise InputError(f"none of the {len(errors)} pictures in {self._path} can be read; the first: {errors[0]}")

    def _read(self, index: int) -> Picture:
        path = self._paths[index]
        picture, orientation, is_cut, has_more = _read_picture(path)
        if has_more and not any("several pictures" in text for text in self._warnings):
            self._warnings.append(f"{path} holds several pictures; of such files the first one is read")
        return picture, orientation, f"{path} is cut off, its lower part is missing" if is_cut else None

    def _time_s(self, index: int) -> float:
        return index / self._fps


def find_pictures(path: Path, suffixes: Sequence[str]) -> list[Path]:
    """Pictures that a path names, in natural order. Raises InputError if there are none."""
    if path.is_file():
        return [path]
    if path.is_dir():
        candidates = path.iterdir()
        what = f"folder {path} holds no pictures"
    elif re.search(r"[*?\[]", path.name) and path.parent.is_dir():
        candidates = path.parent.glob(path.name)
        what = f"no pictures match {path}"
    else:
        raise InputError(f"{path} does not exist, expected a video file, a picture or a folder of pictures")
    found = [file for file in candidates if file.suffix.lower() in suffixes and not file.name.startswith(".") and file.is_file()]
    if not found:
        raise InputError(f"{what}, expected files ending in {' '.join(suffixes)}")
    return sorted(found, key=natural_key)


def natural_key(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sort key in which runs of digits compare as numbers; the name itself decides between 1 and 01."""
    parts = re.findall(r"\d+|\D+", path.name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], path.name


def _read_picture(path: Path) -> tuple[av.VideoFrame, Orientation, bool, bool]:
    """First picture of a file, its orientation, whether its end is missing, and whether more follow. Raises InputError."""
    limit = {"max_pixels": str(MAX_PIXELS)}
    try:
        data = path.read_bytes()
        check_size(path, *(picture_size(data) or (0, 0)))
        # From memory: libav would read a % in the name as a numbered series.
        with av.open(io.BytesIO(data), options=limit, metadata_errors="replace") as container:
            stream = container.streams.video[0]
            stream.codec_context.options = limit
            stream.codec_context.thread_count = 1
            picture = next(container.decode(stream))
    except (av.error.FFmpegError, OSError, IndexError, StopIteration) as error:
        raise InputError(f"{path} cannot be read as a picture ({_why(path, error)}") from error
    tag = exif_orientation(data)
    orientation = Orientation.from_exif(tag) if tag != 1 else _matrix_orientation(path, picture)
    return picture, orientation, jpeg_is_cut(data), animation(data) is not None or tiff_has_pages(data)


def _why(path: Path, error: Exception) -> str:
    with suppress(OSError), path.open("rb") as file:
        head = file.read(64)
        if not head:
            return "it is empty); save it again or take it out"
        if animation(head) == "webp":
            return "it is an animated WebP); give it alone, or save one picture of it"
    return f"{reason(error)}); save it again or take it out"


def _matrix_orientation(path: Path, picture: av.VideoFrame) -> Orientation:
    """AVIF stores the orientation in its container; for other files libav's matrix repeats EXIF, which is applied already."""
    return Orientation.of_frame(picture) if path.suffix.lower() == ".avif" else Orientation()
