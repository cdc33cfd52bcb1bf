"""Generated surroundings: a box room or an open field, with furniture-like boxes, by casting one ray per pixel.

They do not resemble a real room, but give a floor in correct perspective, edges, textures and occluding objects.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mchmr_stream.synthesis.random_cameras import SceneCamera
from mchmr_stream.synthesis.textures import pattern_bank

_TILE = 256
_patterns: list[np.ndarray] = []


def draw_room(rng: np.random.Generator, camera: SceneCamera, standing_m: np.ndarray, pictures: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Render a room.

    Args:
        rng: random numbers.
        camera: the camera.
        standing_m: (n, 3) points that stay inside of the walls, as the camera does.
        pictures: textures.

    Returns:
        Colour (height, width, 3) 0..255 and depth of the boxes (height, width), infinite elsewhere.
    """
    origin = camera.position_m.numpy()
    must_hold = np.concatenate([standing_m, origin[None]])
    low, high = must_hold.min(0) - rng.uniform(0.8, 5.0, 3), must_hold.max(0) + rng.uniform(0.8, 5.0, 3)
    low[1] = min(0.0, origin[1] - 0.05)
    high[1] = max(high[1], 2.4)
    k = camera.intrinsics
    x = (torch.arange(camera.width) - k.cx) / k.fx
    y = (torch.arange(camera.height) - k.cy) / k.fy
    # Rays with camera z = 1, so the ray's parameter is the depth.
    r = camera.camera_from_world
    rays = [x[None, :] * r[0, axis] + y[:, None] * r[1, axis] + r[2, axis] for axis in range(3)]
    rays = [torch.where(ray.abs() < 1e-6, torch.full_like(ray, 1e-6), ray) for ray in rays]

    surfaces = [_surface(rng, pictures) for _ in range(6)]
    walls = [torch.where(ray > 0, float(h), float(lo)) for ray, lo, h in zip(rays, low, high, strict=True)]
    reach = torch.stack([(wall - float(o)) / ray for wall, o, ray in zip(walls, origin, rays, strict=True)])
    depth, axis = reach.min(0)
    rgb = torch.zeros(camera.height, camera.width, 3)
    for number in range(6):
        side, far = number // 2, number % 2
        rows = ((axis == side) & ((rays[side] > 0) == bool(far))).view(-1).nonzero()[:, 0]
        across, along = [(2, 1), (0, 2), (0, 1)][side]
        u = float(origin[across]) + (depth * rays[across]).take(rows)
        v = float(origin[along]) + (depth * rays[along]).take(rows)
        rgb.view(-1, 3).index_copy_(0, rows, _look_up(*surfaces[number], u, v) * (1.0, 0.92, 0.84, 0.97, 1.0, 0.88)[number])

    hides = torch.full_like(depth, torch.inf)
    for _ in range(int(rng.integers(0, 5))):
        _add_box(rng, camera, origin, rays, low, high, standing_m, rgb, depth, hides, _surface(rng, pictures))
    return rgb, hides


def _add_box(
    rng: np.random.Generator, camera: SceneCamera, origin: np.ndarray, rays: list[Tensor], low: np.ndarray, high: np.ndarray,
    standing_m: np.ndarray, rgb: Tensor, depth: Tensor, hides: Tensor, surface: tuple[Tensor, float],
) -> None:  # fmt: skip
    """Place a box on free floor and render it."""
    height = rng.choice([0.4, 0.75, 0.95, 1.8], p=[0.4, 0.3, 0.15, 0.15]) * rng.uniform(0.8, 1.2)
    size = np.array([rng.uniform(0.3, 1.4), height, rng.uniform(0.3, 1.2)])
    corner = np.array([rng.uniform(low[0], high[0] - size[0]), max(low[1], 0.0), rng.uniform(low[2], high[2] - size[2])])
    margin = np.array([0.1, 0.0, 0.1])
    for point in (*standing_m, origin):
        if ((point > corner - margin) & (point < corner + size + margin))[[0, 2]].all():
            return
    near = [(float(c) - float(o)) / ray for c, o, ray in zip(corner, origin, rays, strict=True)]
    far = [(float(c) - float(o)) / ray for c, o, ray in zip(corner + size, origin, rays, strict=True)]
    entry, axis = torch.stack([torch.minimum(a, b) for a, b in zip(near, far, strict=True)]).max(0)
    leave = torch.stack([torch.maximum(a, b) for a, b in zip(near, far, strict=True)]).amin(0)
    rows = ((entry < leave) & (entry > 0.3) & (entry < depth)).view(-1).nonzero()[:, 0]
    # A box that fills the picture hides all people: leave it out.
    if not len(rows) or len(rows) > 0.3 * camera.width * camera.height:
        return
    hit, side = entry.take(rows), axis.take(rows)
    place = [float(o) + hit * ray.take(rows) for o, ray in zip(origin, rays, strict=True)]
    u = torch.where(side == 0, place[2], place[0])
    v = torch.where(side == 1, place[2], place[1])
    shade = torch.tensor([0.75, 1.0, 0.88])[side]
    rgb.view(-1, 3).index_copy_(0, rows, _look_up(*surface, u, v) * shade[:, None])
    depth.view(-1)[rows] = hit
    hides.view(-1)[rows] = hit


def _surface(rng: np.random.Generator, pictures: list[np.ndarray]) -> tuple[Tensor, float]:
    """A texture (_TILE, _TILE, 3) 0..255 and its size in metres."""
    if pictures and rng.random() < 0.35:
        picture = pictures[rng.integers(len(pictures))]
        side = int(min(picture.shape[:2]) * rng.uniform(0.3, 1))
        top, left = (int(rng.integers(n - side + 1)) for n in picture.shape[:2])
        tile = Image.fromarray(picture[top : top + side, left : left + side]).resize((_TILE, _TILE), Image.Resampling.BILINEAR)
        return torch.as_tensor(np.asarray(tile, np.float32)), float(rng.uniform(1.0, 5.0))
    if not _patterns:
        _patterns.extend(pattern_bank().numpy())
    first = rng.uniform(60, 235) * rng.uniform(0.8, 1.1, 3)
    second = first * rng.uniform(0.6, 1.25) * rng.uniform(0.92, 1.08, 3)
    mix = np.full((_TILE, _TILE), 0.0)
    for pattern in rng.integers(len(_patterns), size=2):
        part = np.asarray(Image.fromarray(_patterns[pattern]).resize((_TILE, _TILE), Image.Resampling.BILINEAR), np.float64) / 255
        mix += part * rng.uniform(0, 0.6)
    grain = rng.normal(0, rng.uniform(1, 7), (_TILE, _TILE, 1))
    tile = first + (second - first) * mix[..., None] + grain
    return torch.as_tensor(tile.clip(0, 255), dtype=torch.float32), float(rng.uniform(0.5, 3.0))


def _look_up(tile: Tensor, size_m: float, u: Tensor, v: Tensor) -> Tensor:
    column = ((u / size_m).remainder(1) * _TILE).long().clamp(max=_TILE - 1)
    row = ((-v / size_m).remainder(1) * _TILE).long().clamp(max=_TILE - 1)
    return tile.view(-1, 3).index_select(0, row * _TILE + column)
