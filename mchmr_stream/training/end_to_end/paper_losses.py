"""The published losses (arXiv 2402.02074), one function each; `training/common/losses.py` has those of this project's own head.

n people, V views of each, J points. Predictions are per view, (n, V, ...), as the authors regress one body per view; one shared body
is `body[:, None]`. Labels are per person, (n, ...). Data sets have different labels, so each label has a mask `known` (n,), 1 where a
person has it: the mean is over those people, and is 0, with zero gradients, if there are none. Unknown labels may hold any value, NaN
included.

Each function is the plain term; `PUBLISHED_WEIGHTS` has its factor.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mchmr_stream.geometry.camera import full_from_local
from mchmr_stream.geometry.crops import unit_from_rolled
from mchmr_stream.training.common import losses

PUBLISHED_WEIGHTS = {
    "joints_2d": 300.0, "joints_3d": 300.0, "vertices": 60.0, "rotations": 60.0, "betas": 0.06, "camera_consistency": 60.0,
    "contrastive": 6.0,
}  # fmt: skip
"""The authors' total: 60 (5 L_2D + 5 L_3D + L_vert + L_rot + 0.001 L_beta + L_cam + 0.1 L_con)."""

SIDE_WEIGHT = 1e-4
"""The authors' factor on differences of b s (pixels) before they are squared."""

_LEAST_DEPTH_M = 0.1


def joints_2d(
    points_m: Tensor, transl_m: Tensor, target_px: Tensor, confidence: Tensor, views_px: Tensor, focal_px: Tensor, crop_hw: tuple[int, int]
) -> Tensor:
    """Compute L_2D = 1/(n V J 2) sum_{p,v,j} c_pj |u_v(pi(X_pvj + T_pv)) - u_v(x_pj)|^2, u_v: the plane to crop v's [-1, 1]^2.

    Width and height of a crop are both 2 in these units, also of 256x192 crops. The published code divides by any depth; here points nearer
    than 0.1 m are projected at 0.1 m.

    Args:
        points_m: (n, V, J, 3) from the body model.
        transl_m: (n, V, 3) translation in the full-image camera from each crop camera (`geometry.camera.full_from_local`).
        target_px: (n, J, 2) in the rolled plane.
        confidence: (n, J), 0 where a point is not labelled.
        views_px: (n, V, 3) crop centres and sides.
        focal_px: (n,) focal lengths.
        crop_hw: height and width of the crops.
    """
    points = points_m + transl_m[:, :, None]
    projected = points[..., :2] / points[..., 2:].clamp(min=_LEAST_DEPTH_M) * focal_px[:, None, None, None]
    labelled = confidence[:, None, :, None] > 0
    target = torch.where(labelled, target_px[:, None], 0.0).expand_as(projected)
    error = unit_from_rolled(projected, views_px, crop_hw) - unit_from_rolled(target, views_px, crop_hw)
    return (confidence[:, None, :, None] * torch.where(labelled, error, 0.0).square()).mean()


def joints_3d(points_m: Tensor, target_m: Tensor, confidence: Tensor, known: Tensor, hips: tuple[int, int]) -> Tensor:
    """Compute L_3D = mean over known people of 1/(V J 3) sum_{v,j} c_j |(X_vj - H_v) - (X*_j - H*)|^2, H: the middle of the hips.

    Args:
        points_m: (n, V, J, 3) predicted points, m.
        target_m: (n, J, 3) true points, m.
        confidence: (n, J) of the true points.
        known: (n,) 1 where a person has the label.
        hips: indices of the two hips among the J points.
    """
    difference = _from_middle(points_m, hips) - _from_middle(target_m, hips)[:, None]
    labelled = (confidence > 0)[:, None, :, None] & _who(known, difference)
    return _mean(confidence[:, None, :, None] * torch.where(labelled, difference, 0.0).square(), known)


def rotations(predicted: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Compute L_rot = mean over known people of 1/(V 24 9) sum_v |R_v - R*|_F^2: (n, V, 24, 3, 3) and (n, 24, 3, 3)."""
    return _mean(_difference(predicted, target, known).square(), known)


def betas(predicted: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Compute L_beta = mean over known people of 1/(V 10) sum_v |b_v - b*|^2: (n, V, 10) and (n, 10)."""
    return _mean(_difference(predicted, target, known).square(), known)


def vertices(predicted_m: Tensor, target_m: Tensor, known: Tensor) -> Tensor:
    """Compute L_vert = mean over known people of 1/(V N 3) sum_{v,i} |X_vi - X*_i|_1: (n, V, N, 3) and (n, N, 3), metres.

    Both relative to their pelvis, which the authors regress from the vertices with the Human3.6M regressor.
    """
    return _mean(_difference(predicted_m, target_m, known).abs(), known)


def camera_consistency(views_cam: Tensor, views_px: Tensor, form: Literal["paper", "authors"] = "paper") -> Tensor:
    """Compute L_cam: the crop cameras of all views describe one full-image camera, for each pair i, j (section 3.3).

        b_i s_i = b_j s_j   and   tx_i + 2 cx_i / (b_i s_i) = tx_j + 2 cx_j / (b_j s_j), the same for y,

    with crop centres c relative to the principal point. The focal length cancels. With the residuals e_s = 1e-4 (b_j s_j - b_i s_i), e_x,
    e_y:

    - `paper`: L = mean over pairs i < j of e_s^2 + e_x^2 + e_y^2, each squared by itself;
    - `authors`: their code compares each view with the first (itself included) and squares e_x + e_y, so that an error in x cancels one of
        the opposite sign in y: L = mean_v (e_x + e_y)^2 + mean_v e_s^2.

    Args:
        views_cam: (n, V, 3) crop cameras s, tx, ty.
        views_px: (n, V, 3) crop centres and sides.
        form: the formula of the paper, or of the authors' code.

    Returns:
        The loss; 0 for a single view.
    """
    sizes = views_px[..., 2] * views_cam[..., 0]
    place = views_cam[..., 1:] + 2 * views_px[..., :2] / sizes[..., None]
    compared = torch.cat([SIDE_WEIGHT * sizes[..., None], place], -1)
    if form == "authors":
        residual = compared - compared[:, :1]
        return residual[..., 1:].sum(-1).square().mean() + residual[..., 0].square().mean()
    first, second = torch.triu_indices(compared.shape[1], compared.shape[1], 1, device=compared.device)
    if len(first) == 0:
        return compared.sum() * 0
    return (compared[:, first] - compared[:, second]).square().sum(-1).mean()


def contrastive(embedding: Tensor, temperature: float = 0.5, form: Literal["paper", "authors"] = "paper") -> Tensor:
    """Compute L_con = mean_{p,v} -1/(V-1) sum_{u != v} log( exp(z_pv.z_pu / t) / sum_{(q,w) != (p,v)} exp(z_pv.z_qw / t) ), t = 0.5.

    Supervised contrastive loss (Khosla et al. 2020, L_out): positives are the other crops of the same person, crops of other people are
    negatives.

    Args:
        embedding: (n, V, D) unit vectors.
        temperature: t.
        form: `authors` multiplies the loss by t, as their code does.

    Returns:
        The loss; 0 for V = 1 or n < 2.
    """
    value = losses.contrastive(embedding, temperature)
    return value * temperature if form == "authors" else value


def views_transl(views_cam: Tensor, views_px: Tensor, focal_px: Tensor) -> Tensor:
    """Compute the translations for `joints_2d`, (n, V, 3) metres: T_z = 2 f / (b s), T_x = tx + 2 cx / (b s), T_y likewise."""
    transl: Tensor = full_from_local(views_cam, views_px, focal_px)
    return transl


def _from_middle(points: Tensor, hips: tuple[int, int]) -> Tensor:
    return points - points[..., list(hips), :].mean(-2, keepdim=True)


def _who(known: Tensor, like: Tensor) -> Tensor:
    return (known > 0).reshape(-1, *(1,) * (like.ndim - 1))


def _difference(predicted: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Per view; set to 0 for people without the label before squaring, because NaN times 0 is NaN."""
    difference = predicted - target[:, None]
    return torch.where(_who(known, difference), difference, 0.0)


def _mean(error: Tensor, known: Tensor) -> Tensor:
    """Mean of (n, ...) errors, 0 for those without a label, over the people with one."""
    return error.flatten(1).mean(1).sum() / (known > 0).sum().clamp(min=1)
