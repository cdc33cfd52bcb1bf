"""Selection of the array library of a value, so that one formula serves numpy and torch."""

from __future__ import annotations

from typing import Any

import numpy as np


def library_of(array: Any) -> Any:
    """`torch` for torch tensors, else `numpy`; torch is imported only if its tensors occur."""
    if type(array).__module__.startswith("torch"):
        import torch

        return torch
    return np
