"""What was measured on: the machine and the versions of what ran."""

from __future__ import annotations

import os
import platform
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
"""Those that are not installed are left out of what is reported."""


def machine() -> dict[str, str | int | None]:
    """Processor, cores that this process may use, system, and the GPU where torch sees one."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": cpu_name(), "cores": cores(), "system": f"{platform.system()} {platform.machine()}", "gpu": gpu}


def versions() -> dict[str, str]:
    """Of Python and the packages that speed depends on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def cores() -> int:
    """That this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def cpu_name() -> str:
    """As the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
