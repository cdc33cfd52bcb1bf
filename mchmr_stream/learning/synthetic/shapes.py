"""Random bodies: both sexes in equal number, with more varied limb proportions than the body's own samples have.

The 1,800 sample bodies fall into two clean groups along one direction of the 10 betas: the sexes. Drawing each beta
on its own mixes them up, so a body is drawn from one group. The samples' arm-to-leg length ratio is 0.602 +- 0.019, well
under real people's (about 0.65); moving along the ratio's gradient in beta space corrects it and stays exact in the
shipped body's terms. On top of that some bodies get bones stretched, which betas cannot say exactly (`exact` is False there).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mchmr_stream.learning.synthetic.rig import LIMB_NAMES, RenderBody

SEXES = ("female", "male")


@dataclass(frozen=True)
class ShapeSettings:
    """How far bodies vary."""

    spread: float = 1.1
    """around the mean of the sex, in the samples' own scatter"""
    jitter: float = 0.3
    """independent noise on every beta"""
    ratio_shift: float = 1.3
    """mean move along the arm-to-leg gradient, in its standard deviations (0.019 of ratio each)"""
    ratio_spread: float = 1.2
    stretched_probability: float = 0.4
    stretch_mean: tuple[float, ...] = (0.04, 0.04, -0.01, -0.01, 0.0)
    """of each of LIMB_NAMES, where a body is stretched at all"""
    stretch_spread: tuple[float, ...] = (0.05, 0.05, 0.04, 0.04, 0.03)


@dataclass(frozen=True, eq=False)
class BodyShape:
    """One person's build."""

    sex: str
    shape: np.ndarray
    """(SHAPE_SIZE,): betas, then stretches"""

    @property
    def exact(self) -> bool:
        """Whether betas alone say it all."""
        return not self.shape[10:].any()


class ShapeSampler:
    """Draws builds."""

    def __init__(self, body: RenderBody, settings: ShapeSettings | None = None) -> None:
        self.settings = settings or ShapeSettings()
        samples = body.sample_betas.astype(np.float64)
        is_male = _split_sexes(samples)
        self._samples = {"male": samples[is_male], "female": samples[~is_male]}
        self._ratio_direction = _ratio_direction(body, samples)

    def draw(self, rng: np.random.Generator, sex: str) -> BodyShape:
        """A build of the given sex."""
        set_ = self.settings
        samples = self._samples[sex]
        mean = samples.mean(0)
        betas = mean + set_.spread * (samples[rng.integers(len(samples))] - mean) + set_.jitter * rng.normal(size=10)
        betas = betas + self._ratio_direction * rng.normal(set_.ratio_shift, set_.ratio_spread)
        stretch = np.zeros(len(LIMB_NAMES))
        if rng.random() < set_.stretched_probability:
            stretch = rng.normal(set_.stretch_mean, set_.stretch_spread).clip(-0.12, 0.16)
        return BodyShape(sex, np.concatenate([betas, stretch]).astype(np.float32))


def arm_to_leg_ratio(joints_m: torch.Tensor) -> torch.Tensor:
    """(n, 24, 3) -> (n,): shoulder-elbow-wrist over hip-knee-ankle, left side."""
    length = lambda a, b: (joints_m[:, a] - joints_m[:, b]).norm(dim=-1)
    return (length(16, 18) + length(18, 20)) / (length(1, 4) + length(4, 7))


def _ratio_direction(body: RenderBody, samples: np.ndarray) -> np.ndarray:
    """The unit direction in beta space along which the arm-to-leg ratio grows fastest."""
    shape = torch.zeros(len(samples), body.joint_directions.shape[-1])
    shape[:, :10] = torch.as_tensor(samples, dtype=torch.float32)
    ratio = arm_to_leg_ratio(body.rest_joints(shape)).double().numpy()
    slope = np.linalg.lstsq(np.c_[samples, np.ones(len(samples))], ratio, rcond=None)[0][:10]
    return slope / np.linalg.norm(slope)


def _split_sexes(betas: np.ndarray) -> np.ndarray:
    """(n, 10) -> (n,) True for men: two Gaussians with one covariance, fitted by expectation-maximisation.

    Started from stature (beta 0, taller = male), which already agrees for most.
    """
    male = (betas[:, 0] > 0).astype(np.float64)
    for _ in range(60):
        means = [(w[:, None] * betas).sum(0) / w.sum() for w in (1 - male, male)]
        offsets = [betas - mean for mean in means]
        covariance = sum((w[:, None] * d).T @ d for w, d in zip((1 - male, male), offsets, strict=True)) / len(betas)
        precision = np.linalg.inv(covariance + 1e-3 * np.eye(10))
        distance = [np.einsum("ni,ij,nj->n", d, precision, d) for d in offsets]
        odds = np.log(male.mean() / (1 - male.mean())) + (distance[0] - distance[1]) / 2
        male = 1 / (1 + np.exp(-odds.clip(-50, 50)))
    return male > 0.5
