"""Meshes of clothes on the render body's rig: MakeHuman proxies, and garments cut from the skin itself.

A proxy (`.mhclo` + `.obj`) ties each of its vertices to three body vertices plus an offset, so it follows all body shapes linearly.
MakeHuman gives the offsets in its own rest pose (arms down); they are transformed to this T-pose with one rotation per joint, fitted to
the garments' own vertices in both poses (Kabsch). A fitted garment is a part of the skin offset along its normals: T-shirts, shorts,
leggings, which the proxies lack.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mchmr_stream.errors import InputError
from mchmr_stream.geometry.meshes import vertex_normals
from mchmr_stream.synthesis.rig import PARENTS, SKIN_VERTICES, RenderBody

_MAX_VERTICES = 200_000
_ARM_JOINTS = (13, 14, 16, 17, 18, 19, 20, 21, 22, 23)


@dataclass(frozen=True, eq=False)
class Mesh:
    """A part of a dressed person at rest: `v` vertices, `f` triangles."""

    template_m: Tensor
    """(v, 3)"""
    directions: Tensor
    """(v, 3, SHAPE_SIZE)"""
    weights: Tensor
    """(v, 24)"""
    normals: Tensor
    """(v, 3) unit, of the mean shape, which is accurate enough for shading"""
    faces: Tensor
    """(f, 3) int64"""
    corner_uv: Tensor
    """(f, 3, 2) float32"""
    slot: Tensor
    """(f,) int64: index of the part's material"""
    slots: int
    double_sided: bool


@dataclass(frozen=True, eq=False)
class Proxy:
    """One MakeHuman garment, hair style or pair of shoes."""

    name: str
    mesh: Mesh
    texture: Path
    hidden_skin: np.ndarray
    """(SKIN_VERTICES,) True for skin under the garment, which must not be drawn"""


@dataclass(eq=False)
class _Parsed:
    name: str
    parents: np.ndarray
    blend: np.ndarray
    offsets_m: np.ndarray
    positions_m: np.ndarray
    faces: np.ndarray
    corner_uv: np.ndarray
    texture: Path
    hidden: set[int] = field(default_factory=set)


def load_proxies(folder: Path, body: RenderBody) -> dict[str, Proxy]:
    """Load all `clothes/*/*.mhclo` and `hair/*/*.mhclo` under `folder`, by name.

    Raises:
        InputError: there is none.
    """
    files = sorted([*folder.glob("clothes/*/*.mhclo"), *folder.glob("hair/*/*.mhclo")])
    if not files:
        raise InputError(f"no clothes found under {folder}, expected clothes/*/*.mhclo and hair/*/*.mhclo")
    parsed = [_parse(file, body) for file in files]
    turns = _turns_to_tpose(parsed, body)
    return {part.name: _proxy(part, body, turns) for part in parsed}


def fitted_garment(body: RenderBody, normals: np.ndarray, kind: str, length: float, thickness_m: float) -> tuple[Mesh, np.ndarray]:
    """Cut a garment from the skin.

    Args:
        body: the render body.
        normals: (19158, 3) of the rest body.
        kind: "top" or "bottom".
        length: 0..1; of a top from no sleeves to the wrists, of a bottom from the crotch to the ankles.
        thickness_m: offset from the skin.

    Returns:
        The mesh, and (SKIN_VERTICES,) True for skin that it certainly hides.
    """
    depth = _depth_inside(body, kind, length)
    quads = body.quads[(body.quads < SKIN_VERTICES).all(1)]
    quads_uv = body.quads_uv[(body.quads < SKIN_VERTICES).all(1)]
    inside = (depth[quads] > 0).all(1)
    faces, corners_uv = triangles(quads[inside]), triangles(quads_uv[inside])
    used, faces = np.unique(faces, return_inverse=True)
    pushed = body.template_m[used] + torch.as_tensor(normals[used] * thickness_m, dtype=torch.float32)
    mesh = Mesh(
        pushed, body.directions[used], body.weights[used], torch.as_tensor(normals[used]), torch.as_tensor(faces.reshape(-1, 3)),
        torch.as_tensor(body.uv[corners_uv]), torch.zeros(len(corners_uv), dtype=torch.int64), 1, double_sided=True,
    )  # fmt: skip
    return mesh, depth > 0.035


def triangles(quads: np.ndarray) -> np.ndarray:
    """Split quads (q, 4) into triangles (2 q, 3)."""
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def _depth_inside(body: RenderBody, kind: str, length: float) -> np.ndarray:
    """(SKIN_VERTICES,) metres inside the garment's border on the rest body, negative outside."""
    skin = body.template_m[:SKIN_VERTICES].numpy()
    joints = body.joints_m.numpy()
    weights = body.weights[:SKIN_VERTICES].numpy()
    x, y = np.abs(skin[:, 0]), skin[:, 1]
    if kind == "top":
        sleeve = joints[16, 0] * 0.92 + length * (joints[20, 0] - joints[16, 0] * 0.92)
        hem = joints[0, 1] - 0.09
        neck = joints[12, 1] - 0.035 + 0.25 * np.maximum(x - 0.05, 0)
        trunk = np.minimum(y - hem, neck - y)
        on_arm = weights[:, [16, 17, 18, 19, 20, 21, 22, 23]].sum(1) > 0.5
        return np.where(on_arm, sleeve - x, np.minimum(trunk, sleeve - x))
    waist = joints[0, 1] + 0.07
    crotch, ankle = joints[0, 1] - 0.16, joints[7, 1] + 0.05
    hem = crotch + length * (ankle - crotch)
    on_arm = weights[:, 16:].sum(1) > 0.3
    return np.where(on_arm, -1.0, np.minimum(waist - y, y - hem))


def _parse(path: Path, body: RenderBody) -> _Parsed:
    parents, blend, offsets = [], [], []
    scale = np.ones(3)
    hidden: set[int] = set()
    obj_name = material = ""
    section = ""
    template = body.template_m.numpy()
    for line in path.read_text(errors="replace").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] in ("verts", "weights", "delete_verts"):
            section, words = words[0], words[1:] if words[0] == "delete_verts" else []
        elif words[0] == "obj_file":
            obj_name = words[1]
        elif words[0] == "material":
            material = " ".join(words[1:])
        elif words[0] in ("x_scale", "y_scale", "z_scale"):
            axis = "xyz".index(words[0][0])
            first, second, length_dm = int(words[1]), int(words[2]), float(words[3])
            scale[axis] = np.clip(abs(template[first, axis] - template[second, axis]) * 10 / length_dm, 0.75, 1.3)
        if not words or not re.match(r"^-?[\d.]", words[0]):
            continue
        if section == "verts" and len(words) == 1:
            parents.append([int(words[0])] * 3)
            blend.append([1.0, 0.0, 0.0])
            offsets.append([0.0, 0.0, 0.0])
        elif section == "verts" and len(words) >= 6:
            parents.append([int(word) for word in words[:3]])
            blend.append([float(word) for word in words[3:6]])
            offsets.append([float(word) for word in words[6:9]] if len(words) >= 9 else [0.0, 0.0, 0.0])
        elif section == "delete_verts":
            hidden |= _ranges(" ".join(words))
    positions, corner_uv, faces = _read_obj(path.parent / obj_name)
    count = len(positions)
    if len(parents) < count or np.max(parents[:count]) >= len(template):
        raise InputError(f"{path} ties {len(parents)} vertices but {obj_name} has {count}; expected a fitting file of the hm08 base mesh")
    return _Parsed(
        path.stem, np.array(parents[:count]), np.array(blend[:count]), np.array(offsets[:count]) * scale / 10, positions / 10,
        faces, corner_uv, _texture_of(path.parent / material), hidden,
    )  # fmt: skip


def _ranges(text: str) -> set[int]:
    """Parse "1 - 3 7" to {1, 2, 3, 7}."""
    found: set[int] = set()
    for match in re.finditer(r"(\d+)(?:\s*-\s*(\d+))?", text):
        first = int(match[1])
        found |= set(range(first, int(match[2] or first) + 1))
    return found


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (v, 3), uv of each corner (f, 3, 2) and triangles (f, 3)."""
    vertices, uv, faces, faces_uv = [], [[0.0, 0.0]], [], []
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise InputError(f"cannot read mesh {path}: {error}; expected the .obj that the .mhclo beside it names") from error
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            vertices.append([float(word) for word in words[1:4]])
        elif words[0] == "vt":
            uv.append([float(word) for word in words[1:3]])
        elif words[0] == "f":
            corners = [word.split("/") for word in words[1:]]
            for k in range(1, len(corners) - 1):
                fan = [corners[0], corners[k], corners[k + 1]]
                faces.append([int(corner[0]) - 1 for corner in fan])
                faces_uv.append([int(corner[1]) if len(corner) > 1 and corner[1] else 0 for corner in fan])
    if not faces or len(vertices) > _MAX_VERTICES:
        raise InputError(f"mesh {path} has {len(vertices)} vertices and {len(faces)} faces, expected a garment")
    return np.array(vertices), np.array(uv, np.float32)[np.array(faces_uv)], np.array(faces)


def _texture_of(material: Path) -> Path:
    try:
        lines = material.read_text(errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"cannot read material {material}: {error}; expected a .mhmat with a diffuseTexture") from error
    for line in lines:
        words = line.split(None, 1)
        if len(words) == 2 and words[0] == "diffuseTexture":
            return material.parent / words[1].strip()
    raise InputError(f"material {material} names no diffuseTexture")


def _turns_to_tpose(parsed: list[_Parsed], body: RenderBody) -> np.ndarray:
    """(24, 3, 3): rotation of the space around each joint from MakeHuman's rest pose to this one; not the identity for arms only.

    For each arm joint the garment vertices with their largest weight there, in MakeHuman's rest pose (the .obj) and in this one (through
    the tied body vertices), give the least-squares rotation. Joints with too few vertices take their parent's.
    """
    weights, template = body.weights.numpy(), body.template_m.numpy()
    owner = np.concatenate([_blend_rows(part, weights).argmax(1) for part in parsed])
    before = np.concatenate([part.positions_m for part in parsed])
    after = np.concatenate([(template[part.parents] * part.blend[..., None]).sum(1) for part in parsed])
    turns = np.tile(np.eye(3), (24, 1, 1))
    for joint in _ARM_JOINTS:
        rows = owner == joint
        if rows.sum() < 30:
            turns[joint] = turns[PARENTS[joint]]
            continue
        a, b = before[rows] - before[rows].mean(0), after[rows] - after[rows].mean(0)
        u, _, vt = np.linalg.svd(a.T @ b)
        flip = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
        turns[joint] = vt.T @ flip @ u.T
    return turns


def _blend_rows(part: _Parsed, rows: np.ndarray) -> np.ndarray:
    """Body rows (19158, k) -> the garment's (v, k), by its positive ties."""
    positive = part.blend.clip(min=0)
    positive = positive / np.maximum(positive.sum(1, keepdims=True), 1e-6)
    return (rows[part.parents] * positive[..., None]).sum(1)


def _proxy(part: _Parsed, body: RenderBody, turns: np.ndarray) -> Proxy:
    weights = _blend_rows(part, body.weights.numpy())
    weights /= weights.sum(1, keepdims=True)
    turned = np.einsum("vj,jab,vb->va", weights, turns, part.offsets_m)
    blend = torch.as_tensor(part.blend, dtype=torch.float32)
    parents = torch.as_tensor(part.parents)
    template = (body.template_m[parents] * blend[..., None]).sum(1) + torch.as_tensor(turned, dtype=torch.float32)
    directions = torch.einsum("vpik,vp->vik", body.directions[parents], blend)
    slot = _slots(template.numpy(), part.faces)
    hidden = np.zeros(SKIN_VERTICES, bool)
    hidden[[vertex for vertex in part.hidden if vertex < SKIN_VERTICES]] = True
    mesh = Mesh(
        template, directions, torch.as_tensor(weights, dtype=torch.float32),
        torch.as_tensor(vertex_normals(template.numpy(), part.faces)), torch.as_tensor(part.faces),
        torch.as_tensor(part.corner_uv), torch.as_tensor(slot), 2, double_sided=True,
    )  # fmt: skip
    return Proxy(part.name, mesh, part.texture, hidden)


def _slots(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(f,): 1 for the connected pieces of a suit below the waist (trousers, skirts), else 0, to colour top and bottom separately."""
    label = np.arange(len(vertices))
    while True:
        lowest = label[faces].min(1)
        new = label.copy()
        for corner in range(3):
            np.minimum.at(new, faces[:, corner], lowest)
        new = new[new]
        if (new == label).all():
            break
        label = new
    piece = label[faces[:, 0]]
    height = vertices[faces].mean(1)[:, 1]
    total = np.bincount(piece, height, minlength=len(vertices))
    mean_height = total / np.maximum(np.bincount(piece, minlength=len(vertices)), 1)
    return (mean_height[piece] < -0.05).astype(np.int64)
