"""Safe reading of foreign checkpoints: tensors only, with sizes checked before memory is allocated."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mchmr_stream.errors import InputError, MissingPart

MAX_FILE_BYTES = 4 * 2**30
MAX_VALUES = 2**25
"""Per tensor: three times the largest one of any known layout. A file can claim more than it stores."""

# torch.load raises any of these on damaged data, depending on the position of the damage.
_DAMAGE = (
    RuntimeError, OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, AssertionError, OverflowError, MemoryError,
    UnicodeError, ArithmeticError, ImportError,
)  # fmt: skip
_CONTAINERS = ("model", "state_dict")
_WRAPPER = "module."


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the weights of a .pt, .pth, .ckpt or .safetensors file.

    They are taken from "model" or "state_dict", else from the top level; the prefix "module." of parallel training is removed. Pickled
    objects other than tensors are refused, never run.

    Args:
        path: The file.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        MissingPart: The file does not exist.
        InputError: Anything else, in one line.
    """
    if not path.is_file():
        raise MissingPart(f"checkpoint {path} is {'a folder' if path.is_dir() else 'not there'}, expected a .pt, .pth or .safetensors file")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InputError(f"checkpoint {path} has {path.stat().st_size} bytes, expected at most {MAX_FILE_BYTES}")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickled(path)
    for name in _CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
            break
    if not isinstance(content, dict):
        raise InputError(f"checkpoint {path} holds a {type(content).__name__}, expected named tensors")
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        raise InputError(f"checkpoint {path} holds no named tensors, neither at its top nor under {' or '.join(_CONTAINERS)}")
    if all(name.startswith(_WRAPPER) for name in tensors):
        tensors = {name.removeprefix(_WRAPPER): value for name, value in tensors.items()}
    for name, value in tensors.items():
        if value.layout != torch.strided or value.is_quantized or value.is_complex() or value.numel() > MAX_VALUES:
            raise InputError(f"checkpoint {path}: {name} of shape {tuple(value.shape)} is no plain tensor of at most {MAX_VALUES} numbers")
    return tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read checkpoint {path}: {' '.join(str(error).split())}") from error


def _read_pickled(path: Path) -> Any:
    zipped = zipfile.is_zipfile(path)
    if zipped:
        _check_members(path)
    try:
        # Memory-mapped, a tensor takes memory only once it is read.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        # torch's message advises to switch the protection off.
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"{named[1]}, which is no tensor" if named else "something that is no tensor"
        raise InputError(
            f"checkpoint {path} pickles {what}: it could run code when read, so it is not read; "
            "save its state_dict alone, or as .safetensors, where you trust it"
        ) from error
    except _DAMAGE as error:
        raise InputError(f"cannot read checkpoint {path}: damaged, cut off, or no file of torch.save") from error


def _check_members(path: Path) -> None:
    """Refuse compressed zip files, which could expand to any size; those of torch.save are not compressed."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise InputError(f"cannot read checkpoint {path}: damaged zip file") from error
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise InputError(f"checkpoint {path} is a compressed zip file, expected one written by torch.save; unpack it first")
