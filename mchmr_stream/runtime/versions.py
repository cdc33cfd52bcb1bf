"""The machine, and the versions of Python and of packages."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "mchmr-stream",
    "torch",
    "numpy",
    "av",
    "kornia",
    "scipy",
    "mediapipe",
    "onnxruntime",
    "openvino",
    "tritonclient",
    "opencv-python",
)
"""Distributions that results and speed depend on."""


def package_version(distribution: str) -> str | None:
    """Installed version of a distribution; None where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of Python and of the installed ones of `packages`."""
    found = {name: package_version(name) for name in packages}
    return {"python": platform.python_version()} | {name: version for name, version in found.items() if version is not None}


def machine() -> dict[str, str | int | None]:
    """Processor, cores that this process may use, system, and the GPU where torch finds one."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": cpu_name(), "cores": usable_cores(), "system": system_name(), "gpu": gpu}


def system_name() -> str:
    """Operating system and architecture, as in "Linux x86_64"."""
    return f"{platform.system()} {platform.machine()}"


def usable_cores() -> int:
    """Number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def cpu_name() -> str:
    """Model name of the processor as the operating system reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
