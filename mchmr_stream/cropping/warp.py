"""Cutting of many crops of one frame in one warp.

A bilinear warp of a large person into a small crop skips source pixels and aliases. Each person's part of the frame is therefore first
reduced with an antialiasing filter (triangle, as in Pillow) until a crop pixel covers 1.15 to 2.1 reduced pixels, and the warp samples the
result. Views of similar scale share a reduction. The factor follows the box continuously; a pyramid of fixed levels would change the
sharpness in steps while a person walks towards the camera.

The reduced parts are stacked into one atlas, so that all views of all people are one call of Kornia's `remap`, or on a CPU of the
`grid_sample` beneath it, whose map format is computed directly: Kornia's checks and copies cost as much as the sampling. Only the cropped
parts are converted to floating point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

_REDUCED_PX_PER_CROP_PX = 1.15
"""Reduced pixels per crop pixel of the finest view of a group: a lower value blurs that view, a higher one aliases the coarsest."""

_SHARED_RANGE = 1.8
"""Views whose scales differ by at most this factor share a reduction; all five of the layout `wide` do."""


@dataclass(frozen=True, eq=False)
class _FramePart:
    """The reduced part of the frame under a few crops. Reduced (x, y) = (frame - origin) / step, both about pixel centres."""

    pixels: Tensor
    """(height, width, 3) uint8: the intersection with the frame"""
    pixels_at: tuple[int, int]
    """Row and column of its first pixel in the part; the rest is black"""
    size: tuple[int, int]
    """Height and width of the part"""
    step: NDArray[np.float64]
    """(2,) frame pixels per reduced pixel, x and y"""
    origin: NDArray[np.float64]
    """(2,) frame position of the centre of the part's first pixel"""


def load_kornia() -> None:
    """Import Kornia in advance: it takes 0.2 s or more, which would delay the first frame."""
    import kornia.geometry.transform  # noqa: F401


def shared_reductions(scales: Sequence[float]) -> list[list[int]]:
    """Group views by scale; each group spans at most a factor of 1.8.

    Args:
        scales: Scale of each view.

    Returns:
        Indices of the views of each group, finest group first.
    """
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
    """Cut crops out of one frame; they are black outside it.

    Args:
        rgb: (height, width, 3) frame.
        image_from_crop: (n, V, 2, 3) maps from crop pixels to frame pixels, pixel centres at integers.
        crop_hw: Height and width of the crops.
        groups: From `shared_reductions`.
        device: Device of the result.

    Returns:
        (n, V, 3, crop height, crop width) uint8 on `device`, with colours last in memory (channels_last), as convolutions prefer.
    """
    n, views = image_from_crop.shape[:2]
    parts: list[_FramePart] = []
    part_of = np.zeros((n, views), np.int64)
    for person in range(n):
        for group in groups:
            part_of[person, group] = len(parts)
            parts.append(_reduced_part(rgb, image_from_crop[person, group], crop_hw, device))

    tops = np.concatenate([[0], np.cumsum([part.size[0] for part in parts])])
    atlas = torch.zeros((int(tops[-1]), max(part.size[1] for part in parts), 3), dtype=torch.float32, device=device)
    for part, top in zip(parts, tops, strict=False):
        height, width = part.pixels.shape[:2]
        row, column = part.pixels_at
        atlas[top + row : top + row + height, column : column + width] = part.pixels
    atlas += 0.5  # turns the truncation below into rounding

    atlas_from_crop = image_from_crop.reshape(-1, 2, 3).copy()
    atlas_from_crop[:, :, 2] -= np.stack([parts[i].origin for i in part_of.flat])
    atlas_from_crop /= np.stack([parts[i].step for i in part_of.flat])[:, :, None]
    atlas_from_crop[:, 1, 2] += tops[part_of.flat]
    sampled_at = _sampling_map(atlas_from_crop, crop_hw, (atlas.shape[0], atlas.shape[1]), device)
    crops = _sample(atlas.permute(2, 0, 1)[None].expand(n * views, -1, -1, -1), sampled_at)
    # On a CPU the conversion to bytes is four times as fast through int16, and stacking three planes takes half the time of
    # `contiguous(memory_format=...)` for three channels.
    crops = crops.to(torch.int16).to(torch.uint8)
    return torch.stack(crops.unbind(1), -1).view(n, views, *crop_hw, 3).permute(0, 1, 4, 2, 3)


def _sample(pictures: Tensor, sampled_at: Tensor) -> Tensor:
    """Bilinear samples (k, 3, h, w) of pictures (k, 3, H, W) at positions (k, h, w), black outside."""
    if pictures.device.type == "cpu":
        return F.grid_sample(pictures, torch.view_as_real(sampled_at), mode="bilinear", padding_mode="zeros", align_corners=True)
    from kornia.geometry.transform import remap

    return remap(
        pictures, sampled_at.real, sampled_at.imag, mode="bilinear", padding_mode="zeros", align_corners=True, normalized_coordinates=True
    )


def _reduced_part(
    rgb: NDArray[np.uint8], image_from_crop: NDArray[np.float64], crop_hw: tuple[int, int], device: torch.device
) -> _FramePart:
    """The part of the frame under some crops (k, 2, 3), reduced for the finest of them."""
    pixel_steps = np.linalg.norm(image_from_crop[..., :2], axis=-2)  # frame pixels per crop pixel, along the crop's axes
    factor = max(1.0, float(pixel_steps.min()) / _REDUCED_PX_PER_CROP_PX)
    margin = 2 * factor + 1  # reach of the filter and of the bilinear taps
    right, bottom = crop_hw[1] - 1, crop_hw[0] - 1
    corners = image_from_crop @ np.array([[0, right, 0, right], [0, 0, bottom, bottom], [1, 1, 1, 1]], np.float64)
    low, high = corners.min((0, 2)) - margin, corners.max((0, 2)) + margin

    # The piece to read: the part of the frame under the crops, and a black margin beyond its edge.
    frame_size = np.array([rgb.shape[1], rgb.shape[0]])
    read_low = np.floor(np.maximum(low, -margin)).astype(np.int64)
    read_high = np.ceil(np.minimum(high, frame_size + margin)).astype(np.int64)
    if (read_high <= read_low).any():  # the crops do not intersect the frame
        read_low, read_high = np.floor(low).astype(np.int64), np.floor(low).astype(np.int64) + 1
    canvas = np.zeros((read_high[1] - read_low[1], read_high[0] - read_low[0], 3), np.uint8)
    inside_low, inside_high = read_low.clip(0, frame_size), read_high.clip(0, frame_size)
    (x0, y0), (x1, y1) = inside_low - read_low, inside_high - read_low
    canvas[y0:y1, x0:x1] = rgb[inside_low[1] : inside_high[1], inside_low[0] : inside_high[0]]
    pixels = torch.from_numpy(canvas).to(device)
    read_size = read_high - read_low
    reduced_size = np.ceil(read_size / factor).astype(np.int64)
    if factor > 1:
        pixels = _reduce(pixels, int(reduced_size[1]), int(reduced_size[0]))

    step = read_size / reduced_size
    before = np.ceil((read_low - low).clip(0) / step).astype(np.int64)  # black reduced pixels left of and above the piece
    after = np.ceil((high - read_high).clip(0) / step).astype(np.int64)
    width, height = (before + reduced_size + after).tolist()
    return _FramePart(
        pixels=pixels,
        pixels_at=(int(before[1]), int(before[0])),
        size=(height, width),
        step=step,
        origin=read_low - 0.5 + (0.5 - before) * step,
    )


def _reduce(pixels: Tensor, height: int, width: int) -> Tensor:
    """(h, w, 3) uint8 -> (height, width, 3) uint8 through an antialiasing triangle filter."""
    batch = pixels.permute(2, 0, 1)[None]
    if pixels.device.type == "cpu":  # has a vectorised kernel for bytes, ten times faster than for floats
        reduced = F.interpolate(batch, size=(height, width), mode="bilinear", antialias=True)
    else:
        reduced = F.interpolate(batch.float(), size=(height, width), mode="bilinear", antialias=True).add_(0.5).to(torch.uint8)
    return reduced[0].permute(1, 2, 0)


def _sampling_map(
    atlas_from_crop: NDArray[np.float64], crop_hw: tuple[int, int], atlas_hw: tuple[int, int], device: torch.device
) -> Tensor:
    """Affine maps (k, 2, 3) -> sampling position of each crop pixel, (k, crop height, crop width) complex: x + iy.

    In units of `align_corners`: -1 is the centre of the atlas' first pixel, 1 that of its last. Complex, because one sum of a row and a
    column then writes x and y side by side, which is fifteen times as fast as two sums.
    """
    unit = 2 / np.maximum(np.array([atlas_hw[1], atlas_hw[0]]) - 1, 1)
    unit_from_crop = atlas_from_crop * unit[:, None]
    unit_from_crop[:, :, 2] -= 1
    along_x, along_y, start = (unit_from_crop[:, 0, i] + 1j * unit_from_crop[:, 1, i] for i in range(3))
    columns = along_x[:, None] * np.arange(crop_hw[1])
    rows = along_y[:, None] * np.arange(crop_hw[0]) + start[:, None]
    columns, rows = (torch.from_numpy(values.astype(np.complex64)).to(device) for values in (columns, rows))
    return columns[:, None, :] + rows[:, :, None]
