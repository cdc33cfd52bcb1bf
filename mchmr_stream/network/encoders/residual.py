"""Building blocks of ResNet and HRNet. Parameters are named as in published checkpoints (torchvision's names)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mchmr_stream.network.encoders.encoder import CropFeatures

CROP_HW = (256, 192)
"""Height and width of the crops of these networks in human mesh recovery."""

_IMAGENET_MEAN, _IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def conv3x3(channels: int, out: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution without bias, padded to keep the size."""
    return nn.Conv2d(channels, out, 3, stride, 1, bias=False)


def conv_norm(channels: int, out: int, *, kernel: int = 3, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """Convolution, batch norm and an optional ReLU.

    Args:
        channels: Input channels.
        out: Output channels.
        kernel: Size of the kernel; the padding keeps the size.
        stride: Stride.
        relu: Whether a ReLU follows.

    Returns:
        The layers.
    """
    layers = [nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(out)]
    return nn.Sequential(*layers, nn.ReLU()) if relu else nn.Sequential(*layers)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions plus the input (He et al., "Deep Residual Learning for Image Recognition", 2016, figure 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv3x3(channels, channels), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv3x3(channels, channels), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(y)) + x).relu()


class Bottleneck(nn.Module):
    """Reduce, filter, expand to four times `width`, plus the input (figure 5 of the same paper).

    The 3x3 convolution has the stride, as in torchvision, not the first 1x1 as in the paper.
    """

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        out = self.expansion * width
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv3x3(width, width, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out)
        changes_shape = stride != 1 or channels != out
        self.downsample = conv_norm(channels, out, kernel=1, stride=stride, relu=False) if changes_shape else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        shortcut = x if self.downsample is None else self.downsample(x)
        return (self.bn3(self.conv3(y)) + shortcut).relu()


def bottlenecks(channels: int, width: int, count: int, stride: int = 1) -> nn.Sequential:
    """Several blocks in sequence.

    Args:
        channels: Input channels.
        width: Width of the blocks; the output has four times as many channels.
        count: Number of blocks.
        stride: Stride of the first block.

    Returns:
        The blocks.
    """
    out = Bottleneck.expansion * width
    return nn.Sequential(*(Bottleneck(channels if i == 0 else out, width, stride if i == 0 else 1) for i in range(count)))


def normalised(crops: Tensor) -> Tensor:
    """(B, 3, h, w) RGB, 0 to 1 -> zero mean and unit variance per channel over ImageNet."""
    # Channel by channel and not with a tensor of constants, for which tracing gives warnings.
    channels = (crops[:, i] for i in range(3))
    return torch.stack([(x - mean) / sd for x, mean, sd in zip(channels, _IMAGENET_MEAN, _IMAGENET_SD, strict=True)], 1)


def features_only(features: Tensor, last_map: Tensor) -> CropFeatures:
    """Output of an encoder without landmarks.

    Args:
        features: (B, C).
        last_map: (B, C', h/32, w/32), from which the features were pooled.

    Returns:
        The output, with landmarks of size zero.
    """
    nothing = features.new_zeros((features.shape[0], 0, 5))
    return CropFeatures(features, last_map, nothing, nothing[..., :3], features.new_zeros(0))


def start_randomly(network: nn.Module) -> None:
    """Initialise convolutions by He et al., "Delving Deep into Rectifiers" (2015), fan-out; batch norms as the identity."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
