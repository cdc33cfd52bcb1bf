"""The basic step of mobile encoders as one module, so that `inference.py` can replace it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Convolution(nn.Conv2d):
    """A convolution, an optional sum, and an optional ReLU6: ``relu6(conv(x) + shortcut)``.

    Args:
        channels: Input channels.
        out: Output channels.
        kernel: Size of the kernel.
        stride: Stride.
        padding: Padding.
        groups: Groups.
        relu6: Whether a ReLU6 follows.
    """

    def __init__(self, channels: int, out: int, kernel: int, *, stride: int = 1, padding: int = 0, groups: int = 1, relu6: bool) -> None:
        super().__init__(channels, out, kernel, stride, padding, groups=groups)
        self.relu6 = relu6

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        y = super().forward(x)
        if shortcut is not None:
            y = y + shortcut
        return F.relu6(y) if self.relu6 else y
