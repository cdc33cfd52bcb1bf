"""Bodies drawn over a picture: smooth shading by one light near the camera, soft outlines, hidden surfaces removed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mchmr_stream.datatypes import Float
from mchmr_stream.geometry.camera import Intrinsics, project
from mchmr_stream.rendering.rasterizer import VisibleTriangles, rasterise

NEAR_M = 0.05
"""Points closer than this are treated as behind the camera."""
LAMP = (-0.25, -0.45, -0.86)
"""Direction towards the light, camera axes: a little left of and above the lens, so that the shape is visible"""
AMBIENT = 0.32
FINE = 2
"""Samples across and down a pixel, for soft outlines."""


@dataclass(frozen=True)
class _ImageRegion:
    """Pixels left..right-1, top..bottom-1."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    def touches(self, other: _ImageRegion) -> bool:
        return self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom

    def joined(self, other: _ImageRegion) -> _ImageRegion:
        return _ImageRegion(
            min(self.left, other.left), min(self.top, other.top), max(self.right, other.right), max(self.bottom, other.bottom)
        )


def paint_bodies(
    rgb: NDArray[np.uint8],
    vertices_m: Float,
    faces: NDArray[np.int64],
    intrinsics: Intrinsics,
    colours: Float,
    *,
    opacity: float = 0.75,
    device: torch.device | str = "cpu",
) -> None:
    """Draw n bodies into a picture, in place.

    Bodies outside the picture or behind the camera leave it unchanged.

    Args:
        rgb: (height, width, 3), contiguous in memory.
        vertices_m: (n, V, 3) camera axes.
        faces: (F, 3) counter-clockwise from outside.
        intrinsics: The camera.
        colours: (n, 3) in [0, 1].
        opacity: 1 hides the picture behind a body.
        device: Device of the computation.
    """
    if len(vertices_m) == 0:
        return
    vertices = torch.from_numpy(np.ascontiguousarray(vertices_m, np.float32)).to(device)
    triangles = torch.from_numpy(faces).to(device)
    tints = torch.from_numpy(np.ascontiguousarray(colours, np.float32)).to(device)
    shade = _brightness(vertices, triangles)
    # a body that is not finite is skipped
    in_front = (vertices[..., 2] > NEAR_M) & vertices.isfinite().all(-1)
    points_px = project(torch.where(in_front[..., None], vertices, 1), intrinsics)
    inverse_depth = torch.where(in_front, 1 / vertices[..., 2], 0)
    for region, people in _groups(points_px, in_front, rgb.shape[1], rgb.shape[0]):
        _paint(rgb, region, points_px[people], inverse_depth[people], shade[people], tints[people], triangles, opacity)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Compute smooth normals.

    Args:
        vertices: (n, V, 3).
        faces: (F, 3).

    Returns:
        (n, V, 3): area-weighted mean of the normals of each vertex's triangles, of length 1.
    """
    people, count = vertices.shape[:2]
    stacked = vertices.transpose(0, 1).reshape(count, -1)  # one look-up for all people
    first, second, third = (stacked.index_select(0, corner).view(-1, people, 3) for corner in faces.T)
    across = torch.linalg.cross(second - first, third - first).view(len(faces), -1)
    normals = torch.zeros_like(stacked)
    for corner in faces.T:
        normals.index_add_(0, corner, across)
    return torch.nn.functional.normalize(normals.view(count, people, 3), dim=-1).transpose(0, 1)


def _brightness(vertices: Tensor, faces: Tensor) -> Tensor:
    """(n, V): brightness of each vertex, by its normal."""
    towards_lamp = vertex_normals(vertices, faces) @ torch.tensor(LAMP, device=vertices.device)
    return AMBIENT + (1 - AMBIENT) * towards_lamp.clamp(min=0)


def _groups(points_px: Tensor, in_front: Tensor, width: int, height: int) -> list[tuple[_ImageRegion, list[int]]]:
    """Group people whose regions touch, so that the nearer one hides the other; the rest are drawn one by one."""
    far = torch.tensor(float("inf"), device=points_px.device)
    lowest = torch.where(in_front[..., None], points_px, far).amin(1)
    highest = torch.where(in_front[..., None], points_px, -far).amax(1)
    size = torch.tensor([width, height], device=points_px.device)
    low = lowest.floor().clamp(min=0).minimum(size).tolist()
    high = (highest.ceil() + 1).clamp(min=0).minimum(size).tolist()
    groups: list[tuple[_ImageRegion, list[int]]] = []
    for person, ((left, top), (right, bottom)) in enumerate(zip(low, high, strict=True)):
        region, people = _ImageRegion(int(left), int(top), int(right), int(bottom)), [person]
        if region.width <= 0 or region.height <= 0:
            continue
        # A joined region may touch groups that neither part touched: repeat until it touches none.
        while touching := [group for group in groups if group[0].touches(region)]:
            for group in touching:
                groups.remove(group)
                region, people = region.joined(group[0]), people + group[1]
        groups.append((region, people))
    return groups


def _paint(
    rgb: NDArray[np.uint8],
    region: _ImageRegion,
    points_px: Tensor,
    inverse_depth: Tensor,
    shade: Tensor,
    tints: Tensor,
    faces: Tensor,
    opacity: float,
) -> None:
    people, vertex_count = shade.shape
    points = (points_px - torch.tensor([region.left, region.top], device=points_px.device)).reshape(-1, 2)
    first_vertex = torch.arange(people, device=faces.device)[:, None, None] * vertex_count
    all_faces = (faces + first_vertex).reshape(-1, 3)
    depth = inverse_depth.reshape(-1)
    seen = rasterise(points, depth, all_faces, region.width, region.height, FINE)
    y = torch.div(seen.pixel, region.width, rounding_mode="trunc")
    x = seen.pixel - y * region.width

    light = _interpolated(shade.reshape(-1), points, depth, all_faces, seen, x, y)
    person = torch.div(seen.face, len(faces), rounding_mode="trunc")
    cover = seen.coverage * opacity
    keep, light = (1 - cover).cpu(), 255 * light * cover
    picture = torch.from_numpy(rgb).view(-1)
    index = 3 * ((y + region.top) * rgb.shape[1] + (x + region.left)).cpu()
    # Per colour channel: on a CPU, rows of three bytes take three times as long.
    for tint in tints.T:
        paint = (light * tint.index_select(0, person) + 0.5).cpu()
        before = picture.index_select(0, index).to(torch.float32)
        picture.scatter_(0, index, paint.addcmul_(before, keep).to(torch.uint8))
        index += 1


def _interpolated(
    values: Tensor, points: Tensor, inverse_depth: Tensor, faces: Tensor, seen: VisibleTriangles, x: Tensor, y: Tensor
) -> Tensor:
    """A value per vertex -> per visible pixel, at its centre x, y. value / z is linear in the picture, like 1 / z."""
    table = torch.cat([points.T, (values * inverse_depth)[None], values[None]])
    first, second, third = (table.index_select(1, corner) for corner in faces.T)
    x1, y1, value1, _ = second - first
    x2, y2, value2, _ = third - first
    twice_area = x1 * y2 - x2 * y1
    slope_x, slope_y = (value1 * y2 - value2 * y1) / twice_area, (x1 * value2 - x2 * value1) / twice_area
    start = first[2] - slope_x * first[0] - slope_y * first[1]
    lowest, highest = (bound(bound(first[3], second[3]), third[3]) for bound in (torch.minimum, torch.maximum))
    here = lambda per_face: per_face.index_select(0, seen.face)
    value = torch.addcmul(torch.addcmul(here(start), here(slope_x), x), here(slope_y), y) / seen.inverse_depth
    # The centre of a pixel on the outline may lie outside the triangle visible in it.
    return torch.minimum(torch.maximum(value, here(lowest)), here(highest))
