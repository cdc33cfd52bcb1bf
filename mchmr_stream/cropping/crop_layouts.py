"""Named layouts: arrangement of a person's views around the base box."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mchmr_stream.datatypes import Float
from mchmr_stream.errors import UsageError

MAX_VIEWS = 9

_PAPER = (
    # The five views of the main results of arXiv 2402.02074; the four diagonal ones extend it beyond five.
    (0.0, 0.0, 1.00),
    (0.1, 0.0, 1.50),
    (-0.1, 0.0, 1.25),
    (0.0, 0.1, 0.80),
    (0.0, -0.1, 0.65),
    (0.1, 0.1, 0.85),
    (0.1, -0.1, 0.70),
    (-0.1, 0.1, 0.55),
    (-0.1, -0.1, 0.40),
)
_WIDE = (
    # Scales around 1.2, where BlazePose is best (docs/training.md): tighter crops truncate limbs, which it then moves inwards.
    (0.0, 0.0, 1.20),
    (0.08, 0.0, 1.40),
    (-0.08, 0.0, 1.30),
    (0.0, 0.08, 1.15),
    (0.0, -0.08, 1.05),
    (0.06, 0.06, 1.25),
    (-0.06, -0.06, 1.45),
    (0.06, -0.06, 1.35),
    (-0.06, 0.06, 1.10),
)


@dataclass(frozen=True, eq=False)
class Layout:
    """Views relative to a base box, and the rule for the base box."""

    name: str
    views: Float
    """(V, 3): shift x, shift y (fractions of the base side, x right, y down) and scale of each view"""
    crop_hw: tuple[int, int]
    """Crop height and width, pixels"""
    base: Literal["keypoints", "box"]
    """keypoints: a square around the limb keypoints, rotated upright; box: around the tracker's box, never rotated"""
    base_factor: float
    """Side of the base box over the extent of the keypoints (of the box)"""

    @property
    def count(self) -> int:
        """V, the number of views."""
        return len(self.views)

    def views_px(self, base_px: Float) -> Float:
        """Place the views around base boxes.

        Args:
            base_px: (n, 3) centre x, centre y, side.

        Returns:
            (n, V, 3) views, in the same plane.
        """
        side = base_px[:, None, 2:]
        centre = base_px[:, None, :2] + self.views[None, :, :2] * side
        return np.concatenate([centre, self.views[None, :, 2:] * side], -1).astype(np.float32)


def layout(name: str, views: int = 5, custom: Sequence[tuple[float, float, float]] | None = None) -> Layout:
    """Build a layout from the first `views` views of a named one.

    Args:
        name: "wide" has 256x256 crops around the keypoints; "paper" 256x192 crops around the box, with the scales and shifts of arXiv
            2402.02074; "custom" the given views, otherwise like "wide".
        views: Number of views.
        custom: (shift x, shift y, scale) of each view.

    Returns:
        The layout.

    Raises:
        UsageError: The name is unknown, the layout has fewer views, or the views are invalid.
    """
    if name not in ("wide", "paper", "custom"):
        raise UsageError(f"crop layout is {name!r}, expected wide, paper or custom")
    if name == "custom" and not custom:
        raise UsageError("crop layout custom has no views: list them as crops.custom=[[shift x, shift y, scale], ...]")
    if name != "custom" and custom is not None:
        raise UsageError(f"views were given, but the crop layout is {name}: use crops.layout=custom, or leave crops.custom out")
    rows = _PAPER if name == "paper" else _WIDE if name == "wide" else _checked(custom or ())
    if not 1 <= views <= len(rows):
        raise UsageError(f"{views} views were asked of crop layout {name}, expected 1 to {len(rows)}")
    array = np.array(rows[:views], np.float32)
    array.flags.writeable = False
    if name == "paper":
        return Layout(name, array, crop_hw=(256, 192), base="box", base_factor=1.2)
    return Layout(name, array, crop_hw=(256, 256), base="keypoints", base_factor=1.35)


def _checked(custom: Sequence[tuple[float, float, float]]) -> Sequence[tuple[float, float, float]]:
    if len(custom) > MAX_VIEWS:
        raise UsageError(f"crop layout custom has {len(custom)} views, expected 1 to {MAX_VIEWS}")
    for number, row in enumerate(custom):
        if len(row) != 3 or not all(math.isfinite(value) for value in row) or not 0.1 <= row[2] <= 10 or max(map(abs, row[:2])) > 2:
            raise UsageError(
                f"view {number} of crop layout custom is {list(row)}, expected [shift x, shift y, scale] "
                "with shifts within -2 to 2 base boxes and a scale of 0.1 to 10"
            )
    return custom
