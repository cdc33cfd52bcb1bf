"""MoveNet MultiPose Lightning: all people of a picture in one pass, as dense maps at a quarter of its size.

A MobileNetV2 (1.5 times as wide as the paper's) feeds a feature pyramid whose finest level, stride 4, has six small heads as in CenterNet:
a person is a peak in `center`, and the other maps give, at that peak or near each joint, the size of the box and the positions of the 17
COCO keypoints. `detection/centernet.py` decodes the maps into people. `blocks.py` contains the layers, their sources, and the reason why
the kernels in the weights file are rotated by 180 degrees.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from mchmr_stream.datatypes import KEYPOINT_NAMES
from mchmr_stream.movenet.blocks import SIZE_MULTIPLE, STRIDE, Head, MoveNet, Widths, load_state

__all__ = ["SIZE_MULTIPLE", "STRIDE", "HeadMaps", "MoveNetMultiPose", "load_movenet"]

_WIDTHS = Widths(stem=48, stages=(24, 40, 48, 96, 144, 240, 480))


class HeadMaps(NamedTuple):
    """Output for each cell of a (height / 4, width / 4) grid. Lengths are in cells."""

    center: Tensor
    """(B, 1, h, w) logit: a person's box is centred in this cell"""
    box_size: Tensor
    """(B, 2, h, w) height and width of the box centred here"""
    box_offset: Tensor
    """(B, 2, h, w) y, x of the box's centre from the cell's top left corner"""
    keypoint_heatmap: Tensor
    """(B, 17, h, w) logit: a joint of any person is in this cell"""
    keypoint_regression: Tensor
    """(B, 34, h, w) y, x of each joint of the person centred here, from the cell; joint after joint"""
    keypoint_offset: Tensor
    """(B, 34, h, w) y, x of a joint from the top left corner of its cell; joint after joint"""


class MoveNetMultiPose(MoveNet):
    """MultiPose network: 4.7 M parameters; any number of people; any picture size that is a multiple of 32 in both directions."""

    def __init__(self) -> None:
        super().__init__(_WIDTHS)
        keypoints = len(KEYPOINT_NAMES)
        self.center = Head(1)
        self.box_size = Head(2)
        self.box_offset = Head(2)
        self.keypoint_heatmap = Head(keypoints)
        self.keypoint_regression = Head(2 * keypoints)
        self.keypoint_offset = Head(2 * keypoints)

    def forward(self, images: Tensor) -> HeadMaps:
        """Compute the maps.

        Args:
            images: (B, 3, H, W) RGB 0..255 of any dtype, H and W multiples of 32.

        Returns:
            Maps of (H / 4, W / 4) cells, in the weights' dtype.
        """
        features = self.features(images)
        return HeadMaps(
            self.center(features),
            self.box_size(features),
            self.box_offset(features),
            self.keypoint_heatmap(features),
            self.keypoint_regression(features),
            self.keypoint_offset(features),
        )


def load_movenet(weights: Path | None = None) -> MoveNetMultiPose:
    """Load the network in evaluation mode, float32, on the CPU.

    Args:
        weights: A .safetensors file made by tools/convert_movenet.py; None for the one that ships with the package.

    Returns:
        The network.

    Raises:
        MissingPart: The file does not exist.
        InputError: The file is invalid.
    """
    path = weights if weights is not None else Path(str(resources.files("mchmr_stream.assets"))) / "movenet_multipose.safetensors"
    module = MoveNetMultiPose()
    load_state(module, path, "MoveNet MultiPose", "tools/convert_movenet.py")
    return module.eval().requires_grad_(False)
