"""A plain vision transformer as a crop encoder (Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021).

The parameter names are those of ViTPose (arXiv 2204.12484), whose ViT-H is also the backbone of 4D-Humans' HMR2.0 (arXiv 2305.20091).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mchmr_stream.network.encoders.encoder import CropFeatures, Encoder
from mchmr_stream.network.encoders.residual import CROP_HW, features_only, normalised

_PATCH, _PADDING = 16, 2
_EPS = 1e-6


class ViT(Encoder):
    """Features: the mean of the last tokens. 256x192 crops, padded by 2, are divided into 16x12 patches of 16 pixels.

    Args:
        name: Name of the encoder.
        dim: Width of the tokens.
        depth: Number of blocks.
        heads: Attention heads.
    """

    input_hw = CROP_HW
    landmark_count = 0
    onednn_fusion = False
    """attention is not among the fused operations"""

    def __init__(self, name: str = "vit_h", dim: int = 1280, depth: int = 32, heads: int = 16) -> None:
        super().__init__()
        self.name = name
        self.feature_dim = self.map_channels = dim
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, dim, _PATCH, _PATCH, _PADDING)})
        count = (CROP_HW[0] // _PATCH) * (CROP_HW[1] // _PATCH)
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + count, dim) * 0.02)
        self.blocks = nn.ModuleList(_Block(dim, heads) for _ in range(depth))
        self.last_norm = nn.LayerNorm(dim, eps=_EPS)

    def forward(self, crops: Tensor) -> CropFeatures:
        """Encode crops (B, 3, 256, 192) float, RGB, 0 to 1."""
        patches = self.patch_embed["proj"](normalised(crops))
        # The position of a class token that the published network no longer has; it is added to each patch instead.
        tokens = patches.flatten(2).transpose(1, 2) + self.pos_embed[:, 1:] + self.pos_embed[:, :1]
        for block in self.blocks:
            tokens = block(tokens)
        last = self.last_norm(tokens).transpose(1, 2).unflatten(2, patches.shape[2:])
        return features_only(last.mean((2, 3)), F.avg_pool2d(last, 2))


class _Block(nn.Module):
    """Attention and a feed-forward layer, each pre-norm with a residual connection."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=_EPS), nn.LayerNorm(dim, eps=_EPS)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(dim, 3 * dim), "proj": nn.Linear(dim, dim)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, 4 * dim), "fc2": nn.Linear(4 * dim, dim)})

    def forward(self, x: Tensor) -> Tensor:
        by_head = self.attn["qkv"](self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(by_head[0], by_head[1], by_head[2])
        x = x + self.attn["proj"](seen.transpose(1, 2).flatten(2))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))
