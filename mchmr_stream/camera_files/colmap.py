"""COLMAP's cameras.txt: one camera per line, `CAMERA_ID MODEL WIDTH HEIGHT PARAMS...`."""

from __future__ import annotations

import re
from typing import Any

_PARAMETERS = {
    "SIMPLE_PINHOLE": ("f", "cx", "cy"),
    "PINHOLE": ("fx", "fy", "cx", "cy"),
    "SIMPLE_RADIAL": ("f", "cx", "cy", "k1"),
    "RADIAL": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV": ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2"),
    "FULL_OPENCV": ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
}
"""Models with supported distortion; the others are for fisheye lenses and panoramas."""
_CAMERA = re.compile(r"\d+\s+[A-Z][A-Z_]+\s+\d+\s+\d+(\s|$)")


def read_colmap(text: str) -> dict[str, dict[str, Any]]:
    """Read the cameras by their number, with field names of `fields.py`.

    COLMAP's origin is the corner of the top-left pixel, here it is the pixel's centre.

    Args:
        text: Content of the file.

    Returns:
        Fields of each camera; empty if the text is no cameras.txt.

    Raises:
        ValueError: A camera has the wrong number of parameters.
    """
    lines = [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]
    if not lines or not all(_CAMERA.match(line) for line in lines):
        return {}
    return dict(map(_camera, lines))


def _camera(line: str) -> tuple[str, dict[str, Any]]:
    number, model, width, height, *values = line.split()
    fields: dict[str, Any] = {"camera_model": model, "width": width, "height": height}
    names = _PARAMETERS.get(model)
    if names is None:
        return number, fields
    if len(values) != len(names):
        raise ValueError(f"camera {number} is {model} with {len(values)} parameters, expected {len(names)}: {' '.join(names)}")
    fields |= {name: float(value) for name, value in zip(names, values, strict=True)}
    return number, fields | {"cx": fields["cx"] - 0.5, "cy": fields["cy"] - 0.5}
