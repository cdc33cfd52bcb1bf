"""HRNet-W48 as a crop encoder: parallel maps of four scales with repeated exchange between them.

Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition" (2020). Parameters are named as in the official code
and in timm. Two ways to reduce the four maps to one vector, which differ in their weights:

- `HRNetW48`, of the multiple-crop paper: strided convolutions reduce the three finer maps to stride 32, all four are concatenated and
  averaged: 48 + 96 + 192 + 384 = 720 numbers.
- `HRNetW48Classifier`, of CLIFF: HRNet's ImageNet head up to its classifier: 2048 numbers.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, cat, nn

from mchmr_stream.network.encoders.encoder import CropFeatures, Encoder
from mchmr_stream.network.encoders.residual import (
    CROP_HW,
    BasicBlock,
    Bottleneck,
    bottlenecks,
    conv3x3,
    conv_norm,
    features_only,
    normalised,
    start_randomly,
)

WIDTHS = (48, 96, 192, 384)
"""Channels of the maps at strides 4, 8, 16 and 32."""
_EXCHANGES = (1, 4, 3)
"""Number of filter-and-exchange modules in stages 2, 3 and 4."""
_BLOCKS = 4
_CLASSIFIER_WIDTHS = (32, 64, 128, 256)


class Exchange(nn.Module):
    """Four blocks on each map; then each map becomes the sum of all, rescaled to its own scale and channels."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(width) for _ in range(_BLOCKS))) for width in widths)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_rescale(widths, source, target) for source in range(len(widths))) for target in range(len(widths))
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        filtered = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        fused = []
        for layers in self.fuse_layers:
            total, *others = (layer(x) for layer, x in zip(layers, filtered, strict=True))  # type: ignore[call-overload]
            for other in others:
                total = total + other
            fused.append(total.relu())
        return fused


def _rescale(widths: tuple[int, ...], source: int, target: int) -> nn.Module:
    """From the scale of one map to that of another: down in steps of two by strided convolutions, up by repeating pixels."""
    if source == target:
        return nn.Identity()
    if source > target:
        enlarge = nn.Upsample(scale_factor=float(2 ** (source - target)), mode="nearest")
        return nn.Sequential(*conv_norm(widths[source], widths[target], kernel=1, relu=False), enlarge)
    steps = target - source
    return nn.Sequential(
        *(
            conv_norm(widths[source], widths[target] if last else widths[source], stride=2, relu=not last)
            for last in (step == steps - 1 for step in range(steps))
        )
    )


class _HRNet(Encoder):
    """The trunk: crops in, four maps out."""

    input_hw = CROP_HW
    landmark_count = 0
    # Measured with PyTorch 2.13: features are off by a fifth of their size, and compilation takes 20 s.
    onednn_fusion = False

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv3x3(3, 64, stride=2), nn.BatchNorm2d(64)
        self.conv2, self.bn2 = conv3x3(64, 64, stride=2), nn.BatchNorm2d(64)
        self.layer1 = bottlenecks(64, 64, _BLOCKS)
        stem = Bottleneck.expansion * 64
        first = nn.ModuleList([conv_norm(stem, WIDTHS[0]), nn.Sequential(conv_norm(stem, WIDTHS[1], stride=2))])
        for number, exchanges in enumerate(_EXCHANGES, 1):
            widths = WIDTHS[: number + 1]
            keep = [nn.Identity() for _ in range(number)]
            new = nn.Sequential(conv_norm(widths[-2], widths[-1], stride=2))
            self.add_module(f"transition{number}", first if number == 1 else nn.ModuleList([*keep, new]))
            self.add_module(f"stage{number + 1}", nn.Sequential(*(Exchange(widths) for _ in range(exchanges))))

    def maps(self, crops: Tensor) -> list[Tensor]:
        """(B, 3, h, w) RGB, 0 to 1 -> maps of 48, 96, 192 and 384 channels at strides 4, 8, 16 and 32."""
        x = self.bn1(self.conv1(normalised(crops))).relu()
        x = self.bn2(self.conv2(x)).relu()
        maps = [self.layer1(x)]
        for number in range(1, len(_EXCHANGES) + 1):
            # Each stage adds one map, computed from the coarsest one.
            sources = [*maps, maps[-1]]
            transition = self.get_submodule(f"transition{number}")
            maps = [layer(source) for layer, source in zip(transition, sources, strict=True)]  # type: ignore[call-overload]
            maps = self.get_submodule(f"stage{number + 1}")(maps)
        return maps


class HRNetW48(_HRNet):
    """Features as in the multiple-crop paper: 720 numbers."""

    name = "hrnet_w48"
    feature_dim = map_channels = sum(WIDTHS)

    def __init__(self) -> None:
        super().__init__()
        for number, width in enumerate(WIDTHS[:-1], 1):
            halvings = len(WIDTHS) - number
            layers = [layer for _ in range(halvings) for layer in conv_norm(width, width, stride=2)]
            self.add_module(f"downsample_stage_{number}", nn.Sequential(*layers))
        start_randomly(self)

    def forward(self, crops: Tensor) -> CropFeatures:
        """Encode crops (B, 3, 256, 192) float, RGB, 0 to 1."""
        *finer, coarsest = self.maps(crops)
        reduced = [self.get_submodule(f"downsample_stage_{number}")(x) for number, x in enumerate(finer, 1)]
        x = cat([*reduced, coarsest], 1)
        return features_only(x.mean((2, 3)), x)


class HRNetW48Classifier(_HRNet):
    """Features as in CLIFF: the input of the ImageNet classifier, 2048 numbers."""

    name = "hrnet_w48_classifier"
    feature_dim = map_channels = 2048

    def __init__(self) -> None:
        super().__init__()
        widened = [Bottleneck.expansion * width for width in _CLASSIFIER_WIDTHS]
        self.incre_modules = nn.ModuleList(
            bottlenecks(channels, width, 1) for channels, width in zip(WIDTHS, _CLASSIFIER_WIDTHS, strict=True)
        )
        self.downsamp_modules = nn.ModuleList(_biased(nn.Conv2d(fine, coarse, 3, 2, 1)) for fine, coarse in pairwise(widened))
        self.final_layer = _biased(nn.Conv2d(widened[-1], self.feature_dim, 1))
        start_randomly(self)

    def forward(self, crops: Tensor) -> CropFeatures:
        """Encode crops (B, 3, 256, 192) float, RGB, 0 to 1."""
        finest, *coarser = (widen(x) for widen, x in zip(self.incre_modules, self.maps(crops), strict=True))
        x = finest
        for reduce, other in zip(self.downsamp_modules, coarser, strict=True):
            x = other + reduce(x)
        x = self.final_layer(x)
        return features_only(x.mean((2, 3)), x)


def _biased(convolution: nn.Conv2d) -> nn.Sequential:
    """The published convolutions here have a bias although a batch norm follows."""
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU())
