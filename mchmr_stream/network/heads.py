"""Decoders of the fused features: one body, V local cameras, and the embedding of the contrastive loss."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mchmr_stream.geometry.rotation import matrix_from_sixd

JOINTS, BETAS = 24, 10


class HeadOutput(NamedTuple):
    """The head's output for n people, rolled camera."""

    rotations: Tensor
    """(n, 24, 3, 3)"""
    betas: Tensor
    """(n, 10)"""
    views_cam: Tensor
    """(n, V, 3)"""
    joint_log_sigma: Tensor
    """(n, 24)"""
    embedding: Tensor
    """(n, V, E) unit vectors, for the contrastive loss"""


class ResidualMLP(nn.Module):
    """Pre-norm residual blocks.

    Args:
        dim: Width.
        depth: Number of blocks.
        dropout: Dropout rate.
    """

    def __init__(self, dim: int, depth: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(dim, dim)) for _ in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x


class BodyDecoder(nn.Module):
    """One shared body: rotations as 6D residuals to the mean pose, betas, and the uncertainty of each joint."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.out = nn.Linear(dim, JOINTS * 6 + BETAS + JOINTS)
        nn.init.normal_(self.out.weight, std=0.01)
        nn.init.zeros_(self.out.bias)
        self.mean_sixd: Tensor
        self.register_buffer("mean_sixd", torch.tensor([1.0, 0, 0, 1, 0, 0]).repeat(JOINTS))

    def forward(self, person: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(n, dim) -> rotations (n, 24, 3, 3), betas (n, 10), joint_log_sigma (n, 24): log of the expected error in metres."""
        sixd, betas, log_sigma = self.out(person).split([JOINTS * 6, BETAS, JOINTS], -1)
        rotations = matrix_from_sixd((sixd + self.mean_sixd).reshape(-1, JOINTS, 6))
        return rotations, betas, log_sigma.clamp(-6.0, 0.5) - 2.5


class CameraDecoder(nn.Module):
    """The local camera of each view: weak-perspective scale and shift of the body in that crop.

    A body in a crop twice as large appears at half the scale, and a shifted crop shifts it. The layer therefore starts from the camera
    that the crop's position implies and learns the rest.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.out = nn.Sequential(nn.Linear(2 * dim, 128), nn.GELU(), nn.Linear(128, 3))

    def forward(self, fused: Tensor, person: Tensor, views: Tensor) -> Tensor:
        """fused (n, V, dim), person (n, dim), views (n, V, 3) in base coordinates -> (n, V, 3): s, tx, ty."""
        raw = self.out(torch.cat([fused, person[:, None].expand(-1, fused.shape[1], -1)], -1))
        base_scale = torch.exp(raw[..., :1].clamp(-3, 3))
        metres_per_base_side = 2 / base_scale
        scale = base_scale / views[..., 2:]
        shift = raw[..., 1:] - views[..., :2] * metres_per_base_side
        return torch.cat([scale, shift], -1)


class ProjectionHead(nn.Module):
    """Features of one crop -> a unit vector in which crops of one person are close; used in training only.

    Args:
        dim: Width of the features.
        out: Width of the vector.
    """

    def __init__(self, dim: int, out: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, out))

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.normalize(self.layers(features), dim=-1)
