"""One shape per person: betas from many frames' estimates, and the look-alike translation of a body with other betas.

A picture shows apparent size, not stature: a larger body farther away gives the same picture. A change of betas therefore has to change the
translation, too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.body.kinematics import posed_joints
from mchmr_stream.body.model import BodyModel
from mchmr_stream.geometry.robust_mean import median

Array = NDArray[np.float64]
FloatArray = NDArray[np.floating]

_SOFTEST = 0.5
"""Distance of betas, in standard deviations of a population, below which the robust mean does not distinguish."""
_NEAREST_M = 0.1
"""Joints nearer to the camera's plane than this are ignored: their projection tends to infinity."""
_MOST_FRAMES = 4096
"""Maximum number of frames of a person, evenly spread, in the final shape: more would only take memory."""
_LEAST_WEIGHT = 0.05


def settled_shape(betas: FloatArray, weights: FloatArray) -> Array:
    """Compute the final shape of a person as a robust mean.

    Args:
        betas: (T, 10) of all frames of the person, in order.
        weights: (T,) reliability of each frame.

    Returns:
        (10,) betas.
    """
    frames = np.linspace(0, len(betas) - 1, min(len(betas), _MOST_FRAMES)).astype(np.int64)
    chosen = np.clip(np.nan_to_num(weights[frames].astype(np.float64)), _LEAST_WEIGHT, 1)
    return robust_shape(betas[frames].astype(np.float64), chosen)


def robust_shape(betas: Array, weights: Array) -> Array:
    """Weighted geometric median of betas (T, 10) with weights (T,), (10,). Single outliers do not move it."""
    return median(betas[:, None], weights[:, None], _SOFTEST)[0]


def transl_to_mean_shape(body: BodyModel, rotations: FloatArray, betas: FloatArray, transl: FloatArray) -> Array:
    """Compute `transl_mean_body`: the translation of a look-alike body of mean shape.

    Args:
        body: The body model.
        rotations: (n, 24, 3, 3), root in camera axes.
        betas: (n, 10) of the given bodies.
        transl: (n, 3) of the given bodies, metres.

    Returns:
        (n, 3) metres.
    """
    return transl_to_look_alike(body, rotations, betas, transl, np.zeros_like(betas))


def transl_from_mean_shape(body: BodyModel, rotations: FloatArray, transl_mean: FloatArray, betas: FloatArray) -> Array:
    """Compute the translation of a body with `betas` (n, 10) that looks like one of mean shape at `transl_mean` (n, 3), metres.

    This inverts `transl_to_mean_shape` only approximately: each direction minimises its own residuals, and bodies of different proportions
    have no exact look-alike. Therefore a translation is converted from the rows as they are written, and not carried along.
    """
    return transl_to_look_alike(body, rotations, np.zeros_like(betas), transl_mean, betas)


def transl_to_look_alike(body: BodyModel, rotations: FloatArray, betas: FloatArray, transl: FloatArray, other_betas: FloatArray) -> Array:
    """Translation at which a body with other betas looks like the original one.

    It is the least-squares solution for all joints' offsets from the rays on which they were seen, which is linear in the translation;
    exact if one body is the other one scaled. The focal length has no influence. A body with all joints at the camera keeps its pelvis.

    Args:
        body: The body.
        rotations: (n, 24, 3, 3), root in camera axes.
        betas: (n, 10) original betas.
        transl: (n, 3) original translation, m.
        other_betas: (n, 10) new betas.

    Returns:
        (n, 3) new translation, m.
    """
    (pelvis, other_pelvis), (around, other_around) = posed_joints(body, rotations, np.stack([betas, other_betas]))
    seen = around + (pelvis + transl)[:, None]
    in_front = seen[..., 2] > _NEAREST_M
    depth = np.where(in_front, seen[..., 2], 1.0)
    ray = seen[..., :2] / depth[..., None]
    weight = in_front / depth**2
    # Of every joint (u, v, w) around the pelvis c: c_x - ray_x c_z = ray_x w - u, and the same for y.
    offsets = ray * other_around[..., 2:] - other_around[..., :2]
    equations = np.zeros((*ray.shape, 3))
    equations[..., 0, 0] = equations[..., 1, 1] = 1
    equations[..., 2] = -ray
    weighted = equations * weight[..., None, None]
    normal = np.einsum("njea,njeb->nab", weighted, equations)
    right = np.einsum("njea,nje->na", weighted, offsets)
    known = in_front.sum(1) >= 2
    solved = np.linalg.solve(np.where(known[:, None, None], normal, np.eye(3)), right[..., None])[..., 0]
    pelvis_position = np.where((known & (solved[:, 2] > 0))[:, None], solved, pelvis + transl)
    return pelvis_position - other_pelvis
