"""Decoding of MoveNet's head maps into people.

A person is a peak of the centre map. Each joint is searched in the map of all joints of its kind, weighted by a Gaussian around the
position that the centre predicts, which separates each person's joints from the neighbour's. If two people still claim one peak, the one
whose prediction was nearer gets it. The other keeps the predicted position with a low score: a hidden wrist must not jump to the person in
front.

Coordinates in this file are cells of the maps, measured from the top left corner of cell (0, 0); multiply by `STRIDE` for pixels of the
network's input, measured from its top left corner. After CenterNet, arXiv 1904.07850, section 5.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mchmr_stream.datatypes import KEYPOINT_NAMES
from mchmr_stream.geometry.boxes import non_maximum_suppression
from mchmr_stream.movenet.multipose import HeadMaps

_PEAK_WINDOW = 5
"""A centre must be the maximum of a window of this many cells in both directions, as in the published graph."""
_MAX_BOX_OVERLAP = 0.5
"""Of two boxes with a larger intersection over union the weaker one is a duplicate."""
_SIGMA_PER_BOX_HEIGHT = 0.08
"""Standard deviation of the search around the predicted position of a joint, as a share of the box's height."""
_SMALLEST_BOX_HEIGHT = 8.0
"""Cells; smaller boxes search as widely as a box of this height."""
_SAME_PEAK = 1.5
"""Cells; two people's claims to a joint closer than this are one peak."""
_CLEAR_KEYPOINTS = 8
_CLEAR_SCORE = 0.6
"""A person shows this many keypoints with this mean score, even half occluded or truncated by the picture.

Where the best ones are weaker the person's score is lowered in proportion: bushes and table legs have likely centres, but no limbs. On a
clip of two people in backlight this left 1 of 24 false people above 0.15 and 322 of 334 true ones.
"""
_KEYPOINTS = len(KEYPOINT_NAMES)


class People(NamedTuple):
    """The people of one picture, best first."""

    boxes_xyxy: Tensor
    """(n, 4) cells, not clipped"""
    scores: Tensor
    """(n,) in [0, 1]: probability of the centre, lowered where no clear keypoints go with it"""
    keypoints: Tensor
    """(n, 17, 3) x, y in cells and score"""


def find_people(maps: HeadMaps, min_score: float) -> list[People]:
    """Decode the maps of a batch of pictures, on the CPU.

    The maps are small and people are few: one transfer from the GPU is faster than a search there.

    Args:
        maps: Head maps of the batch.
        min_score: Minimum score, in [0, 1].

    Returns:
        The people of each picture.
    """
    maps = HeadMaps(*(head.cpu() for head in maps))
    probability = maps.center.float().sigmoid()[:, 0]
    is_peak = probability == F.max_pool2d(probability, _PEAK_WINDOW, 1, _PEAK_WINDOW // 2)
    is_person = is_peak & (probability >= min_score)
    found = []
    for index in range(len(probability)):
        people = _people_of_picture(HeadMaps(*(head[index] for head in maps)), probability[index], is_person[index])
        scores, order = people.scores.sort(descending=True, stable=True)
        order = order[scores >= min_score]
        found.append(People(people.boxes_xyxy[order], people.scores[order], people.keypoints[order]))
    return found


def _people_of_picture(maps: HeadMaps, probability: Tensor, is_person: Tensor) -> People:
    """Decode the maps (channels, h, w) of one picture."""
    rows, columns = is_person.nonzero(as_tuple=True)
    certainty, order = probability[rows, columns].sort(descending=True, stable=True)
    rows, columns = rows[order], columns[order]

    center_yx = torch.stack([rows, columns], -1) + maps.box_offset[:, rows, columns].T.float()
    half_hw = maps.box_size[:, rows, columns].T.float().clamp(min=0) / 2
    boxes = torch.cat([(center_yx - half_hw).flip(-1), (center_yx + half_hw).flip(-1)], -1)
    keep = torch.from_numpy(non_maximum_suppression(boxes.numpy(), _MAX_BOX_OVERLAP))
    rows, columns, boxes, certainty = rows[keep], columns[keep], boxes[keep], certainty[keep]

    regression = maps.keypoint_regression[:, rows, columns].T.float().reshape(-1, _KEYPOINTS, 2)
    expected_yx = torch.stack([rows, columns], -1)[:, None] + regression
    keypoints = _find_keypoints(maps, boxes, expected_yx)
    clearest = keypoints[..., 2].topk(_CLEAR_KEYPOINTS, dim=-1).values.mean(-1)
    return People(boxes, certainty * (clearest / _CLEAR_SCORE).clamp(max=1), keypoints)


def _find_keypoints(maps: HeadMaps, boxes: Tensor, expected_yx: Tensor) -> Tensor:
    """Boxes (n, 4) and predicted joints (n, 17, 2) y, x -> keypoints (n, 17, 3) x, y, score."""
    people = len(boxes)
    height, width = maps.keypoint_heatmap.shape[1:]
    cells = torch.zeros(people, _KEYPOINTS, 2, dtype=torch.long)
    for person in range(people):
        cells[person] = _strongest_cells(maps.keypoint_heatmap, boxes[person], expected_yx[person])

    joints = torch.arange(_KEYPOINTS).expand(people, -1)
    rows, columns = cells.unbind(-1)
    offsets = maps.keypoint_offset.reshape(_KEYPOINTS, 2, height, width)
    found_yx = cells + offsets[joints, :, rows, columns].float()

    lost = _lost_claims(found_yx, expected_yx)
    found_yx = torch.where(lost[..., None], expected_yx + 0.5, found_yx)
    own_rows, own_columns = expected_yx.round().long().unbind(-1)
    rows = torch.where(lost, own_rows.clamp(0, height - 1), rows)
    columns = torch.where(lost, own_columns.clamp(0, width - 1), columns)
    scores = maps.keypoint_heatmap[joints, rows, columns].float().sigmoid()
    return torch.cat([found_yx.flip(-1), scores[..., None]], -1)


def _strongest_cells(heatmap: Tensor, box: Tensor, expected_yx: Tensor) -> Tensor:
    """Most likely cell (17, 2) row, column of each joint in the box, given its predicted position."""
    height, width = heatmap.shape[1:]
    x0, y0, x1, y1 = box.tolist()
    top, bottom = _cell_range(y0, y1, height)
    left, right = _cell_range(x0, x1, width)
    sigma = _SIGMA_PER_BOX_HEIGHT * max(y1 - y0, _SMALLEST_BOX_HEIGHT)

    away_y = (torch.arange(top, bottom) - expected_yx[:, 0:1]) / sigma
    away_x = (torch.arange(left, right) - expected_yx[:, 1:2]) / sigma
    # Added to the log of the probability, not multiplied: far from the expectation the Gaussian would be 0 everywhere.
    log_weight = -(away_y.square()[:, :, None] + away_x.square()[:, None, :]) / 2
    likelihood = F.logsigmoid(heatmap[:, top:bottom, left:right].float()) + log_weight
    best = likelihood.flatten(1).argmax(-1)
    return torch.stack([top + best // (right - left), left + best % (right - left)], -1)


def _cell_range(low: float, high: float, cells: int) -> tuple[int, int]:
    """Cells between two coordinates and one more on each side; at least one cell, inside the map."""
    first = min(max(int(low) - 1, 0), cells - 1)
    last = min(max(int(high) + 1, first), cells - 1)
    return first, last + 1


def _lost_claims(found_yx: Tensor, expected_yx: Tensor) -> Tensor:
    """(n, 17) bool: another person found this joint at the same position and had predicted it nearer to there."""
    surprise = (found_yx - expected_yx).norm(dim=-1)
    apart = (found_yx[:, None] - found_yx[None]).norm(dim=-1)
    other_is_nearer = surprise[None] < surprise[:, None]
    return ((apart < _SAME_PEAK) & other_is_nearer).any(1)
