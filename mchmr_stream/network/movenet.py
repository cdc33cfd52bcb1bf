"""MoveNet MultiPose Lightning: every person in a picture in one pass, as dense maps at a quarter of its size.

A MobileNetV2 (1.5 times as wide as the paper's) feeds a feature pyramid whose finest level, stride 4, carries six small
heads in the manner of CenterNet: a person is a peak in `center`, and the other maps say, at that peak or near each
joint, how large the box is and where the 17 COCO keypoints are. `detection/centernet.py` turns the maps into people.

Sources: MoveNet model card (Google, Apache-2.0); MobileNetV2, arXiv 1801.04381; feature pyramids, arXiv 1612.03144;
CenterNet, arXiv 1904.07850. Batch normalisation is folded into the published weights, hence a bias on every convolution.

Backbone and pyramid see the picture turned by half. The published network pads its halving convolutions on the right and
below, as TensorFlow does; PyTorch's pad on the left and above. With picture and kernels turned by half the two are the
same, and the alternative, padding each input by hand, costs a sixth of the time. The kernels in our file are turned.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from mchmr_stream.errors import InputError, MissingPart
from mchmr_stream.records import KEYPOINT_NAMES

STRIDE = 4
"""Input pixels per cell of the head maps."""
SIZE_MULTIPLE = 32
"""Input height and width must be multiples of this: the coarsest level's stride."""

_PIXEL_SCALE = 0.007843017578125
"""1 / 127.5 as the published graph holds it, in half precision."""

_STEM_CHANNELS = 48
_LAST_CHANNELS = 1280
_BLOCKS = (
    # expansion, channels out, stride
    (1, 24, 1),
    (6, 40, 2), (6, 40, 1),
    (6, 48, 2), (6, 48, 1), (6, 48, 1),
    (6, 96, 2), (6, 96, 1), (6, 96, 1), (6, 96, 1),
    (6, 144, 1), (6, 144, 1), (6, 144, 1),
    (6, 240, 2), (6, 240, 1), (6, 240, 1),
    (6, 480, 1),
)  # fmt: skip
_TAPS = (2, 5, 9)
"""The blocks whose outputs, at strides 4, 8 and 16, go into the pyramid beside the last layer's (stride 32)."""
_PYRAMID_CHANNELS = (24, 32, 64)
"""Of the levels at strides 4, 8 and 16; stride 32 comes in with as many as stride 16."""


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


class Conv(nn.Module):
    """Convolution with a bias, then optionally ReLU6. Padding keeps the size, or halves it with stride 2."""

    def __init__(self, channels_in: int, channels_out: int, size: int = 1, stride: int = 1, groups: int = 1, relu6: bool = True) -> None:
        super().__init__()
        self.relu6 = relu6
        self.conv = nn.Conv2d(channels_in, channels_out, size, stride, size // 2, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return F.relu6(x) if self.relu6 else x


class InvertedResidual(nn.Module):
    """MobileNetV2's block: widen, filter each channel, narrow; the input is added where shapes allow."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels_in * expansion
        self.expand = Conv(channels_in, wide) if expansion > 1 else nn.Identity()
        self.depthwise = Conv(wide, wide, 3, stride, groups=wide)
        self.project = Conv(wide, channels_out, relu6=False)
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class Backbone(nn.Module):
    """Picture in -1..1 -> features at strides 4, 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Conv(3, _STEM_CHANNELS, 3, 2)
        blocks = []
        channels = _STEM_CHANNELS
        for expansion, channels_out, stride in _BLOCKS:
            blocks.append(InvertedResidual(channels, channels_out, stride, expansion))
            channels = channels_out
        self.blocks = nn.ModuleList(blocks)
        self.last = Conv(channels, _LAST_CHANNELS)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = self.stem(x)
        taps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in _TAPS:
                taps.append(x)
        return taps[0], taps[1], taps[2], self.last(x)


class SeparableConv(nn.Module):
    """3x3 per channel, 1x1 across channels, ReLU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels_in, channels_in, 3, padding=1, groups=channels_in, bias=False)
        self.pointwise = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.pointwise(self.depthwise(x)))


class FeaturePyramid(nn.Module):
    """From coarse to fine: double the size, add the backbone's features of that size, filter. -> (B, 24, H/4, W/4)"""

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = _PYRAMID_CHANNELS
        tap_channels = [_BLOCKS[index][1] for index in _TAPS]
        self.lateral_4 = nn.Conv2d(tap_channels[0], fine, 1)
        self.lateral_8 = nn.Conv2d(tap_channels[1], middle, 1)
        self.lateral_16 = nn.Conv2d(tap_channels[2], coarse, 1)
        self.lateral_32 = nn.Conv2d(_LAST_CHANNELS, coarse, 1)
        self.filter_16 = SeparableConv(coarse, middle)
        self.filter_8 = SeparableConv(middle, fine)
        self.filter_4 = SeparableConv(fine, fine)

    def forward(self, stride_4: Tensor, stride_8: Tensor, stride_16: Tensor, stride_32: Tensor) -> Tensor:
        x = self.lateral_32(stride_32)
        x = self.filter_16(_double(x) + self.lateral_16(stride_16))
        x = self.filter_8(_double(x) + self.lateral_8(stride_8))
        return self.filter_4(_double(x) + self.lateral_4(stride_4))


class Head(nn.Module):
    """One map."""

    def __init__(self, channels_out: int) -> None:
        super().__init__()
        self.hidden = SeparableConv(_PYRAMID_CHANNELS[0], 96)
        self.output = nn.Conv2d(96, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.hidden(x))


class MoveNetMultiPose(nn.Module):
    """4.7 M parameters; any number of people; any picture size that is a multiple of 32 both ways."""

    def __init__(self) -> None:
        super().__init__()
        keypoints = len(KEYPOINT_NAMES)
        self.backbone = Backbone()
        self.pyramid = FeaturePyramid()
        self.center = Head(1)
        self.box_size = Head(2)
        self.box_offset = Head(2)
        self.keypoint_heatmap = Head(keypoints)
        self.keypoint_regression = Head(2 * keypoints)
        self.keypoint_offset = Head(2 * keypoints)

    def forward(self, images: Tensor) -> HeadMaps:
        """(B, 3, H, W) RGB 0..255 of any dtype, H and W multiples of 32 -> maps of (H / 4, W / 4) cells, in the weights' dtype."""
        turned = images.flip(2, 3).float() * _PIXEL_SCALE - 1
        taps = self.backbone(turned.to(self.center.output.weight.dtype))
        features = self.pyramid(*taps).flip(2, 3)
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
    if not path.is_file():
        raise MissingPart(f"no weights of the detector at {path}; reinstall mchmr-stream, or make them with tools/convert_movenet.py")
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read the detector's weights {path}: {error}; expected a .safetensors file") from error
    module = MoveNetMultiPose()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    wrong = sorted(name for name in shapes.keys() | expected.keys() if shapes.get(name) != expected.get(name))
    if wrong:
        raise InputError(
            f"{path} does not hold MoveNet MultiPose: {len(wrong)} tensors differ, first {wrong[0]}; "
            "expected a file made by tools/convert_movenet.py"
        )
    module.load_state_dict(state)
    return module.eval().requires_grad_(False)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
