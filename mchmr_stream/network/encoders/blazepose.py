"""BlazePose GHUM's landmark network (lite, full, heavy) as a crop encoder.

Bazarevsky et al., "BlazePose: On-device Real-time Body Pose tracking" (2020), and the model card "BlazePose GHUM 3D" (2021). The layout
follows the published .tflite graphs; `tools/convert_blazepose.py` converts the weights and checks each tensor. The branches for the
segmentation mask and the heat maps are left out, because nothing here uses them.

    stem 128 x 128 -> inverted residuals at 64, 32, 16, 8 -> regression map (8 x 8) -> tower at 4, 2 -> three heads

Only heavy has a feature pyramid between the trunk and the regression map: up to 64 x 64 and down again.

Modules are registered in the order of a depth-first walk from the outputs of the .tflite graph, by which the converter pairs
convolutions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mchmr_stream.network.encoders.convolution import Convolution
from mchmr_stream.network.encoders.encoder import CropFeatures, Encoder

INPUT_PX = 256
LANDMARK_COUNT = 39
"""33 of the body, then 6 that MediaPipe uses internally (two of them define the next frame's crop)."""
PYRAMID_CHANNELS = 48


class Block(NamedTuple):
    """One inverted residual. The first one in a stage halves the map."""

    expanded: int
    kernel: int
    out: int


@dataclass(frozen=True)
class BlazePoseVariant:
    """The sizes in which lite, full and heavy differ."""

    stem: int
    stages: tuple[tuple[Block, ...], ...]
    """at 64, 32, 16 and 8 pixels"""
    neck: int
    """channels of the 8 x 8 map at the end of the trunk"""
    tower: int
    """channels of the regression map and the tower"""
    tower_blocks: tuple[int, int]
    """residual blocks at 4 and 2 pixels, after the one that halves the map"""
    pyramid: tuple[tuple[int, int], ...] = field(default=())
    """channels and residual blocks of the downward path at 32, 16 and 8 pixels; empty: no pyramid"""


VARIANTS = {
    "lite": BlazePoseVariant(
        stem=8,
        stages=(
            (Block(32, 3, 16), Block(96, 3, 16)),
            (Block(96, 5, 24), Block(144, 5, 24)),
            (Block(144, 3, 40), *[Block(240, 3, 40)] * 2, Block(240, 5, 56), *[Block(336, 5, 56)] * 2),
            (Block(336, 5, 96), *[Block(576, 5, 96)] * 3),
        ),
        neck=576,
        tower=192,
        tower_blocks=(2, 3),
    ),
    "full": BlazePoseVariant(
        stem=16,
        stages=(
            (Block(64, 3, 24), Block(144, 3, 24)),
            (Block(144, 5, 32), Block(192, 5, 32)),
            (Block(192, 3, 64), *[Block(384, 3, 64)] * 2, Block(384, 5, 88), *[Block(528, 5, 88)] * 2),
            (Block(528, 5, 144), *[Block(864, 5, 144)] * 3),
        ),
        neck=864,
        tower=288,
        tower_blocks=(4, 5),
    ),
    "heavy": BlazePoseVariant(
        stem=24,
        stages=(
            (Block(96, 3, 32), Block(128, 3, 32), *[Block(192, 3, 32)] * 2),
            (Block(192, 5, 56), *[Block(336, 5, 56)] * 3),
            (Block(336, 3, 112), *[Block(672, 3, 112)] * 5, Block(672, 5, 160), *[Block(960, 5, 160)] * 5),
            (Block(960, 5, 272), *[Block(1632, 5, 272)] * 7),
        ),
        neck=1632,
        tower=288,
        tower_blocks=(7, 7),
        pyramid=((96, 6), (192, 7), (288, 7)),
    ),
}


def _pointwise(channels: int, out: int, relu6: bool) -> Convolution:
    return Convolution(channels, out, 1, relu6=relu6)


def _depthwise(channels: int, kernel: int = 3, stride: int = 1) -> Convolution:
    return Convolution(channels, channels, kernel, stride=stride, padding=kernel // 2, groups=channels, relu6=True)


def _separable(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(_depthwise(channels), _pointwise(channels, out, relu6=True))


class InvertedBottleneck(nn.Module):
    """Expand, filter each channel, project; add the input where the shape allows (MobileNetV2)."""

    def __init__(self, channels: int, block: Block, stride: int) -> None:
        super().__init__()
        self.expand = _pointwise(channels, block.expanded, relu6=True)
        self.filter = _depthwise(block.expanded, block.kernel, stride)
        self.project = _pointwise(block.expanded, block.out, relu6=False)
        self.adds_input = stride == 1 and channels == block.out

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.filter(self.expand(x)), x if self.adds_input else None)


class SeparableResidual(nn.Module):
    """A depthwise-separable convolution with a shortcut, ReLU6 after the sum (BlazeFace's block)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.filter = _depthwise(channels)
        self.mix = _pointwise(channels, channels, relu6=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(self.filter(x), x)


class SeparableDownsample(nn.Module):
    """The same at half the size: the shortcut is max-pooled and padded with zero channels."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.filter = Convolution(channels, channels, 3, stride=2, groups=channels, relu6=True)
        self.mix = _pointwise(channels, out, relu6=True)
        self.new_channels = out - channels

    def forward(self, x: Tensor) -> Tensor:
        shortcut = F.max_pool2d(x, 2, stride=2)
        if self.new_channels:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.new_channels))
        # TensorFlow's SAME padding of an even map at stride 2 is one row at the bottom and one column at the right.
        return self.mix(self.filter(F.pad(x, (0, 1, 0, 1))), shortcut)


class Trunk(nn.Module):
    """256 x 256 crop -> the maps at 64, 32, 16 and 8 pixels."""

    def __init__(self, variant: BlazePoseVariant) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            Convolution(3, 24, 3, stride=2, padding=1, relu6=True), _depthwise(24), _pointwise(24, variant.stem, relu6=False)
        )
        channels = variant.stem
        stages = []
        for blocks in variant.stages:
            stage = []
            for index, block in enumerate(blocks):
                stage.append(InvertedBottleneck(channels, block, stride=2 if index == 0 else 1))
                channels = block.out
            stages.append(nn.Sequential(*stage))
        self.stage64, self.stage32, self.stage16, self.stage8 = stages
        self.neck = nn.Sequential(_pointwise(channels, variant.neck, relu6=True), _depthwise(variant.neck))

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        map64 = self.stage64(self.stem(crops))
        map32 = self.stage32(map64)
        map16 = self.stage16(map32)
        return map64, map32, map16, self.neck(self.stage8(map16))


class Pyramid(nn.Module):
    """Feature pyramid: the trunk's maps are summed upwards to 64 x 64, then reduced to 8 x 8, with the trunk's maps added at each scale."""

    def __init__(self, variant: BlazePoseVariant) -> None:
        super().__init__()
        at64, at32, at16 = (blocks[-1].out for blocks in variant.stages[:3])
        (down32, blocks32), (down16, blocks16), (down8, blocks8) = variant.pyramid
        self.lateral8 = _separable(variant.neck, PYRAMID_CHANNELS)
        self.lateral16 = _separable(at16, PYRAMID_CHANNELS)
        self.lateral32 = _separable(at32, PYRAMID_CHANNELS)
        self.lateral64 = _separable(at64, PYRAMID_CHANNELS)
        self.down32 = _downward(PYRAMID_CHANNELS, down32, blocks32)
        self.skip32 = _separable(at32, down32)
        self.down16 = _downward(down32, down16, blocks16)
        self.skip16 = _separable(at16, down16)
        self.down8 = _downward(down16, down8, blocks8)

    def forward(self, map64: Tensor, map32: Tensor, map16: Tensor, map8: Tensor) -> Tensor:
        up = _double(self.lateral8(map8)) + self.lateral16(map16)
        up = _double(up) + self.lateral32(map32)
        up = _double(up) + self.lateral64(map64)
        down = self.down32(up) + self.skip32(map32)
        down = self.down16(down) + self.skip16(map16)
        return self.down8(down)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _downward(channels: int, out: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(SeparableDownsample(channels, out), *(SeparableResidual(out) for _ in range(blocks)))


class BlazePose(Encoder):
    """BlazePose's landmark network.

    `forward(crops)`: (B, 3, 256, 256) RGB, 0 to 1 -> `CropFeatures` with 39 landmarks (33 of the body first). `features` is the tower's
    last map (2 x 2), flattened channel by channel: the input of BlazePose's own heads. The weights are fixed; without batch
    normalisation and dropout, training and evaluation mode are the same.

    Args:
        variant_name: lite, full or heavy.
    """

    input_hw = (INPUT_PX, INPUT_PX)
    landmark_count = LANDMARK_COUNT

    def __init__(self, variant_name: str) -> None:
        super().__init__()
        variant = VARIANTS[variant_name]
        self.name = f"blazepose_{variant_name}"
        self.feature_dim = variant.tower * 4
        self.map_channels = variant.tower
        self.trunk = Trunk(variant)
        self.pyramid = Pyramid(variant) if variant.pyramid else None
        # Without the tower: it is small, and in bf16 it alone changes world landmarks by up to 2 cm.
        self.reduced_parts = ("trunk", "pyramid", "regression") if variant.pyramid else ("trunk", "regression")
        self.regression = _separable(variant.neck, variant.tower)
        self.tower4 = _downward(variant.tower, variant.tower, variant.tower_blocks[0])
        self.tower2 = _downward(variant.tower, variant.tower, variant.tower_blocks[1])
        self.landmark_head = nn.Conv2d(variant.tower, LANDMARK_COUNT * 5, 2)
        self.world_head = nn.Conv2d(variant.tower, LANDMARK_COUNT * 3, 2)
        self.presence_head = nn.Conv2d(variant.tower, 1, 2)

    def forward(self, crops: Tensor) -> CropFeatures:
        map64, map32, map16, neck = self.trunk(crops.to(self.reduced_dtype))
        map8 = self.regression(neck).float()
        if self.pyramid is not None:
            map8 = map8 + self.pyramid(map64, map32, map16, neck).float()
        map2 = self.tower2(self.tower4(map8))
        landmarks_px = self.landmark_head(map2).reshape(-1, LANDMARK_COUNT, 5)
        return CropFeatures(
            features=map2.flatten(1),
            map8=map8,
            landmarks=_crop_coordinates(landmarks_px),
            world=self.world_head(map2).reshape(-1, LANDMARK_COUNT, 3),
            presence=self.presence_head(map2).reshape(-1),
        )


def _crop_coordinates(landmarks_px: Tensor) -> Tensor:
    """BlazePose gives x, y and z in crop pixels from the outer edge (MediaPipe divides them by 256, no half pixel)."""
    half = INPUT_PX / 2
    x_y, z, logits = landmarks_px[..., :2], landmarks_px[..., 2:3], landmarks_px[..., 3:]
    return torch.cat([x_y / half - 1, z / half, logits], dim=-1)
