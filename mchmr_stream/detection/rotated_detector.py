"""Rotation of pictures by quarter turns, for detectors trained on upright people, and rotation of their results back.

Quarter turns are clockwise, as seen on a screen, and turn the picture as filmed into the one that the detector gets. They are exact: every
pixel keeps its value, and pixel centres lie on integers before and after.
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
    """Return the up direction of a picture that has to be rotated by so many quarter turns clockwise.

    A quarter turn clockwise makes what points left point up, and left is a roll of minus a quarter turn.

    Args:
        quarters: Quarter turns clockwise.

    Returns:
        `Detections.up_rad`, in [-pi, pi].
    """
    return math.pi / 2 * (1 - (quarters + 1) % 4)


def rotate_frame(frame: Frame, quarters: int) -> Frame:
    """Rotate the picture of a frame clockwise by quarter turns. With 0 quarters it is not copied."""
    if quarters % 4 == 0:
        return frame
    rotated = torch.rot90(torch.from_numpy(frame.rgb), -quarters).contiguous()  # faster than NumPy's
    return Frame(frame.index, frame.time_s, rotated.numpy())


def rotate_back(found: Detections, quarters: int, width: int, height: int) -> Detections:
    """Transform detections in a rotated picture to the picture as filmed.

    Args:
        found: Boxes and keypoints in pixels of the rotated picture.
        quarters: Quarter turns clockwise by which the picture was rotated.
        width: Width of the picture as filmed, px.
        height: Height of the picture as filmed, px.

    Returns:
        The same people in the same order, with the `up_rad` of the rotation.
    """
    quarters %= 4
    if quarters == 0:
        return found
    corners = found.boxes_xyxy_px.reshape(-1, 2, 2)
    points = found.keypoints_px[..., :2]
    for quarter in range(quarters, 0, -1):
        rotated_width = height if quarter % 2 else width
        corners, points = _back_one(corners, rotated_width), _back_one(points, rotated_width)
    boxes = np.concatenate([corners.min(1), corners.max(1)], -1).astype(np.float32)
    keypoints = np.concatenate([points, found.keypoints_px[..., 2:]], -1).astype(np.float32)
    return Detections(boxes, found.scores, keypoints, up_rad(quarters))


def _back_one(points_px: Float, rotated_width: int) -> Float:
    """Undo one clockwise quarter turn of points (..., 2)."""
    return np.stack([points_px[..., 1], rotated_width - 1 - points_px[..., 0]], -1)


class FixedUpDetector:
    """Sets a fixed up direction in the results of another detector that does not depend on pictures; implements `protocols.Detector`.

    Closing it leaves the other detector open.
    """

    def __init__(self, detector: Detector, quarters: int) -> None:
        self._detector = detector
        self._up_rad = up_rad(quarters)

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return one `Detections` per frame."""
        return [replace(found, up_rad=self._up_rad) for found in self._detector.detect(frames)]

    def close(self) -> None:
        """Do nothing: no resource is held."""


class RotatedDetector:
    """Runs another detector on rotated pictures; implements `protocols.Detector`.

    Boxes and keypoints are in the picture as filmed, and `up_rad` is its up direction. Closing it leaves the other detector open.
    """

    def __init__(self, detector: Detector, quarters: int) -> None:
        self._detector = detector
        self._quarters = quarters

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return one `Detections` per frame, in the picture as filmed."""
        found = self._detector.detect([rotate_frame(frame, self._quarters) for frame in frames])
        return [rotate_back(one, self._quarters, frame.width, frame.height) for one, frame in zip(found, frames, strict=True)]

    def close(self) -> None:
        """Do nothing: no resource is held."""
