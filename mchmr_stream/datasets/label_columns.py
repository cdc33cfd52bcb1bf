"""Labels of one file as columns, independent of its layout, and the reader on top of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.body.model import BETA_COUNT
from mchmr_stream.datasets.labels import BodyKind, Gender, LabelledPerson
from mchmr_stream.datasets.points import POINT_COUNT
from mchmr_stream.datatypes import Bool, Float, Int
from mchmr_stream.errors import InputError

Reals = NDArray[np.floating]

MAX_PEOPLE = 20_000_000
_GENDERS: dict[str, Gender] = {"f": "female", "m": "male"}


@dataclass(frozen=True, eq=False)
class Columns:
    """Labels of N people. A column that is not in the file is None; columns hold no NaN after `sound`."""

    images: NDArray[np.str_]
    """(N,) paths below the picture folder"""
    centre_px: Reals
    """(N, 2)"""
    side_px: Reals
    """(N,)"""
    K: Reals | None = None
    """(N, 3, 3)"""
    focal_px: Reals | None = None
    """(N,)"""
    points_px: Reals | None = None
    """(N, k, 3) of the points `points_px_at`: x, y, confidence"""
    points_px_at: NDArray[np.int64] | None = None
    points_m: Reals | None = None
    """(N, k, 4) of the points `points_m_at`, camera axes: x, y, z, confidence"""
    points_m_at: NDArray[np.int64] | None = None
    placed: bool = False
    """whether points_m are positions in the camera and not relative ones"""
    pose: Reals | None = None
    """(N, 24, 3)"""
    has_pose: Bool | None = None
    """(N,); None: all people, if there is a pose column"""
    betas: Reals | None = None
    """(N, 10)"""
    has_betas: Bool | None = None
    transl_m: Reals | None = None
    """(N, 3)"""
    gender: NDArray[np.str_] | None = None
    """(N,)"""
    sequence: NDArray[np.str_] | None = None
    frame: Int | None = None
    person: Int | None = None
    body: BodyKind = "smpl"
    notes: tuple[str, ...] = field(default=())
    """labels that were dropped or disabled when the file was read, one line each"""

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, index: NDArray) -> Columns:
        """Select some of the people by indices or a mask."""
        per_person = {
            item.name: getattr(self, item.name)[index]
            for item in fields(self)
            if isinstance(getattr(self, item.name), np.ndarray) and not item.name.endswith("_at")
        }
        return replace(self, **per_person)


def sound(columns: Columns, path: Path) -> Columns:
    """Remove NaN: people without a usable box are dropped, other labels that are not finite are disabled.

    Both are reported in `notes`.

    Raises:
        InputError: no person is left, or a picture is outside of the picture folder.
    """
    for image in np.unique(columns.images).tolist():
        if not image or image.startswith("/") or "\\" in image or ".." in image.split("/"):
            raise InputError(f"{path} names the picture {image!r}, expected a path below the picture folder")
    if columns.betas is not None and columns.betas.shape[1] != BETA_COUNT:
        raise InputError(f"{path} holds {columns.betas.shape[1]} betas a person, expected at least {BETA_COUNT}")
    notes: list[str] = []
    box = np.concatenate([columns.centre_px, columns.side_px[:, None]], 1)
    usable = np.isfinite(box).all(1) & (columns.side_px > 0)
    if not usable.all():
        first = int(np.argmin(usable))
        left_out = f"{int((~usable).sum())} of {len(columns)} people have no usable box and are left out"
        notes.append(f"{left_out} (first: row {first}, {columns.images[first]})")
        columns = columns.rows(usable)
    if len(columns) == 0:
        raise InputError(f"{path} holds no person with a usable box")
    changes: dict[str, object] = {}
    for name, flag in (("pose", "has_pose"), ("betas", "has_betas")):
        values = getattr(columns, name)
        if values is None:
            continue
        has = getattr(columns, flag)
        has = np.ones(len(columns), np.bool_) if has is None else has
        finite = np.isfinite(values).reshape(len(columns), -1).all(1)
        _note(notes, columns, has & ~finite, f"{name} that is not finite")
        changes |= {flag: has & finite, name: np.where(finite.reshape(-1, *(1,) * (values.ndim - 1)), values, 0).astype(np.float32)}
    for name in ("points_px", "points_m"):
        values = getattr(columns, name)
        if values is None:
            continue
        finite = np.isfinite(values).all(-1)
        claimed = values[..., -1] > 0
        _note(notes, columns, (~finite & (claimed | np.isnan(values[..., -1]))).any(1), f"{name} that are not finite")
        values = np.where((finite & claimed)[..., None], values, 0).astype(np.float32)
        values[..., -1] = values[..., -1].clip(0, 1)
        changes[name] = values
    for name in ("K", "focal_px", "transl_m"):
        values = getattr(columns, name)
        if values is None:
            continue
        bad = ~np.isfinite(values).reshape(len(columns), -1).all(1)
        _note(notes, columns, bad, f"{name} that is not finite, taken as unknown for all")
        changes[name] = None if bad.any() else np.asarray(values, np.float64 if name == "K" else np.float32)
    changes |= {name: np.asarray(getattr(columns, name), np.float32) for name in ("centre_px", "side_px")}
    return replace(columns, **changes, notes=(*columns.notes, *notes))  # type: ignore[arg-type]


def _note(notes: list[str], columns: Columns, bad: NDArray[np.bool_], what: str) -> None:
    if bad.any():
        notes.append(f"{int(bad.sum())} people with {what} (first: {columns.images[int(np.argmax(bad))]})")


class ColumnReader:
    """A `LabelReader` of one label file."""

    def __init__(self, name: str, columns: Columns, pictures: Path) -> None:
        """`pictures`: the folder to which the labels' paths are relative."""
        self.name, self.columns, self.pictures = name, columns, pictures

    def __len__(self) -> int:
        return len(self.columns)

    def label(self, index: int) -> LabelledPerson:
        c = self.columns
        known: dict[str, object] = {}
        if c.points_px is not None:
            known["points_px"] = _scattered(c.points_px[index], c.points_px_at)
        if c.points_m is not None:
            known["points_m"] = _scattered(c.points_m[index], c.points_m_at)
        for name in ("pose", "betas"):
            values, has = getattr(c, name), getattr(c, f"has_{name}")
            if values is not None:
                known |= {name: values[index], f"has_{name}": bool(has[index]) if has is not None else True}
        if c.focal_px is not None:
            known["focal_px"] = float(c.focal_px[index])
        for name in ("K", "transl_m"):
            if getattr(c, name) is not None:
                known[name] = getattr(c, name)[index]
        if c.gender is not None:
            known["gender"] = str(c.gender[index])
        if c.sequence is not None:
            known["sequence"] = str(c.sequence[index])
        for name in ("frame", "person"):
            if getattr(c, name) is not None:
                known[name] = int(getattr(c, name)[index])
        image = str(c.images[index])
        return LabelledPerson(self.name, image, c.centre_px[index], float(c.side_px[index]), body=c.body, **known)  # type: ignore[arg-type]

    def picture(self, index: int) -> Path:
        """Path of the person's picture."""
        return self.pictures / str(self.columns.images[index])

    def image(self, index: int) -> NDArray[np.uint8]:
        from PIL import Image, UnidentifiedImageError

        path = self.picture(index)
        try:
            with Image.open(path) as picture:
                rgb = np.array(picture.convert("RGB"))
        except FileNotFoundError as error:
            raise InputError(f"picture {path} of {self.name} is not there; `mchmr data check` lists what is missing") from error
        except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise InputError(f"cannot read picture {path} of {self.name}: {' '.join(str(error).split())}") from error
        return upright(rgb, self.columns.K[index] if self.columns.K is not None else None)


def upright(rgb: NDArray[np.uint8], K: NDArray[np.float64] | None) -> NDArray[np.uint8]:
    """Rotate BEDLAM's portrait pictures upright: they are stored as landscape, with a portrait camera."""
    if K is not None and rgb.shape[1] > rgb.shape[0] and K[1, 2] > 1.2 * K[0, 2]:
        return np.ascontiguousarray(np.rot90(rgb, -1))
    return rgb


def joined(reader_name: str, parts: Sequence[ColumnReader]) -> JoinedReader | ColumnReader:
    """Combine several files to one reader."""
    return parts[0] if len(parts) == 1 else JoinedReader(reader_name, parts)


class JoinedReader:
    """Several files of one data set in sequence."""

    def __init__(self, name: str, parts: Sequence[ColumnReader]) -> None:
        self.name, self.parts = name, tuple(parts)
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def place(self, index: int) -> tuple[ColumnReader, int]:
        """Return the file and the row in it."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = int(np.searchsorted(self._ends, index, side="right"))
        return self.parts[part], index - (int(self._ends[part - 1]) if part else 0)

    def label(self, index: int) -> LabelledPerson:
        part, row = self.place(index)
        return part.label(row)

    def image(self, index: int) -> NDArray[np.uint8]:
        part, row = self.place(index)
        return part.image(row)


def _scattered(values: Reals, places: NDArray[np.int64] | None) -> Float:
    everything = np.zeros((POINT_COUNT, values.shape[-1]), np.float32)
    everything[places] = values
    return everything


def texts(values: NDArray, path: Path, name: str) -> NDArray[np.str_]:
    """Convert a column to text, also from bytes.

    Raises:
        InputError: the column is empty or of another type.
    """
    if not values.size:
        raise InputError(f"{path}: {name} is empty, expected one line of text for each person")
    if values.ndim != 1 or values.dtype.kind not in "US":
        raise InputError(f"{path}: {name} is {values.dtype} of shape {values.shape}, expected one line of text for each person")
    return np.char.decode(values, "latin1") if values.dtype.kind == "S" else values.astype(np.str_)


def genders(values: NDArray, path: Path) -> NDArray[np.str_]:
    """Normalise genders: m, male, f, female in any case; everything else is neutral."""
    return np.array([_GENDERS.get(value[:1].lower(), "neutral") for value in texts(values, path, "gender").tolist()], np.str_)


def numbers(values: NDArray, path: Path, name: str, *shape: int | None) -> NDArray[np.float64]:
    """Convert a numeric column of the given shape, None for any length.

    Raises:
        InputError: type or shape differ.
    """
    fits = values.ndim == len(shape) and all(want in (None, got) for got, want in zip(values.shape, shape, strict=True))
    if not fits or values.dtype.kind not in "fiub":
        shape_text = ", ".join("any" if want is None else str(want) for want in shape)
        raise InputError(f"{path}: {name} is {values.dtype} of shape {values.shape}, expected numbers of shape ({shape_text})")
    return np.asarray(values, np.float64)


def flat_numbers(values: NDArray, path: Path, name: str, people: int) -> NDArray[np.float64]:
    """Convert a numeric column of one or more axes to (people, all numbers of a person).

    Raises:
        InputError: type or length differ.
    """
    if values.ndim < 1 or len(values) != people or values.dtype.kind not in "fiub":
        raise InputError(f"{path}: {name} is {values.dtype} of shape {values.shape}, expected numbers for {people} people")
    return np.asarray(values, np.float64).reshape(people, -1)


def frames_of(images: NDArray[np.str_]) -> tuple[NDArray[np.str_], Int]:
    """Split the names of frames into sequence and frame number: the text before the last digits of the name, and these digits."""
    sequences, frames = [], []
    for image in images.tolist():
        stem = image.rpartition(".")[0] or image
        kept = stem.rstrip("0123456789")
        digits = stem[len(kept) :]
        sequences.append(kept.rstrip("_./"))
        frames.append(int(digits[-9:]) if digits else 0)
    return np.array(sequences, np.str_), np.array(frames, np.int64)
