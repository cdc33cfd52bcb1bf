"""MoveNet SinglePose Thunder: the keypoints of the main person of a square crop, as dense maps.

A MobileNetV2 (1.75 times as wide as the paper's) feeds the same pyramid as MultiPose's, with four heads: the person is a peak in `center`,
and the other maps give the positions of the 17 COCO keypoints. `keypoints/heatmap_decoding.py` decodes the maps. `blocks.py` contains the
layers, their sources, and the reason why the kernels in the weights file are rotated by 180 degrees.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from mchmr_stream.datatypes import KEYPOINT_NAMES
from mchmr_stream.movenet.blocks import Head, MoveNet, Widths, load_state

CROP_PX = 256
"""Side of the network's crops in training."""

_WIDTHS = Widths(stem=56, stages=(32, 40, 56, 112, 168, 280, 560))


class ThunderMaps(NamedTuple):
    """Output for each cell of a 64 x 64 grid over the crop. Lengths are in cells, 4 px each."""

    center: Tensor
    """(B, 1, 64, 64) logit: the mean of a person's keypoints is in this cell"""
    keypoint_heatmap: Tensor
    """(B, 17, 64, 64) logit: a joint of any person is in this cell"""
    keypoint_regression: Tensor
    """(B, 34, 64, 64) y, x of each joint of the person centred here, from the cell; joint after joint"""
    keypoint_offset: Tensor
    """(B, 34, 64, 64) y, x of a joint from the top left corner of its cell; joint after joint"""


class MoveNetThunder(MoveNet):
    """Thunder network: 6.2 M parameters; one person in a crop of 256 px."""

    def __init__(self) -> None:
        super().__init__(_WIDTHS)
        keypoints = len(KEYPOINT_NAMES)
        self.center = Head(1)
        self.keypoint_heatmap = Head(keypoints)
        self.keypoint_regression = Head(2 * keypoints)
        self.keypoint_offset = Head(2 * keypoints)

    def forward(self, crops: Tensor) -> ThunderMaps:
        """Compute the maps.

        Args:
            crops: (B, 3, 256, 256) RGB 0..255 of any dtype.

        Returns:
            Maps of 64 x 64 cells, in the weights' dtype.
        """
        features = self.features(crops)
        return ThunderMaps(
            self.center(features),
            self.keypoint_heatmap(features),
            self.keypoint_regression(features),
            self.keypoint_offset(features),
        )


def load_thunder(weights: Path | None = None) -> MoveNetThunder:
    """Load the network in evaluation mode, float32, on the CPU.

    Args:
        weights: A .safetensors file made by tools/convert_thunder.py; None for the one that ships with the package.

    Returns:
        The network.

    Raises:
        MissingPart: The file does not exist.
        InputError: The file is invalid.
    """
    path = weights if weights is not None else Path(str(resources.files("mchmr_stream.assets"))) / "movenet_thunder.safetensors"
    module = MoveNetThunder()
    load_state(module, path, "MoveNet Thunder", "tools/convert_thunder.py")
    return module.eval().requires_grad_(False)
