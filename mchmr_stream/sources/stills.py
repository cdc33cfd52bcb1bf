"""Distinction of pictures that are frames of a clip from separate photos, between which no state may be carried."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from mchmr_stream.config import Settings, SourceSettings
from mchmr_stream.errors import InputError
from mchmr_stream.sources.continuity import THUMBNAIL_PX, unexplained_share
from mchmr_stream.sources.file_kind import IMAGE_SUFFIXES, is_picture
from mchmr_stream.sources.picture_converter import MAX_PIXELS
from mchmr_stream.sources.picture_files import find_pictures

_PAIRS = 12
"""Number of positions in a folder at which neighbouring pictures are compared."""
_ALIKE = 0.9
"""Minimum share of names, or of sizes, of one kind in a clip."""
_CLIP_STEP_S = 1.0
"""Maximum distance of the frames of a clip; EXIF times have whole seconds."""
_NEW = 0.02
"""Maximum share of new content per picture in a clip of 10 frames per second or more."""


@dataclass(frozen=True)
class Stills:
    """Separate pictures, in natural order."""

    paths: tuple[Path, ...]
    why: str
    """Reason why they are not a clip; empty for a single picture"""


@dataclass(frozen=True)
class _Glance:
    size_wh: tuple[int, int]
    taken: datetime | None
    grey: NDArray[np.float32]


def is_still(path: str | Path, settings: SourceSettings) -> bool:
    """Whether an input is a single picture."""
    return settings.pictures != "clip" and is_picture(Path(path))


def stills_in(path: str | Path, settings: Settings) -> Stills | None:
    """Pictures of an input that are separate photos; None for a clip and for any other input."""
    path, source = Path(path), settings.source
    if is_still(path, source):
        return Stills((path,), "")
    if source.pictures == "clip" or not (os.path.isdir(path) or (path.suffix.lower() in IMAGE_SUFFIXES and not os.path.exists(path))):
        return None
    try:
        pictures = find_pictures(path, IMAGE_SUFFIXES)
    except InputError:  # reported when it is opened
        return None
    why = "source.pictures is stills" if source.pictures == "stills" else None
    if why is None and not _has_clip_settings(settings):
        why = _why_no_clip(pictures)
    return Stills(tuple(pictures[:: source.every]), why) if why is not None else None


def _has_clip_settings(settings: Settings) -> bool:
    """Whether settings are given that apply to clips only."""
    source = settings.source
    timed = source.start_s is not None or source.end_s is not None or source.images_fps != SourceSettings().images_fps
    return timed or settings.camera.static or settings.detector.kind == "boxes"


def _why_no_clip(pictures: Sequence[Path]) -> str | None:
    """Reason why pictures are not a clip; None if there is none. Cheap tests come first."""
    if len(pictures) == 1:
        return "it is one picture"
    if not _are_numbered(pictures):
        return "their names are no numbered sequence"
    positions = np.unique(np.linspace(0, len(pictures) - 2, _PAIRS).astype(int)).tolist()
    glances = {index: _glance(pictures[index]) for position in positions for index in (position, position + 1)}
    known = [glance for glance in glances.values() if glance is not None]
    sizes = Counter(glance.size_wh for glance in known)
    if known and max(sizes.values()) < _ALIKE * len(known):
        return "they differ in size"
    pairs = [
        (one, other) for position in positions if (one := glances[position]) is not None and (other := glances[position + 1]) is not None
    ]
    apart_s = [abs((other.taken - one.taken).total_seconds()) for one, other in pairs if one.taken is not None and other.taken is not None]
    if len(apart_s) * 2 > len(pairs) and median(apart_s) > _CLIP_STEP_S:
        return f"their EXIF dates are {median(apart_s):.0f} s apart"
    new = [unexplained_share(other.grey, one.grey) for one, other in pairs if one.grey.shape == other.grey.shape]
    if new and median(new) > _NEW:
        return "what they show does not go on from one to the next"
    return None


def _are_numbered(pictures: Sequence[Path]) -> bool:
    """Whether nearly all names differ in numbers only."""
    shapes = Counter(re.sub(r"\d+", "#", path.stem) for path in pictures)
    shape, count = shapes.most_common(1)[0]
    return "#" in shape and count >= _ALIKE * len(pictures)


def _glance(path: Path) -> _Glance | None:
    """Thumbnail and header of a picture; None if it cannot be read, which is reported when it is needed."""
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")  # of odd metadata
            if image.width * image.height > MAX_PIXELS:
                return None
            exif, (width, height) = image.getexif(), image.size
            transposed = exif.get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
            image.draft("L", (2 * THUMBNAIL_PX, 2 * THUMBNAIL_PX))
            scale = THUMBNAIL_PX / max(width, height)
            small = image.convert("L").resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BOX)
            return _Glance((height, width) if transposed else (width, height), _taken(exif), np.asarray(small, np.float32))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _taken(exif: Image.Exif) -> datetime | None:
    tags = exif.get_ifd(ExifTags.IFD.Exif)
    try:
        taken = datetime.strptime(str(tags[ExifTags.Base.DateTimeOriginal]), "%Y:%m:%d %H:%M:%S")
    except (KeyError, ValueError):
        return None
    part = str(tags.get(ExifTags.Base.SubsecTimeOriginal, "")).strip()
    return taken.replace(microsecond=int(f"{part:0<6}"[:6])) if part.isdecimal() else taken
