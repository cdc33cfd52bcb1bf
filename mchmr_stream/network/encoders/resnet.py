"""ResNet-50 as a crop encoder (He et al., "Deep Residual Learning for Image Recognition", 2016), with torchvision's parameter names.

stem, stride 4 -> 256 channels -> 512, stride 8 -> 1024, stride 16 -> 2048, stride 32 -> mean over the map
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mchmr_stream.network.encoders.encoder import CropFeatures, Encoder
from mchmr_stream.network.encoders.residual import CROP_HW, Bottleneck, bottlenecks, features_only, normalised, start_randomly

_STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
"""Width and blocks of each stage; all but the first halve the map."""


class ResNet50(Encoder):
    """Features: the mean of the last map, 2048 numbers."""

    name = "resnet50"
    input_hw = CROP_HW
    feature_dim = map_channels = Bottleneck.expansion * _STAGES[-1][0]
    landmark_count = 0

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        channels = 64
        for number, (width, blocks) in enumerate(_STAGES, 1):
            self.add_module(f"layer{number}", bottlenecks(channels, width, blocks, stride=1 if number == 1 else 2))
            channels = Bottleneck.expansion * width
        start_randomly(self)

    def forward(self, crops: Tensor) -> CropFeatures:
        """Encode crops (B, 3, 256, 192) float, RGB, 0 to 1."""
        x = self.bn1(self.conv1(normalised(crops))).relu()
        x = F.max_pool2d(x, 3, 2, 1)
        for number in range(1, len(_STAGES) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return features_only(x.mean((2, 3)), x)
