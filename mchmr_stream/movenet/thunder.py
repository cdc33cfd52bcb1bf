"""MoveNet SinglePose Thunder: the keypoints of the one person that a square crop is about, as dense maps.

A MobileNetV2 (1.75 times as wide as the paper's) feeds the same pyramid as MultiPose's, with four heads: the person is a
peak in `center`, and the other maps say where the 17 COCO keypoints are. `keypoints/heatmap_decoding.py` turns the maps into points.
`blocks.py` has the layers, their sources, and why the kernels in our file are turned by half.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from mchmr_stream.datatypes import KEYPOINT_NAMES
from mchmr_stream.movenet.blocks import Head, MoveNet, Widths, load_state

CROP_PX = 256
"""Side of the crops that the network is trained on."""

_WIDTHS = Widths(stem=56, stages=(32, 40, 56, 112, 168, 280, 560))


class ThunderMaps(NamedTuple):
    """What the network says about each cell of a 64 x 64 grid over the crop. Lengths are in cells, 4 px each."""

    center: Tensor
    """(B, 1, 64, 64) logit: the mean of a person's keypoints is in this cell"""
    keypoint_heatmap: Tensor
    """(B, 17, 64, 64) logit: somebody's joint is in this cell"""
    keypoint_regression: Tensor
    """(B, 34, 64, 64) y, x of each joint of the person centred here, from the cell; joint after joint"""
    keypoint_offset: Tensor
    """(B, 34, 64, 64) y, x of a joint from the top left corner of the cell it is in; joint after joint"""


class MoveNetThunder(MoveNet):
    """6.2 M parameters; one person in a crop of 256 px."""

    def __init__(self) -> None:
        super().__init__(_WIDTHS)
        keypoints = len(KEYPOINT_NAMES)
        self.center = Head(1)
        self.keypoint_heatmap = Head(keypoints)
        self.keypoint_regression = Head(2 * keypoints)
        self.keypoint_offset = Head(2 * keypoints)

    def forward(self, crops: Tensor) -> ThunderMaps:
        """(B, 3, 256, 256) RGB 0..255 of any dtype -> maps of 64 x 64 cells, in the weights' dtype."""
        features = self.features(crops)
        return ThunderMaps(
            self.center(features),
            self.keypoint_heatmap(features),
            self.keypoint_regression(features),
            self.keypoint_offset(features),
        )


def load_thunder(weights: Path | None = None) -> MoveNetThunder:
    """The network in evaluation mode, float32, on the CPU.

    Args:
        weights: a .safetensors file made by tools/convert_thunder.py; None takes the one that ships with the package.

    Raises:
        MissingPart: the file is not there.
        InputError: it is something else.
    """
    path = weights if weights is not None else Path(str(resources.files("mchmr_stream.assets"))) / "movenet_thunder.safetensors"
    module = MoveNetThunder()
    load_state(module, path, "MoveNet Thunder", "tools/convert_thunder.py")
    return module.eval().requires_grad_(False)
