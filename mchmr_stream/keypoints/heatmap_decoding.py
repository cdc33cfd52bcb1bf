"""Decoding of MoveNet Thunder's maps into the 17 keypoints of the person in the middle of a crop, with covariances.

The points are those of the published graph. The person is the cell with the largest centre probability, divided by its distance from the
middle of the crop. That cell's regression predicts each joint. The joint is the cell with the largest probability in the heat map of all
joints of its kind, divided by its distance from the prediction, plus that cell's offset.

The covariance is the second moment, about the point, of the same weighted heat map around it: where the heat is spread out or has a second
peak nearby, the joint is uncertain. It is a shape, not a calibrated error.

All operations are on tensors of fixed shapes, so that the file can be traced and exported. After CenterNet, arXiv 1904.07850.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mchmr_stream.datatypes import KEYPOINT_NAMES
from mchmr_stream.movenet.blocks import STRIDE
from mchmr_stream.movenet.thunder import CROP_PX, ThunderMaps

_CELLS = CROP_PX // STRIDE
_JOINTS = len(KEYPOINT_NAMES)
_CENTER_NEARNESS_CELLS = 1.8
_JOINT_NEARNESS_CELLS = 1.7998046875
"""Added to a distance before dividing by it. It is the same number, which the published graph stores here in half precision."""
_AGREEMENT_CELLS = 6.0
"""Standard deviation of a regressed keypoint about the predicted one: a tenth of the crop, the motion of a limb between two readings."""
_LEAST_AGREEMENT = 1e-3
"""A person who matches no predicted keypoint is still found if the crop contains no other person."""
_MOMENT_RADIUS = 6
"""Cells on each side of the found one whose heat counts for the covariance."""
_FLOOR_PX2 = STRIDE**2 / 12
"""Added to both variances: the variance of a position within one cell."""


class ThunderReading(NamedTuple):
    """Keypoints in crops; px are of the crop, pixel centres at whole numbers."""

    points: Tensor
    """(B, 17, 3) x, y in px and score in [0, 1]"""
    covariance: Tensor
    """(B, 17, 2, 2) of x, y in px^2; positive definite"""
    presence: Tensor
    """(B,) in [0, 1]: probability that the selected cell is a person's centre"""


def decode_thunder(maps: ThunderMaps, near_px: Tensor | None = None) -> ThunderReading:
    """Find the person's keypoints in the maps.

    Args:
        maps: Output of the network, of any floating-point type.
        near_px: (B, 17, 3) x, y in px and score of the keypoints predicted for the person. The person is then the cell whose regressed
            keypoints agree best with these, weighted by score, instead of the one nearest to the middle of the crop. If all scores are 0,
            the middle counts.

    Returns:
        A reading in float32. Positions are the graph's own; `THUNDER_SHIFT_PX` in `thunder_keypoints.py` is not added.
    """
    center, heatmap, regression, offset = (head.float() for head in maps)
    columns = torch.arange(_CELLS, device=heatmap.device, dtype=torch.float32)
    rows = columns[:, None]

    # The published graph holds these weights in half precision.
    nearness = _nearness(rows, columns, _CELLS / 2, _CELLS / 2, _CENTER_NEARNESS_CELLS).half().float()
    if near_px is not None:
        nearness = _agreement(regression, near_px, rows, columns, nearness)
    probability = center[:, 0].sigmoid()
    person = (probability * nearness).flatten(1).argmax(-1, keepdim=True)  # (B, 1)
    presence = probability.flatten(1).gather(1, person)[:, 0]

    person_row = torch.div(person, _CELLS, rounding_mode="floor")
    person_column = person - person_row * _CELLS
    regressed = regression.flatten(2).gather(2, person[:, None].expand(-1, 2 * _JOINTS, -1)).unflatten(1, (_JOINTS, 2))[..., 0]
    expected_row = person_row + regressed[..., 0]
    expected_column = person_column + regressed[..., 1]

    heat = heatmap.sigmoid()
    weighted = heat * _nearness(rows, columns, expected_row[..., None, None], expected_column[..., None, None], _JOINT_NEARNESS_CELLS)
    found = weighted.flatten(2).argmax(-1, keepdim=True)  # (B, 17, 1)
    score = heat.flatten(2).gather(2, found)[..., 0]
    offsets = offset.flatten(2).unflatten(1, (_JOINTS, 2)).gather(3, found[:, :, None].expand(-1, -1, 2, -1))[..., 0]
    row = torch.div(found, _CELLS, rounding_mode="floor")
    column = found - row * _CELLS
    position = torch.cat([column, row], -1) + offsets.flip(-1)  # x, y in cells from the corner of the map

    points = torch.cat([position * STRIDE - 0.5, score[..., None]], -1)
    return ThunderReading(points, _covariance(weighted, row, column, position), presence)


def _agreement(regression: Tensor, near_px: Tensor, rows: Tensor, columns: Tensor, otherwise: Tensor) -> Tensor:
    """(B, 64, 64) agreement of each cell's regressed keypoints with the predicted ones; `otherwise` if none are predicted."""
    offsets = regression.unflatten(1, (_JOINTS, 2))
    weight = near_px[..., 2].float().clamp(min=0)
    expected = torch.where(weight[..., None] > 0, (near_px[..., :2].float() + 0.5) / STRIDE, 0.0)
    away_y = rows + offsets[:, :, 0] - expected[..., 1, None, None]
    away_x = columns + offsets[:, :, 1] - expected[..., 0, None, None]
    close = torch.exp(-(away_x.square() + away_y.square()) / (2 * _AGREEMENT_CELLS**2))
    total = weight.sum(1)[:, None, None]
    agreement = (close * weight[..., None, None]).sum(1) / total.clamp(min=1e-6) + _LEAST_AGREEMENT
    return torch.where(total > 0, agreement, otherwise)


def _nearness(rows: Tensor, columns: Tensor, row: Tensor | float, column: Tensor | float, added: float) -> Tensor:
    """1 / (distance in cells + added)."""
    return 1 / (((rows - row).square() + (columns - column).square()).sqrt() + added)


def _covariance(weighted: Tensor, row: Tensor, column: Tensor, position: Tensor) -> Tensor:
    """Second moments of the weighted heat (B, 17, h, w) around the found cell (B, 17, 1), about the position (B, 17, 2)."""
    side = torch.arange(-_MOMENT_RADIUS, _MOMENT_RADIUS + 1, device=weighted.device)
    rows, columns = row + side, column + side  # (B, 17, s)
    inside = ((rows >= 0) & (rows < _CELLS))[..., :, None] & ((columns >= 0) & (columns < _CELLS))[..., None, :]
    cells = rows.clamp(0, _CELLS - 1)[..., :, None] * _CELLS + columns.clamp(0, _CELLS - 1)[..., None, :]
    heat = weighted.flatten(2).gather(2, cells.flatten(2)).unflatten(2, (2 * _MOMENT_RADIUS + 1, 2 * _MOMENT_RADIUS + 1)) * inside
    heat = heat / heat.sum((-2, -1), keepdim=True)

    # A cell's heat is that of its middle, half a cell from its corner.
    away_x = (columns + 0.5 - position[..., :1]) * STRIDE
    away_y = (rows + 0.5 - position[..., 1:]) * STRIDE
    along_x, along_y = heat.sum(-2), heat.sum(-1)
    xx = (along_x * away_x.square()).sum(-1) + _FLOOR_PX2
    yy = (along_y * away_y.square()).sum(-1) + _FLOOR_PX2
    xy = ((heat * away_y[..., None]).sum(-2) * away_x).sum(-1)
    return torch.stack([xx, xy, xy, yy], -1).unflatten(-1, (2, 2))
