"""Banks of textures and cloth patterns of equal size, and the description of a surface: a `Material`.

A material refers to the banks by index, so new colours need no copies. Linear light is approximated by the square of display values: close
to sRGB's curve, and cheap.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mchmr_stream.errors import InputError

TEXTURE_SIZE = 512
PATTERN_SIZE = 128
PLAIN = -1


@dataclass(frozen=True)
class Material:
    """One surface: colour = keep * (texture * colour) + (1 - keep) * cloth.

    Cloth is `colour` (and `second_colour` according to the pattern) shaded by the texture's brightness. Colours are linear light, 0..1.
    """

    texture: int
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    second_colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    keep: float = 1.0
    pattern: int = PLAIN
    pattern_scale: float = 4.0
    """repeats of the pattern across the texture"""


class TextureBank:
    """Textures in the order of `paths`, plus one for plain cloth."""

    def __init__(self, paths: list[Path]) -> None:
        self.index = {path: number for number, path in enumerate(paths)}
        self.plain_cloth = len(paths)
        pictures = [_read_rgba(path) for path in paths] + [_plain_cloth()]
        self.rgba = torch.as_tensor(np.stack(pictures))
        """(textures, TEXTURE_SIZE, TEXTURE_SIZE, 4) uint8, row 0 at v = 0"""
        solid = self.rgba[..., 3] > 110
        linear = (self.rgba[..., :3].float() / 255).square()
        self.mean_linear = (linear * solid[..., None]).sum((1, 2)) / solid.sum((1, 2)).clamp(min=1)[:, None]
        """(textures, 3) mean colour of the solid part"""
        self.see_through = (~solid).float().mean((1, 2)) > 0.002
        """(textures,) whether it has holes"""


def pattern_bank(seed: int = 0) -> Tensor:
    """Generate patterns (patterns, PATTERN_SIZE, PATTERN_SIZE) uint8, 0..255: share of the second colour. All tile without seams."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:PATTERN_SIZE, 0:PATTERN_SIZE] / PATTERN_SIZE
    wave = lambda phase: 0.5 + 0.5 * np.sin(2 * np.pi * phase)
    stripes = [wave(4 * y) > 0.5, wave(8 * y) > 0.8, wave(4 * x) > 0.5, wave(10 * x) > 0.85, wave(4 * (x + y)) > 0.5, wave(y) > 0.5]
    checks = [
        (wave(4 * x) > 0.5) * 0.5 + (wave(4 * y) > 0.5) * 0.5,
        (wave(3 * x) > 0.9) | (wave(3 * y) > 0.9),
        (wave(4 * x) > 0.5) ^ (wave(4 * y) > 0.5),
    ]
    dots = [wave(4 * x) * wave(4 * y) > 0.6, wave(7 * (x + y)) * wave(7 * (x - y)) > 0.8]
    blotches = [_tiling_noise(rng, cells) > threshold for cells, threshold in ((4, 0.5), (8, 0.5), (8, 0.65), (16, 0.6), (3, 0.55))]
    soft = [_tiling_noise(rng, cells) for cells in (3, 6, 12)]
    patterns = np.stack([np.asarray(pattern, np.float64) for pattern in stripes + checks + dots + blotches + soft])
    return torch.as_tensor((patterns * 255).clip(0, 255).astype(np.uint8))


def _tiling_noise(rng: np.random.Generator, cells: int, size: int = PATTERN_SIZE) -> np.ndarray:
    """(size, size) in 0..1: smooth noise that tiles, a sum of random waves of about `cells` periods."""
    y, x = np.mgrid[0:size, 0:size] / size
    total = np.zeros((size, size))
    for _ in range(10):
        fx, fy = rng.integers(-cells, cells + 1, 2)
        total += np.sin(2 * np.pi * (fx * x + fy * y + rng.random()))
    return (total - total.min()) / np.ptp(total)


def _plain_cloth() -> np.ndarray:
    """A light cloth with soft folds."""
    rng = np.random.default_rng(7)
    folds = np.zeros((TEXTURE_SIZE, TEXTURE_SIZE))
    for cells, weight in ((6, 0.5), (14, 0.3), (30, 0.2)):
        folds += _tiling_noise(rng, cells, TEXTURE_SIZE) * weight
    grey = (255 * (0.78 + 0.22 * folds)).astype(np.uint8)
    return np.dstack([grey, grey, grey, np.full_like(grey, 255)])


def _read_rgba(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            scaled = picture.convert("RGBA").resize((TEXTURE_SIZE, TEXTURE_SIZE), Image.Resampling.LANCZOS)
    except OSError as error:
        raise InputError(f"cannot read texture {path}: {error}; expected a picture") from error
    return np.asarray(scaled)[::-1].copy()
