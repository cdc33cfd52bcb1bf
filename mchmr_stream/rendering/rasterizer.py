"""A small triangle rasteriser in plain torch: the visible triangle of each pixel, its depth, and the pixel's coverage.

It needs no display and no extension, and runs on the device of its tensors. Triangles are divided into horizontal spans, spans into
samples, and the nearest triangle of each sample wins one scatter: a few flat operations without a loop over triangles. 1 / z is linear
in the picture (z is not), so depth is exact under perspective. Surfaces are sampled once per pixel, outlines more finely: few pixels
are outlines, and only there it is visible.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

_LOW_BITS = 0xFFFFFFFF


@dataclass(frozen=True, eq=False)
class VisibleTriangles:
    """The S pixels of a grid in which a triangle is visible, in reading order."""

    pixel: Tensor
    """(S,) int64: y * width + x"""
    face: Tensor
    """(S,) int64: index of the nearest triangle at the pixel's centre; along outlines, of the nearest one in the pixel"""
    inverse_depth: Tensor
    """(S,) float32: its 1 / z there, 1/m"""
    coverage: Tensor
    """(S,) float32 in (0, 1]: share of the pixel that is covered by any triangle"""


class _Triangles(NamedTuple):
    """T triangles that face the camera."""

    face: Tensor
    """(T,): index in the caller's list"""
    corners: tuple[Tensor, Tensor, Tensor]
    """from top to bottom, each (3, T): x, y, 1 / z"""


class _Spans(NamedTuple):
    """Runs of samples of one triangle in one row, possibly empty; each (spans,)."""

    face: Tensor
    row: Tensor
    """int32, like the next one: half the memory, and several times as fast to compute with"""
    first_x: Tensor
    length: Tensor
    first_depth: Tensor
    """1 / z at the first sample"""
    depth_per_sample: Tensor


def rasterise(points_px: Tensor, inverse_depth: Tensor, faces: Tensor, width: int, height: int, fine: int = 1) -> VisibleTriangles:
    """Find the nearest triangle in each of the pixels 0..width-1, 0..height-1.

    Triangles that face away, or have a corner behind the camera, are left out. A sample exactly on an edge belongs to the triangle. A
    pixel counts as fully covered where its centre and those of its eight neighbours are covered, so that a gap narrower than a pixel
    may close.

    Args:
        points_px: (P, 2) float32, x right, y down, pixel centres at whole numbers.
        inverse_depth: (P,) float32, 1 / z; not positive for points at or behind the camera.
        faces: (F, 3) triangles, counter-clockwise from outside.
        width: Pixels.
        height: Pixels.
        fine: Coverage counts `fine` x `fine` evenly spread samples per pixel; 1, 2, 4, ...

    Returns:
        The pixels in which a triangle is visible.
    """
    triangles = _facing(torch.cat([points_px.T, inverse_depth[None]]), faces, width, height)
    pixel, key = _samples(_spans(triangles, width, height), width, 1)
    nearest = _nearest(pixel, key, width * height)
    hits = (nearest > 0).to(torch.uint8)
    if fine > 1:
        inside = _eroded(hits.view(height, width))
        spans = _spans(_finer(_not_within(triangles, inside), fine), width * fine, height * fine)
        sample, key = _samples(spans, width, fine)
        hits = torch.where(inside.view(-1), fine**2, _hits(sample, width * height, fine**2))
        nearest = torch.maximum(nearest, _nearest(sample >> 2 * (fine.bit_length() - 1), key, width * height))
    pixel = torch.nonzero(hits)[:, 0]
    key = nearest.index_select(0, pixel)
    depth = (key >> 32).to(torch.int32).view(torch.float32)
    return VisibleTriangles(pixel, key & _LOW_BITS, depth, hits.index_select(0, pixel) / fine**2)


def _facing(points: Tensor, faces: Tensor, width: int, height: int) -> _Triangles:
    """Front-facing triangles that may touch a pixel, of `points` (3, P)."""
    corners = tuple(points.index_select(1, corner) for corner in faces.T)
    x, y, _ = zip(*corners, strict=True)
    # Counter-clockwise triangles have a negative area where y points down.
    twice_area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
    low, high = _bounds(corners)
    touches = (high[1] >= -0.5) & (low[1] <= height - 0.5) & (high[0] >= -0.5) & (low[0] <= width - 0.5)
    keep = torch.nonzero(touches & (twice_area < 0) & (low[2] > 0))[:, 0]
    first, second, third = (corner.index_select(1, keep) for corner in corners)
    first, second = _in_order(first, second)
    second, third = _in_order(second, third)
    first, second = _in_order(first, second)
    return _Triangles(keep, (first, second, third))


def _in_order(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    above = one[1] <= other[1]
    return torch.where(above, one, other), torch.where(above, other, one)


def _bounds(corners: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Minimum and maximum of x, y and 1 / z, each (3, T)."""
    first, second, third = corners
    return torch.minimum(torch.minimum(first, second), third), torch.maximum(torch.maximum(first, second), third)


def _not_within(triangles: _Triangles, inside: Tensor) -> _Triangles:
    """Triangles whose bounding box has a pixel outside of `inside` (height, width)."""
    height, width = inside.shape
    # A summed-area table of the outside pixels: four look-ups count those of a box.
    outside = pad((~inside).to(torch.int32).cumsum(0, dtype=torch.int32).cumsum(1, dtype=torch.int32), (1, 0, 1, 0)).view(-1)
    low, high = _bounds(triangles.corners)
    left, right = ((bound[0] + 0.5).clamp(0, width - 1).long() for bound in (low, high))
    top, bottom = ((bound[1] + 0.5).clamp(0, height - 1).long() * (width + 1) for bound in (low, high))
    right, bottom = right + 1, bottom + (width + 1)
    count = outside[bottom + right] - outside[bottom + left] - outside[top + right] + outside[top + left]
    rows = torch.nonzero(count)[:, 0]
    first, second, third = (corner.index_select(1, rows) for corner in triangles.corners)
    return _Triangles(triangles.face.index_select(0, rows), (first, second, third))


def _finer(triangles: _Triangles, fine: int) -> _Triangles:
    """The same triangles in a grid of `fine` times as many rows and columns."""
    first, second, third = (torch.cat([(corner[:2] + 0.5) * fine - 0.5, corner[2:]]) for corner in triangles.corners)
    return _Triangles(triangles.face, (first, second, third))


def _eroded(mask: Tensor) -> Tensor:
    """(height, width) bool: where all 3 x 3 pixels of `mask` around are 1; outside of it counts as 0."""
    wide = pad(mask, (1, 1, 1, 1))
    columns = wide[:-2] & wide[1:-1] & wide[2:]
    return (columns[:, :-2] & columns[:, 1:-1] & columns[:, 2:]).bool()


def _spans(triangles: _Triangles, width: int, height: int) -> _Spans:
    """Spans of the upper half of each triangle, above its middle corner, then those of the lower half."""
    top, middle, bottom = triangles.corners
    first_row, last_row = top[1].ceil().clamp(min=0), bottom[1].floor().clamp(max=height - 1)
    first_below = torch.maximum(middle[1].ceil(), first_row).minimum(last_row + 1)
    begin, end = torch.cat([first_row, first_below]).long(), torch.cat([first_below, last_row + 1]).long()
    rows = (end - begin).clamp(min=0)
    half = torch.repeat_interleave(rows, output_size=int(rows.sum()))
    before = (begin - (rows.cumsum(0) - rows)).int()
    row = torch.arange(len(half), dtype=torch.int32, device=half.device) + before.index_select(0, half)
    y = row.to(torch.float32)

    # Neighbours share an edge; both compute it downwards from its upper corner, so that no gap opens between them.
    long_edges = _edges(top, bottom).repeat(1, 2)
    short_edges = torch.cat([_edges(top, middle), _edges(middle, bottom)], 1)
    (x1, depth1), (x2, depth2) = (_along(edges.index_select(1, half), y) for edges in (long_edges, short_edges))
    left, right = torch.minimum(x1, x2), torch.maximum(x1, x2)
    first_x, last_x = left.ceil().clamp(min=0), right.floor().clamp(max=width - 1)
    depth_per_sample = _ratio(depth2 - depth1, x2 - x1)
    first_depth = torch.addcmul(torch.where(x1 < x2, depth1, depth2), depth_per_sample, first_x - left)
    length = (last_x - first_x + 1).clamp(min=0).long()
    return _Spans(triangles.face.repeat(2).index_select(0, half), row, first_x.int(), length, first_depth, depth_per_sample)


def _edges(upper: Tensor, lower: Tensor) -> Tensor:
    """(5, T): x, y and 1 / z of the upper corner; change of x and 1 / z per row."""
    change = lower - upper
    return torch.cat([upper, _ratio(change[::2], change[1])])


def _along(edges: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """x and 1 / z of each edge (5, n) at its y."""
    x0, y0, depth0, x_per_row, depth_per_row = edges
    down = y - y0
    return torch.addcmul(x0, x_per_row, down), torch.addcmul(depth0, depth_per_row, down)


def _samples(spans: _Spans, width: int, fine: int) -> tuple[Tensor, Tensor]:
    """(samples,) int64 each, in a grid of `fine` x `fine` samples per pixel: index and key.

    The samples of a pixel are contiguous: index = (y * width + x) * `fine`^2 + number in the pixel. The key has the bits of 1 / z above
    the index of the triangle. Positive floats sort like their bits, so the largest key is the nearest.
    """
    span = torch.repeat_interleave(spans.length, output_size=int(spans.length.sum()))
    of = lambda values: values.index_select(0, span)
    step = torch.arange(len(span), dtype=torch.int32, device=span.device) - of((spans.length.cumsum(0) - spans.length).int())
    depth = torch.addcmul(of(spans.first_depth), of(spans.depth_per_sample), step.to(torch.float32))
    key = torch.add(of(spans.face), depth.view(torch.int32), alpha=1 << 32)
    x, row = of(spans.first_x) + step, spans.row
    if fine == 1:
        return (of(row * width) + x).long(), key
    # Shifts and masks, because integer division is slow.
    shift, mask = fine.bit_length() - 1, fine - 1
    of_row = ((row >> shift) * width << 2 * shift) + ((row & mask) << shift)
    return (of(of_row) + (x >> shift << 2 * shift) + (x & mask)).long(), key


def _nearest(index: Tensor, key: Tensor, places: int) -> Tensor:
    """(places,) int64: the largest key of each index, 0 where there is none."""
    return torch.zeros(places, dtype=torch.int64, device=key.device).scatter_reduce_(0, index, key, "amax")


def _hits(sample: Tensor, pixels: int, each: int) -> Tensor:
    """(pixels,) uint8: number of covered samples of each pixel."""
    covered = torch.zeros(pixels * each, dtype=torch.uint8, device=sample.device)
    covered.scatter_(0, sample, torch.ones_like(sample, dtype=torch.uint8))
    # One by one, because a reduction over so short an axis is slower on a CPU.
    return reduce(torch.add, covered.view(pixels, each).unbind(1))


def _ratio(value: Tensor, by: Tensor) -> Tensor:
    """`value / by`, 0 where `by` is 0."""
    return torch.where(by == 0, 0, value / by)
