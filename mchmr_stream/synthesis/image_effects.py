"""Effects of lens, sensor and file format on a picture. Mild on average: most pictures stay sharp and well exposed."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class EffectSettings:
    """Frequencies and strengths of the effects."""

    backlight_probability: float = 0.06
    defocus_probability: float = 0.25
    defocus_px: tuple[float, float] = (0.5, 1.6)
    motion_probability: float = 0.1
    motion_px: tuple[int, int] = (3, 9)
    low_resolution_probability: float = 0.15
    noise_probability: float = 0.4
    noise_levels: tuple[float, float] = (1.0, 9.0)
    grey_probability: float = 0.03
    jpeg_quality: tuple[int, int] = (45, 95)


def draw_exposure(rng: np.random.Generator, settings: EffectSettings) -> float:
    """Draw the mean brightness of white on people, linear: around 0.9, under half of that against the light."""
    exposure = float(np.exp(rng.normal(np.log(0.9), 0.22)))
    return exposure * float(rng.uniform(0.25, 0.5)) if rng.random() < settings.backlight_probability else exposure


def degrade(rng: np.random.Generator, rgb: Tensor, settings: EffectSettings) -> Tensor:
    """Apply lens and sensor effects to (height, width, 3) display values 0..255."""
    picture = rgb.permute(2, 0, 1)[None]
    if rng.random() < settings.low_resolution_probability:
        small = functional.interpolate(picture, scale_factor=float(rng.uniform(0.4, 0.85)), mode="bilinear", antialias=True)
        picture = functional.interpolate(small, size=picture.shape[2:], mode="bilinear")
    if rng.random() < settings.defocus_probability:
        picture = _gaussian(picture, float(rng.uniform(*settings.defocus_px)))
    if rng.random() < settings.motion_probability:
        picture = _smear(picture, int(rng.integers(settings.motion_px[0], settings.motion_px[1] + 1)), float(rng.uniform(0, np.pi)))
    gain = rng.uniform(0.85, 1.18) * rng.uniform(0.94, 1.06, 3)
    picture = picture * torch.as_tensor(gain, dtype=torch.float32).view(3, 1, 1) + float(rng.uniform(-8, 10))
    gamma = float(rng.uniform(0.85, 1.15))
    picture = 255 * (picture.clamp(0, 255) / 255) ** gamma
    if rng.random() < settings.grey_probability:
        picture = picture.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    if rng.random() < settings.noise_probability:
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        picture = picture + torch.randn(picture.shape, generator=generator) * float(rng.uniform(*settings.noise_levels))
    return picture[0].permute(1, 2, 0).clamp(0, 255)


def encode_jpeg(rng: np.random.Generator, rgb: Tensor, settings: EffectSettings) -> bytes:
    """Encode (height, width, 3) 0..255 as a JPEG file of random quality."""
    stream = io.BytesIO()
    picture = Image.fromarray(rgb.round().to(torch.uint8).numpy())
    picture.save(stream, "JPEG", quality=int(rng.integers(settings.jpeg_quality[0], settings.jpeg_quality[1] + 1)))
    return stream.getvalue()


def _gaussian(picture: Tensor, sigma: float) -> Tensor:
    reach = max(1, round(2.5 * sigma))
    weights = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel = (weights / weights.sum()).tolist()
    padded = functional.pad(picture, (reach, reach, reach, reach), mode="replicate")
    height, width = picture.shape[2:]
    rows = sum(padded[:, :, k : k + height] * weight for k, weight in enumerate(kernel))
    return sum(rows[..., k : k + width] * weight for k, weight in enumerate(kernel))


def _smear(picture: Tensor, length_px: int, angle_rad: float) -> Tensor:
    """Motion blur of a moving camera: the mean of copies shifted along a line."""
    height, width = picture.shape[2:]
    reach = length_px // 2 + 1
    padded = functional.pad(picture, (reach, reach, reach, reach), mode="replicate")
    total = torch.zeros_like(picture)
    for step in np.linspace(-length_px / 2, length_px / 2, length_px):
        dx, dy = round(reach + step * np.cos(angle_rad)), round(reach + step * np.sin(angle_rad))
        total += padded[:, :, dy : dy + height, dx : dx + width]
    return total / length_px
