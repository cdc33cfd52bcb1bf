"""Crop-aware fusion: every crop looks at all crops of the person, guided by where each was cut (arXiv 2402.02074, section 3.2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def relative_boxes(views: Tensor) -> Tensor:
    """(n, V, 3) centre and side -> (n, V, V, 3): box j seen from box i, in units of box i, side as a log ratio.

    The paper takes differences of absolute box information; these are the same relation made independent of how large
    the person is in the picture.
    """
    shift = (views[:, None, :, :2] - views[:, :, None, :2]) / views[:, :, None, 2:]
    ratio = torch.log(views[:, None, :, 2:] / views[:, :, None, 2:])
    return torch.cat([shift, ratio], -1)


def fourier(values: Tensor, frequencies: int) -> Tensor:
    """(..., D) -> (..., D (1 + 2 L)): [d, sin(2^k pi d), cos(2^k pi d)], k = 0..L-1.

    The authors use L = 32; in float32 the phase is noise from k = 22 on, so few are taken.
    """
    parts = [values]
    for k in range(frequencies):
        phase = values * (2.0**k * math.pi)
        parts += [torch.sin(phase), torch.cos(phase)]
    return torch.cat(parts, -1)


class CropAwareFusion(nn.Module):
    """Fuse the features of V crops, any V with the same weights.

    As in the paper, the token of source crop j seen from target crop i is ``t_ij = Linear([x_j ; g(d_ij)])`` and the
    fused feature is a weighted sum over j. The paper flattens all tokens into an MLP, which fixes V; here target i
    asks each token by attention, so that weights come one per token: ``a_ij = softmax_j(q_i . t_ij)``, ``y_i = sum_j
    a_ij t_ij`` (keys and values are two such tokens). A residual feed-forward layer follows.

    The token is linear in both of its parts, so no tensor of V x V tokens is ever made:
    ``q . (k_j + R g) = q . k_j + (R^T q) . g`` and ``sum_j a_ij (v_j + R' g_ij) = sum_j a_ij v_j + R' (sum_j a_ij g_ij)``.
    """

    def __init__(self, dim: int, heads: int = 4, frequencies: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.frequencies = heads, frequencies
        relation_dim = 3 * (1 + 2 * frequencies)
        self.norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.key_from_relation = nn.Parameter(torch.randn(heads, dim // heads, relation_dim) * relation_dim**-0.5)
        self.value_from_relation = nn.Parameter(torch.randn(heads, dim // heads, relation_dim) * relation_dim**-0.5)
        self.out = nn.Linear(dim, dim)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * dim, dim)
        )

    def forward(self, features: Tensor, views: Tensor) -> Tensor:
        """features (n, V, D), views (n, V, 3) -> (n, V, D)."""
        fused, _ = self.fuse(self.norm(features), views)
        features = features + fused
        return features + self.feed_forward(features)

    def fuse(self, x: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised features (n, V, D) -> fused (n, V, D) and the weights (n, heads, V, V): how much target i takes of source j."""
        relation = fourier(relative_boxes(views), self.frequencies).to(x.dtype)
        query, key, value = (self._by_head(layer(x)) for layer in (self.query, self.key, self.value))
        from_features = query @ key.transpose(-1, -2)
        from_relation = torch.einsum("nhir,nijr->nhij", torch.einsum("nhid,hdr->nhir", query, self.key_from_relation), relation)
        weights = ((from_features + from_relation) / math.sqrt(query.shape[-1])).softmax(-1)
        mean_relation = torch.einsum("nhij,nijr->nhir", weights, relation)
        fused = weights @ value + torch.einsum("nhir,hdr->nhid", mean_relation, self.value_from_relation)
        return self.out(fused.transpose(1, 2).flatten(2)), weights

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)
