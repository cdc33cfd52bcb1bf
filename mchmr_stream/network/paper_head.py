"""The head as published: fusion by an MLP over flattened tokens, and a body regressed in three rounds (arXiv 2402.02074).

It is written from the paper and the computations of the authors' released code. The parameters have its names, so that its checkpoints
fit after a change of prefixes (`checkpoints`). With one view and no fusion it is the head of CLIFF (arXiv 2208.00571). docs/paper.md
explains the differences from this project's head and why that one ships.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mchmr_stream.errors import UsageError
from mchmr_stream.geometry.rotation import matrix_from_sixd
from mchmr_stream.network.fusion import make_fusion
from mchmr_stream.network.heads import BETAS, JOINTS, HeadOutput
from mchmr_stream.network.observations import Observations

ROUNDS = 3
BODIES = ("shared", "per_view")
PAPER_FUSIONS = ("paper", "none", "self_attention", "concat")

_ANY_VIEWS = ("none", "self_attention")
_HIDDEN = 1024
_UNSTATED_LOG_SIGMA = -8.5
"""This head estimates no uncertainty: the least of ours, so that the confidence is the agreement of the cameras alone."""


class ViewBodies(NamedTuple):
    """The regressor's output for each view."""

    rotations: Tensor
    """(n, V, 24, 3, 3), rolled camera"""
    betas: Tensor
    """(n, V, 10)"""
    views_cam: Tensor
    """(n, V, 3): s, tx, ty"""


class PaperHead(nn.Module):
    """Encoder features of V crops -> bodies and V local cameras. It uses no landmarks and no keypoints.

    `bodies` does not change the weights. `per_view`, the authors' code: each view has its own body, and the first view's is used.
    `shared`, the paper's text: all views correct one body, each round by the mean of their corrections, and each its own camera.
    Without dropout the rounds are affine, so that the shared pose, as 6D vectors, and the shared betas are exactly the means of those
    per view.

    Args:
        feature_dim: Width of the encoder's features.
        views: Number of views that the weights are made for: each view gets the box information of all. With 1 each view gets its own
            only, for any number of views.
        fusion: `paper`, `none` (features as they are), or one of `network.fusion` without the crops' positions, for comparison.
        bodies: `shared` or `per_view`.
        token_dim: Width of the fusion's tokens.
        frequencies: L of the positional encoding.
        relative_encoding: False removes the crops' positions from `paper` as well.
        fusion_layers: Layers of a fusion of `network.fusion`.
        fusion_heads: Its attention heads.
        regressor_dim: Width of the regressor's first layer.
        dropout: Dropout rate of the regressor.

    Raises:
        UsageError: Fusion or kind of bodies is unknown, or the views do not suit the fusion.
    """

    def __init__(
        self, feature_dim: int, *, views: int, fusion: str, bodies: str, token_dim: int, frequencies: int, relative_encoding: bool,
        fusion_layers: int, fusion_heads: int, regressor_dim: int, dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        if fusion not in PAPER_FUSIONS:
            raise UsageError(f"network fusion is {fusion!r}, expected with head paper one of {', '.join(PAPER_FUSIONS)}")
        if bodies not in BODIES:
            raise UsageError(f"network bodies is {bodies!r}, expected one of {', '.join(BODIES)}")
        if views < (1 if fusion in _ANY_VIEWS else 2):
            raise UsageError(f"network concat_views is {views}, expected 1 or more, for fusions paper and concat 2 or more")
        self.feature_dim, self.views, self.bodies = feature_dim, views, bodies
        layers: list[nn.Module] = []
        if fusion == "paper":
            layers = [PaperFusion(feature_dim, token_dim, views, frequencies if relative_encoding else None)]
        elif fusion != "none":
            layers = list(
                make_fusion(
                    fusion, feature_dim, layers=fusion_layers, heads=fusion_heads, frequencies=frequencies, dropout=0.0,
                    relative_encoding=False, concat_views=views,
                )
            )  # fmt: skip
        self.fusion = nn.ModuleList(layers)
        self.fc1 = nn.Linear(feature_dim + 3 * views + JOINTS * 6 + BETAS + 3, regressor_dim)
        self.fc2 = nn.Linear(regressor_dim, _HIDDEN)
        self.drop = nn.Dropout(dropout)
        self.decpose, self.decshape, self.deccam = (nn.Linear(_HIDDEN, size) for size in (JOINTS * 6, BETAS, 3))
        for layer in (self.decpose, self.decshape, self.deccam):
            nn.init.xavier_uniform_(layer.weight, gain=0.01)
        self.init_pose: Tensor
        self.init_shape: Tensor
        self.init_cam: Tensor
        self.register_buffer("init_pose", _upright_rest_pose())
        self.register_buffer("init_shape", torch.zeros(1, BETAS))
        self.register_buffer("init_cam", torch.tensor([[0.9, 0.0, 0.0]]))
        # With a single view there is no contrastive loss.
        self.proj_head = _projection(feature_dim) if views > 1 else None

    def forward(self, seen: Observations) -> HeadOutput:
        """As `MultiCropHead`; the body is the shared one, or the first view's."""
        infos = views_info(seen.views, seen.base_info)
        bodies = self.regress(seen.features, infos)
        n = len(seen.features)
        log_sigma = torch.full((n, JOINTS), _UNSTATED_LOG_SIGMA, device=infos.device)
        return HeadOutput(bodies.rotations[:, 0], bodies.betas[:, 0], bodies.views_cam, log_sigma, self.embed(seen.features))

    def regress(self, features: Tensor, infos: Tensor) -> ViewBodies:
        """Regress the body and camera of each view.

        Args:
            features: (n, V, C).
            infos: (n, V, 3) box information of the views.

        Returns:
            Bodies and cameras.

        Raises:
            UsageError: The weights are made for another number of views.
        """
        n, count = features.shape[:2]
        if self.views > 1 and count != self.views:
            raise UsageError(f"this network was made for {self.views} views, got {count}; set crops.views={self.views}")
        fused = features
        for layer in self.fusion:
            fused = layer(fused, infos)
        known = infos if self.views == 1 else infos.flatten(1)[:, None].expand(n, count, -1)
        pose, betas, cam = (start.expand(n, count, -1) for start in (self.init_pose, self.init_shape, self.init_cam))
        for _ in range(ROUNDS):
            x = torch.cat([fused, known, pose, betas, cam], -1)
            x = self.drop(self.fc2(self.drop(self.fc1(x))))
            pose = pose + self._of_body(self.decpose(x))
            betas = betas + self._of_body(self.decshape(x))
            cam = cam + self.deccam(x)
        return ViewBodies(matrix_from_sixd(pose.unflatten(-1, (JOINTS, 6))), betas, cam)

    def _of_body(self, correction: Tensor) -> Tensor:
        """(n, V, k) corrections of the body by each view, averaged where the body is shared."""
        return correction if self.bodies == "per_view" else correction.mean(1, keepdim=True).expand_as(correction)

    def embed(self, features: Tensor) -> Tensor:
        """(n, V, C) -> unit vectors for the contrastive loss: h = x sigmoid(relu(x)), then an MLP with batch norm."""
        if self.proj_head is None:
            return F.normalize(features, dim=-1)
        gated = features * features.relu().sigmoid()
        return F.normalize(self.proj_head(gated.flatten(0, 1)), dim=-1).unflatten(0, features.shape[:2])


class PaperFusion(nn.Module):
    """Section 3.2 as published.

    ``t_ij = Linear([x_j ; g(d_ij)])``, ``a_i = softmax(MLP([t_i1 ; ... ; t_iV]))``, ``y_i = sum_j a_ij x_j``.

    d_ij is the box information of view i minus that of view j. The MLP ends in a tanh, as the authors' does: for V = 5 no weight is
    below 0.03 or above 0.65. V is fixed, and the order of the views matters.

    Args:
        feature_dim: C.
        token_dim: Width of the tokens.
        views: V.
        frequencies: L of the positional encoding; None leaves the relation out (the authors' ablation).
    """

    def __init__(self, feature_dim: int, token_dim: int, views: int, frequencies: int | None) -> None:
        super().__init__()
        self.frequencies = frequencies
        relation_dim = 0 if frequencies is None else 3 * (1 + 2 * frequencies)
        self.fuse_fc = nn.Linear(feature_dim + relation_dim, token_dim)
        self.attention = nn.Sequential(
            nn.Linear(token_dim * views, token_dim), nn.Tanh(), nn.Linear(token_dim, token_dim), nn.Tanh(), nn.Linear(token_dim, views),
            nn.Tanh(),
        )  # fmt: skip

    def forward(self, features: Tensor, infos: Tensor) -> Tensor:
        """Fuse features (n, V, C) with box information (n, V, 3) -> (n, V, C)."""
        return self.weights(features, infos) @ features

    def weights(self, features: Tensor, infos: Tensor) -> Tensor:
        """Compute the weights of the fusion.

        Args:
            features: (n, V, C).
            infos: (n, V, 3) box information.

        Returns:
            (n, V, V): weight of view j for view i; rows sum to one.
        """
        n, count = features.shape[:2]
        sources = features[:, None].expand(n, count, count, -1)
        if self.frequencies is not None:
            relations = infos[:, :, None] - infos[:, None]
            sources = torch.cat([sources, positional_encoding(relations, self.frequencies)], -1)
        return self.attention(self.fuse_fc(sources).flatten(2)).softmax(-1)


def positional_encoding(values: Tensor, frequencies: int) -> Tensor:
    """The authors' positional encoding: [d, sin(2^k pi d), sin(2^k pi d + pi/2)], k = 0..L-1, with their arithmetic.

    In float32, product and shift are rounded one after the other, as in the training of the published weights: from k = 22 on the phase
    is rounding noise, which another order of operations would change. New networks use `fusion.fourier`.

    Args:
        values: (..., D).
        frequencies: L.

    Returns:
        (..., D (1 + 2 L)).
    """
    parts = [values]
    for k in range(frequencies):
        phase = values * (math.pi * 2.0**k)
        parts += [torch.sin(phase), torch.sin(phase + math.pi / 2)]
    return torch.cat(parts, -1)


def views_info(views: Tensor, base_info: Tensor) -> Tensor:
    """The paper's box information of each view.

    The same numbers as `geometry.camera.box_info` of the views in pixels: base_info holds the base box's side over the focal length, b
    / f = 0.06 base_info_3 + 0.24, and views are positioned and sized in units of b.

    Args:
        views: (n, V, 3) in base coordinates.
        base_info: (n, 3) of the base box.

    Returns:
        (n, V, 3).
    """
    side = 0.06 * base_info[:, None, 2:] + 0.24
    centre = base_info[:, None, :2] + 2.8 * views[..., :2] * side
    return torch.cat([centre, (views[..., 2:] * side - 0.24) / 0.06], -1)


def _upright_rest_pose() -> Tensor:
    """(1, 144): all joints straight, the body rotated by 180 degrees about x, because SMPL's y points up and a camera's down.

    Published weights have their own mean pose; a new head should start from that of its data.
    """
    pose = torch.tensor([1.0, 0, 0, 1, 0, 0]).repeat(JOINTS)
    pose[3] = -1
    return pose[None]


def _projection(dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, dim), nn.BatchNorm1d(dim), nn.ReLU(), nn.Linear(dim, dim, bias=False), nn.BatchNorm1d(dim))
