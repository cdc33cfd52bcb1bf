"""The full-resolution render body: the shipped free body's skeleton and shape space on a mesh with clothes.

Its first 13,380 vertices are the skin; later ones are for clothes and eyes. `subset` selects the 6,890 vertices of the shipped body, so
labels are exact for it: same betas, same joints, same linear blend skinning.

Rest pose: T-pose, y up, facing +z, metres.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mchmr_stream.errors import InputError
from mchmr_stream.files.safe_npz import read_npz
from mchmr_stream.geometry.rotation import matrix_from_axis_angle
from mchmr_stream.synthesis.source_body import PARENTS, SOURCE_SHAPE_SIZE, load_source_body

BETAS = 10
SKIN_VERTICES = 13380
EYE_VERTICES = (14598, 14742)
FACE_LANDMARK_VERTICES = (332, 2800, 6260, 583, 4071)
"""Nose, left eye, right eye, left ear, right ear in the shipped body (the usual vertex ids of SMPL)."""


_SAME_BODY_M = 5e-4


@dataclass(frozen=True, eq=False)
class RenderBody:
    """Skeleton and mesh, linear in the shape, with skinning weights. Tensors are float32 unless stated otherwise."""

    template_m: Tensor
    """(19158, 3)"""
    directions: Tensor
    """(19158, 3, 10)"""
    weights: Tensor
    """(19158, 24)"""
    joints_m: Tensor
    """(24, 3) of the mean shape"""
    joint_directions: Tensor
    """(24, 3, 10)"""
    quads: np.ndarray
    """(13742, 4) skin and eye faces"""
    uv: np.ndarray
    quads_uv: np.ndarray
    subset: Tensor
    """(6890,) vertices of the shipped body"""
    skin_share: Tensor
    """(SKIN_VERTICES,) each vertex's share of the skin's area at rest; sums to 1"""
    sample_betas: np.ndarray
    """(n, 10) a varied adult population"""
    sample_is_male: np.ndarray
    """(n,)"""

    def rest_joints(self, betas: Tensor) -> Tensor:
        """Compute rest joints: (n, 10) betas -> (n, 24, 3)."""
        return self.joints_m + torch.einsum("jik,nk->nji", self.joint_directions, betas)


def load_render_body(data: Path) -> RenderBody:
    """Load the source body under `data` (see `source_body`) in the betas of the free body that ships.

    Raises:
        InputError: a file is missing, or the two bodies are not of one family.
    """
    source, free = load_source_body(data), _shipped()
    surface = source.directions[source.subset].reshape(-1, SOURCE_SHAPE_SIZE)
    moved = (free["v_template"].astype(np.float64) - source.template_m[source.subset]).reshape(-1)
    # The shipped body's template and directions are linear combinations of the source's, up to half precision.
    mean = np.linalg.lstsq(surface, moved, rcond=None)[0]
    components = np.linalg.lstsq(surface, free["shapedirs"].astype(np.float64).reshape(len(surface), -1), rcond=None)[0]
    off_m = np.abs(surface @ mean - moved).max()
    if off_m > _SAME_BODY_M:
        raise InputError(
            f"{data / 'body'} and the free body that ships differ by {off_m * 1e3:.1f} mm: the one was not made from the other;"
            " make the free body again with tools/make_free_body.py"
        )
    as_float = lambda array: torch.as_tensor(array, dtype=torch.float32)
    template = source.template_m + source.directions @ mean
    return RenderBody(
        as_float(template), as_float(source.directions @ components), as_float(source.weights),
        as_float(source.joints_m + source.joint_directions @ mean), as_float(source.joint_directions @ components),
        source.quads, source.uv, source.quads_uv, torch.as_tensor(source.subset), as_float(_skin_share(template, source.quads)),
        free["sample_betas"].astype(np.float64), free["sample_is_male"],
    )  # fmt: skip


def _shipped() -> dict[str, np.ndarray]:
    names = ("v_template", "shapedirs", "sample_betas", "sample_is_male")
    with resources.as_file(resources.files("mchmr_stream.assets") / "free_body.npz") as path:
        return read_npz(path, names, what="the free body")


def forward_kinematics(rotations: Tensor, rest_joints_m: Tensor) -> tuple[Tensor, Tensor]:
    """Compute joints (n, 24, 3), with the pelvis at its rest position, and global rotations (n, 24, 3, 3).

    Args:
        rotations: (n, 24, 3, 3) relative rotations.
        rest_joints_m: (n, 24, 3).
    """
    turned, placed = [rotations[:, 0]], [rest_joints_m[:, 0]]
    for joint in range(1, 24):
        parent = PARENTS[joint]
        bone = (rest_joints_m[:, joint] - rest_joints_m[:, parent])[..., None]
        turned.append(turned[parent] @ rotations[:, joint])
        placed.append(placed[parent] + (turned[parent] @ bone)[..., 0])
    return torch.stack(placed, 1), torch.stack(turned, 1)


def joint_transforms(rotations: Tensor, rest_joints_m: Tensor) -> tuple[Tensor, Tensor]:
    """Compute posed_from_rest of each joint, (24, 3, 4), and the posed joints (24, 3), with the pelvis at its rest position.

    Args:
        rotations: (24, 3, 3) relative rotations.
        rest_joints_m: (24, 3).
    """
    joints, turned = (x[0] for x in forward_kinematics(rotations[None], rest_joints_m[None]))
    shift = joints - (turned @ rest_joints_m[..., None])[..., 0]
    return torch.cat([turned, shift[..., None]], -1), joints


def skin(weights: Tensor, transforms: Tensor, rest_m: Tensor, rest_normals: Tensor) -> tuple[Tensor, Tensor]:
    """Apply linear blend skinning.

    Args:
        weights: (v, 24).
        transforms: (24, 3, 4) posed from rest.
        rest_m: (v, 3) vertices.
        rest_normals: (v, 3).

    Returns:
        Vertices (v, 3) and normals (v, 3, not exactly unit length).
    """
    blended = (weights @ transforms.reshape(24, 12)).reshape(-1, 3, 4)
    turn = blended[..., :3]
    return (turn @ rest_m[..., None])[..., 0] + blended[..., 3], (turn @ rest_normals[..., None])[..., 0]


def rotations_from_axis_angle(axis_angle: np.ndarray) -> Tensor:
    """Convert (..., 3) to (..., 3, 3) float32, computed in float64."""
    return torch.as_tensor(matrix_from_axis_angle(np.asarray(axis_angle, np.float64)), dtype=torch.float32)


def _skin_share(template: np.ndarray, quads: np.ndarray) -> np.ndarray:
    quads = quads[(quads < SKIN_VERTICES).all(1)]
    corners = template[quads]
    area = np.linalg.norm(np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]), axis=-1) / 2
    share = np.bincount(quads.ravel(), np.repeat(area, 4), minlength=SKIN_VERTICES)
    return share / share.sum()
