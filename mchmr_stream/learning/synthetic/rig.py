"""The full-resolution render body: the shipped free body's skeleton and shape space on a mesh that can be dressed.

Its first 13,380 vertices are the skin; later ones carry clothes and eyes. `subset` picks the 6,890 vertices of the shipped
body, so a label made here is exact there: same betas, same joints, same linear blend skinning.

Rest pose: T-pose, y up, facing +z, metres. A *shape* is a vector of 10 betas followed by `LIMB_NAMES` stretches; a stretch
of 0.05 makes that bone 5 % longer. The shipped body has no stretches: see `betas_label`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mchmr_stream.errors import InputError
from mchmr_stream.geometry.rotation import matrix_from_axis_angle

PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
LIMB_NAMES = ("upper_arm", "forearm", "thigh", "shank", "trunk")
_LIMB_BONES = {"upper_arm": ((16, 18), (17, 19)), "forearm": ((18, 20), (19, 21)), "thigh": ((1, 4), (2, 5)), "shank": ((4, 7), (5, 8))}
SHAPE_SIZE = 10 + len(LIMB_NAMES)
SKIN_VERTICES = 13380
EYE_VERTICES = (14598, 14742)
FACE_LANDMARK_VERTICES = (332, 2800, 6260, 583, 4071)
"""Nose, left eye, right eye, left ear, right ear in the shipped body (the vertex ids that SMPL users expect)."""


@dataclass(frozen=True, eq=False)
class RenderBody:
    """Everything linear in the shape, plus skinning weights. Tensors are float32 unless said otherwise."""

    template_m: Tensor
    """(19158, 3)"""
    directions: Tensor
    """(19158, 3, SHAPE_SIZE)"""
    weights: Tensor
    """(19158, 24)"""
    joints_m: Tensor
    """(24, 3) of the mean shape"""
    joint_directions: Tensor
    """(24, 3, SHAPE_SIZE)"""
    quads: np.ndarray
    """(13742, 4) skin and eye faces"""
    uv: np.ndarray
    quads_uv: np.ndarray
    subset: Tensor
    """(6890,) vertices of the shipped body"""
    skin_share: Tensor
    """(SKIN_VERTICES,) each vertex's share of the skin's area at rest; sums to 1"""
    betas_from_limbs: Tensor
    """(10, limbs): best fit of a stretch by betas"""
    sample_betas: np.ndarray
    """(1800, 10) betas of a varied adult population, both sexes"""

    def rest_joints(self, shape: Tensor) -> Tensor:
        """(n, SHAPE_SIZE) -> (n, 24, 3)."""
        return self.joints_m + torch.einsum("jik,nk->nji", self.joint_directions, shape)

    def betas_label(self, shape: Tensor) -> Tensor:
        """(n, SHAPE_SIZE) -> (n, 10): the shipped body's betas for this shape.

        Exact when every stretch is zero; otherwise the least-squares fit of the rest surface (6,890 vertices).
        """
        return shape[:, :10] + shape[:, 10:] @ self.betas_from_limbs.T


def load_render_body(data: Path) -> RenderBody:
    """Read `body/render_body.npz` and the joint regressor of `body/free_body_smpl_f16.npz` under `data`.

    Raises InputError when one of them is missing or holds something else.
    """
    render = _load(data / "body" / "render_body.npz", ("v", "shapedirs", "W", "f", "uv", "fuv", "src", "betas"))
    shipped = _load(data / "body" / "free_body_smpl_f16.npz", ("J_regressor",))
    template = render["v"].astype(np.float64)
    subset = render["src"]
    regressor = shipped["J_regressor"].astype(np.float64)
    joints = regressor @ template[subset]
    limbs = _limb_directions(template, render["W"].astype(np.float64), joints)
    directions = np.concatenate([render["shapedirs"], limbs], -1)
    joint_directions = np.einsum("jv,vik->jik", regressor, directions[subset])
    betas_basis = directions[subset, :, :10].reshape(-1, 10)
    fit = np.linalg.lstsq(betas_basis, limbs[subset].reshape(len(betas_basis), -1), rcond=None)[0]
    weights = render["W"] / render["W"].sum(1, keepdims=True)
    as_float = lambda array: torch.as_tensor(array, dtype=torch.float32)
    return RenderBody(
        as_float(template), as_float(directions), as_float(weights), as_float(joints), as_float(joint_directions),
        render["f"], render["uv"].astype(np.float32), render["fuv"], torch.as_tensor(subset),
        as_float(_skin_share(template, render["f"])), as_float(fit), render["betas"],
    )  # fmt: skip


def forward_kinematics(rotations: Tensor, rest_joints_m: Tensor) -> tuple[Tensor, Tensor]:
    """(n, 24, 3, 3) relative rotations, (n, 24, 3) -> joints (n, 24, 3), the pelvis where it rests, and global rotations (n, 24, 3, 3)."""
    turned, placed = [rotations[:, 0]], [rest_joints_m[:, 0]]
    for joint in range(1, 24):
        parent = PARENTS[joint]
        bone = (rest_joints_m[:, joint] - rest_joints_m[:, parent])[..., None]
        turned.append(turned[parent] @ rotations[:, joint])
        placed.append(placed[parent] + (turned[parent] @ bone)[..., 0])
    return torch.stack(placed, 1), torch.stack(turned, 1)


def joint_transforms(rotations: Tensor, rest_joints_m: Tensor) -> tuple[Tensor, Tensor]:
    """(24, 3, 3), (24, 3) -> posed_from_rest of every joint (24, 3, 4), and the posed joints (24, 3), pelvis where it rests."""
    joints, turned = (x[0] for x in forward_kinematics(rotations[None], rest_joints_m[None]))
    shift = joints - (turned @ rest_joints_m[..., None])[..., 0]
    return torch.cat([turned, shift[..., None]], -1), joints


def skin(weights: Tensor, transforms: Tensor, rest_m: Tensor, rest_normals: Tensor) -> tuple[Tensor, Tensor]:
    """Linear blend skinning: (v, 24), (24, 3, 4), (v, 3), (v, 3) -> vertices (v, 3) and normals (v, 3, not quite unit)."""
    blended = (weights @ transforms.reshape(24, 12)).reshape(-1, 3, 4)
    turn = blended[..., :3]
    return (turn @ rest_m[..., None])[..., 0] + blended[..., 3], (turn @ rest_normals[..., None])[..., 0]


def rotations_from_axis_angle(axis_angle: np.ndarray) -> Tensor:
    """(..., 3) -> (..., 3, 3) float32 tensor, computed in double."""
    return torch.as_tensor(matrix_from_axis_angle(np.asarray(axis_angle, np.float64)), dtype=torch.float32)


def _limb_directions(template: np.ndarray, weights: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """(v, 3, limbs): how the rest surface moves per unit of stretch of each limb, left and right alike.

    Along the bone a vertex moves in proportion to how far along it lies; everything beyond the bone moves rigidly.
    Skinning weights blend the two, so the surface stays smooth.
    """
    fields = []
    for name in LIMB_NAMES[:-1]:
        field = np.zeros_like(template)
        for start, end in _LIMB_BONES[name]:
            bone = joints[end] - joints[start]
            along = np.clip((template - joints[start]) @ bone / (bone @ bone), 0, 1)
            beyond = [j for j in range(24) if j != start and start in _ancestors(j)]
            share = weights[:, start] * along + weights[:, beyond].sum(1)
            field += share[:, None] * bone
        fields.append(field)
    trunk = np.zeros_like(template)
    trunk[:, 1] = np.clip(template[:, 1], 0, joints[12, 1])
    return np.stack([*fields, trunk], -1)


def _skin_share(template: np.ndarray, quads: np.ndarray) -> np.ndarray:
    quads = quads[(quads < SKIN_VERTICES).all(1)]
    corners = template[quads]
    area = np.linalg.norm(np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]), axis=-1) / 2
    share = np.bincount(quads.ravel(), np.repeat(area, 4), minlength=SKIN_VERTICES)
    return share / share.sum()


def _ancestors(joint: int) -> set[int]:
    found: set[int] = set()
    while PARENTS[joint] >= 0:
        joint = PARENTS[joint]
        found.add(joint)
    return found


def _load(path: Path, wanted: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in wanted}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"cannot read {path}: {error}; expected an npz with {', '.join(wanted)} (the developers' data folder)") from error
