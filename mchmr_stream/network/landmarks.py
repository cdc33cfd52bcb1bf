"""Landmark indices: BlazePose's 33, COCO's 17, and their counterparts in a mirrored picture. Only data.

Left and right are the person's own.
"""

from __future__ import annotations

from mchmr_stream.datatypes import KEYPOINT_NAMES, LANDMARK_NAMES

BLAZEPOSE_NAMES = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer", "left_ear",
    "right_ear", "mouth_left", "mouth_right", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist",
    "right_wrist", "left_pinky", "right_pinky", "left_index", "right_index", "left_thumb", "right_thumb", "left_hip",
    "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "left_heel", "right_heel", "left_foot_index",
    "right_foot_index",
)  # fmt: skip
"""The 33 body landmarks of BlazePose, in its order. Its network returns 39; the last 6 have no public name."""

COCO_FROM_BLAZEPOSE = tuple(BLAZEPOSE_NAMES.index(name) for name in KEYPOINT_NAMES)
"""``coco = blazepose[COCO_FROM_BLAZEPOSE]``: index of each of the 17 COCO keypoints among the 33."""


LANDMARKS_FROM_BLAZEPOSE = tuple(BLAZEPOSE_NAMES.index(name) for name in LANDMARK_NAMES)
"""The same for the 27 points of `datatypes.LANDMARK_NAMES`, of which COCO's 17 come first."""


def _mirror(names: tuple[str, ...]) -> tuple[int, ...]:
    """For each landmark the index of its counterpart on the other side of the body, or its own."""
    swap = {"left": "right", "right": "left"}
    return tuple(names.index("_".join(swap.get(part, part) for part in name.split("_"))) for name in names)


BLAZEPOSE_MIRROR = _mirror(BLAZEPOSE_NAMES)
"""``mirrored = landmarks[BLAZEPOSE_MIRROR]`` orders the landmarks of a mirrored picture correctly."""

COCO_MIRROR = _mirror(KEYPOINT_NAMES)
"""The same for the 17 COCO keypoints."""


def _segments(names: tuple[str, ...], pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[int, int], ...]:
    return tuple((names.index(start), names.index(end)) for start, end in pairs)


_LIMBS = (
    ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"), ("right_shoulder", "right_elbow"),
    ("right_elbow", "right_wrist"), ("left_hip", "left_knee"), ("left_knee", "left_ankle"), ("right_hip", "right_knee"),
    ("right_knee", "right_ankle"),
)  # fmt: skip
_TRUNK = (
    ("left_shoulder", "right_shoulder"), ("left_hip", "right_hip"), ("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"),
)  # fmt: skip
_HANDS_AND_FEET = tuple(
    (f"{side}_{start}", f"{side}_{end}")
    for side in ("left", "right")
    for start, end in (
        ("wrist", "pinky"), ("wrist", "index"), ("wrist", "thumb"), ("ankle", "heel"), ("heel", "foot_index"), ("ankle", "foot_index"),
    )
)  # fmt: skip

BLAZEPOSE_LIMBS = _segments(BLAZEPOSE_NAMES, _LIMBS)
"""(start, end) of upper and lower arms and legs, from the trunk outwards: left arm, right arm, left leg, right leg."""
COCO_LIMBS = _segments(KEYPOINT_NAMES, _LIMBS)
"""The same among the 17 COCO keypoints."""
BLAZEPOSE_EDGES = _segments(BLAZEPOSE_NAMES, _LIMBS + _TRUNK + _HANDS_AND_FEET)
"""All lines of the drawn skeleton: limbs, trunk, hands and feet."""
COCO_EDGES = _segments(KEYPOINT_NAMES, _LIMBS + _TRUNK)
"""The same among the 17 COCO keypoints."""
