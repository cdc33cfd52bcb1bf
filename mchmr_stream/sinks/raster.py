"""A small triangle rasteriser in plain torch: which triangle is seen at every sample, and how deep.

Needs no display and no extension, and runs where its tensors are. Triangles are cut into horizontal spans, spans into
samples, and the nearest triangle of each sample wins one scatter: a handful of flat operations, no loop over triangles.
1 / z is linear in the picture (z is not), so depth is exact under perspective.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_LOW_BITS = 0xFFFFFFFF


@dataclass(frozen=True, eq=False)
class Seen:
    """The pixels of a grid where a triangle is seen; S of them, in reading order."""

    pixel: Tensor
    """(S,) int64: y * width + x"""
    face: Tensor
    """(S,) int64: index of the nearest triangle in the pixel"""
    inverse_depth: Tensor
    """(S,) float32: 1 / z of it, 1/m, at its nearest sample"""
    coverage: Tensor
    """(S,) float32 in (0, 1]: how much of the pixel is covered by anything"""


@dataclass(frozen=True, eq=False)
class _Triangles:
    """Those that face the camera and may touch a sample, T of them, corners sorted from top to bottom."""

    face: Tensor
    """(T,): row in the caller's list"""
    x: Tensor
    """(T, 3)"""
    y: Tensor
    """(T, 3)"""
    inverse_depth: Tensor
    """(T, 3)"""


@dataclass(frozen=True, eq=False)
class _Spans:
    """Runs of samples of one triangle in one row, never empty."""

    triangle: Tensor
    """Row in `_Triangles`"""
    y: Tensor
    first_x: Tensor
    last_x: Tensor


def rasterise(points_px: Tensor, inverse_depth: Tensor, faces: Tensor, width: int, height: int, fine: int = 1) -> Seen:
    """See which triangle is nearest in each of the pixels 0..width-1, 0..height-1.

    `points_px` (P, 2) float32: x right, y down, pixel centres at whole numbers; `inverse_depth` (P,) float32: 1 / z, not
    positive for points at or behind the camera; `faces` (F, 3): triangles, counter-clockwise from outside. Triangles that
    look away, or have a corner behind the camera, are left out. Each pixel is looked at in `fine` x `fine` evenly spread
    samples; a sample exactly on an edge belongs to the triangle.
    """
    triangles = _facing((points_px + 0.5) * fine - 0.5, inverse_depth, faces, width * fine, height * fine)
    spans = _spans(triangles, width * fine, height * fine)
    nearest = _nearest(triangles, spans, width * fine, height * fine)
    # Sample by sample: reducing over two axes at once is ten times slower on a CPU.
    grid = nearest.view(height, fine, width, fine)
    samples = [grid[:, row, :, column].reshape(-1) for row in range(fine) for column in range(fine)]
    nearest, hits = samples[0], (samples[0] > 0).to(torch.uint8)
    for sample in samples[1:]:
        nearest, hits = torch.maximum(nearest, sample), hits + (sample > 0)
    pixel = torch.nonzero(hits)[:, 0]
    key = nearest.index_select(0, pixel)
    depth = (key >> 32).to(torch.int32).view(torch.float32)
    return Seen(pixel, key & _LOW_BITS, depth, hits.index_select(0, pixel) / fine**2)


def _facing(points: Tensor, inverse_depth: Tensor, faces: Tensor, width: int, height: int) -> _Triangles:
    x, y, depth = points[:, 0][faces], points[:, 1][faces], inverse_depth[faces]
    # Counter-clockwise for the eye is a negative turn where y points down.
    twice_area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    top, bottom, left, right = y.amin(1).ceil(), y.amax(1).floor(), x.amin(1).ceil(), x.amax(1).floor()
    has_samples = (top <= bottom) & (left <= right) & (bottom >= 0) & (top < height) & (right >= 0) & (left < width)
    keep = torch.nonzero(has_samples & (twice_area < 0) & (depth.amin(1) > 0))[:, 0]
    x, y, depth = x[keep], y[keep], depth[keep]
    order = y.argsort(dim=1)
    return _Triangles(keep, x.gather(1, order), y.gather(1, order), depth.gather(1, order))


def _spans(triangles: _Triangles, width: int, height: int) -> _Spans:
    top, middle, bottom = triangles.y.T
    top_x, middle_x, bottom_x = triangles.x.T
    first_row = top.ceil().clamp(min=0).long()
    rows = (bottom.floor().clamp(max=height - 1).long() - first_row + 1).clamp(min=0)
    triangle = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), rows)
    y = torch.arange(len(triangle), device=rows.device) - (rows.cumsum(0) - rows - first_row)[triangle]

    # Neighbours share an edge; both reckon it downwards from its upper corner, so that no crack opens between them.
    upper = y < middle[triangle]
    long_edge = top_x[triangle] + (y - top[triangle]) * _ratio(bottom_x - top_x, bottom - top)[triangle]
    upper_edge = top_x[triangle] + (y - top[triangle]) * _ratio(middle_x - top_x, middle - top)[triangle]
    lower_edge = middle_x[triangle] + (y - middle[triangle]) * _ratio(bottom_x - middle_x, bottom - middle)[triangle]
    short_edge = torch.where(upper, upper_edge, lower_edge)
    first_x = torch.minimum(long_edge, short_edge).ceil().clamp(min=0).long()
    last_x = torch.maximum(long_edge, short_edge).floor().clamp(max=width - 1).long()
    keep = torch.nonzero(last_x >= first_x)[:, 0]
    return _Spans(triangle[keep], y[keep], first_x[keep], last_x[keep])


def _nearest(triangles: _Triangles, spans: _Spans, width: int, height: int) -> Tensor:
    """(height * width,) int64: 0 where nothing is seen, else the bits of 1 / z above the index of the triangle.

    Positive floats order as their bits do, so depth and triangle pack into one integer whose largest is the nearest.
    """
    depth_at_first, depth_per_sample = _depth_along(triangles, spans)
    count = spans.last_x - spans.first_x + 1
    span = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    step = torch.arange(len(span), device=count.device) - (count.cumsum(0) - count).index_select(0, span)
    depth = torch.addcmul(depth_at_first.index_select(0, span), depth_per_sample.index_select(0, span), step)
    sample = (spans.y * width + spans.first_x).index_select(0, span) + step
    key = depth.view(torch.int32).to(torch.int64).bitwise_left_shift_(32)
    key.bitwise_or_(triangles.face.index_select(0, spans.triangle).index_select(0, span))
    nearest = torch.zeros(height * width, dtype=torch.int64, device=key.device)
    return nearest.scatter_reduce_(0, sample, key, "amax")


def _depth_along(triangles: _Triangles, spans: _Spans) -> tuple[Tensor, Tensor]:
    """1 / z at each span's first sample, and its change per sample: the plane through the three corners."""
    x, y, depth = triangles.x, triangles.y, triangles.inverse_depth
    x1, x2 = (x[:, 1:] - x[:, :1]).T
    y1, y2 = (y[:, 1:] - y[:, :1]).T
    depth1, depth2 = (depth[:, 1:] - depth[:, :1]).T
    twice_area = x1 * y2 - x2 * y1
    slope_x, slope_y = _ratio(depth1 * y2 - depth2 * y1, twice_area), _ratio(x1 * depth2 - x2 * depth1, twice_area)

    owner = spans.triangle
    in_row = depth[owner, 0] + slope_y[owner] * (spans.y - y[owner, 0])
    at_first = in_row + slope_x[owner] * (spans.first_x - x[owner, 0])
    at_last = in_row + slope_x[owner] * (spans.last_x - x[owner, 0])
    # The plane of a sliver is ill defined; its samples still lie between its corners.
    nearest, farthest = depth.amax(1)[owner], depth.amin(1)[owner]
    at_first, at_last = at_first.clamp(farthest, nearest), at_last.clamp(farthest, nearest)
    return at_first, (at_last - at_first) / (spans.last_x - spans.first_x).clamp(min=1)


def _ratio(value: Tensor, by: Tensor) -> Tensor:
    """`value / by`, 0 where `by` is 0."""
    return torch.where(by == 0, 0, value / by)
