"""The pipeline's rule for base box and roll (`cropping.base_box`) on tensors, so that sampling people stays on its device."""

from __future__ import annotations

import torch
from torch import Tensor

from mchmr_stream.cropping import base_box as rule
from mchmr_stream.cropping.layouts import Layout
from mchmr_stream.geometry.camera import turn


def base_of_keypoints(points_plane: Tensor, score: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """(n, 17, 2) keypoints in the plane and their scores (n, 17) -> base boxes in the rolled plane (n, 3) and roll (n,).

    The tracker's box is taken to be what `KEYPOINTS_OVER_BOX` says of the keypoints with a score. In double precision, like
    `cropping.base_box.base_boxes`, which the tests compare it with.
    """
    points, score = points_plane.double(), score.double()
    finite = torch.isfinite(points).all(-1) & (points.abs() < rule._MAX_PX).all(-1)
    weight = torch.where(finite, _smoothstep(score, rule._SCORE_UNSEEN, rule._SCORE_SEEN), 0.0)
    has_score = (score > 0)[..., None]
    box_low = torch.where(has_score, points, torch.inf).amin(1)
    box_high = torch.where(has_score, points, -torch.inf).amax(1)
    points = torch.where(finite[..., None], points, 0.0)

    roll = _roll(points, weight)
    used = torch.tensor(rule._BOX_POINTS, device=points.device)
    rolled, seen = turn(points, -roll[:, None])[:, used], weight[:, used]
    centre, extent = _bounds(rolled, seen)
    box_extent = (box_high - box_low).amax(-1)
    known = torch.isfinite(box_extent) & (box_extent > 0)
    trust = torch.where(known, _smoothstep(seen.sum(1), rule._POINTS_NONE, rule._POINTS_ENOUGH), (extent > 0).double())
    box_centre = torch.where(known[:, None], turn((box_low + box_high) / 2, -roll), 0.0)
    middle = trust[:, None] * centre + (1 - trust[:, None]) * box_centre
    side = layout.base_factor * (trust * extent + (1 - trust) * torch.where(known, box_extent, 0.0))
    base = torch.cat([middle.clamp(-rule._MAX_PX, rule._MAX_PX), side.clamp(rule._MIN_SIDE_PX, rule._MAX_PX)[:, None]], 1)
    # Of nobody at all: the smallest box in the middle.
    nobody = torch.tensor([0.0, 0.0, rule._MIN_SIDE_PX], dtype=base.dtype, device=base.device)
    return torch.where((side > 0)[:, None], base, nobody).float(), roll.float()


def _roll(plane: Tensor, weight: Tensor) -> Tensor:
    trunk = plane[:, rule._SHOULDERS].mean(1) - plane[:, rule._HIPS].mean(1)
    length = trunk.norm(dim=-1)
    middle = (weight[..., None] * plane).sum(1) / weight.sum(1, keepdim=True).clamp(min=1e-9)
    radius = (weight * (plane - middle[:, None]).norm(dim=-1)).amax(1)
    sure = _smoothstep(length / radius.clamp(min=1e-9), rule._TRUNK_SHORT, rule._TRUNK_LONG)
    known = (weight[:, rule._SHOULDERS + rule._HIPS].amin(1) * sure)[:, None]
    up = torch.tensor([0.0, -1.0], dtype=plane.dtype, device=plane.device)
    direction = known * trunk / length.clamp(min=1e-9)[:, None] + (1 - known) * up
    return torch.atan2(direction[:, 0], -direction[:, 1])


def _bounds(points: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    middle = (weight[..., None] * points).sum(1) / weight.sum(1)[:, None].clamp(min=1e-9)
    drawn_in = middle[:, None] + weight[..., None] * (points - middle[:, None])
    low, high = drawn_in.amin(1), drawn_in.amax(1)
    return (low + high) / 2, (high - low).amax(-1)


def _smoothstep(value: Tensor, low: float, high: float) -> Tensor:
    t = ((value - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)
