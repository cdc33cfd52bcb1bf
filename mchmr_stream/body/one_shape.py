"""One person, one shape: betas from many frames' estimates, and where a body of another shape must stand to look the same.

A picture shows how large somebody appears, not how tall they are: a taller body farther away makes the same picture. So who changes the
betas of a body has to move it, too.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from mchmr_stream.body.model import PARENTS, BodyModel
from mchmr_stream.geometry.averaging import median

Array = NDArray[np.float64]
FloatArray = NDArray[np.floating]

_SOFTEST = 0.5
"""Differences of betas below this, in standard deviations of a population, count alike."""
_NEAREST_M = 0.1
"""Joints nearer to the camera's plane than this are not looked at: their place in the picture goes to infinity."""


def _ancestors() -> Array:
    """(24, 24): 1 where the second joint is on the way from the root to the first, which counts as on its own way."""
    on_way = np.eye(len(PARENTS))
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            on_way[joint] += on_way[parent]
    return on_way


_ON_WAY = _ancestors()


def robust_shape(betas: Array, weights: Array) -> Array:
    """(T, 10) and (T,) -> (10,): the weighted geometric median. Single rows that are far off do not move it."""
    return median(betas[:, None], weights[:, None], _SOFTEST)[0]


def transl_to_look_alike(body: BodyModel, rotations: FloatArray, betas: FloatArray, transl: FloatArray, other_betas: FloatArray) -> Array:
    """Where a body with `other_betas` (n, 10) must stand to look as one with `betas` at `transl` (n, 3) does -> (n, 3) m.

    `rotations` (n, 24, 3, 3), root in camera axes. The least squares of all joints' offsets from the rays on which they were seen, which is
    linear in the translation; exact where one body is the other one scaled. The focal length does not matter. A body
    all of whose joints are at the camera keeps its pelvis.
    """
    pelvis, around = _joints(body, rotations, betas)
    other_pelvis, other_around = _joints(body, rotations, other_betas)
    seen = around + (pelvis + transl)[:, None]
    in_front = seen[..., 2] > _NEAREST_M
    depth = np.where(in_front, seen[..., 2], 1.0)
    ray = seen[..., :2] / depth[..., None]
    weight = in_front / depth**2
    # Of every joint (u, v, w) around the pelvis c: c_x - ray_x c_z = ray_x w - u, and the same for y.
    wanted = ray * other_around[..., 2:] - other_around[..., :2]
    equations = np.zeros((*ray.shape, 3))
    equations[..., 0, 0] = equations[..., 1, 1] = 1
    equations[..., 2] = -ray
    normal = np.einsum("njea,njeb,nj->nab", equations, equations, weight)
    right = np.einsum("njea,nje,nj->na", equations, wanted, weight)
    known = in_front.sum(1) >= 2
    solved = np.linalg.solve(np.where(known[:, None, None], normal, np.eye(3)), right[..., None])[..., 0]
    place = np.where((known & (solved[:, 2] > 0))[:, None], solved, pelvis + transl)
    return place - other_pelvis


def _joints(body: BodyModel, rotations: FloatArray, betas: FloatArray) -> tuple[Array, Array]:
    """Pelvis at rest (n, 3), and all joints around the pelvis (n, 24, 3), turned. Plain numpy: for a few people a frame it is
    several times faster than `forward_kinematics`."""
    of_shape = _numpy(body.j_shapedirs)
    rest = _numpy(body.j_template) + np.tensordot(np.asarray(betas, np.float64), of_shape, (-1, -1))
    outer = np.array(rotations, np.float64)
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            outer[:, joint] = outer[:, parent] @ outer[:, joint]
    parents = np.array(PARENTS[1:])
    bones = np.zeros_like(rest)
    bones[:, 1:] = np.einsum("njab,njb->nja", outer[:, parents], rest[:, 1:] - rest[:, parents])
    return rest[:, 0], _ON_WAY @ bones


def _numpy(tensor: torch.Tensor) -> Array:
    return tensor.detach().cpu().numpy().astype(np.float64)
