"""Pictures turned by quarter turns for a detector that is trained on upright people, and what it finds turned back.

Quarter turns are clockwise, as seen on a screen, and turn the picture as filmed into the one that the detector sees. They are exact:
every pixel keeps its value, and pixel centres lie on integers before and after.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from mchmr_stream.datatypes import Detections, Float, Frame
from mchmr_stream.protocols import Detector


def up_rad(quarters: int) -> float:
    """Where up is in a picture that has to be turned by so many quarters clockwise: `Detections.up_rad`, in [-pi, pi].

    Turned a quarter clockwise, what points left points up afterwards, and left is the roll of minus a quarter turn.
    """
    return math.pi / 2 * (1 - (quarters + 1) % 4)


def turned_frame(frame: Frame, quarters: int) -> Frame:
    """The frame with its picture turned clockwise. A picture that is not turned is not copied."""
    if quarters % 4 == 0:
        return frame
    turned = torch.rot90(torch.from_numpy(frame.rgb), -quarters).contiguous()  # (faster than NumPy's)
    return Frame(frame.index, frame.time_s, turned.numpy())


def turned_back(found: Detections, quarters: int, width: int, height: int) -> Detections:
    """What was found in a picture turned clockwise, in the picture as filmed.

    Args:
        found: boxes and keypoints in pixels of the turned picture.
        quarters: how many quarters clockwise the picture was turned.
        width: of the picture as filmed, px.
        height: of the picture as filmed, px.
    Returns: the same people in the same order, with `up_rad` of the turn.
    """
    quarters %= 4
    if quarters == 0:
        return found
    corners = found.boxes_xyxy_px.reshape(-1, 2, 2)
    points = found.keypoints_px[..., :2]
    for turn in range(quarters, 0, -1):
        turned_width = height if turn % 2 else width
        corners, points = _back_one(corners, turned_width), _back_one(points, turned_width)
    boxes = np.concatenate([corners.min(1), corners.max(1)], -1).astype(np.float32)
    keypoints = np.concatenate([points, found.keypoints_px[..., 2:]], -1).astype(np.float32)
    return Detections(boxes, found.scores, keypoints, up_rad(quarters))


def _back_one(points_px: Float, turned_width: int) -> Float:
    """(..., 2) of a picture turned by a quarter clockwise, in the picture before that."""
    return np.stack([points_px[..., 1], turned_width - 1 - points_px[..., 0]], -1)


class UpGiven:
    """Another detector, which does not look at pictures, and where up is in them; implements `protocols.Detector`.

    Closing it leaves the other open.
    """

    def __init__(self, detector: Detector, quarters: int) -> None:
        self._detector = detector
        self._up_rad = up_rad(quarters)

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """One `Detections` per frame."""
        return [replace(found, up_rad=self._up_rad) for found in self._detector.detect(frames)]

    def close(self) -> None:
        """Nothing of its own is held open."""


class TurnedDetector:
    """Another detector, which sees every picture turned; implements `protocols.Detector`. Closing it leaves the other open.

    Boxes and keypoints are of the picture as filmed, and `up_rad` says how people stand in it.
    """

    def __init__(self, detector: Detector, quarters: int) -> None:
        self._detector = detector
        self._quarters = quarters

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """One `Detections` per frame."""
        found = self._detector.detect([turned_frame(frame, self._quarters) for frame in frames])
        return [turned_back(one, self._quarters, frame.width, frame.height) for one, frame in zip(found, frames, strict=True)]

    def close(self) -> None:
        """Nothing of its own is held open."""
