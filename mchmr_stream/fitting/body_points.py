"""27 points on the body: COCO's 17 keypoints as the keypoint network defines them, hands and feet as BlazePose does.

Each point is carried by one bone: an offset, linear in the betas, from an anchor joint. What a detector calls a hip or a shoulder is
one to four centimetres off the joint, always to the same side; `noise_constants.FitCalibration.point_offsets_m` holds that definition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.body.face_points import LEFT_EAR, LEFT_EYE, NOSE, RIGHT_EAR, RIGHT_EYE
from mchmr_stream.body.model import PARENTS, BodyModel
from mchmr_stream.datatypes import EXTREMITY_NAMES, JOINT_NAMES, LANDMARK_NAMES

Array = NDArray[np.float64]
Int = NDArray[np.int64]

_VERTICES = {
    "nose": NOSE, "left_eye": LEFT_EYE, "right_eye": RIGHT_EYE, "left_ear": LEFT_EAR, "right_ear": RIGHT_EAR,
    "left_pinky": 2673, "right_pinky": 6133, "left_index": 2319, "right_index": 5782, "left_thumb": 2746, "right_thumb": 6191,
    "left_heel": 3387, "right_heel": 6787, "left_foot_index": 3216, "right_foot_index": 6617,
}  # fmt: skip
"""Vertices of SMPL's topology, as `smplx` numbers them."""


def _carrier_of(name: str) -> int:
    side = name.split("_")[0]
    if name not in EXTREMITY_NAMES:
        return JOINT_NAMES.index("head")
    return JOINT_NAMES.index(f"{side}_ankle" if "heel" in name or "foot" in name else f"{side}_wrist")


CARRIERS = {name: _carrier_of(name) for name in _VERTICES}
"""The joint that carries each of them."""


@dataclass(frozen=True, eq=False)
class BodyPoints:
    """K points of a body.

    A point of a body with global rotations G and joints X is X[anchor] + G[bone] (rest + shapedirs @ betas).
    """

    anchor: Int
    """(K,) joint at which the offset starts"""
    bone: Int
    """(K,) joint whose rotation carries the offset"""
    rest: Array
    """(K, 3) metres, body axes"""
    shapedirs: Array
    """(K, 3, 10) metres per unit of beta"""

    def __len__(self) -> int:
        return len(self.anchor)

    def moved(self, offsets_m: Array) -> BodyPoints:
        """Displace the points.

        Args:
            offsets_m: (K, 3) metres, in the axes of their bones.

        Returns:
            The displaced points.
        """
        return BodyPoints(self.anchor, self.bone, self.rest + offsets_m, self.shapedirs)


def nominal_points(body: BodyModel) -> BodyPoints:
    """Place the points of `LANDMARK_NAMES` at their joints, and those of face, hands and feet at vertices.

    Args:
        body: The body model.

    Returns:
        27 points.
    """
    anchor, bone, rest, shapedirs = [], [], [], []
    for name in LANDMARK_NAMES:
        if name in JOINT_NAMES:
            joint = JOINT_NAMES.index(name)
            anchor.append(joint)
            # A limb's point moves with the bone above it, so that a bent elbow does not move its own point.
            bone.append(PARENTS[joint])
            rest.append(np.zeros(3))
            shapedirs.append(np.zeros((3, 10)))
        else:
            vertex, carrier = _VERTICES[name], CARRIERS[name]
            anchor.append(carrier)
            bone.append(carrier)
            rest.append((body.v_template[vertex] - body.j_template[carrier]).double().numpy())
            shapedirs.append((body.shapedirs[vertex] - body.j_shapedirs[carrier]).double().numpy())
    return BodyPoints(np.array(anchor), np.array(bone), np.array(rest), np.array(shapedirs))
