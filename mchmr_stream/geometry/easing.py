"""Smooth steps between two levels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def smoothstep(value: NDArray[np.floating], low: float = 0.0, high: float = 1.0) -> NDArray[np.floating]:
    """0 below `low`, 1 above `high`, and the cubic 3 t^2 - 2 t^3 between, with zero slope at both ends."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
