"""Time constants of the smoother in seconds, per joint."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datatypes import JOINT_NAMES

_TIME_CONSTANTS_S = {
    "pelvis": 0.045,
    "spine1": 0.060, "spine2": 0.060, "spine3": 0.060, "neck": 0.055, "head": 0.050,
    "left_collar": 0.060, "right_collar": 0.060,
    "left_hip": 0.045, "right_hip": 0.045, "left_knee": 0.045, "right_knee": 0.045,
    "left_ankle": 0.050, "right_ankle": 0.050, "left_foot": 0.060, "right_foot": 0.060,
    "left_shoulder": 0.045, "right_shoulder": 0.045, "left_elbow": 0.045, "right_elbow": 0.045,
    "left_wrist": 0.035, "right_wrist": 0.035, "left_hand": 0.035, "right_hand": 0.035,
}  # fmt: skip
TIME_CONSTANTS_S: NDArray[np.float64] = np.array([_TIME_CONSTANTS_S[name] for name in JOINT_NAMES])
"""(24,) Motion faster than this is treated as noise. The trunk is slow, the arms are quick."""

OTHER_SIDE: NDArray[np.int64] = np.array(
    [JOINT_NAMES.index(name.replace("left", "*").replace("right", "left").replace("*", "right")) for name in JOINT_NAMES]
)
"""(24,) index of the joint on the other side; joints in the middle map to themselves."""
LIMBS: NDArray[np.int64] = np.flatnonzero(np.arange(len(JOINT_NAMES)) != OTHER_SIDE)
"""Joints that exist on both sides."""
