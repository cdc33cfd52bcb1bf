"""The interface of a crop encoder: crops of a person in, features and optional landmarks out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class CropFeatures(NamedTuple):
    """An encoder's output for B crops. Only tensors, so that each encoder can be traced, scripted and exported to ONNX.

    An encoder without landmarks (`landmark_count` 0: ResNet, HRNet) returns tensors of size zero: landmarks (B, 0, 5), world (B, 0, 3),
    presence (0,). Test `encoder.landmark_count`, not the tensors.

    Crop coordinates: -1 and 1 are the *outer edges* of the crop, x right, y down, 0 its centre. Pixel column i of w has its centre at
    ``(2 i + 1) / w - 1``, and a crop of side s around c shows ``c + u * s / 2`` (PyTorch's ``align_corners=False``).
    """

    features: Tensor
    """(B, feature_dim) float32: the input of a regression head"""
    map8: Tensor
    """(B, map_channels, h / 32, w / 32) float32: the last map at stride 32"""
    landmarks: Tensor
    """(B, landmark_count, 5): x, y in crop coordinates, z at the same scale (away from the camera, from the hips' centre), then the logits
    of visibility (not occluded) and presence (inside the crop)
    """
    world: Tensor
    """(B, landmark_count, 3): metres from the hips' centre, x right, y down, z away from the camera"""
    presence: Tensor
    """(B,): logit that there is a person in the crop"""


class Encoder(nn.Module):
    """Base class of crop encoders. A subclass sets the attributes and implements `forward`; it normalises its own input."""

    name: str
    """as given to `make_encoder`"""
    input_hw: tuple[int, int]
    """height and width of its crops, pixels"""
    feature_dim: int
    map_channels: int
    landmark_count: int
    """0 for an encoder without landmarks"""
    reduced_parts: tuple[str, ...] = ()
    """submodules that may compute in 16 bits without loss of accuracy; `forward` gives them `reduced_dtype` and continues in float32"""
    reduced_dtype: torch.dtype = torch.float32
    """set by `optimise_for_inference` only"""
    onednn_fusion: bool = True
    """False where the fused CPU kernels give wrong results"""

    def forward(self, crops: Tensor) -> CropFeatures:
        """Encode crops.

        Args:
            crops: (B, 3, *input_hw) float, RGB, 0 to 1.

        Returns:
            Features and landmarks.
        """
        raise NotImplementedError
