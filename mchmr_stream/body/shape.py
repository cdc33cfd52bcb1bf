"""One person, one shape: betas from many frames' estimates, and where a body of another shape must stand to look the same.

A picture shows how large somebody appears, not how tall they are: a taller body farther away makes the same picture. So who changes the
betas of a body has to move it, too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.body.body_model import BodyModel
from mchmr_stream.body.joints import posed_joints
from mchmr_stream.geometry.robust_mean import median

Array = NDArray[np.float64]
FloatArray = NDArray[np.floating]

_SOFTEST = 0.5
"""Differences of betas below this, in standard deviations of a population, count alike."""
_NEAREST_M = 0.1
"""Joints nearer to the camera's plane than this are not looked at: their place in the picture goes to infinity."""
_MOST_LOOKS = 4096
"""Frames of a person, evenly spread, that make the settled shape: more would change nothing but memory."""
_LEAST_WEIGHT = 0.05


def settled_shape(betas: FloatArray, weights: FloatArray) -> Array:
    """(T, 10) of all frames of a person in order, and (T,) how well each shows them -> (10,): the robust mean."""
    looks = np.linspace(0, len(betas) - 1, min(len(betas), _MOST_LOOKS)).astype(np.int64)
    chosen = np.clip(np.nan_to_num(weights[looks].astype(np.float64)), _LEAST_WEIGHT, 1)
    return robust_shape(betas[looks].astype(np.float64), chosen)


def robust_shape(betas: Array, weights: Array) -> Array:
    """(T, 10) and (T,) -> (10,): the weighted geometric median. Single rows that are far off do not move it."""
    return median(betas[:, None], weights[:, None], _SOFTEST)[0]


def transl_to_look_alike(body: BodyModel, rotations: FloatArray, betas: FloatArray, transl: FloatArray, other_betas: FloatArray) -> Array:
    """Where a body with `other_betas` (n, 10) must stand to look as one with `betas` at `transl` (n, 3) does -> (n, 3) m.

    `rotations` (n, 24, 3, 3), root in camera axes. The least squares of all joints' offsets from the rays on which they were seen, which is
    linear in the translation; exact where one body is the other one scaled. The focal length does not matter. A body
    all of whose joints are at the camera keeps its pelvis.
    """
    (pelvis, other_pelvis), (around, other_around) = posed_joints(body, rotations, np.stack([betas, other_betas]))
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
    weighted = equations * weight[..., None, None]
    normal = np.einsum("njea,njeb->nab", weighted, equations)
    right = np.einsum("njea,nje->na", weighted, wanted)
    known = in_front.sum(1) >= 2
    solved = np.linalg.solve(np.where(known[:, None, None], normal, np.eye(3)), right[..., None])[..., 0]
    place = np.where((known & (solved[:, 2] > 0))[:, None], solved, pelvis + transl)
    return place - other_pelvis
