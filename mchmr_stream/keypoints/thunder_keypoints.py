"""Keypoints of the person in each crop with MoveNet Thunder, optimised for the device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from mchmr_stream.errors import UsageError
from mchmr_stream.keypoints.heatmap_decoding import ThunderReading, decode_thunder
from mchmr_stream.movenet.thunder import CROP_PX, MoveNetThunder, ThunderMaps, load_thunder
from mchmr_stream.runtime.onednn import OneDnnModule, cpu_multiplies_bf16

THUNDER_SHIFT_PX = 0.35
"""Crop pixels by which the graph's positions are too far left and, assuming the same training, up.

Measured: with it the keypoints of a mirrored crop are the mirrored keypoints, in the median of 4,168 joints of 284 crops of six clips. By
clip it is 0.07 to 0.50.
"""


class ThunderReader(nn.Module):
    """Network and decoding as one module of tensors: the content of a served or exported network."""

    def __init__(self, network: MoveNetThunder) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops: Tensor, near_px: Tensor | None = None) -> ThunderReading:
        """As `ThunderPoints.__call__`."""
        return read_maps(self.network(crops), near_px)


class ThunderPoints:
    """Computes keypoints, covariances and presence; stateless.

    On a CPU crops are computed one by one: batches are no faster there, and each batch size would be compiled separately. The first call
    takes about a second.
    """

    def __init__(
        self,
        device: torch.device | str = "cpu",
        precision: Literal["auto", "fp32", "bf16"] = "auto",
        weights: Path | None = None,
    ) -> None:
        """Load the network.

        Args:
            device: Device of the network.
            precision: "auto" is bf16 where the device computes faster with it, else fp32.
            weights: A file made by tools/convert_thunder.py; None for the one that ships.

        Raises:
            UsageError: The precision is unknown.
            MissingPart: The weights are missing.
            InputError: The weights are invalid.
        """
        if precision not in ("auto", "fp32", "bf16"):
            raise UsageError(f"precision is {precision!r}, expected auto, fp32 or bf16")
        self._device = torch.device(device)
        network = load_thunder(weights)
        if precision == "bf16" or (precision == "auto" and _multiplies_bf16(self._device)):
            _round_to_bf16(network)
        self._maps: Callable[[Tensor], ThunderMaps]
        if self._device.type == "cpu":
            fused = OneDnnModule(network, None)

            def one_by_one(crops: Tensor) -> ThunderMaps:
                maps = [fused(crop) for crop in crops.split(1)]
                return ThunderMaps(*(torch.cat(heads) for heads in zip(*maps, strict=True)))

            self._maps = one_by_one
        else:
            self._maps = network.to(self._device)

    @torch.inference_mode()
    def __call__(self, crops: Tensor, near_px: Tensor | None = None) -> ThunderReading:
        """Find the person in each crop.

        Args:
            crops: (B, 3, 256, 256) RGB, uint8 or floats of 0 to 255.
            near_px: As in `decode_thunder`.

        Returns:
            The reading, float32 on the network's device, corrected by `THUNDER_SHIFT_PX`.
        """
        if crops.shape[1:] != (3, CROP_PX, CROP_PX):
            raise ValueError(f"crops are {tuple(crops.shape)}, expected (B, 3, {CROP_PX}, {CROP_PX})")
        if len(crops) == 0:
            none = torch.zeros(0, 17, 3, device=self._device)
            return ThunderReading(none, torch.zeros(0, 17, 2, 2, device=self._device), torch.zeros(0, device=self._device))
        return read_maps(self._maps(crops.to(self._device)), None if near_px is None else near_px.to(self._device))


def read_maps(maps: ThunderMaps, near_px: Tensor | None = None) -> ThunderReading:
    """`decode_thunder` with the correction `THUNDER_SHIFT_PX`."""
    reading = decode_thunder(maps, near_px)
    positions, score = reading.points.split((2, 1), -1)
    return reading._replace(points=torch.cat([positions + THUNDER_SHIFT_PX, score], -1))


def _multiplies_bf16(device: torch.device) -> bool:
    return cpu_multiplies_bf16() if device.type == "cpu" else torch.cuda.is_bf16_supported()


def _round_to_bf16(network: MoveNetThunder) -> None:
    """Convert all but both ends of the network.

    Measured on 2,136 joints with a score above 0.4: with everything in bf16 a point moves by 0.45 px in the median and by 5.9 px in 1 of
    100; with the stem, the first block, the pyramid and the heads in float32 by 0.08 and 1.3 px, in a tenth more time.
    """
    network.backbone.blocks[1:].to(torch.bfloat16)
    network.backbone.last.to(torch.bfloat16)
