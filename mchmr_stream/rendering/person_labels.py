"""Boxes and person numbers drawn on a picture.

The only text is ten digits, so they are drawn here as strokes of even width: a font library would be another dependency, and ffmpeg's
text filter needs a font file that some machines lack.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datatypes import Float

Picture = NDArray[np.uint8]
Stroke = tuple[tuple[float, float], ...]

_SIX: Stroke = (
    (3.6, 0.3), (2.3, 0.0), (1.0, 0.7), (0.2, 2.2), (0.0, 4.2), (0.3, 5.3), (1.2, 6.0), (2.8, 6.0), (3.7, 5.3), (4.0, 4.2),
    (3.6, 3.1), (2.7, 2.5), (1.4, 2.6), (0.4, 3.3), (0.0, 4.2),
)  # fmt: skip
DIGITS: dict[str, tuple[Stroke, ...]] = {
    "0": (
        ((1.2, 0), (2.8, 0), (3.7, 0.9), (4, 2.2), (4, 3.8), (3.7, 5.1), (2.8, 6)),
        ((2.8, 6), (1.2, 6), (0.3, 5.1), (0, 3.8), (0, 2.2), (0.3, 0.9), (1.2, 0)),
    ),
    "1": (((0.6, 1.2), (2.3, 0), (2.3, 6)),),
    "2": (((0.1, 1.5), (0.5, 0.5), (1.4, 0), (2.7, 0), (3.6, 0.6), (3.9, 1.6), (3.5, 2.7), (0, 6), (4, 6)),),
    "3": (
        ((0.2, 0.9), (1.3, 0), (2.7, 0), (3.6, 0.6), (3.7, 1.7), (3.1, 2.6), (1.8, 2.8)),
        ((1.8, 2.8), (3.2, 3), (4, 3.9), (3.9, 5.1), (2.9, 6), (1.3, 6), (0, 5.1)),
    ),
    "4": (((3, 6), (3, 0), (0, 4.3), (4.2, 4.3)),),
    "5": (((3.7, 0), (0.6, 0), (0.3, 2.7), (1.4, 2.2), (2.7, 2.2), (3.7, 2.9), (4, 4), (3.7, 5.2), (2.7, 6), (1.2, 6), (0, 5.2)),),
    "6": (_SIX,),
    "7": (((0, 0), (4, 0), (1.5, 6)),),
    "8": (
        ((2, 2.8), (0.9, 2.5), (0.3, 1.4), (0.8, 0.4), (2, 0), (3.2, 0.4), (3.7, 1.4), (3.1, 2.5), (2, 2.8)),
        ((2, 2.8), (0.7, 3.3), (0, 4.4), (0.5, 5.5), (2, 6), (3.5, 5.5), (4, 4.4), (3.3, 3.3), (2, 2.8)),
    ),
    "9": (tuple((4 - x, 6 - y) for x, y in _SIX),),
}  # fmt: skip
"""Strokes of each digit in a box of 4 x 6, y down."""
_WIDTH, _HEIGHT, _GAP, _PEN = 4.0, 6.0, 1.7, 0.95


def paint_box(rgb: Picture, box_xyxy_px: Float, colour: Float, thickness: int) -> None:
    """Draw a frame around a box, in place. Parts outside the picture are clipped.

    Args:
        rgb: (height, width, 3).
        box_xyxy_px: (4,).
        colour: (3,) in [0, 1].
        thickness: Line width, px.
    """
    height, width = rgb.shape[:2]
    left, top, right, bottom = (round(float(value)) for value in np.clip(np.nan_to_num(box_xyxy_px), -1e6, 1e6))
    paint = np.round(colour * 255).astype(np.uint8)
    half = thickness // 2
    # At least 0, because a negative end counts from the other side.
    span = lambda start, end, limit: slice(min(max(start, 0), limit), min(max(end, 0), limit))
    across, along = span(left - half, right + thickness - half, width), span(top - half, bottom + thickness - half, height)
    for y in (top, bottom):
        rgb[span(y - half, y - half + thickness, height), across] = paint
    for x in (left, right):
        rgb[along, span(x - half, x - half + thickness, width)] = paint


def paint_number(rgb: Picture, number: int, corner_xy_px: tuple[float, float], colour: Float, size_px: int) -> None:
    """Draw a label with a number, kept inside the picture.

    Args:
        rgb: (height, width, 3), changed in place.
        number: The number.
        corner_xy_px: Lower left corner of the label.
        colour: (3,) of the label, in [0, 1].
        size_px: Its height.
    """
    digits = _number_mask(str(number), size_px)
    height, width = digits.shape
    if height > rgb.shape[0] or width > rgb.shape[1]:
        return
    left = int(np.clip(round(corner_xy_px[0]), 0, rgb.shape[1] - width))
    top = int(np.clip(round(corner_xy_px[1]) - height, 0, rgb.shape[0] - height))
    is_light = float(colour @ np.array([0.30, 0.59, 0.11])) > 0.5
    ink = np.zeros(3) if is_light else np.ones(3)
    tab = colour + digits[..., None] * (ink - colour)
    rgb[top : top + height, left : left + width] = np.round(tab * 255).astype(np.uint8)


@lru_cache(maxsize=256)
def _number_mask(digits: str, size_px: int) -> Float:
    """(size_px, any) in [0, 1]: ink, with soft edges."""
    unit = size_px / (_HEIGHT + 3.6)
    width = round(unit * (len(digits) * (_WIDTH + _GAP) - _GAP + 3.8))
    y, x = np.mgrid[:size_px, :width] + 0.5
    nearest = np.full((size_px, width), np.inf)
    for position, digit in enumerate(digits):
        for stroke in DIGITS[digit]:
            points = np.array(stroke) + np.array([1.9 + position * (_WIDTH + _GAP), 1.8])
            for start, end in pairwise(points):
                nearest = np.minimum(nearest, _distance(x / unit, y / unit, start, end))
    return np.clip((_PEN / 2 - nearest) * unit + 0.5, 0, 1).astype(np.float32)


def _distance(x: NDArray, y: NDArray, start: NDArray, end: NDArray) -> NDArray:
    """Distance of each (x, y) from the segment from `start` to `end`."""
    along = end - start
    part = np.clip(((x - start[0]) * along[0] + (y - start[1]) * along[1]) / (along @ along), 0, 1)
    return np.hypot(x - start[0] - part * along[0], y - start[1] - part * along[1])
