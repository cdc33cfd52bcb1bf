"""MoveNet MultiPose Lightning: every person in a picture in one pass, as dense maps at a quarter of its size.

A MobileNetV2 (1.5 times as wide as the paper's) feeds a feature pyramid whose finest level, stride 4, carries six small
heads in the manner of CenterNet: a person is a peak in `center`, and the other maps say, at that peak or near each
joint, how large the box is and where the 17 COCO keypoints are. `detection/centernet.py` turns the maps into people.
`blocks.py` has the layers, their sources, and why the kernels in our file are turned by half.
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
    """What the network says about each cell of a (height / 4, width / 4) grid. Lengths are in cells."""

    center: Tensor
    """(B, 1, h, w) logit: a person's box is centred in this cell"""
    box_size: Tensor
    """(B, 2, h, w) height and width of the box centred here"""
    box_offset: Tensor
    """(B, 2, h, w) y, x of the box's centre from the cell's top left corner"""
    keypoint_heatmap: Tensor
    """(B, 17, h, w) logit: somebody's joint is in this cell"""
    keypoint_regression: Tensor
    """(B, 34, h, w) y, x of each joint of the person centred here, from the cell; joint after joint"""
    keypoint_offset: Tensor
    """(B, 34, h, w) y, x of a joint from the top left corner of the cell it is in; joint after joint"""


class MoveNetMultiPose(MoveNet):
    """4.7 M parameters; any number of people; any picture size that is a multiple of 32 both ways."""

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
        """(B, 3, H, W) RGB 0..255 of any dtype, H and W multiples of 32 -> maps of (H / 4, W / 4) cells, in the weights' dtype."""
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
    """The network in evaluation mode, float32, on the CPU.

    `weights`: a .safetensors file made by tools/convert_movenet.py; None takes the one that ships with the package.
    Raises MissingPart when it is not there, InputError when it is something else.
    """
    path = weights if weights is not None else Path(str(resources.files("mchmr_stream.assets"))) / "movenet_multipose.safetensors"
    module = MoveNetMultiPose()
    load_state(module, path, "MoveNet MultiPose", "tools/convert_movenet.py")
    return module.eval().requires_grad_(False)
