"""Refinement of the keypoints of tracked people in crops that contain the whole body.

The detector processes the whole picture reduced to a few hundred pixels: it finds people, but small ones only roughly. MoveNet Thunder
processes one person in 256 pixels, so its error is the same share of the person at any size in the picture. If its keypoints show that the
first crop was misplaced, the person gets another crop around these keypoints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mchmr_stream.cropping.base_box import base_boxes
from mchmr_stream.cropping.crop_layouts import MAX_VIEWS, layout
from mchmr_stream.cropping.cropper import Cropper
from mchmr_stream.datatypes import Float, Frame, Tracks
from mchmr_stream.detection.person_similarity import keypoint_similarity
from mchmr_stream.geometry.boxes import box_size
from mchmr_stream.geometry.camera import Intrinsics, roll_matrix, turn
from mchmr_stream.geometry.crops import crop_from_rolled, image_from_rolled, rolled_from_crop, rolled_from_image
from mchmr_stream.keypoints.heatmap_decoding import ThunderReading
from mchmr_stream.keypoints.keypoint_fusion import Reading, fused
from mchmr_stream.network.landmarks import COCO_MIRROR

Array = NDArray[np.float64]
KeypointNetwork = Callable[[Tensor, Tensor | None], ThunderReading]

_VIEWS = ((0.0, 0.0, 0.95), (0.04, 0.0, 1.05), (-0.04, 0.03, 0.88), (0.0, -0.04, 1.0), (0.03, 0.04, 1.12))
"""Shifts and scales of the crops, in base boxes. The network's error is lowest at 0.85 to 1.0 of the base box (docs/method.md)."""
MAX_LOOKS = min(len(_VIEWS), MAX_VIEWS)

_SHIFT, _LOG_SCALE, _ROLL_RAD = 0.10, 0.12, 0.25
"""A second crop is cut if the base box of the new keypoints differs by more than this: shift in sides, logarithm of the size, or roll."""
_DETECTOR_PX, _DETECTOR_SHARE = 6.0, 0.03
"""Standard deviation of a detector's keypoint in pixels of its input, and in base boxes, on the scale of a heat map's peak."""
_DETECTOR_SLACK_PX = 4.0
_UNKNOWN = 1e8
_OTHER_SIMILARITY = 0.25
"""Object keypoint similarity to the detector's keypoints below which the crop's keypoints are those of another person."""
_MIN_PRESENCE = 0.1
"""Below this presence no second crop is cut."""


class CropKeypoints:
    """Replaces the keypoints of tracked people by those found in a crop of each person; stateless."""

    def __init__(
        self,
        network: KeypointNetwork,
        *,
        looks: int = 1,
        mirror: bool = False,
        upright: bool = True,
        detector_px: int = 384,
        device: torch.device | str = "cpu",
    ) -> None:
        """Prepare the crops.

        Args:
            network: Maps crops (B, 3, 256, 256) and expected keypoints (B, 17, 3) to a reading.
            looks: Crops per person, 1 to `MAX_LOOKS`.
            mirror: Also process each crop mirrored.
            upright: Rotate crops so that the trunk points up.
            detector_px: Longer side of the detector's input, which limits the accuracy of its keypoints.
            device: Device on which crops are cut.
        """
        if not 1 <= looks <= MAX_LOOKS:
            raise ValueError(f"looks is {looks}, expected 1 to {MAX_LOOKS}")
        self._network, self._mirror, self._detector_px = network, mirror, detector_px
        self._first = Cropper(layout("custom", 1, _VIEWS[:1]), upright, device)
        self._cropper = Cropper(layout("custom", looks, _VIEWS[:looks]), upright, device)

    def refine(self, frame: Frame, tracks: Tracks, intrinsics: Intrinsics) -> Tracks:
        """Find the keypoints of people in their crops.

        Args:
            frame: The picture.
            tracks: n people; crops are cut around their `landmarks_px`.
            intrinsics: Camera of the picture.

        Returns:
            The same people with new `keypoints_px` and `landmarks_px` (n, 17, 3), and `keypoint_covariance_px2` (n, 17, 2, 2).
        """
        if not len(tracks):
            return tracks
        picture_wh = frame.width, frame.height
        base, roll = base_boxes(tracks, intrinsics, self._cropper.layout, self._cropper.upright, picture_wh)
        single_crop = self._cropper.layout.count == 1
        keypoints, covariance, presence = self._read_crops(
            self._cropper if single_crop else self._first, frame, tracks, tracks.keypoints_px, base, roll, intrinsics
        )
        found = replace(tracks, keypoints_px=keypoints, landmarks_px=keypoints, keypoint_covariance_px2=covariance)
        again_base, again_roll = base_boxes(found, intrinsics, self._cropper.layout, self._cropper.upright, picture_wh)
        elsewhere = _lies_elsewhere(base, roll, again_base, again_roll) & (presence > _MIN_PRESENCE)
        rows = np.flatnonzero(elsewhere) if single_crop else np.arange(len(tracks))
        if not len(rows):
            return found
        keypoints[rows], covariance[rows], _ = self._read_crops(
            self._cropper, frame, found.rows(rows), tracks.keypoints_px[rows], again_base[rows], again_roll[rows], intrinsics
        )
        return found

    def _read_crops(
        self, cropper: Cropper, frame: Frame, tracks: Tracks, detected_px: Float, base: Float, roll: Float, intrinsics: Intrinsics
    ) -> tuple[Float, Float, NDArray[np.float32]]:
        """Keypoints (n, 17, 3), covariance (n, 17, 2, 2) in picture pixels, and presence (n,).

        `tracks.landmarks_px` distinguish the person from others in the crop; `detected_px` are the detector's, an additional reading.
        """
        crops, views = cropper.cut(frame.rgb, base, roll, intrinsics)
        n, count = crops.shape[:2]
        near = self._expected(tracks, views, roll, intrinsics)
        readings = [_in_crop(self._network(crops.flatten(0, 1), near.flatten(0, 1)), n, count)]
        if self._mirror:
            flipped = near.clone()
            flipped[..., 0] = crops.shape[-1] - 1 - flipped[..., 0]
            readings.append(
                _mirrored(_in_crop(self._network(crops.flatten(0, 1).flip(-1), flipped.flatten(0, 1)), n, count), crops.shape[-1])
            )
        in_picture = [_in_picture(reading, views, roll, intrinsics, cropper.layout.crop_hw) for reading in readings]
        presence = np.mean([reading.presence.mean(1) for reading in in_picture], 0)
        pixel = max(frame.width, frame.height) / self._detector_px
        detector = _of_detector(detected_px, base, _DETECTOR_PX * pixel)
        other = _is_other_person(in_picture[0].points[:, 0], detected_px, tracks, _DETECTOR_SLACK_PX * pixel)
        points, covariance = fused(Reading(*(np.concatenate(parts, 1) for parts in zip(*in_picture, detector, strict=True))))
        points[other], covariance[other] = detector.points[other, 0], detector.covariance[other, 0]
        return points.astype(np.float32), covariance.astype(np.float32), presence

    def _expected(self, tracks: Tracks, views: Float, roll: Float, intrinsics: Intrinsics) -> Tensor:
        """(n, V, 17, 3) keypoints predicted by the tracker in each crop, which distinguish the person from others in it."""
        known = np.asarray(np.isfinite(tracks.landmarks_px).all(-1))
        positions = np.where(known[..., None], tracks.landmarks_px[..., :2], 0).astype(np.float64)
        rolled = rolled_from_image(positions, intrinsics, roll.astype(np.float64))
        count = views.shape[1]
        in_crop = crop_from_rolled(np.repeat(rolled[:, None], count, 1), views.astype(np.float64), self._cropper.layout.crop_hw)
        score = np.where(known, tracks.landmarks_px[..., 2], 0)
        return torch.from_numpy(np.concatenate([in_crop, np.repeat(score[:, None, :, None], count, 1)], -1).astype(np.float32))


def _in_crop(reading: ThunderReading, n: int, count: int) -> Reading:
    shape = lambda values: values.float().cpu().numpy().astype(np.float64).reshape(n, count, *values.shape[1:])
    return Reading(shape(reading.points), shape(reading.covariance), shape(reading.presence))


def _mirrored(reading: Reading, width: int) -> Reading:
    """Reading of a mirrored crop, transformed to the original crop."""
    order = list(COCO_MIRROR)
    points = reading.points[:, :, order].copy()
    points[..., 0] = width - 1 - points[..., 0]
    return Reading(points, reading.covariance[:, :, order] * np.array([[1.0, -1.0], [-1.0, 1.0]]), reading.presence)


def _in_picture(reading: Reading, views: Float, roll: Float, intrinsics: Intrinsics, crop_hw: tuple[int, int]) -> Reading:
    rolled = rolled_from_crop(reading.points[..., :2], views.astype(np.float64), crop_hw)
    positions = image_from_rolled(rolled, intrinsics, roll.astype(np.float64))
    # The map from crop to picture is a rotation and a scale, up to the ratio of the two focal lengths.
    scale = (views[..., 2] / crop_hw[0]).astype(np.float64)
    picture_from_crop = roll_matrix(roll.astype(np.float64))[:, None, None, :2, :2] * scale[..., None, None, None]
    picture_from_crop = np.array([[1.0], [intrinsics.fy / intrinsics.fx]]) * picture_from_crop
    covariance = picture_from_crop @ reading.covariance @ np.swapaxes(picture_from_crop, -1, -2)
    return Reading(np.concatenate([positions, reading.points[..., 2:]], -1), covariance, reading.presence)


def _of_detector(keypoints_px: Float, base: Float, own_px: float) -> Reading:
    """The detector's keypoints (n, 17, 3) as a reading.

    The detector processes the reduced picture: its error is a share of the person plus some pixels of its input, `own_px` in the picture.
    """
    known = np.asarray(np.isfinite(keypoints_px).all(-1))
    points = np.where(known[..., None], keypoints_px, 0).astype(np.float64)
    variance = own_px**2 + (_DETECTOR_SHARE * base[:, 2].astype(np.float64)) ** 2
    variance = np.where(known, variance[:, None], variance[:, None] * _UNKNOWN)
    return Reading(points[:, None], (variance[..., None, None] * np.eye(2))[:, None], np.ones((len(points), 1)))


def _is_other_person(found_px: Array, detected_px: Float, tracks: Tracks, slack_px: float) -> NDArray[np.bool_]:
    """(n,) whether the crop's keypoints clearly differ from the detector's: then the crop shows another person more prominently.

    `slack_px` is the detector's own error for small people, whose limbs it cannot separate.
    """
    size = box_size(tracks.boxes_xyxy_px)
    similarity = np.diagonal(keypoint_similarity(found_px, detected_px, size, np.full(len(size), slack_px)))
    return np.asarray(tracks.observed & (np.nan_to_num(similarity, nan=1.0) < _OTHER_SIMILARITY))


def _lies_elsewhere(base: Float, roll: Float, other: Float, other_roll: Float) -> NDArray[np.bool_]:
    # Compared in the unrolled plane: far from the principal point a small roll moves rolled coordinates far.
    shift = np.linalg.norm(turn(other[:, :2], other_roll) - turn(base[:, :2], roll), axis=-1) / base[:, 2]
    turned = np.abs((other_roll - roll + np.pi) % (2 * np.pi) - np.pi)
    return (shift > _SHIFT) | (np.abs(np.log(other[:, 2] / base[:, 2])) > _LOG_SCALE) | (turned > _ROLL_RAD)
