"""Similarity of people in a picture: overlap of boxes, agreement of keypoints and body size, for all pairs at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datatypes import KEYPOINT_NAMES
from mchmr_stream.geometry.boxes import box_iou, box_size

FloatArray = NDArray[np.floating]

COCO_SIGMAS = np.array(
    [0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089]
)
"""Accuracy with which annotators place each COCO keypoint, as a fraction of the root of the person's area (cocodataset.org,
keypoints-eval).
"""

VISIBLE_SCORE = 0.2
"""Keypoints below this score are too uncertain in position to be compared."""

MIN_COMMON_KEYPOINTS = 5
"""Fewer common visible keypoints than this may agree by chance."""

ROOT_AREA_PER_SIZE = 0.5
"""Square root of a person's area over the longer side of the box: COCO's unit of length, but independent of spread arms."""

_BONES = (
    ("left_shoulder", "right_shoulder", "left_hip", "right_hip", 0.29),
    ("left_hip", "left_hip", "left_knee", "left_knee", 0.245),
    ("right_hip", "right_hip", "right_knee", "right_knee", 0.245),
    ("left_knee", "left_knee", "left_ankle", "left_ankle", 0.246),
    ("right_knee", "right_knee", "right_ankle", "right_ankle", 0.246),
    ("left_shoulder", "left_shoulder", "left_elbow", "left_elbow", 0.186),
    ("right_shoulder", "right_shoulder", "right_elbow", "right_elbow", 0.186),
)
"""Bones from the midpoint of two keypoints to the midpoint of two others, as a share of stature (Drillis and Contini, 1964)."""
_BONE_ENDS = np.array([[KEYPOINT_NAMES.index(name) for name in bone[:4]] for bone in _BONES])
_BONE_SHARES = np.array([bone[4] for bone in _BONES])


def keypoint_similarity(a_px: FloatArray, b_px: FloatArray, size_px: FloatArray, slack_px: FloatArray | float = 0.0) -> NDArray[np.float64]:
    """Compute the object keypoint similarity (OKS) of every pair of people.

    It is the mean, over the keypoints visible in both, of exp(-d^2 / (2 (s k)^2 + 2 slack^2)), with k = 2 sigma of COCO and s =
    ROOT_AREA_PER_SIZE * `size_px`.

    Args:
        a_px: (n, 17, 3) x, y in pixels and score.
        b_px: (m, 17, 3) likewise.
        size_px: (m,) longer side of the second person's box.
        slack_px: Additional standard deviation (m,), or one number, for limbs that moved since `b_px` was observed. 0 gives COCO's measure.

    Returns:
        (n, m) in [0, 1]; NaN for fewer than MIN_COMMON_KEYPOINTS common keypoints.
    """
    a, b = np.asarray(a_px, np.float64), np.asarray(b_px, np.float64)
    seen_a, seen_b = _visible(a), _visible(b)
    common = seen_a[:, None] & seen_b[None, :]
    offset = np.where(seen_a[..., None], a[..., :2], 0)[:, None] - np.where(seen_b[..., None], b[..., :2], 0)
    reach = 2 * COCO_SIGMAS * (ROOT_AREA_PER_SIZE * np.asarray(size_px, np.float64))[:, None]
    variance = reach**2 + np.asarray(slack_px, np.float64)[..., None] ** 2
    agreement = np.exp(-(offset**2).sum(-1) / (2 * np.maximum(variance, 1e-9)))
    count = common.sum(-1)
    total = (agreement * common).sum(-1)
    return np.where(count >= MIN_COMMON_KEYPOINTS, total / np.maximum(count, 1), np.nan)


def body_size(keypoints_px: FloatArray) -> NDArray[np.float64]:
    """Estimate stature from the lengths of the visible bones.

    Each visible bone divided by its share of stature is an estimate that foreshortening can only lower. The second largest is taken, as one
    may be wrong. Unlike a box it does not depend on posture, so it distinguishes a child from an adult.

    Args:
        keypoints_px: (n, 17, 3) x, y in pixels and score.

    Returns:
        (n,) pixels; NaN for fewer than three visible bones.
    """
    keypoints = np.asarray(keypoints_px, np.float64)
    points = np.where(_visible(keypoints)[..., None], keypoints[..., :2], np.nan)[:, _BONE_ENDS]
    bones = (points[:, :, 0] + points[:, :, 1] - points[:, :, 2] - points[:, :, 3]) / 2
    estimates = np.hypot(bones[..., 0], bones[..., 1]) / _BONE_SHARES
    second = np.sort(np.nan_to_num(estimates, nan=-1.0), axis=-1)[:, -2]
    return np.where(np.isfinite(estimates).sum(-1) >= 3, second, np.nan)


def person_similarity(
    boxes_xyxy_px: FloatArray,
    keypoints_px: FloatArray,
    known_boxes_xyxy_px: FloatArray,
    known_landmarks_px: FloatArray,
    slack_px: FloatArray,
) -> NDArray[np.float64]:
    """Compare the people of a frame (n) with the people expected in it (m).

    Args:
        boxes_xyxy_px: (n, 4).
        keypoints_px: (n, 17, 3).
        known_boxes_xyxy_px: (m, 4).
        known_landmarks_px: (m, 17, 3).
        slack_px: (m,) as for `keypoint_similarity`.

    Returns:
        (n, m) in [0, 1]: mean of overlap and keypoint similarity; the overlap alone for too few common keypoints.
    """
    overlap = box_iou(boxes_xyxy_px, known_boxes_xyxy_px)
    pose = keypoint_similarity(keypoints_px, known_landmarks_px, box_size(known_boxes_xyxy_px), slack_px)
    return np.where(np.isnan(pose), overlap, (overlap + pose) / 2)


def same_person(
    boxes_xyxy_px: FloatArray,
    keypoints_px: FloatArray,
    other_boxes_xyxy_px: FloatArray,
    other_keypoints_px: FloatArray,
    min_overlap: float = 0.7,
    min_keypoint_similarity: float = 0.65,
) -> NDArray[np.bool_]:
    """Find the pairs that are one person detected twice at the same moment.

    Keypoints decide for pairs that have them: two people who cross can share most of a box, but not their joints, and a box around the
    upper body is the same person as the box around all of it.

    Args:
        boxes_xyxy_px: (n, 4).
        keypoints_px: (n, 17, 3).
        other_boxes_xyxy_px: (m, 4).
        other_keypoints_px: (m, 17, 3).
        min_overlap: Minimum intersection over union, for pairs without common keypoints.
        min_keypoint_similarity: Minimum keypoint similarity, for pairs with common keypoints.

    Returns:
        (n, m).
    """
    pose = keypoint_similarity(keypoints_px, other_keypoints_px, box_size(other_boxes_xyxy_px))
    overlap = box_iou(boxes_xyxy_px, other_boxes_xyxy_px)
    return np.where(np.isnan(pose), overlap >= min_overlap, pose >= min_keypoint_similarity)


def _visible(keypoints: NDArray[np.float64]) -> NDArray[np.bool_]:
    return (keypoints[..., 2] >= VISIBLE_SCORE) & np.isfinite(keypoints).all(-1)
