"""A textured triangle rasteriser in plain torch: any number of meshes and pictures in one call, on any device.

Each triangle is split into spans (its rows of pixels, with the exact interval inside it), each span into its pixels. One
`scatter_reduce` on a packed (nearness, fragment) number keeps the nearest fragment of each pixel; only those are textured. 1/depth is
affine in the picture, which makes depth and barycentric coordinates perspective-correct at no cost. Triangles that come nearer than
`NEAR_M` to the camera are dropped entirely.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NEAR_M = 0.1
_SOLID = 110
_NO_LIMIT = 1e9
_LEAST_SLOPE = 1e-12


@dataclass(frozen=True, eq=False)
class Triangles:
    """Triangles to draw: `n` triangles on `v` vertices, all in their pictures' camera axes."""

    vertices_px: Tensor
    """(v, 3): x, y in pixels (centre of the top-left pixel at 0, 0), depth in metres"""
    faces: Tensor
    """(n, 3) int64"""
    corner_uv: Tensor
    """(n, 3, 2)"""
    texture: Tensor
    """(n,) int64 into the bank"""
    owner: Tensor
    """(n,) int64: index of the object, for silhouettes"""
    picture: Tensor
    """(n,) int64"""
    double_sided: Tensor
    """(n,) bool"""


@dataclass(frozen=True, eq=False)
class Fragments:
    """The visible fragment of each covered pixel; `p` of them."""

    pixel: Tensor
    """(p,) flat index into (pictures, height, width)"""
    triangle: Tensor
    """(p,)"""
    barycentric: Tensor
    """(p, 3), perspective-correct"""
    uv: Tensor
    """(p, 2)"""
    depth_m: Tensor
    """(p,)"""
    alone_px: Tensor
    """(owners,) pixels inside the picture that each owner would cover without occlusion"""


def rasterise(triangles: Triangles, rgba: Tensor, see_through: Tensor, size_hw: tuple[int, int], pictures: int, owners: int) -> Fragments:
    """Draw into `pictures` pictures of `size_hw`.

    Args:
        triangles: triangles to draw.
        rgba: (t, s, s, 4) uint8 texture bank.
        see_through: (t,) bool, which textures have holes.
        size_hw: height and width of the pictures.
        pictures: number of pictures.
        owners: number of objects.
    """
    height, width = size_hw
    chosen, planes, depth_plane, rows_from, rows_to = _set_up(triangles, height, width)
    texture, owner, picture = (values.index_select(0, chosen) for values in (triangles.texture, triangles.owner, triangles.picture))
    span_triangle, span_row = _expand(rows_to - rows_from + 1, rows_from)
    first, last = _interval(planes.index_select(0, span_triangle), span_row, width)
    filled = (last >= first).nonzero()[:, 0]
    span_triangle, span_row, first, last = (values.index_select(0, filled) for values in (span_triangle, span_row, first, last))

    span, column = _expand(last - first + 1, first)
    line = depth_plane.index_select(0, span_triangle)
    nearness = line[:, 0].take(span) * column + (line[:, 1] * span_row + line[:, 2]).take(span)
    pixel = ((picture.take(span_triangle) * height + span_row) * width).take(span) + column

    def place(fragment: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Triangle, barycentric coordinates and texture coordinates of fragments."""
        of_span = span.take(fragment)
        row = span_triangle.take(of_span)
        x, y = column.take(fragment), span_row.take(of_span)
        triangle = chosen.take(row)
        return triangle, *_place(triangles, triangle, planes.index_select(0, row), nearness.take(fragment), x, y)

    # Holes in textures must not occlude, so those fragments are tested before the depth is resolved.
    tested = see_through.take(texture).take(span_triangle).take(span).nonzero()[:, 0]
    triangle, _, uv = place(tested)
    hole = tested[~_solid(rgba, triangles.texture.take(triangle), uv)]
    kept = torch.ones(len(span), dtype=torch.bool, device=span.device)
    kept[hole] = False

    # The bits of positive floats order like their values; a hole is farther than everything.
    bits = torch.where(kept, nearness.view(torch.int32), -1).long()
    key = bits * 2**32 + torch.arange(len(pixel), device=pixel.device)
    nearest = torch.full((pictures * height * width,), -1, dtype=torch.int64, device=pixel.device)
    nearest.scatter_reduce_(0, pixel, key, "amax")
    covered = (nearest >= 0).nonzero()[:, 0]
    winner = nearest.take(covered) & (2**32 - 1)
    triangle, barycentric, uv = place(winner)
    alone = covered.new_tensor([len(covered)])
    if owners > 1:
        alone = _count_alone(owner.take(span_triangle).take(span)[kept], pixel[kept], owners, len(nearest))
    return Fragments(covered, triangle, barycentric, uv, 1 / nearness.take(winner), alone)


def _set_up(triangles: Triangles, height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Select the triangles that may cover a pixel.

    Returns their numbers (c,), the planes a x + b y + c of their barycentric coordinates (c, 3 corners, 3), the plane of 1/depth (c, 3),
    and their first and last row (c,).
    """
    corners = triangles.vertices_px.index_select(0, triangles.faces.view(-1)).view(-1, 3, 3)
    x, y, z = corners.unbind(-1)
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    left, right = x.amin(1).ceil().clamp(min=0), x.amax(1).floor().clamp(max=width - 1)
    top, bottom = y.amin(1).ceil().clamp(min=0), y.amax(1).floor().clamp(max=height - 1)
    # Triangles are counter-clockwise seen from outside, so a front face has negative area where y points down.
    drawn = (z.amin(1) > NEAR_M) & (area.abs() > 1e-9) & (triangles.double_sided | (area < 0)) & (left <= right) & (top <= bottom)
    chosen = drawn.nonzero()[:, 0]
    x, y = x[chosen], y[chosen]
    following, preceding = [1, 2, 0], [2, 0, 1]
    slope_x = y[:, following] - y[:, preceding]
    slope_y = x[:, preceding] - x[:, following]
    constant = x[:, following] * y[:, preceding] - x[:, preceding] * y[:, following]
    planes = torch.stack([slope_x, slope_y, constant], -1) / area[chosen, None, None]
    # An edge along a row has no intersection with it; a tiny slope puts the intersection far out on the correct side.
    planes[..., 0] = torch.where(planes[..., 0].abs() < _LEAST_SLOPE, _LEAST_SLOPE, planes[..., 0])
    depth_plane = (planes / z[chosen][..., None]).sum(1)
    return chosen, planes, depth_plane, top[chosen].long(), bottom[chosen].long()


def _interval(planes: Tensor, row: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """(s, 3, 3), (s,) -> first and last column (s,) where all three barycentric coordinates are >= 0; first > last for none."""
    slope = planes[..., 0]
    bound = (planes[..., 1] * row[:, None] + planes[..., 2]) / -slope
    enters = slope > 0
    lower = torch.where(enters, bound, -_NO_LIMIT).amax(1)
    upper = torch.where(enters, _NO_LIMIT, bound).amin(1)
    return lower.ceil().clamp(0, width).long(), upper.floor().clamp(-1, width - 1).long()


def _expand(count: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) -> for each of count[i] copies of i: i, and start[i], start[i] + 1, ..."""
    index = torch.repeat_interleave(count)
    begins = count.cumsum(0) - count
    return index, torch.arange(len(index), device=count.device) + (start - begins).take(index)


def _place(triangles: Triangles, triangle: Tensor, planes: Tensor, nearness: Tensor, column: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """Perspective-correct barycentric coordinates (p, 3) and texture coordinates (p, 2) of fragments."""
    z = triangles.vertices_px[:, 2].take(triangles.faces.index_select(0, triangle))
    flat = planes[..., 0] * column[:, None] + planes[..., 1] * row[:, None] + planes[..., 2]
    barycentric = flat.clamp(min=0) / z / nearness[:, None]
    return barycentric, torch.bmm(barycentric[:, None], triangles.corner_uv.index_select(0, triangle))[:, 0]


def sample_texture(rgba: Tensor, texture: Tensor, uv: Tensor) -> Tensor:
    """Sample bilinearly: (t, s, s, 4) uint8, (p,), (p, 2) -> (p, 3) float 0..255. uv repeats outside 0..1."""
    size = rgba.shape[1]
    place = (uv.remainder(1) * size - 0.5).clamp(0, size - 1.001)
    column, row = place[:, 0].floor(), place[:, 1].floor()
    right, down = (place[:, 0] - column)[:, None], (place[:, 1] - row)[:, None]
    flat = rgba.view(-1, 4)
    corner = (texture * size + row.long()) * size + column.long()
    pick = lambda offset: flat.index_select(0, corner + offset).float()
    upper = torch.lerp(pick(0), pick(1), right)
    lower = torch.lerp(pick(size), pick(size + 1), right)
    return torch.lerp(upper, lower, down)[:, :3]


def _solid(rgba: Tensor, texture: Tensor, uv: Tensor) -> Tensor:
    """(p,) False where the texture has a hole."""
    size = rgba.shape[1]
    place = (uv.remainder(1) * size).long().clamp(0, size - 1)
    return rgba[texture, place[:, 1], place[:, 0], 3] > _SOLID


def _count_alone(owner: Tensor, pixel: Tensor, owners: int, pixels: int) -> Tensor:
    hit = torch.zeros(owners * pixels, dtype=torch.bool, device=pixel.device)
    hit.index_fill_(0, owner * pixels + pixel, True)
    return hit.view(owners, pixels).sum(1)
