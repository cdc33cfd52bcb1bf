"""The body from which the free body was made, in its own shape space, and a population sampled in it.

A *source shape* is the 10 betas of that body followed by `LIMB_NAMES` stretches; a stretch of 0.05 makes that bone 5 % longer.
tools/make_free_body.py converts a population of source shapes to the ten betas of the body that ships; the renderer does the inverse.
No other module uses source shapes.

The 1,800 sample bodies form two separate groups along one direction of the 10 betas: the sexes. Sampling each beta on its own mixes
them, so a body is sampled from one group. The samples' arm-to-leg length ratio is 0.602 +- 0.019, well under real people's (about
0.65); moving along the ratio's gradient in beta space corrects it, and stretches widen it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mchmr_stream.errors import InputError

PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
SEXES = ("female", "male")
LIMB_NAMES = ("upper_arm", "forearm", "thigh", "shank", "trunk")
_LIMB_BONES = {"upper_arm": ((16, 18), (17, 19)), "forearm": ((18, 20), (19, 21)), "thigh": ((1, 4), (2, 5)), "shank": ((4, 7), (5, 8))}
SOURCE_SHAPE_SIZE = 10 + len(LIMB_NAMES)


@dataclass(frozen=True)
class PopulationSettings:
    """Variation of people."""

    spread: float = 1.1
    """around the mean of the sex, in standard deviations of the samples"""
    jitter: float = 0.3
    """independent noise on every beta"""
    ratio_shift: float = 1.3
    """mean shift along the arm-to-leg gradient, in its standard deviations (0.019 of ratio each)"""
    ratio_spread: float = 1.2
    stretch_mean: tuple[float, ...] = (0.04, 0.04, -0.01, -0.01, 0.0)
    """of each of LIMB_NAMES"""
    stretch_spread: tuple[float, ...] = (0.05, 0.05, 0.04, 0.04, 0.03)


@dataclass(frozen=True, eq=False)
class SourceBody:
    """Skeleton and mesh, linear in the source shape. Arrays in float64; rest pose: T-pose, y up, facing +z, metres."""

    template_m: np.ndarray
    """(19158, 3)"""
    directions: np.ndarray
    """(19158, 3, SOURCE_SHAPE_SIZE)"""
    weights: np.ndarray
    """(19158, 24)"""
    joints_m: np.ndarray
    """(24, 3) of the mean shape"""
    joint_directions: np.ndarray
    """(24, 3, SOURCE_SHAPE_SIZE)"""
    quads: np.ndarray
    uv: np.ndarray
    quads_uv: np.ndarray
    subset: np.ndarray
    """(6890,) vertices of the shipped body"""
    sample_betas: np.ndarray
    """(1800, 10) betas of a varied adult population, both sexes"""

    def rest_joints(self, shape: Tensor) -> Tensor:
        """Compute rest joints: (n, SOURCE_SHAPE_SIZE) -> (n, 24, 3)."""
        directions = torch.as_tensor(self.joint_directions, dtype=shape.dtype)
        return torch.as_tensor(self.joints_m, dtype=shape.dtype) + torch.einsum("jik,nk->nji", directions, shape)


def load_source_body(data: Path) -> SourceBody:
    """Read `body/render_body.npz` and the joint regressor of `body/free_body_smpl_f16.npz` under `data`.

    Raises:
        InputError: one of them is missing or holds something else.
    """
    render = _load(data / "body" / "render_body.npz", ("v", "shapedirs", "W", "f", "uv", "fuv", "src", "betas"))
    shipped = _load(data / "body" / "free_body_smpl_f16.npz", ("J_regressor",))
    template = render["v"].astype(np.float64)
    subset = render["src"]
    regressor = shipped["J_regressor"].astype(np.float64)
    joints = regressor @ template[subset]
    weights = render["W"].astype(np.float64)
    directions = np.concatenate([render["shapedirs"].astype(np.float64), _limb_directions(template, weights, joints)], -1)
    joint_directions = np.einsum("jv,vik->jik", regressor, directions[subset])
    return SourceBody(
        template, directions, weights / weights.sum(1, keepdims=True), joints, joint_directions,
        render["f"], render["uv"].astype(np.float32), render["fuv"], subset, render["betas"].astype(np.float64),
    )  # fmt: skip


def draw_population(body: SourceBody, count: int, seed: int, settings: PopulationSettings | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Sample source shapes (count, SOURCE_SHAPE_SIZE) and (count,) True for men; the sexes alternate."""
    set_ = settings or PopulationSettings()
    rng = np.random.default_rng(seed)
    samples = body.sample_betas
    men = _split_sexes(samples)
    by_sex = {"male": samples[men], "female": samples[~men]}
    direction = _ratio_direction(body, samples)
    shapes = []
    for index in range(count):
        group = by_sex[SEXES[index % 2]]
        mean = group.mean(0)
        betas = mean + set_.spread * (group[rng.integers(len(group))] - mean) + set_.jitter * rng.normal(size=10)
        betas = betas + direction * rng.normal(set_.ratio_shift, set_.ratio_spread)
        stretch = rng.normal(set_.stretch_mean, set_.stretch_spread).clip(-0.12, 0.16)
        shapes.append(np.concatenate([betas, stretch]))
    return np.stack(shapes), np.arange(count) % 2 == SEXES.index("male")


def arm_to_leg_ratio(joints_m: torch.Tensor) -> torch.Tensor:
    """Compute the length ratio of shoulder-elbow-wrist to hip-knee-ankle, left side: (n, 24, 3) -> (n,)."""
    length = lambda a, b: (joints_m[:, a] - joints_m[:, b]).norm(dim=-1)
    return (length(16, 18) + length(18, 20)) / (length(1, 4) + length(4, 7))


def _ratio_direction(body: SourceBody, samples: np.ndarray) -> np.ndarray:
    """Unit direction in beta space of the arm-to-leg ratio's gradient."""
    shape = torch.zeros(len(samples), SOURCE_SHAPE_SIZE)
    shape[:, :10] = torch.as_tensor(samples, dtype=torch.float32)
    ratio = arm_to_leg_ratio(body.rest_joints(shape)).double().numpy()
    slope = np.linalg.lstsq(np.c_[samples, np.ones(len(samples))], ratio, rcond=None)[0][:10]
    return slope / np.linalg.norm(slope)


def _split_sexes(betas: np.ndarray) -> np.ndarray:
    """(n, 10) -> (n,) True for men: two Gaussians with one covariance, fitted by expectation-maximisation.

    Initialised by stature (beta 0, taller = male), which is right for most samples.
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


def _limb_directions(template: np.ndarray, weights: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """(v, 3, limbs): motion of the rest surface per unit of stretch of each limb, left and right alike.

    Along the bone a vertex moves in proportion to its position on it; parts beyond the bone move rigidly. Skinning weights blend the two,
    so the surface stays smooth.
    """
    fields = []
    for name in LIMB_NAMES[:-1]:
        field = np.zeros_like(template)
        for start, end in _LIMB_BONES[name]:
            bone = joints[end] - joints[start]
            along = np.clip((template - joints[start]) @ bone / (bone @ bone), 0, 1)
            beyond = [j for j in range(24) if j != start and start in _ancestors(j)]
            share = weights[:, start] * along + weights[:, beyond].sum(1)
            field += share[:, None] * bone
        fields.append(field)
    trunk = np.zeros_like(template)
    trunk[:, 1] = np.clip(template[:, 1], 0, joints[12, 1])
    return np.stack([*fields, trunk], -1)


def _ancestors(joint: int) -> set[int]:
    found: set[int] = set()
    while PARENTS[joint] >= 0:
        joint = PARENTS[joint]
        found.add(joint)
    return found


def _load(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"cannot read {path}: {error}; expected an npz with {', '.join(names)} (the developers' data folder)") from error
