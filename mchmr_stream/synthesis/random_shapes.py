"""Random body shapes: betas of the shipped body, both sexes in equal number, drawn around a stored population."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mchmr_stream.synthesis.rig import RenderBody
from mchmr_stream.synthesis.source_body import SEXES, arm_to_leg_ratio

__all__ = ["SEXES", "BodyShape", "ShapeSampler", "ShapeSettings", "arm_to_leg_ratio"]


@dataclass(frozen=True)
class ShapeSettings:
    """Variation of bodies."""

    spread: float = 1.0
    """around the mean of the sex, in standard deviations of the population"""
    jitter: float = 0.2
    """independent noise on every beta"""


@dataclass(frozen=True, eq=False)
class BodyShape:
    """The shape of one person."""

    sex: str
    betas: np.ndarray
    """(10,)"""


class ShapeSampler:
    """Sampler of body shapes."""

    def __init__(self, body: RenderBody, settings: ShapeSettings | None = None) -> None:
        self.settings = settings or ShapeSettings()
        self._samples = {"male": body.sample_betas[body.sample_is_male], "female": body.sample_betas[~body.sample_is_male]}

    def draw(self, rng: np.random.Generator, sex: str) -> BodyShape:
        """Draw a shape of the given sex."""
        samples = self._samples[sex]
        mean = samples.mean(0)
        betas = mean + self.settings.spread * (samples[rng.integers(len(samples))] - mean) + self.settings.jitter * rng.normal(size=10)
        return BodyShape(sex, betas.astype(np.float32))
