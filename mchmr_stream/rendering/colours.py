"""One colour per person, the same in every frame and every run."""

from __future__ import annotations

import math

import numpy as np

from mchmr_stream.datatypes import Float

GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
"""Rotating the hue by this angle keeps any number of neighbours apart, without knowing their number."""
FIRST_HUE = 2.2
LIGHTNESS = (0.72, 0.62, 0.80)
CHROMA = 0.15

# OKLab (Björn Ottosson 2020), a perceptually uniform colour space: lab -> cone responses, cone^3 -> linear sRGB.
_CONE_FROM_LAB = np.array([[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]])
_RGB_FROM_CONE = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def identity_colour(track_id: int) -> Float:
    """Colour of an identity: (3,) sRGB in [0, 1]."""
    hue = FIRST_HUE + track_id * GOLDEN_ANGLE
    lab = np.array([LIGHTNESS[track_id % len(LIGHTNESS)], CHROMA * math.cos(hue), CHROMA * math.sin(hue)])
    linear = np.clip(_RGB_FROM_CONE @ (_CONE_FROM_LAB @ lab) ** 3, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055).astype(np.float32)
