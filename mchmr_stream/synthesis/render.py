"""Render posed people before a backdrop, and measure their visibility."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mchmr_stream.synthesis.backgrounds import Backdrop
from mchmr_stream.synthesis.people import PosedPerson
from mchmr_stream.synthesis.random_cameras import SceneCamera
from mchmr_stream.synthesis.textured_rasterizer import Fragments, Triangles, rasterise, sample_texture
from mchmr_stream.synthesis.textures import PATTERN_SIZE, Material, TextureBank

_FINE_BELOW_PX = 60_000
"""People whose boxes together are smaller than this are rendered at twice the size and averaged."""


@dataclass(frozen=True, eq=False)
class Drawing:
    """A picture before lens and sensor effects."""

    rgb: Tensor
    """(height, width, 3) display values 0..255"""
    depth_m: Tensor
    """(height, width) nearest person or occluding object; infinite elsewhere"""
    owner: Tensor
    """(height, width) int64: index of the person that a pixel shows; -1 for none"""
    visible_fraction: Tensor
    """(people,)"""
    boxes_xyxy_px: Tensor
    """(people, 4); NaN for a person fully outside"""


@dataclass(frozen=True, eq=False)
class _Window:
    """The part of the picture with people, rendered `scale` times finer."""

    left: int
    top: int
    width: int
    height: int
    scale: int

    def rows_cols(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def draw_people(
    people: list[PosedPerson], camera: SceneCamera, backdrop: Backdrop, textures: TextureBank, patterns: Tensor, exposure: float
) -> Drawing:
    """Render all people in one picture, with occlusion. `exposure` is the mean brightness of white on people, linear."""
    in_camera = [[camera.camera_points(part) for part in person.parts_m] for person in people]
    projected = [torch.cat([_project(part, camera) for part in parts]) for parts in in_camera]
    boxes = torch.stack([_box(points[_drawn(person)], camera) for points, person in zip(projected, people, strict=True)])
    rgb = _shade_ground(backdrop.rgb, people, camera)
    depth = backdrop.depth_m.clone()
    owner = torch.full(depth.shape, -1, dtype=torch.int64)
    window = _window(boxes)
    if window is None:
        return Drawing(rgb, depth, owner, torch.zeros(len(people)), boxes)

    triangles, slots, materials = _collect(people, projected, window)
    fine_hw = window.height * window.scale, window.width * window.scale
    fragments = rasterise(triangles, textures.rgba, textures.see_through, fine_hw, 1, len(people))
    rows, cols = window.rows_cols()
    hides = backdrop.depth_m[rows, cols].repeat_interleave(window.scale, 0).repeat_interleave(window.scale, 1).reshape(-1)
    seen = fragments.depth_m < hides.take(fragments.pixel)
    owners = triangles.owner.take(fragments.triangle)
    visible = torch.bincount(owners[seen], minlength=len(people)) / fragments.alone_px.clamp(min=1)

    albedo = _albedo(fragments, slots.take(fragments.triangle), materials, textures, patterns)
    vertex_normals = torch.cat([part for person in people for part in person.normals]) @ camera.camera_from_world.T
    normals = _normals(triangles, fragments, torch.cat([part for parts in in_camera for part in parts]), vertex_normals)
    irradiance = backdrop.light.irradiance(normals @ camera.camera_from_world)
    # Half of the light's colour is removed, as a camera's white balance would.
    irradiance = (irradiance + irradiance.mean(1, keepdim=True)) / 2
    irradiance = irradiance * (exposure / irradiance.mean().clamp(min=1e-6)) * _ambient_occlusion(fragments, fine_hw, window.scale)[:, None]
    display = 255 * (albedo * irradiance).clamp(0, 1).sqrt()

    canvas = torch.zeros(fine_hw[0] * fine_hw[1], 4)
    canvas.index_copy_(0, fragments.pixel, torch.cat([display, torch.ones(len(display), 1)], 1) * seen[:, None])
    colour = _soften(canvas.view(*fine_hw, 4), window.scale)
    rgb[rows, cols] = colour[..., :3] + (1 - colour[..., 3:]) * rgb[rows, cols]
    fine_depth = torch.full((fine_hw[0] * fine_hw[1],), torch.inf)
    fine_depth[fragments.pixel] = fragments.depth_m
    fine_owner = torch.full((fine_hw[0] * fine_hw[1],), -1, dtype=torch.int64)
    fine_owner[fragments.pixel[seen]] = owners[seen]
    step = window.scale
    depth[rows, cols] = torch.minimum(depth[rows, cols], fine_depth.view(fine_hw)[::step, ::step])
    owner[rows, cols] = fine_owner.view(fine_hw)[::step, ::step]
    return Drawing(rgb, depth, owner, visible.clamp(max=1), boxes)


def _project(points_m: Tensor, camera: SceneCamera) -> Tensor:
    """(v, 3) camera axes -> (v, 3): x, y px and depth. Points behind the camera are not drawn; their x and y are undefined."""
    z = points_m[:, 2]
    safe = z.clamp(min=1e-3)
    k = camera.intrinsics
    return torch.stack([points_m[:, 0] / safe * k.fx + k.cx, points_m[:, 1] / safe * k.fy + k.cy, z], 1)


def _drawn(person: PosedPerson) -> Tensor:
    """(v,) True for the vertices of a person that a triangle uses; skin under clothes has none."""
    used = [torch.zeros(len(part.template_m), dtype=torch.bool).index_fill_(0, part.faces.view(-1), True) for part in person.mesh.parts]
    return torch.cat(used)


def _box(points: Tensor, camera: SceneCamera) -> Tensor:
    """(4,) box of the points before the camera, clipped to the picture."""
    points = points[points[:, 2] > 0.1]
    if not len(points):
        return torch.full((4,), torch.nan)
    limits = torch.tensor([camera.width - 1.0, camera.height - 1.0])
    low = points[:, :2].amin(0).clamp(min=torch.zeros(2))
    high = torch.minimum(points[:, :2].amax(0), limits)
    return torch.cat([low, high]) if bool((low < high).all()) else torch.full((4,), torch.nan)


def _window(boxes: Tensor) -> _Window | None:
    found = boxes[~boxes[:, 0].isnan()]
    if not len(found):
        return None
    left, top = (math.floor(v) for v in found[:, :2].amin(0).tolist())
    right, bottom = (math.ceil(v) + 1 for v in found[:, 2:].amax(0).tolist())
    area = float(((found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1])).sum())
    return _Window(left, top, right - left, bottom - top, 2 if area < _FINE_BELOW_PX else 1)


def _collect(people: list[PosedPerson], projected: list[Tensor], window: _Window) -> tuple[Triangles, Tensor, list[Material]]:
    """All triangles in window pixels, the material number of each, and the materials."""
    faces, corner_uv, slots, owners, double_sided = [], [], [], [], []
    materials: list[Material] = []
    first_vertex = 0
    for number, person in enumerate(people):
        first_slot = len(materials)
        for part, vertices in zip(person.mesh.parts, person.parts_m, strict=True):
            faces.append(part.faces + first_vertex)
            corner_uv.append(part.corner_uv)
            slots.append(part.slot + first_slot)
            owners.append(torch.full((len(part.faces),), number))
            double_sided.append(torch.full((len(part.faces),), part.double_sided))
            first_vertex += len(vertices)
            first_slot += part.slots
        materials += person.mesh.materials
    vertices_px = torch.cat(projected)
    moved = (vertices_px[:, :2] - torch.tensor([float(window.left), float(window.top)]) + 0.5) * window.scale - 0.5
    slot = torch.cat(slots)
    texture = torch.tensor([material.texture for material in materials]).take(slot)
    triangles = Triangles(
        torch.cat([moved, vertices_px[:, 2:]], 1), torch.cat(faces), torch.cat(corner_uv), texture, torch.cat(owners),
        torch.zeros_like(slot), torch.cat(double_sided),
    )  # fmt: skip
    return triangles, slot, materials


def _albedo(fragments: Fragments, slot: Tensor, materials: list[Material], textures: TextureBank, patterns: Tensor) -> Tensor:
    """(p, 3) linear colour; see Material."""
    table = lambda values: torch.tensor(values, dtype=torch.float32)
    texture = torch.tensor([material.texture for material in materials])
    picture = (sample_texture(textures.rgba, texture.take(slot), fragments.uv) / 255).square()
    mean = textures.mean_linear[texture].mean(1)
    grey = (picture.mean(1) / mean.take(slot).clamp(min=1e-3)).clamp(max=1.8)[:, None]
    first = table([material.colour for material in materials]).index_select(0, slot)
    second = table([material.second_colour for material in materials]).index_select(0, slot)
    keep = table([material.keep for material in materials]).take(slot)[:, None]
    cloth = first + (second - first) * _pattern(fragments.uv, slot, materials, patterns)[:, None]
    return (keep * picture * first + (1 - keep) * cloth * grey).clamp(0, 1)


def _pattern(uv: Tensor, slot: Tensor, materials: list[Material], patterns: Tensor) -> Tensor:
    """(p,) share of the second colour, 0..1."""
    number = torch.tensor([material.pattern for material in materials]).take(slot)
    scale = torch.tensor([material.pattern_scale for material in materials]).take(slot)[:, None]
    share = torch.zeros(len(uv))
    rows = (number >= 0).nonzero()[:, 0]
    place = ((uv[rows] * scale[rows]).remainder(1) * PATTERN_SIZE).long().clamp(max=PATTERN_SIZE - 1)
    share[rows] = patterns[number[rows], place[:, 1], place[:, 0]].float() / 255
    return share


def _normals(triangles: Triangles, fragments: Fragments, vertices_m: Tensor, normals: Tensor) -> Tensor:
    """(p, 3) smooth unit normals, oriented towards the camera; vertices and normals both in camera axes."""
    faces = triangles.faces.index_select(0, fragments.triangle).view(-1)
    both = torch.cat([normals, vertices_m], 1)
    mixed = torch.bmm(fragments.barycentric[:, None], both.index_select(0, faces).view(-1, 3, 6))[:, 0]
    normal = torch.nn.functional.normalize(mixed[:, :3], dim=-1)
    return torch.where((normal * mixed[:, 3:]).sum(1, keepdim=True) > 0, -normal, normal)


def _ambient_occlusion(fragments: Fragments, fine_hw: tuple[int, int], scale: int) -> Tensor:
    """(p,) 0.5..1: darker where the neighbourhood is nearer to the camera (between arm and trunk, in folds)."""
    height, width = fine_hw
    layers = torch.zeros(2, height * width)
    layers[0, fragments.pixel] = fragments.depth_m
    layers[1, fragments.pixel] = 1
    pool = 4 * scale
    coarse = torch.nn.functional.avg_pool2d(layers.view(1, 2, height, width), pool, ceil_mode=True, count_include_pad=False)
    wide = torch.nn.functional.avg_pool2d(coarse, 5, stride=1, padding=2)
    around = wide[:, :1] / wide[:, 1:].clamp(min=1e-4)
    smooth = torch.nn.functional.interpolate(around, size=fine_hw, mode="bilinear", align_corners=False).view(-1)[fragments.pixel]
    return 1 - 0.5 * ((fragments.depth_m - smooth) / 0.12).clamp(0, 1)


def _soften(canvas: Tensor, scale: int) -> Tensor:
    """(h, w, 4) premultiplied -> picture size with soft edges."""
    layers = canvas.permute(2, 0, 1)[None]
    if scale > 1:
        return torch.nn.functional.avg_pool2d(layers, scale)[0].permute(1, 2, 0)
    kernel = torch.tensor([0.12, 0.76, 0.12])
    padded = torch.nn.functional.pad(layers, (1, 1, 1, 1), mode="replicate")
    rows = padded[:, :, :-2] * kernel[0] + padded[:, :, 1:-1] * kernel[1] + padded[:, :, 2:] * kernel[2]
    mixed = rows[..., :-2] * kernel[0] + rows[..., 1:-1] * kernel[1] + rows[..., 2:] * kernel[2]
    return mixed[0].permute(1, 2, 0)


def _shade_ground(rgb: Tensor, people: list[PosedPerson], camera: SceneCamera) -> Tensor:
    """Darken the floor under people: a soft contact shadow, computed at an eighth of the size."""
    step = 8
    if float(camera.position_m[1]) < 0.2:
        return rgb.clone()
    k, r = camera.intrinsics, camera.camera_from_world
    x = (torch.arange(step // 2, camera.width, step) - k.cx) / k.fx
    y = (torch.arange(step // 2, camera.height, step) - k.cy) / k.fy
    falls = x[None, :] * r[0, 1] + y[:, None] * r[1, 1] + r[2, 1]
    depth = -float(camera.position_m[1]) / falls.clamp(max=-1e-4)
    ground = [float(camera.position_m[a]) + depth * (x[None, :] * r[0, a] + y[:, None] * r[1, a] + r[2, a]) for a in (0, 2)]
    joints = torch.cat([person.joints_m for person in people])
    strength = 0.3 * torch.exp(-joints[:, 1].clamp(min=0) / 0.25)
    joints, strength = joints[strength > 0.02], strength[strength > 0.02]
    distance = (ground[0][..., None] - joints[:, 0]) ** 2 + (ground[1][..., None] - joints[:, 2]) ** 2
    shadow = (strength * torch.exp(-distance / (2 * 0.14**2))).sum(-1).clamp(max=0.65) * (falls < -1e-3)
    full = torch.nn.functional.interpolate(shadow[None, None], size=rgb.shape[:2], mode="bilinear", align_corners=False)[0, 0]
    return rgb * (1 - full[..., None])
