"""Losses of the head, one function each (arXiv 2402.02074, section 3.4; constants in docs/method.md).

All take batches of people (n), views (V), joints (J) and return a scalar: the mean over the entries that count.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mchmr_stream.geometry.camera import full_from_local


def joints_3d(predicted: Tensor, target: Tensor) -> Tensor:
    """Compute L_3D = mean |J - J*|: (n, J, 3) metres, both relative to the pelvis.

    L1 and not the paper's square: distant limbs that are not observable then weigh less.
    """
    return (predicted - target).abs().mean()


def joints_2d(predicted_m: Tensor, transl: Tensor, target_px: Tensor, views_px: Tensor, focal_px: Tensor, limit: float = 2.0) -> Tensor:
    """Compute L_2D: joints projected with each view's camera, compared in that view's crop ([-1, 1]), clipped at `limit`.

    Args:
        predicted_m: (n, J, 3) joints relative to the pelvis.
        transl: (n, V, 3) translation as estimated in each view.
        target_px: (n, J, 2) rolled plane.
        views_px: (n, V, 3) crop centres and sides.
        focal_px: (n,) focal lengths.
        limit: largest error that counts, in crop units.
    """
    points = predicted_m[:, None] + transl[:, :, None]
    projected = points[..., :2] / points[..., 2:].clamp(min=0.2) * focal_px[:, None, None, None]
    error = (projected - target_px[:, None]) / (views_px[:, :, None, 2:] / 2)
    return error.abs().clamp(max=limit).mean()


def rotations(predicted: Tensor, target: Tensor, root_weight: float = 3.0) -> Tensor:
    """Compute L_rot = |R - R*|^2 (Frobenius) over (n, J, 3, 3), with a weight for the root; the free end joints (hands) are left out."""
    error = (predicted - target).square().sum((-1, -2))
    weight = torch.ones(error.shape[1], device=error.device)
    weight[0] = root_weight
    weight[22:] = 0
    return (error * weight).sum(1).mean() / weight.sum()


def betas(predicted: Tensor, target: Tensor) -> Tensor:
    """Compute L_beta = |b - b*|^2."""
    return (predicted - target).square().mean()


def vertices(predicted: Tensor, target: Tensor) -> Tensor:
    """Compute L_vert = |V - V*|_1 over (n, vertices, 3) metres relative to the pelvis."""
    return (predicted - target).abs().mean()


def camera_consistency(views_cam: Tensor, views_px: Tensor, focal_px: Tensor) -> Tensor:
    """Compute L_cam: all V crop cameras describe one full-image camera (section 3.3).

    The pairwise relations b_i s_i = b_j s_j and t_i - t_j = 2 (c_j - c_i) / (b s) state that all views give the same translation; the loss
    is the spread of the translations over the views, in units of depth.

    Args:
        views_cam: (n, V, 3) crop cameras s, tx, ty.
        views_px: (n, V, 3) crop centres and sides.
        focal_px: (n,) focal lengths.
    """
    transl = full_from_local(views_cam, views_px, focal_px)
    relative = transl / transl[..., 2:].detach().mean(1, keepdim=True)
    return (relative - relative.mean(1, keepdim=True)).abs().mean()


def contrastive(embedding: Tensor, temperature: float = 0.5) -> Tensor:
    """Compute L_con: supervised contrastive loss (Khosla et al. 2020); positives are the other crops of the same person.

    Args:
        embedding: (n, V, D) unit vectors.
        temperature: scale of the similarities.

    Returns:
        The loss; 0 for V = 1 or n < 2.
    """
    n, count, dim = embedding.shape
    if count < 2 or n < 2:
        return embedding.sum() * 0
    flat = embedding.reshape(n * count, dim)
    similarity = flat @ flat.T / temperature
    self_mask = torch.eye(n * count, dtype=torch.bool, device=flat.device)
    log_share = similarity.masked_fill(self_mask, float("-inf")).log_softmax(1)
    person = torch.arange(n, device=flat.device).repeat_interleave(count)
    positive = (person[:, None] == person[None]) & ~self_mask
    return -log_share.masked_fill(~positive, 0).sum(1).mean() / (count - 1)


def joint_uncertainty(log_sigma: Tensor, predicted: Tensor, target: Tensor) -> Tensor:
    """Compute the Laplace likelihood of the joint error under the predicted scale, so that sigma is the expected error in metres.

    The prediction is detached: the uncertainty is trained with the error, not the error with the uncertainty.
    """
    distance = (predicted.detach() - target).norm(dim=-1)
    return (distance * torch.exp(-log_sigma) + log_sigma).mean()
