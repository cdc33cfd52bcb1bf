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
    asks each token by attention, so that weights come one per token. A residual feed-forward layer follows.
    """

    def __init__(self, dim: int, heads: int = 4, frequencies: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.frequencies = heads, frequencies
        self.norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.token_from_feature = nn.Linear(dim, 2 * dim)
        self.token_from_relation = nn.Linear(3 * (1 + 2 * frequencies), 2 * dim, bias=False)
        self.out = nn.Linear(dim, dim)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * dim, dim)
        )

    def forward(self, features: Tensor, views: Tensor) -> Tensor:
        """features (n, V, D), views (n, V, 3) -> (n, V, D)."""
        x = self.norm(features)
        n, count, dim = x.shape
        query = self.query(x).reshape(n, count, 1, self.heads, dim // self.heads)
        relation = self.token_from_relation(fourier(relative_boxes(views), self.frequencies))
        tokens = self.token_from_feature(x)[:, None] + relation
        key, value = tokens.reshape(n, count, count, 2, self.heads, dim // self.heads).unbind(3)
        weights = ((query * key).sum(-1) / math.sqrt(dim // self.heads)).softmax(2)
        fused = (weights[..., None] * value).sum(2).reshape(n, count, dim)
        features = features + self.out(fused)
        return features + self.feed_forward(features)
