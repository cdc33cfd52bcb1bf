"""Atomic writing of .safetensors files, with the permissions of the umask."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mchmr_stream.errors import MchmrError
from mchmr_stream.files.atomic import atomic_file
from mchmr_stream.files.output_lock import claimed


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write tensors with a header of texts, replacing an existing file.

    safetensors is imported late: training runs on machines that have torch and numpy only.

    Args:
        path: The file.
        tensors: Tensors by name.
        header: Texts by name.

    Raises:
        MchmrError: The file cannot be written, or another process writes it.
    """
    with claimed([path]):
        _write(path, tensors, header)


def _write(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        with atomic_file(path) as part:
            part.touch()
            mode = stat.S_IMODE(part.stat().st_mode)  # of the umask and the folder; safetensors creates files readable by their owner only
            save_file({name: value.contiguous() for name, value in tensors.items()}, part, dict(header))
            part.chmod(mode)
    except SafetensorError as error:  # other failures, such as a full disk, are OSErrors
        raise MchmrError(f"cannot write {path}: {error}") from error
