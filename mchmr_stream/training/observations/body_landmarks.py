"""Landmarks on the free body: BlazePose's 33 and COCO's 17 points as joints and vertices.

These are *nominal* places: a detector's shoulder is one to two centimetres off the joint. Measured residuals of the detectors on
rendered people include that difference, so these places need not be exact.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from mchmr_stream.body.model import BodyModel, skin
from mchmr_stream.datatypes import JOINT_NAMES, KEYPOINT_NAMES
from mchmr_stream.network.landmarks import BLAZEPOSE_NAMES

_VERTEX = {
    "nose": 332, "right_eye": 6260, "left_eye": 2800, "right_ear": 4071, "left_ear": 583,
    "right_thumb": 6191, "right_index": 5782, "right_pinky": 6133, "left_thumb": 2746, "left_index": 2319, "left_pinky": 2673,
    "left_heel": 3387, "right_heel": 6787, "left_foot_index": 3216, "right_foot_index": 6617,
}  # fmt: skip
"""Vertex numbers of SMPL's topology as in `smplx`; the free body has its landmarks at the same vertices."""


def _vertex_of(name: str) -> int:
    side = name.rsplit("_", 1)[-1]
    if name.startswith("mouth"):
        return _VERTEX["nose"]
    if "eye" in name:
        return _VERTEX["left_eye" if "left" in name else "right_eye"]
    return _VERTEX[name] if name in _VERTEX else _VERTEX[f"{side}_{name}"]


def _plan(names: tuple[str, ...]) -> tuple[list[int], list[int]]:
    """For each name an index into 24 joints followed by the sparse vertices."""
    vertices: list[int] = []
    places = []
    for name in names:
        if name in JOINT_NAMES:
            places.append(JOINT_NAMES.index(name))
        else:
            vertex = _vertex_of(name)
            if vertex not in vertices:
                vertices.append(vertex)
            places.append(len(JOINT_NAMES) + vertices.index(vertex))
    return places, vertices


class SparseBody:
    """The free body reduced to its landmarks and every n-th vertex, at a hundredth of the cost: all that training needs."""

    def __init__(self, model: BodyModel, vertex_step: int = 46) -> None:
        places33, vertices33 = _plan(BLAZEPOSE_NAMES)
        keep = vertices33 + list(range(0, model.vertex_count, vertex_step))
        index = torch.tensor(keep)
        self._landmark_count = len(vertices33)
        self._places = torch.tensor(places33)
        self._coco = torch.tensor([BLAZEPOSE_NAMES.index(name) for name in KEYPOINT_NAMES])
        self.model = dataclasses.replace(
            model,
            v_template=model.v_template[index],
            shapedirs=model.shapedirs[index],
            posedirs=None if model.posedirs is None else model.posedirs[index],
            weights=model.weights[index],
        )

    def to(self, device: torch.device) -> SparseBody:
        """Move in place."""
        self.model = self.model.to(device)
        self._places, self._coco = self._places.to(device), self._coco.to(device)
        return self

    def pose(self, rotations: Tensor, betas: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pose bodies.

        Args:
            rotations: (n, 24, 3, 3) relative rotations.
            betas: (n, 10) shape.

        Returns:
            Joints (n, 24, 3), landmarks (n, 33, 3) and vertices (n, v, 3), all relative to the pelvis, metres.
        """
        vertices, joints = skin(self.model, rotations, betas)
        pelvis = joints[:, :1]
        vertices, joints = vertices - pelvis, joints - pelvis
        landmarks = torch.cat([joints, vertices[:, : self._landmark_count]], 1)[:, self._places]
        return joints, landmarks, vertices[:, self._landmark_count :]

    def keypoints(self, landmarks: Tensor) -> Tensor:
        """Select the 17 COCO keypoints of the 33 landmarks."""
        return landmarks[:, self._coco]
