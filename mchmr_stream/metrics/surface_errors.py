"""Measures of the body surface: vertex error, stature, body mass index."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mchmr_stream.body.model import BodyModel, skin

_AT_ONCE = 64
"""Bodies in memory at a time: 64 of 6,890 vertices with their skinning take some 100 MB."""
_DENSITY_KG_M3 = 1000.0


def vertex_error_mm(
    model: BodyModel, rotations: Tensor, betas: Tensor, target_rotations: Tensor, target_betas: Tensor
) -> NDArray[np.float64]:
    """Compute the mean vertex error (PVE) of each person, with the pelvis joints aligned.

    Args:
        model: the body model of both sides.
        rotations: (N, 24, 3, 3) predicted rotations.
        betas: (N, 10) predicted shape.
        target_rotations: (N, 24, 3, 3) true rotations.
        target_betas: (N, 10) true shape.

    Returns:
        (N,) mm.
    """
    errors = []
    for rows in torch.arange(len(betas)).split(_AT_ONCE):
        predicted, joints = skin(model, rotations[rows], betas[rows])
        target, target_joints = skin(model, target_rotations[rows], target_betas[rows])
        difference = (predicted - joints[:, :1]) - (target - target_joints[:, :1])
        errors.append(difference.norm(dim=-1).mean(1))
    return torch.cat([torch.zeros(0), *errors]).double().numpy() * 1e3


def stature_m(model: BodyModel, betas: Tensor) -> NDArray[np.float64]:
    """Compute the stature from crown to sole in the rest pose (body axes, y up): (N, 10) betas -> (N,) m."""
    heights = [torch.zeros(0)]
    for rows in betas.split(_AT_ONCE):
        y = model.v_template[:, 1] + rows.to(model.dtype) @ model.shapedirs[:, 1].T
        heights.append(y.max(1).values - y.min(1).values)
    return torch.cat(heights).double().numpy()


def body_mass_index(model: BodyModel, betas: Tensor) -> NDArray[np.float64]:
    """Compute the body mass index of the rest body, (N,) kg/m², with the density of water.

    The mass is the volume of the closed mesh; the index is mass over stature squared.
    """
    volumes = [torch.zeros(0)]
    faces = torch.from_numpy(model.faces)
    for rows in betas.split(_AT_ONCE):
        vertices = model.v_template + torch.einsum("nb,vcb->nvc", rows.to(model.dtype), model.shapedirs)
        first, second, third = (vertices[:, faces[:, corner]] for corner in range(3))
        # Signed volume of the tetrahedra between the origin and each triangle (divergence theorem).
        volumes.append((first * torch.linalg.cross(second, third)).sum((1, 2)) / 6)
    return torch.cat(volumes).double().numpy() * _DENSITY_KG_M3 / np.maximum(stature_m(model, betas), 1e-6) ** 2
