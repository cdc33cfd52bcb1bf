"""From the outputs of encoder and detector to the head's input, in one common frame per person.

All points are converted from crop coordinates to *base coordinates*: origin at the centre of the person's base box, unit = the base
box's side, axes of the rolled plane. In that frame all crops of a person agree up to noise, so that the head need not learn where each
crop was cut, only how reliable it is.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mchmr_stream.network.landmarks import BLAZEPOSE_MIRROR, COCO_FROM_BLAZEPOSE, COCO_MIRROR

LIMB_KEYPOINTS = (5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)
"""Shoulders to ankles in COCO's order: the points that distinguish left from right."""


class Observations(NamedTuple):
    """The head's input, per person (n) and view (V). A sample without pictures has `has_image` 0."""

    features: Tensor
    """(n, V, C) of the encoder"""
    landmarks: Tensor
    """(n, V, L, 3): x, y in base coordinates, visibility in [0, 1]; L = 0 for an encoder without landmarks"""
    world: Tensor
    """(n, V, L, 3): hip-centred metres, the encoder's own estimate"""
    keypoints: Tensor
    """(n, 17, 3) of the detector: x, y in base coordinates, score; score 0 where there is none"""
    views: Tensor
    """(n, V, 3): centre x, y in base coordinates and side in base sides"""
    base_info: Tensor
    """(n, 3): the paper's box information of the base box"""
    has_image: Tensor
    """(n,) 1 where features and world landmarks are real"""


def view_geometry(views_px: Tensor, base_px: Tensor) -> Tensor:
    """Convert views to base coordinates.

    Args:
        views_px: (n, V, 3) centre and side, rolled plane.
        base_px: (n, 3) centre and side of the base boxes.

    Returns:
        (n, V, 3).
    """
    side = base_px[:, None, 2:]
    return torch.cat([(views_px[..., :2] - base_px[:, None, :2]) / side, views_px[..., 2:] / side], -1)


def base_from_unit(points: Tensor, views: Tensor) -> Tensor:
    """Convert crop coordinates of square crops to base coordinates.

    Args:
        points: (n, V, L, 2) in [-1, 1].
        views: (n, V, 3) in base coordinates.

    Returns:
        (n, V, L, 2).
    """
    return views[:, :, None, :2] + points * (views[:, :, None, 2:] / 2)


def points_to_base(points_px: Tensor, base_px: Tensor) -> Tensor:
    """Convert keypoints to base coordinates; points of score 0 become 0.

    Args:
        points_px: (n, K, 3) x, y in the rolled plane, score.
        base_px: (n, 3) centre and side of the base boxes.

    Returns:
        (n, K, 3).
    """
    xy = (points_px[..., :2] - base_px[:, None, :2]) / base_px[:, None, 2:]
    score = points_px[..., 2:]
    return torch.cat([torch.where(score > 0, xy, torch.zeros_like(xy)), score], -1)


def agree_on_sides(landmarks: Tensor, world: Tensor, keypoints: Tensor, min_score: float = 0.2) -> tuple[Tensor, Tensor, Tensor]:
    """Swap left and right of a view's landmarks where that brings them clearly closer to the detector's keypoints.

    The two networks confuse sides at different moments, and the detector, which processes the whole picture, is right more often:
    following it removed most front/back flips in measurements.

    Args:
        landmarks: (n, V, 33, 3).
        world: (n, V, 33, 3).
        keypoints: (n, 17, 3).
        min_score: Least score of a keypoint that is used.

    Returns:
        Landmarks, world landmarks, and which views were swapped (n, V) bool.
    """
    limbs = torch.tensor(LIMB_KEYPOINTS, device=landmarks.device)
    coco = landmarks[:, :, torch.tensor(COCO_FROM_BLAZEPOSE, device=landmarks.device)]
    mirrored = coco[:, :, torch.tensor(COCO_MIRROR, device=landmarks.device)]
    seen = (keypoints[:, limbs, 2] > min_score).to(landmarks.dtype)[:, None]
    target = keypoints[:, None, limbs, :2]
    kept = ((coco[:, :, limbs, :2] - target).square().sum(-1).clamp(min=1e-12).sqrt() * seen).sum(-1)
    turned = ((mirrored[:, :, limbs, :2] - target).square().sum(-1).clamp(min=1e-12).sqrt() * seen).sum(-1)
    swapped = turned < 0.8 * kept
    order = torch.tensor(BLAZEPOSE_MIRROR, device=landmarks.device)
    where = swapped[..., None, None]
    # A view with exchanged sides confuses front and back: the depth is negated as well.
    flip_depth = torch.tensor([1.0, 1.0, -1.0], device=world.device, dtype=world.dtype)
    return torch.where(where, landmarks[:, :, order], landmarks), torch.where(where, world[:, :, order] * flip_depth, world), swapped
