"""Axis-aligned boxes as (left, top, right, bottom) in pixels: overlap, size, non-maximum suppression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]


def box_iou(a_xyxy_px: FloatArray, b_xyxy_px: FloatArray) -> NDArray[np.float64]:
    """Intersection over union of every pair of boxes.

    Args:
        a_xyxy_px: (n, 4).
        b_xyxy_px: (m, 4).

    Returns:
        (n, m) in [0, 1]. Boxes without area overlap nothing.
    """
    a, b = np.asarray(a_xyxy_px, np.float64), np.asarray(b_xyxy_px, np.float64)
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(bottom_right - top_left, 0, None).prod(-1)
    area_a = np.clip(a[:, 2:] - a[:, :2], 0, None).prod(-1)
    area_b = np.clip(b[:, 2:] - b[:, :2], 0, None).prod(-1)
    union = area_a[:, None] + area_b[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def box_size(boxes_xyxy_px: FloatArray) -> NDArray[np.float64]:
    """Longer side of each box. Unlike the height it hardly changes when a person bends over or lies down.

    Args:
        boxes_xyxy_px: (..., 4).

    Returns:
        (...,) px.
    """
    boxes = np.asarray(boxes_xyxy_px, np.float64)
    return (boxes[..., 2:] - boxes[..., :2]).max(-1)


def non_maximum_suppression(boxes_xyxy_px: FloatArray, max_iou: float) -> NDArray[np.bool_]:
    """Remove duplicate boxes.

    Args:
        boxes_xyxy_px: (n, 4), sorted by falling score.
        max_iou: A box is removed if a better box that remains overlaps it by more than this.

    Returns:
        (n,) True for the boxes that remain.
    """
    iou = box_iou(boxes_xyxy_px, boxes_xyxy_px)
    keep = np.ones(len(iou), np.bool_)
    for index in range(1, len(iou)):
        keep[index] = not (keep[:index] & (iou[index, :index] > max_iou)).any()
    return keep
