"""Find a tritonserver and the files that it needs."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from mchmr_stream.errors import MissingPart

_STUB = "triton_python_backend_stub"
_HOW = (
    "`pip install --no-deps nvidia-pytriton` brings one (Linux x86-64; without --no-deps it would replace numpy), "
    "NVIDIA's container has one, or name yours with --tritonserver"
)


@dataclass(frozen=True)
class TritonBinary:
    """A tritonserver. `backend_files` belong into its folder of backends; empty where it finds its own."""

    path: Path
    backend_files: tuple[Path, ...] = ()
    library_folders: tuple[Path, ...] = ()


def find_tritonserver(named: Path | None = None) -> TritonBinary:
    """Find tritonserver: the named one, else one on PATH, else that of the nvidia-pytriton wheel.

    Args:
        named: A program.

    Returns:
        The program and its files.

    Raises:
        MissingPart: There is none; the message says how to install one.
    """
    if named is not None:
        if not os.access(named, os.X_OK) or named.is_dir():
            raise MissingPart(f"no program at {named}, expected a tritonserver; {_HOW}")
        return TritonBinary(named.resolve())
    on_path = shutil.which("tritonserver")
    if on_path is not None:
        return TritonBinary(Path(on_path).resolve())
    found = importlib.util.find_spec("pytriton")  # finds the folder without running its code, which would need numpy 1
    if found is None or not found.submodule_search_locations:
        raise MissingPart(f"no tritonserver here (not on PATH, and the package nvidia-pytriton is not installed); {_HOW}")
    return _in_wheel(Path(found.submodule_search_locations[0]) / "tritonserver")


def _in_wheel(root: Path) -> TritonBinary:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    server, stub = root / "bin" / "tritonserver", root / "python_backend_stubs" / python / _STUB
    backend = root / "backends" / "python"
    files = (backend / "libtriton_python.so", backend / "triton_python_backend_utils.py", stub)
    for path in (server, *files):
        if not path.is_file():
            raise MissingPart(f"nvidia-pytriton has no {path.relative_to(root)}: it does not serve Python {python}; {_HOW}")
    libraries = [Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib"), Path(sysconfig.get_config_var("LIBPL") or "/usr/lib")]
    return TritonBinary(server, files, tuple(libraries))
