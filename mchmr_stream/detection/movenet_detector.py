"""Detection of all people in a picture with MoveNet MultiPose: a box and 17 keypoints each, in one pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mchmr_stream.datatypes import Detections, Float, Frame
from mchmr_stream.detection.centernet import People, find_people
from mchmr_stream.errors import UsageError
from mchmr_stream.movenet.multipose import SIZE_MULTIPLE, STRIDE, HeadMaps, load_movenet
from mchmr_stream.runtime.onednn import OneDnnModule, cpu_multiplies_bf16

SHIFT_PX = 0.36
"""Input pixels by which the network's positions are too far left and, assuming the same training, up.

Measured: with it the keypoints of a mirrored picture are the mirrored keypoints, in the median of 4,000 joints of six clips at 256, 384 and
512 px.
"""


class MoveNetDetector:
    """Detects people with boxes and COCO keypoints; stateless."""

    def __init__(
        self,
        weights: str | Path | None = None,
        *,
        input_px: int = 384,
        min_score: float = 0.15,
        device: torch.device | str = "cpu",
        precision: Literal["auto", "fp32", "bf16"] = "auto",
        batch: int = 1,
    ) -> None:
        """Load the network.

        Args:
            weights: A file made by tools/convert_movenet.py; None for the one that ships.
            input_px: Longer side of the network's input, pixels. A larger input finds smaller people.
            min_score: People below this score are left out, in [0, 1].
            device: Device of the network.
            precision: "auto" is bf16 where the device computes faster with it, else fp32.
            batch: Frames per pass on a GPU. A CPU is fastest frame by frame.

        Raises:
            UsageError: A value is out of range.
            MissingPart: The weights are missing.
            InputError: The weights are invalid.
        """
        if input_px < SIZE_MULTIPLE:
            raise UsageError(f"the detector's input size is {input_px} px, expected at least {SIZE_MULTIPLE}")
        if not 0 <= min_score <= 1:
            raise UsageError(f"the detector's least score is {min_score}, expected 0 to 1")
        if batch < 1:
            raise UsageError(f"the detector's batch is {batch} frames, expected at least 1")
        self._input_px = input_px
        self._min_score = min_score
        self._device = torch.device(device)
        self._on_cpu = self._device.type == "cpu"
        self._batch = 1 if self._on_cpu else batch
        dtype = _dtype(precision, self._device)
        module = load_movenet(Path(weights) if weights is not None else None)
        self._network: Callable[[Tensor], HeadMaps]
        if self._on_cpu:
            self._network = OneDnnModule(module, dtype)
        else:
            self._network = module.to(self._device, dtype)

    @torch.inference_mode()
    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return one `Detections` per frame, sorted by falling score; boxes lie inside the picture, keypoints may lie outside."""
        by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
        for position, frame in enumerate(frames):
            by_size[frame.height, frame.width].append(position)
        found: dict[int, Detections] = {}
        for size_hw, positions in by_size.items():
            inside_hw = size_inside(size_hw, self._input_px)
            for start in range(0, len(positions), self._batch):
                chunk = positions[start : start + self._batch]
                inputs = torch.cat([network_input(frames[position].rgb, inside_hw) for position in chunk])
                maps = HeadMaps(*self._network(inputs.to(self._device)))
                for position, people in zip(chunk, find_people(maps, self._min_score), strict=True):
                    found[position] = in_picture(people, size_hw, inside_hw)
        return [found[position] for position in range(len(frames))]

    def close(self) -> None:
        """Do nothing: no resource is held."""


def size_inside(size_hw: tuple[int, int], input_px: int) -> tuple[int, int]:
    """Height and width of a picture scaled so that its longer side is `input_px`."""
    scale = input_px / max(size_hw)
    height, width = (max(1, round(side * scale)) for side in size_hw)
    return height, width


def network_input(rgb: NDArray[np.uint8], inside_hw: tuple[int, int]) -> Tensor:
    """Scale a picture to `inside_hw` and pad it with black on the right and below to a multiple of 32.

    The scaling is antialiased bilinear on bytes: PyTorch has a vectorised path for it, eight times as fast as on floats.

    Args:
        rgb: (H, W, 3).
        inside_hw: Height and width of the scaled picture.

    Returns:
        (1, 3, h, w) uint8.
    """
    picture = torch.from_numpy(rgb).permute(2, 0, 1)[None]
    scaled = F.interpolate(picture, inside_hw, mode="bilinear", antialias=True)
    below, right = (-side % SIZE_MULTIPLE for side in inside_hw)
    return F.pad(scaled, (0, right, 0, below))


def in_picture(people: People, size_hw: tuple[int, int], inside_hw: tuple[int, int]) -> Detections:
    """Convert cells to pixels of the picture; people outside the picture are dropped."""
    height, width = size_hw
    # Scaling maps borders to borders; the first pixel's centre is half a pixel inside.
    picture_from_input = np.array([width / inside_hw[1], height / inside_hw[0]], np.float32)
    to_picture: Callable[[Float], Float] = lambda cells_xy: (cells_xy * STRIDE + SHIFT_PX) * picture_from_input - 0.5

    corners = to_picture(people.boxes_xyxy.numpy().reshape(-1, 2, 2))
    boxes = corners.clip(0, [width - 1, height - 1]).reshape(-1, 4).astype(np.float32)
    seen = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(-1)
    keypoints = people.keypoints.numpy().copy()
    keypoints[..., :2] = to_picture(keypoints[..., :2])
    return Detections(boxes[seen], people.scores.numpy()[seen], keypoints[seen])


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    if precision not in ("auto", "fp32", "bf16"):
        raise UsageError(f"precision is {precision!r}, expected auto, fp32 or bf16")
    if precision != "auto":
        return torch.bfloat16 if precision == "bf16" else torch.float32
    fast = cpu_multiplies_bf16() if device.type == "cpu" else torch.cuda.is_bf16_supported()
    return torch.bfloat16 if fast else torch.float32
