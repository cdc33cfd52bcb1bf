"""The pipeline's rule for base box and roll (`cropping.base_box`) for people sampled without a picture."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mchmr_stream.cropping.base_box import KEYPOINTS_OVER_BOX, base_of_plane, weighted
from mchmr_stream.cropping.crop_layouts import Layout

_LEAST_PX, _MOST_PX = 8.0, 1e5


def base_of_keypoints(points_plane: Tensor, score: Tensor, layout: Layout, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Compute base boxes from keypoints alone.

    Args:
        points_plane: (n, 17, 2) keypoints in the plane.
        score: (n, 17) their scores.
        layout: the crop layout.
        inside: (n, 17) 1 for points inside of the picture; the others do not count. None: all.

    Returns:
        Base boxes in the rolled plane (n, 3) and rolls (n,), on the device of the points. The tracker's box is estimated as
        `KEYPOINTS_OVER_BOX` times the extent of the keypoints with a score.
    """
    scores = score if inside is None else score * inside
    keypoints = torch.cat([points_plane, score[..., None]], -1).double().cpu().numpy()
    points, weights = weighted(keypoints)
    shown = weighted(np.concatenate([keypoints[..., :2], scores.double().cpu().numpy()[..., None]], -1))[1]
    known = (keypoints[..., 2] > 0)[..., None]
    low, high = np.where(known, points, np.inf).min(1), np.where(known, points, -np.inf).max(1)
    low, high = (np.where(known.any(1), corner, np.nan) for corner in (low, high))
    middle, half = (low + high) / 2, (high - low) / 2 / KEYPOINTS_OVER_BOX
    base, roll = base_of_plane(points, weights, shown, np.stack([middle - half, middle + half], 1), layout)
    lost = ~np.isfinite(base).all(1) | (base[:, 2] <= 0)
    base = np.where(lost[:, None], [0.0, 0.0, _LEAST_PX], base)
    base = np.concatenate([base[:, :2].clip(-_MOST_PX, _MOST_PX), base[:, 2:].clip(_LEAST_PX, _MOST_PX)], 1)
    return torch.from_numpy(base).to(score.device, torch.float32), torch.from_numpy(roll).to(score.device, torch.float32)
