"""Which array library a value belongs to, so that one formula serves numpy and torch."""

from __future__ import annotations

from typing import Any

import numpy as np


def library_of(array: Any) -> Any:
    """`torch` for its tensors, else `numpy`; torch is imported only when its tensors are in play."""
    if type(array).__module__.startswith("torch"):
        import torch

        return torch
    return np
