"""Preparation of a frame's detections for tracking: impossible boxes and duplicates are removed, the rest is sorted by score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datatypes import Detections
from mchmr_stream.detection.person_similarity import body_size, same_person
from mchmr_stream.tracking.appearance import Appearance, appearance_of


@dataclass(frozen=True, eq=False)
class Candidates:
    """Detections that may be people, each person once, by falling score."""

    boxes_xyxy_px: NDArray[np.float64]
    """(n, 4)"""
    scores: NDArray[np.float64]
    """(n,)"""
    keypoints_px: NDArray[np.float64]
    """(n, 17, 3)"""
    bodies_px: NDArray[np.float64]
    """(n,) stature measured by the keypoints (`body_size`)"""
    appearance: Appearance
    """of the n people"""

    def __len__(self) -> int:
        return len(self.scores)

    def rows(self, which: NDArray[np.int64]) -> Candidates:
        """Select rows."""
        return Candidates(
            self.boxes_xyxy_px[which], self.scores[which], self.keypoints_px[which], self.bodies_px[which], self.appearance.rows(which)
        )


def candidates_from(detections: Detections, rgb: NDArray[np.uint8] | None = None) -> tuple[Candidates, int]:
    """Remove impossible detections and duplicates.

    A detection is impossible if its box or score is not finite or a side is under a pixel. Of duplicates of one person the one with the
    highest score stays. Keypoints that are not finite get score 0.

    Args:
        detections: Detections of one frame.
        rgb: The picture; None leaves appearance unknown.

    Returns:
        The candidates, and the number of impossible detections.
    """
    boxes = detections.boxes_xyxy_px.astype(np.float64)
    finite = np.isfinite(boxes).all(-1) & np.isfinite(detections.scores)
    possible = finite & (np.where(finite[:, None], boxes[:, 2:] - boxes[:, :2], 0) >= 1).all(-1)
    order = np.argsort(-np.where(possible, detections.scores, -np.inf), kind="stable")[: int(possible.sum())]

    keypoints = detections.keypoints_px[order].astype(np.float64)
    keypoints[..., 2] = np.where(np.isfinite(keypoints).all(-1), keypoints[..., 2], 0)
    boxes = boxes[order]

    same = same_person(boxes, keypoints, boxes, keypoints)
    kept: list[int] = []
    for i in range(len(boxes)):
        if not same[i, kept].any():
            kept.append(i)
    boxes, keypoints, order = boxes[kept], keypoints[kept], order[kept]
    appearance = Appearance.unknown(len(boxes)) if rgb is None else appearance_of(rgb, boxes, keypoints, detections.up_rad)
    scores = detections.scores[order].astype(np.float64)
    return Candidates(boxes, scores, keypoints, body_size(keypoints), appearance), len(detections) - int(possible.sum())
