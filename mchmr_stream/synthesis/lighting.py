"""Light of a scene as nine spherical-harmonic colours plus a few distant lamps, in world axes (y up).

Irradiance from spherical harmonics: Ramamoorthi and Hanrahan, "An Efficient Representation for Irradiance Environment
Maps", 2001. Values are irradiance over pi, so white in uniform light of radiance 1 reflects 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_LOBE = np.array([1.0, 2 / 3, 2 / 3, 2 / 3, 0.25, 0.25, 0.25, 0.25, 0.25])
"""Cosine lobe over pi, per coefficient (bands 0, 1, 2)."""


@dataclass(frozen=True, eq=False)
class Light:
    """The light on people."""

    harmonics: Tensor
    """(9, 3) radiance coefficients, linear colour"""
    lamp_directions: Tensor
    """(lamps, 3) unit vectors towards each lamp"""
    lamp_colours: Tensor
    """(lamps, 3)"""

    def irradiance(self, normals: Tensor) -> Tensor:
        """Compute the irradiance of (p, 3) unit normals in world axes -> (p, 3) linear colour, never negative."""
        soft = _basis(normals) @ (self.harmonics * torch.as_tensor(_LOBE, dtype=normals.dtype, device=normals.device)[:, None])
        lamps = (normals @ self.lamp_directions.T).clamp(min=0) @ self.lamp_colours
        return (soft + lamps).clamp(min=0.01)


def light_of_panorama(radiance: np.ndarray, yaw_rad: float) -> Light:
    """Compute the light of an equirectangular picture (h, w, 3), linear, rotated about the vertical like the picture itself."""
    height, width = radiance.shape[:2]
    polar = (np.arange(height) + 0.5) / height * np.pi
    azimuth = (np.arange(width) + 0.5) / width * 2 * np.pi - np.pi - yaw_rad
    sin, cos = np.sin(polar)[:, None], np.cos(polar)[:, None]
    directions = np.stack([sin * np.sin(azimuth), np.broadcast_to(cos, (height, width)), sin * np.cos(azimuth)], -1)
    solid_angle = sin * (np.pi / height) * (2 * np.pi / width)
    basis = _basis(torch.as_tensor(directions.reshape(-1, 3))).numpy()
    # The sun, thousands of times brighter, would leave the rest black: it is clipped at a hundred times the median.
    held = np.minimum(radiance, 100 * np.median(radiance)).reshape(-1, 3)
    harmonics = basis.T @ (held * np.broadcast_to(solid_angle, (height, width)).reshape(-1, 1))
    return Light(torch.as_tensor(harmonics, dtype=torch.float32), torch.zeros(0, 3), torch.zeros(0, 3))


def drawn_light(rng: np.random.Generator, tint: np.ndarray) -> Light:
    """Draw light without a picture: coloured surroundings, brighter above than below, and one to three soft lamps."""
    harmonics = np.zeros((9, 3))
    harmonics[0] = tint * rng.uniform(0.5, 0.9) / 0.282095
    harmonics[1] = tint * rng.uniform(0.1, 0.45)
    lamps = int(rng.integers(1, 4))
    directions = rng.normal(size=(lamps, 3))
    directions[:, 1] = np.abs(directions[:, 1]) + 0.2
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    colours = rng.uniform(0.1, 0.7, (lamps, 1)) * rng.uniform(0.85, 1.1, (lamps, 3))
    as_float = lambda array: torch.as_tensor(array, dtype=torch.float32)
    return Light(as_float(harmonics), as_float(directions), as_float(colours))


def _basis(d: Tensor) -> Tensor:
    """(p, 3) unit vectors -> (p, 9) real spherical harmonics; y is the axis."""
    x, y, z = d[:, 0], d[:, 1], d[:, 2]
    rows = [torch.full_like(x, 0.282095), 0.488603 * y, 0.488603 * z, 0.488603 * x, 1.092548 * x * y, 1.092548 * y * z,
            0.315392 * (3 * y * y - 1), 1.092548 * x * z, 0.546274 * (z * z - x * x)]  # fmt: skip
    return torch.stack(rows, 1)
