"""Writing .safetensors files: whole or not at all, and readable for everybody whom the umask admits."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mchmr_stream.errors import MchmrError
from mchmr_stream.files.atomic import temporary_beside
from mchmr_stream.files.output_lock import claimed


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write tensors with a header of texts, over what is there. Raises MchmrError where the disk refuses, or another process writes it.

    safetensors is imported late: training runs on machines that have torch and numpy only.
    """
    with claimed([path]):
        _write(path, tensors, header)


def _write(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    part = temporary_beside(path)
    try:
        part.touch()
        mode = stat.S_IMODE(part.stat().st_mode)  # as umask and folder have it; safetensors makes files for their owner alone
        save_file({name: value.contiguous() for name, value in tensors.items()}, part, dict(header))
        part.chmod(mode)
        part.replace(path)
    except SafetensorError as error:  # what else is an OSError, as on a full disk
        raise MchmrError(f"cannot write {path}: {error}") from error
    finally:
        part.unlink(missing_ok=True)
