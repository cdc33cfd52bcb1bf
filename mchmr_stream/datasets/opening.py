"""Open readers of the data sets in a data folder (layout in `known`)."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from mchmr_stream.datasets.bedlam import read_bedlam
from mchmr_stream.datasets.humandata import read_humandata
from mchmr_stream.datasets.known import KNOWN, is_held_out
from mchmr_stream.datasets.label_columns import ColumnReader, Columns, JoinedReader, joined
from mchmr_stream.datasets.pw3d import read_3dpw
from mchmr_stream.datasets.spin import read_spin
from mchmr_stream.errors import InputError, UsageError

Split = Literal["train", "validation", "test", "all"]
_SEQUENCES = "sequenceFiles"


def sets_in(root: Path) -> list[str]:
    """List the data sets with labels in the folder, in order.

    Raises:
        InputError: `root` is no folder.
    """
    if not root.is_dir():
        raise InputError(f"{root} is no folder, expected one with a folder for each data set (docs/datasets.md)")
    return sorted(path.name for path in root.iterdir() if (path / "labels").is_dir() or (path / _SEQUENCES).is_dir())


def label_files(folder: Path, split: Split = "all") -> list[Path]:
    """List the label files of one data set's folder.

    `train` are those whose names do not contain test, val, valid, validation or protocol; `validation` and `test` the ones that do, for
    3DPW by their folder. 3DPW's own sequence files are used only if there are no files in `labels`, because both describe the same people.
    """
    files = sorted((folder / "labels").glob("*.npz"))
    if split != "all":
        matches = {
            "train": lambda name: not is_held_out(name),
            "validation": _name_contains("val"),
            "test": _name_contains("test|protocol"),
        }[split]
        files = [file for file in files if matches(file.stem)]
    parts = ("train", "validation", "test") if split == "all" else (split,)
    return files or [file for part in parts for file in sorted((folder / _SEQUENCES / part).glob("*.pkl"))]


def _name_contains(words: str):  # type: ignore[no-untyped-def]
    return lambda name: re.search(words, name, re.IGNORECASE) is not None


def open_set(root: Path, name: str, split: Split = "all", files: Sequence[Path] | None = None) -> ColumnReader | JoinedReader:
    """Open the reader of DIR/NAME.

    Args:
        root: data folder.
        name: short name of the data set.
        split: selects label files.
        files: label files to use instead of the split's.

    Raises:
        UsageError: there are no label files.
        InputError: one of them cannot be read.
    """
    folder = root / name
    chosen = label_files(folder, split) if files is None else list(files)
    if not chosen:
        known = KNOWN.get(name)
        usual = f"; {known.title} usually has {known.labels}" if known else ""
        raise UsageError(f"no labels ({split}) in {folder / 'labels'} or {folder / _SEQUENCES}{usual}")
    return joined(name, [open_file(file, name, folder) for file in chosen])


def open_file(path: Path, name: str, folder: Path) -> ColumnReader:
    """Open one label file of data set `name`, whose pictures are below `folder`.

    Raises:
        InputError: the layout is unknown.
    """
    if path.suffix == ".pkl":
        return ColumnReader(name, read_3dpw(path), folder)
    columns = _read_npz_layout(path, frames=KNOWN[name].films if name in KNOWN else False)
    return ColumnReader(name, columns, _pictures(folder, path.stem, columns))


def _read_npz_layout(path: Path, *, frames: bool) -> Columns:
    try:
        with zipfile.ZipFile(path) as archive:
            keys = {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"cannot read {path}: {' '.join(str(error).split())}; expected labels in an .npz file") from error
    if "image_path" in keys:
        return read_humandata(path, frames=frames)
    if "pose_cam" in keys:
        return read_bedlam(path, frames=frames)
    if "imgname" in keys:
        return read_spin(path, frames=frames)
    raise InputError(
        f"{path} holds {', '.join(sorted(keys)[:8]) or 'nothing'}; expected labels in the layout of SPIN (imgname), BEDLAM (imgname and "
        "pose_cam) or HumanData (image_path), docs/datasets.md"
    )


def _pictures(folder: Path, stem: str, columns: Columns) -> Path:
    """The folder to which the labels' paths are relative: the set's, or one in it named images or like the label file (BEDLAM: its png)."""
    some = columns.images[:: max(1, len(columns) // 4)][:4].tolist()
    for candidate in (folder, folder / "images", folder / stem / "png", folder / stem):
        if any((candidate / image).is_file() for image in some):
            return candidate
    return folder


def parts_of(reader: ColumnReader | JoinedReader) -> Iterable[ColumnReader]:
    """Return the single-file readers of a reader."""
    return (reader,) if isinstance(reader, ColumnReader) else reader.parts
