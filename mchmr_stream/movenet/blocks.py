"""Blocks of the MoveNets: a MobileNetV2, a feature pyramid down to stride 4, and small heads on its finest level.

MultiPose Lightning (`multipose.py`) and SinglePose Thunder (`thunder.py`) differ in widths and heads only.

Sources: MoveNet model card (Google, Apache-2.0); MobileNetV2, arXiv 1801.04381; feature pyramids, arXiv 1612.03144; CenterNet, arXiv
1904.07850. Batch normalisation is folded into the published weights, hence a bias on every convolution.

Backbone and pyramid process the picture rotated by 180 degrees. The published networks pad their stride-2 convolutions on the right and
below, as TensorFlow does; PyTorch pads on the left and above. With picture and kernels rotated by 180 degrees the two are equal; padding
each input explicitly would cost a sixth of the time. The kernels in the weights files are rotated.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from mchmr_stream.errors import InputError, MissingPart

STRIDE = 4
"""Input pixels per cell of the head maps."""
SIZE_MULTIPLE = 32
"""Input height and width must be multiples of this: the coarsest level's stride."""

_PIXEL_SCALE = 0.007843017578125
"""1 / 127.5 in half precision, as in the published graphs."""

_STAGES = ((1, 1, 1), (6, 2, 2), (6, 3, 2), (6, 4, 2), (6, 3, 1), (6, 3, 2), (6, 1, 1))
"""Per stage: expansion, blocks, stride of the first block."""
_TAPPED_STAGES = (1, 2, 3)
"""Stages whose outputs, at strides 4, 8 and 16, enter the pyramid together with the last layer's (stride 32)."""
_LAST_CHANNELS = 1280
_PYRAMID_CHANNELS = (24, 32, 64)
"""Of the levels at strides 4, 8 and 16; stride 32 has as many as stride 16."""


class Widths(NamedTuple):
    """Channels of a backbone."""

    stem: int
    stages: tuple[int, int, int, int, int, int, int]


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
    """Block of MobileNetV2: expand, filter each channel, project; the input is added where shapes permit."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels_in * expansion
        self.expand = Conv(channels_in, wide) if expansion > 1 else nn.Identity()
        self.depthwise = Conv(wide, wide, 3, stride, groups=wide)
        self.project = Conv(wide, channels_out, relu6=False)
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.project.conv.weight.dtype)  # earlier blocks may compute in another type
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class Backbone(nn.Module):
    """Picture in -1..1 -> features at strides 4, 8, 16 and 32."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.stem = Conv(3, widths.stem, 3, 2)
        blocks: list[nn.Module] = []
        channels = widths.stem
        self._taps = []
        for stage, ((expansion, count, stride), channels_out) in enumerate(zip(_STAGES, widths.stages, strict=True)):
            for position in range(count):
                blocks.append(InvertedResidual(channels, channels_out, stride if position == 0 else 1, expansion))
                channels = channels_out
            if stage in _TAPPED_STAGES:
                self._taps.append(len(blocks) - 1)
        self.blocks = nn.ModuleList(blocks)
        self.last = Conv(channels, _LAST_CHANNELS)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = self.stem(x)
        taps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self._taps:
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
    """From coarse to fine: double the size, add the backbone's features of that size, filter; yields (B, 24, H/4, W/4)."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        fine, middle, coarse = _PYRAMID_CHANNELS
        tap_channels = [widths.stages[stage] for stage in _TAPPED_STAGES]
        self.lateral_4 = nn.Conv2d(tap_channels[0], fine, 1)
        self.lateral_8 = nn.Conv2d(tap_channels[1], middle, 1)
        self.lateral_16 = nn.Conv2d(tap_channels[2], coarse, 1)
        self.lateral_32 = nn.Conv2d(_LAST_CHANNELS, coarse, 1)
        self.filter_16 = SeparableConv(coarse, middle)
        self.filter_8 = SeparableConv(middle, fine)
        self.filter_4 = SeparableConv(fine, fine)

    def forward(self, stride_4: Tensor, stride_8: Tensor, stride_16: Tensor, stride_32: Tensor) -> Tensor:
        dtype = self.lateral_4.weight.dtype
        stride_4, stride_8, stride_16, stride_32 = (tap.to(dtype) for tap in (stride_4, stride_8, stride_16, stride_32))
        x = self.lateral_32(stride_32)
        x = self.filter_16(_double(x) + self.lateral_16(stride_16))
        x = self.filter_8(_double(x) + self.lateral_8(stride_8))
        return self.filter_4(_double(x) + self.lateral_4(stride_4))


class Head(nn.Module):
    """Head for one map."""

    def __init__(self, channels_out: int) -> None:
        super().__init__()
        self.hidden = SeparableConv(_PYRAMID_CHANNELS[0], 96)
        self.output = nn.Conv2d(96, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.hidden(x))


class MoveNet(nn.Module):
    """Backbone and pyramid; subclasses add heads.

    Stem, each block, the last layer with the last block, and the pyramid with the heads may each have their own type.
    """

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.backbone = Backbone(widths)
        self.pyramid = FeaturePyramid(widths)

    def features(self, images: Tensor) -> Tensor:
        """Compute the features of a batch.

        Args:
            images: (B, 3, H, W) RGB 0..255 of any dtype, H and W multiples of 32.

        Returns:
            (B, 24, H / 4, W / 4) in the pyramid's dtype.
        """
        rotated = images.flip(2, 3).float() * _PIXEL_SCALE - 1
        taps = self.backbone(rotated.to(self.backbone.stem.conv.weight.dtype))
        return self.pyramid(*taps).flip(2, 3)


def load_state(module: MoveNet, path: Path, name: str, tool: str) -> None:
    """Load the weights of `module` from a .safetensors file.

    Args:
        module: The network; names and shapes of its tensors must equal those of the file.
        path: The file.
        name: Name of the network for messages.
        tool: The program that makes such a file, for messages.

    Raises:
        MissingPart: The file does not exist.
        InputError: The file contains other tensors or is invalid.
    """
    if not path.is_file():
        raise MissingPart(f"no weights of {name} at {path}; reinstall mchmr-stream, or make them with {tool}")
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read the weights of {name} {path}: {error}; expected a .safetensors file") from error
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    expected = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    wrong = sorted(key for key in shapes.keys() | expected.keys() if shapes.get(key) != expected.get(key))
    if wrong:
        raise InputError(f"{path} does not hold {name}: {len(wrong)} tensors differ, first {wrong[0]}; expected a file made by {tool}")
    module.load_state_dict(state)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
