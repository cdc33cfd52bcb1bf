"""Crop-aware fusion: attention between all crops of a person, conditioned on the crops' relative positions.

It follows arXiv 2402.02074, section 3.2. `CropAwareFusion` is the one that ships. The others are for comparison (`mchmr ablate`). All
take tokens (n, V, D) and views (n, V, 3) and return tokens (n, V, D); the head averages them over the views for the body.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mchmr_stream.errors import UsageError

FUSIONS = ("crop_aware", "self_attention", "concat", "mean")


def make_fusion(
    kind: str, dim: int, *, layers: int, heads: int, frequencies: int, dropout: float, relative_encoding: bool, concat_views: int
) -> nn.ModuleList:
    """Build the fusion layers of a head.

    Args:
        kind: One of `FUSIONS`; `mean` has no layers.
        dim: D, width of the tokens.
        layers: Number of layers.
        heads: Attention heads.
        frequencies: L of the Fourier encoding.
        dropout: Dropout rate.
        relative_encoding: False: the layers do not use the crops' relative positions; `self_attention` and `mean` never do.
        concat_views: V for `concat`.

    Returns:
        The layers.

    Raises:
        UsageError: The kind is unknown.
    """
    if kind not in FUSIONS:
        raise UsageError(f"network fusion is {kind!r}, expected one of {', '.join(FUSIONS)}")
    relations = frequencies if relative_encoding else None

    def layer() -> nn.Module:
        if kind == "concat":
            return ConcatFusion(dim, concat_views, relations, dropout)
        if kind == "self_attention":
            return SelfAttentionFusion(dim, heads, dropout)
        return CropAwareFusion(dim, heads, relations, dropout)

    return nn.ModuleList(layer() for _ in range(0 if kind == "mean" else layers))


def relative_boxes(views: Tensor) -> Tensor:
    """Relative position and size of each pair of boxes.

    The paper takes differences of absolute box information; this is the same relation, independent of the person's size in the picture.

    Args:
        views: (n, V, 3) centre and side.

    Returns:
        (n, V, V, 3): box j relative to box i, in units of box i, the side as a log ratio.
    """
    shift = (views[:, None, :, :2] - views[:, :, None, :2]) / views[:, :, None, 2:]
    ratio = torch.log(views[:, None, :, 2:] / views[:, :, None, 2:])
    return torch.cat([shift, ratio], -1)


def fourier(values: Tensor, frequencies: int) -> Tensor:
    """Fourier encoding: [d, sin(2^k pi d), cos(2^k pi d)], k = 0..L-1.

    The authors use L = 32; in float32 the phase is noise from k = 22 on, so L is small here.

    Args:
        values: (..., D).
        frequencies: L.

    Returns:
        (..., D (1 + 2 L)).
    """
    parts = [values]
    for k in range(frequencies):
        phase = values * (2.0**k * math.pi)
        parts += [torch.sin(phase), torch.cos(phase)]
    return torch.cat(parts, -1)


class CropAwareFusion(nn.Module):
    """Fuse the features of V crops, any V with the same weights.

    As in the paper, the token of source crop j relative to target crop i is ``t_ij = Linear([x_j ; g(d_ij)])``, and the fused feature
    is a weighted sum over j. The paper flattens all tokens into an MLP, which fixes V. Here the weights come from attention, one per
    token: ``a_ij = softmax_j(q_i . t_ij)``, ``y_i = sum_j a_ij t_ij`` (keys and values are two such tokens). A residual feed-forward
    layer follows.

    The token is linear in both of its parts, so that no tensor of V x V tokens is needed: ``q . (k_j + R g) = q . k_j + (R^T q) . g``
    and ``sum_j a_ij (v_j + R' g_ij) = sum_j a_ij v_j + R' (sum_j a_ij g_ij)``.

    Args:
        dim: D, width of the tokens.
        heads: Attention heads.
        frequencies: L of the Fourier encoding; None leaves the relation out.
        dropout: Dropout rate.
    """

    def __init__(self, dim: int, heads: int = 4, frequencies: int | None = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.frequencies = heads, frequencies
        self.norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        if frequencies is not None:
            relation_dim = _relation_dim(frequencies)
            self.key_from_relation = nn.Parameter(torch.randn(heads, dim // heads, relation_dim) * relation_dim**-0.5)
            self.value_from_relation = nn.Parameter(torch.randn(heads, dim // heads, relation_dim) * relation_dim**-0.5)
        self.out = nn.Linear(dim, dim)
        self.feed_forward = _feed_forward(dim, dropout)

    def forward(self, features: Tensor, views: Tensor) -> Tensor:
        """Fuse features (n, V, D) with views (n, V, 3) -> (n, V, D)."""
        fused, _ = self.fuse(self.norm(features), views)
        features = features + fused
        return features + self.feed_forward(features)

    def fuse(self, x: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse normalised features.

        Args:
            x: (n, V, D).
            views: (n, V, 3).

        Returns:
            Fused features (n, V, D), and the weights (n, heads, V, V) of source j for target i.
        """
        query, key, value = (self._by_head(layer(x)) for layer in (self.query, self.key, self.value))
        from_features = query @ key.transpose(-1, -2)
        if self.frequencies is None:
            weights = (from_features / math.sqrt(query.shape[-1])).softmax(-1)
            return self.out((weights @ value).transpose(1, 2).flatten(2)), weights
        relation = fourier(relative_boxes(views), self.frequencies).to(x.dtype)
        from_relation = torch.einsum("nhir,nijr->nhij", torch.einsum("nhid,hdr->nhir", query, self.key_from_relation), relation)
        weights = ((from_features + from_relation) / math.sqrt(query.shape[-1])).softmax(-1)
        mean_relation = torch.einsum("nhij,nijr->nhir", weights, relation)
        fused = weights @ value + torch.einsum("nhir,hdr->nhid", mean_relation, self.value_from_relation)
        return self.out(fused.transpose(1, 2).flatten(2)), weights

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class SelfAttentionFusion(nn.Module):
    """A standard transformer layer: attention over the views' tokens and a feed-forward layer, without the crops' positions.

    Args:
        dim: D, width of the tokens.
        heads: Attention heads.
        dropout: Dropout rate.
    """

    def __init__(self, dim: int, heads: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.feed_forward = _feed_forward(dim, dropout)

    def forward(self, features: Tensor, views: Tensor) -> Tensor:
        """Fuse features (n, V, D), ignoring the views -> (n, V, D)."""
        x = self.norm(features)
        features = features + self.attention(x, x, x, need_weights=False)[0]
        return features + self.feed_forward(features)


class ConcatFusion(nn.Module):
    """All tokens of a person concatenated through an MLP, which fixes V and the order of the views.

    With relations this is the paper's own fusion: target i gets ``[x_1 ; g(d_i1) ; ... ; x_V ; g(d_iV)]``. Without them all views get
    the same. `forward` raises UsageError for another number of views.

    Args:
        dim: D, width of the tokens.
        views: V.
        frequencies: L of the Fourier encoding; None leaves the relations out.
        dropout: Dropout rate.
    """

    def __init__(self, dim: int, views: int, frequencies: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.views, self.frequencies = views, frequencies
        self.norm = nn.LayerNorm(dim)
        self.from_features = nn.Linear(views * dim, 2 * dim)
        if frequencies is not None:
            self.from_relations = nn.Linear(views * _relation_dim(frequencies), 2 * dim, bias=False)
        self.out = nn.Sequential(nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * dim, dim))

    def forward(self, features: Tensor, views: Tensor) -> Tensor:
        """Fuse features (n, V, D) with views (n, V, 3) -> (n, V, D)."""
        count = int(features.shape[1])
        if count != self.views:
            raise UsageError(
                f"network fusion concat was made for {self.views} views, got {count}; give as many views, or take another fusion"
            )
        # A linear layer of concatenated inputs is the sum of linear layers of its parts.
        hidden = self.from_features(self.norm(features).flatten(1))[:, None]
        if self.frequencies is not None:
            hidden = hidden + self.from_relations(fourier(relative_boxes(views), self.frequencies).to(features.dtype).flatten(2))
        return features + self.out(hidden)


def _relation_dim(frequencies: int) -> int:
    return 3 * (1 + 2 * frequencies)


def _feed_forward(dim: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * dim, dim))
