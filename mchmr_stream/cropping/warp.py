"""Many crops of one frame in one warp.

Sampling a large person straight into a small crop with a bilinear warp skips source pixels and aliases. So each person's
part of the frame is first reduced with an antialiasing filter (triangle, as in Pillow) until a crop pixel covers 1.25 to
1.9 reduced pixels, and the warp samples that. Views of similar scale share a reduction. The factor follows the box
continuously; a ladder of fixed levels would make the sharpness jump while somebody walks towards the camera.

The reduced parts are stacked into one atlas, so that all views of all people are one call of Kornia's `remap`.
Only the parts that are cropped are ever converted to floating point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

_REDUCED_PX_PER_CROP_PX = 1.25
"""What a reduction leaves for the finest of the views that share it; chosen by comparison with antialiased references."""

_SHARED_RANGE = 1.5
"""Views whose scales differ by at most this factor share a reduction."""


@dataclass(frozen=True, eq=False)
class _Part:
    """A piece of the frame, reduced. Reduced (x, y) = (frame - offset) / step, both about pixel centres."""

    pixels: Tensor
    """(height, width, 3) uint8; black where the piece reaches over the edge of the frame"""
    step: NDArray[np.float64]
    """(2,) frame pixels per reduced pixel, x and y"""
    offset: NDArray[np.float64]
    """(2,) frame position of the first reduced pixel's centre"""


def shared_reductions(scales: Sequence[float]) -> list[list[int]]:
    """Group views by scale: each group spans at most a factor of 1.5. Returns the views' indices, finest group first."""
    groups: list[list[int]] = []
    for view in np.argsort(scales, kind="stable").tolist():
        if groups and scales[view] <= _SHARED_RANGE * scales[groups[-1][0]] * (1 + 1e-6):
            groups[-1].append(view)
        else:
            groups.append([view])
    return groups


def warp_crops(
    rgb: NDArray[np.uint8],
    image_from_crop: NDArray[np.float64],
    crop_hw: tuple[int, int],
    groups: Sequence[Sequence[int]],
    device: torch.device,
) -> Tensor:
    """Cut crops out of one frame, black outside of it.

    `rgb` (height, width, 3); `image_from_crop` (n, V, 2, 3) maps crop pixels to frame pixels, pixel centres at integers;
    `groups` from `shared_reductions` -> (n, V, 3, crop height, crop width) uint8 on `device`.
    """
    # Kornia takes 0.2 s or more to import, whichever of its modules is asked for.
    from kornia.geometry.transform import remap

    n, views = image_from_crop.shape[:2]
    parts: list[_Part] = []
    part_of = np.zeros((n, views), np.int64)
    for person in range(n):
        for group in groups:
            part_of[person, group] = len(parts)
            parts.append(_reduced_part(rgb, image_from_crop[person, group], crop_hw, device))

    tops = np.concatenate([[0], np.cumsum([part.pixels.shape[0] for part in parts])])
    # Colour last in memory: the three values of a pixel are fetched together. 10 % faster sampling on CPU.
    atlas = torch.zeros((int(tops[-1]), max(part.pixels.shape[1] for part in parts), 3), dtype=torch.float32, device=device)
    for part, top in zip(parts, tops, strict=False):
        height, width = part.pixels.shape[:2]
        atlas[top : top + height, :width] = part.pixels

    map_x, map_y = _sampling_maps(image_from_crop, crop_hw, [parts[i] for i in part_of.flat], tops[part_of.flat], atlas.shape, device)
    picture = atlas.permute(2, 0, 1)[None].expand(n * views, -1, -1, -1)
    crops = remap(picture, map_x, map_y, mode="bilinear", padding_mode="zeros", align_corners=True, normalized_coordinates=True)
    return crops.add_(0.5).to(torch.uint8).view(n, views, 3, *crop_hw)


def _reduced_part(rgb: NDArray[np.uint8], image_from_crop: NDArray[np.float64], crop_hw: tuple[int, int], device: torch.device) -> _Part:
    """The piece of the frame under some crops (k, 2, 3), reduced for the finest of them."""
    height, width = rgb.shape[:2]
    pixel_steps = np.linalg.norm(image_from_crop[..., :2], axis=-2)  # frame pixels per crop pixel, along the crop's axes
    factor = max(1.0, float(pixel_steps.min()) / _REDUCED_PX_PER_CROP_PX)

    # Up to this far over the frame's edge the piece is kept, so that its outermost reduced pixel is black all through:
    # positions beyond are moved there.
    margin = int(np.ceil(3 * factor))
    crop_height, crop_width = crop_hw
    corners = np.array([[0, 0, 1], [crop_width - 1, 0, 1], [0, crop_height - 1, 1], [crop_width - 1, crop_height - 1, 1]], np.float64)
    reached = image_from_crop @ corners.T
    limit = np.array([width, height])
    low = np.clip(np.floor(reached.min((0, 2))) - margin, -margin, limit).astype(np.int64)
    high = np.clip(np.ceil(reached.max((0, 2))) + margin + 1, low + margin, limit + margin).astype(np.int64)

    canvas = np.zeros((high[1] - low[1], high[0] - low[0], 3), np.uint8)
    inside_low, inside_high = low.clip(0, limit), high.clip(0, limit)
    (x0, y0), (x1, y1) = inside_low - low, inside_high - low
    canvas[y0:y1, x0:x1] = rgb[inside_low[1] : inside_high[1], inside_low[0] : inside_high[0]]
    pixels = torch.from_numpy(canvas).to(device)
    size = high - low
    if factor > 1:
        size = np.ceil(size / factor).astype(np.int64)
        pixels = _reduce(pixels, int(size[1]), int(size[0]))
    step = (high - low) / size
    return _Part(pixels, step, low - 0.5 + step / 2)


def _reduce(pixels: Tensor, height: int, width: int) -> Tensor:
    """(h, w, 3) uint8 -> (height, width, 3) uint8 through an antialiasing triangle filter."""
    batch = pixels.permute(2, 0, 1)[None]
    if pixels.device.type == "cpu":  # has a vectorised kernel for bytes, ten times faster than for floats
        reduced = F.interpolate(batch, size=(height, width), mode="bilinear", antialias=True)
    else:
        reduced = F.interpolate(batch.float(), size=(height, width), mode="bilinear", antialias=True).add_(0.5).to(torch.uint8)
    return reduced[0].permute(1, 2, 0)


def _sampling_maps(
    image_from_crop: NDArray[np.float64],
    crop_hw: tuple[int, int],
    parts: Sequence[_Part],
    tops: NDArray[np.int64],
    atlas_shape: tuple[int, ...],
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Where every crop pixel looks in the atlas, x and y, each (n * V, crop height, crop width), -1 to 1 over pixel centres."""
    affine = image_from_crop.reshape(-1, 2, 3).copy()
    affine[:, :, 2] -= np.stack([part.offset for part in parts])
    affine /= np.stack([part.step for part in parts])[:, :, None]
    first = np.stack([np.zeros(len(parts)), tops], 1)  # of each part in the atlas, x and y
    last = first + np.array([[part.pixels.shape[1] - 1, part.pixels.shape[0] - 1] for part in parts])
    affine[:, :, 2] += first
    rows, columns = np.arange(crop_hw[0], dtype=np.float64), np.arange(crop_hw[1], dtype=np.float64)

    maps = []
    for axis, length in enumerate((atlas_shape[1], atlas_shape[0])):
        unit = 2 / max(length - 1, 1)
        along_x = affine[:, axis, :1] * columns * unit
        along_y = (affine[:, axis, 1:2] * rows + affine[:, axis, 2:]) * unit - 1
        bounds = [torch.from_numpy((bound[:, axis, None, None] * unit - 1).astype(np.float32)).to(device) for bound in (first, last)]
        on_device = [torch.from_numpy(part.astype(np.float32)).to(device) for part in (along_x, along_y)]
        maps.append((on_device[0][:, None, :] + on_device[1][:, :, None]).clamp_(*bounds))
    return maps[0], maps[1]
