"""Reading of untrusted .npz files: no pickle, and sizes are checked before arrays are allocated."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mchmr_stream.errors import InputError

MAX_ARRAY_BYTES = 4 * 2**30


def read_npz(path: str | Path, names: Iterable[str], *, optional: Iterable[str] = (), what: str = "npz file") -> dict[str, NDArray]:
    """Read arrays of an .npz file.

    Args:
        path: The file.
        names: Required arrays.
        optional: Arrays that are read if they exist.
        what: Kind of file, for messages.

    Returns:
        The arrays by name.

    Raises:
        InputError: The file is missing or damaged, lacks an array, or contains one that is pickled, larger than 4 GiB, or larger than the
            bytes stored for it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            missing = [name for name in names if name not in members]
            if missing:
                raise InputError(f"{path} lacks {', '.join(missing)}, expected {what} with {', '.join(names)}")
            selected = [*names, *(name for name in optional if name in members)]
            return {name: _read_array(archive, members[name], path, name) for name in selected}
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist, expected {what}") from error
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"cannot read {path}: {' '.join(str(error).split())}; expected {what}") from error


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: str | Path, name: str) -> NDArray:
    try:
        with archive.open(info) as file:
            shape, dtype = _read_header(file)
            stored = info.file_size - file.tell()
            needed = math.prod(shape) * dtype.itemsize
            if dtype.hasobject:
                raise InputError(f"{path}: {name} holds pickled Python objects, expected plain numbers or text")
            if needed > MAX_ARRAY_BYTES or needed != stored:
                raise InputError(
                    f"{path}: {name} of shape {shape} claims {needed} bytes, {stored} are stored; at most {MAX_ARRAY_BYTES} are read"
                )
        with archive.open(info) as file:
            return npy.read_array(file, allow_pickle=False)
    except ValueError as error:
        raise InputError(f"{path}: {name} is no numpy array: {' '.join(str(error).split())}") from error


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype
