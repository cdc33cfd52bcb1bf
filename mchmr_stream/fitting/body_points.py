"""Where keypoints are on the free body: 17 as MoveNet places them and 33 as BlazePose does.

Each point is carried by one bone: an offset, linear in the betas, from an anchor joint. What a detector calls a hip or a shoulder is one to
four centimetres off the joint, always to the same side; the offsets hold that definition, measured on rendered people by
tools/calibrate_fit.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.body.model import PARENTS, BodyModel
from mchmr_stream.network.landmarks import BLAZEPOSE_NAMES
from mchmr_stream.records import JOINT_NAMES, KEYPOINT_NAMES

Array = NDArray[np.float64]
Int = NDArray[np.int64]

POINT_NAMES = (*(f"movenet {name}" for name in KEYPOINT_NAMES), *(f"blazepose {name}" for name in BLAZEPOSE_NAMES))
"""The 50 points in order."""

_VERTICES = {
    "nose": 332, "right_eye": 6260, "left_eye": 2800, "right_ear": 4071, "left_ear": 583, "mouth_left": 332, "mouth_right": 332,
    "left_eye_inner": 2800, "left_eye_outer": 2800, "right_eye_inner": 6260, "right_eye_outer": 6260,
    "right_thumb": 6191, "right_index": 5782, "right_pinky": 6133, "left_thumb": 2746, "left_index": 2319, "left_pinky": 2673,
    "left_heel": 3387, "right_heel": 6787, "left_foot_index": 3216, "right_foot_index": 6617,
}  # fmt: skip
"""Vertices of SMPL's topology near points that are no joints; `offsets_m` hold what is left."""


@dataclass(frozen=True, eq=False)
class BodyPoints:
    """K points of a body.

    A point of a body with global rotations G and joints X is X[anchor] + G[bone] (rest + shapedirs @ betas).
    """

    anchor: Int
    """(K,) joint that the offset starts from"""
    bone: Int
    """(K,) joint whose rotation carries the offset"""
    rest: Array
    """(K, 3) metres, body axes"""
    shapedirs: Array
    """(K, 3, 10) metres per unit of beta"""

    def __len__(self) -> int:
        return len(self.anchor)


def nominal_points(body: BodyModel) -> BodyPoints:
    """The 50 points at their joints and vertices, without the detectors' own definitions."""
    names = (*KEYPOINT_NAMES, *BLAZEPOSE_NAMES)
    anchor, bone, rest, shapedirs = [], [], [], []
    for name in names:
        joint = JOINT_NAMES.index(name) if name in JOINT_NAMES else None
        if joint is not None:
            # A limb's point moves with the bone above it, so that a bent elbow does not swing its own point.
            anchor.append(joint)
            bone.append(PARENTS[joint])
            rest.append(np.zeros(3))
            shapedirs.append(np.zeros((3, 10)))
            continue
        carrier, vertex = _carrier_of(name), _VERTICES[name]
        anchor.append(carrier)
        bone.append(carrier)
        rest.append((body.v_template[vertex] - body.j_template[carrier]).double().numpy())
        shapedirs.append((body.shapedirs[vertex] - body.j_shapedirs[carrier]).double().numpy())
    return BodyPoints(np.array(anchor), np.array(bone), np.array(rest), np.array(shapedirs))


def _carrier_of(name: str) -> int:
    side = "left" if "left" in name else "right"
    if "foot" in name or "heel" in name:
        return JOINT_NAMES.index(f"{side}_ankle")
    if any(finger in name for finger in ("thumb", "index", "pinky")):
        return JOINT_NAMES.index(f"{side}_wrist")
    return JOINT_NAMES.index("head")
