"""Writing .safetensors files: whole or not at all, and readable for everybody whom the umask admits."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write tensors with a header of texts, over what is there.

    safetensors is imported here: training runs on machines that have torch and numpy only.
    """
    from safetensors.torch import save_file

    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.touch()
        mode = stat.S_IMODE(part.stat().st_mode)  # as umask and folder have it; safetensors makes files for their owner alone
        save_file({name: value.contiguous() for name, value in tensors.items()}, part, dict(header))
        part.chmod(mode)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
