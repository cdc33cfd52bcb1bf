"""The labelled points, and their positions on a body.

Two sets of points cover the data sets: SMPL's 24 joints (rendered and fitted data: BEDLAM, AGORA, 3DPW) and the 24 annotated points
that SPIN gathered from Human3.6M, MPI-INF-3DHP, COCO, MPII and LSP. Each label holds both, in this order, with a confidence of 0 for
points that a data set does not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from mchmr_stream.body.model import BodyModel
from mchmr_stream.datatypes import JOINT_NAMES
from mchmr_stream.errors import InputError

ANNOTATED_NAMES = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow", "right_shoulder",
    "left_shoulder", "left_elbow", "left_wrist", "neck", "head_top", "pelvis", "thorax", "spine", "jaw", "head", "nose", "left_eye",
    "right_eye", "left_ear", "right_ear",
)  # fmt: skip
"""SPIN's order of its 24 annotated points: LSP's 14, then MPII's pelvis and thorax, Human3.6M's spine, jaw and head, COCO's face."""

POINT_NAMES = (*(f"smpl_{name}" for name in JOINT_NAMES), *ANNOTATED_NAMES)
"""The 48 points of a label: SMPL's joints, then the annotated points."""
POINT_COUNT = len(POINT_NAMES)
SMPL_POINTS = slice(0, len(JOINT_NAMES))
ANNOTATED_POINTS = slice(len(JOINT_NAMES), POINT_COUNT)

SMPL_HIPS = (JOINT_NAMES.index("left_hip"), JOINT_NAMES.index("right_hip"))
"""Left and right among SMPL_POINTS"""
ANNOTATED_HIPS = (ANNOTATED_NAMES.index("left_hip"), ANNOTATED_NAMES.index("right_hip"))
"""Left and right among ANNOTATED_POINTS"""

LIMBS_AND_HEAD = tuple(len(JOINT_NAMES) + place for place in (*range(13), ANNOTATED_NAMES.index("head")))
"""The 14 points of published errors: LSP's, with Human3.6M's head for LSP's crown."""

MIRRORED_POINTS = tuple(
    POINT_NAMES.index(
        name.replace("left", "\0").replace("right", "left").replace("\0", "right")
    ) for name in POINT_NAMES
)  # fmt: skip
"""Index of the point that each one becomes in a mirrored picture."""

_FROM_JOINTS = {
    **{name: (name,) for name in ANNOTATED_NAMES if name in JOINT_NAMES and "hip" not in name and name not in ("neck", "pelvis", "head")},
    "right_hip": ("right_hip",), "left_hip": ("left_hip",), "neck": ("neck",), "pelvis": ("left_hip", "right_hip"),
    "thorax": ("left_shoulder", "right_shoulder"), "spine": ("spine1", "spine2"), "jaw": ("head",),
}  # fmt: skip
"""Points that are a joint or the middle of two. From "right_hip" on they replace regressed points, see `LabelledPoints`."""
_FROM_VERTEX = {"nose": 332, "right_eye": 6260, "left_eye": 2800, "right_ear": 4071, "left_ear": 583}
"""SMPL's topology, which the free body shares."""
_REGRESSED = ("right_hip", "left_hip", "neck", "head_top", "pelvis", "thorax", "spine", "jaw", "head")
"""Rows of SPIN's J_regressor_extra."""
_MAX_VERTICES = 200_000


@dataclass(frozen=True, eq=False)
class LabelledPoints:
    """Positions of the 48 points on one body, linear in its joints and vertices.

    Wrists, elbows, shoulders, knees and ankles are SMPL's joints and the face its vertices, as usual in the field. Hips, neck, crown,
    pelvis, thorax, spine, jaw and head are regressed from vertices with J_regressor_extra, a file of SPIN's that cannot ship. Without it
    they are approximated: SMPL's hips and neck, the middle of the hips (pelvis) and of the shoulders (thorax), the middle of spine1 and
    spine2 (spine), the head joint (jaw), the highest vertex at rest (crown), and the middle of head joint and crown (head). They differ
    from the regressed points by centimetres.
    """

    from_joints: Tensor
    """(24, 24): annotated points from SMPL's joints"""
    vertices: Tensor
    """(k,) vertices used in addition to the joints"""
    from_vertices: Tensor
    """(24, k)"""

    @staticmethod
    def of(body: BodyModel, regressor_extra: NDArray[np.float64] | None = None) -> LabelledPoints:
        """Build the points for a body of SMPL's topology.

        Args:
            body: the body model.
            regressor_extra: (9, vertices), see `load_regressor`.

        Raises:
            InputError: body and regressor do not fit.
        """
        needed = max(_FROM_VERTEX.values()) + 1
        if body.vertex_count < needed:
            raise InputError(f"body {body.name} has {body.vertex_count} vertices, expected SMPL's 6890: labelled points name its vertices")
        joints = torch.zeros(len(ANNOTATED_NAMES), len(JOINT_NAMES), dtype=torch.float64)
        columns = torch.zeros(len(ANNOTATED_NAMES), body.vertex_count, dtype=torch.float64)
        for name, sources in _FROM_JOINTS.items():
            for source in sources:
                joints[ANNOTATED_NAMES.index(name), JOINT_NAMES.index(source)] = 1 / len(sources)
        for name, vertex in _FROM_VERTEX.items():
            columns[ANNOTATED_NAMES.index(name), vertex] = 1
        crown = int(body.v_template[:, 1].argmax())
        columns[ANNOTATED_NAMES.index("head_top"), crown] = 1
        columns[ANNOTATED_NAMES.index("head"), crown] = joints[ANNOTATED_NAMES.index("head"), JOINT_NAMES.index("head")] = 0.5
        if regressor_extra is not None:
            if regressor_extra.shape != (len(_REGRESSED), body.vertex_count):
                raise InputError(
                    f"the regressor of further joints has shape {regressor_extra.shape}, "
                    f"expected {(len(_REGRESSED), body.vertex_count)} for body {body.name}"
                )
            rows = [ANNOTATED_NAMES.index(name) for name in _REGRESSED]
            joints[rows] = 0
            columns[rows] = torch.from_numpy(np.asarray(regressor_extra, np.float64))
        used = torch.nonzero(columns.abs().sum(0))[:, 0]
        return LabelledPoints(joints.to(body.dtype), used, columns[:, used].to(body.dtype))

    def place(self, joints_m: Tensor, vertices_m: Tensor) -> Tensor:
        """Compute joints (..., 24, 3) and all vertices (..., V, 3) of posed bodies -> points (..., 48, 3), in the same axes."""
        annotated = self.from_joints @ joints_m + self.from_vertices @ vertices_m[..., self.vertices, :]
        return torch.cat([joints_m, annotated], -2)

    def to(self, device: torch.device | str) -> LabelledPoints:
        return LabelledPoints(self.from_joints.to(device), self.vertices.to(device), self.from_vertices.to(device))


def load_regressor(path: Path, rows: int, what: str) -> NDArray[np.float64]:
    """Load a matrix (rows, vertices) that regresses points from vertices, from an .npy file.

    J_regressor_extra has 9 rows, J_regressor_h36m 17. `what` describes the file in messages.

    Raises:
        InputError: the file is missing or holds something else.
    """
    try:
        with path.open("rb") as file:
            version = npy.read_magic(file)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read(file)
            if len(shape) != 2 or shape[0] != rows or not 0 < shape[1] <= _MAX_VERTICES or dtype.kind != "f":
                raise InputError(f"{path} holds {dtype} of shape {shape}, expected {what}: ({rows}, vertices) floating numbers")
            file.seek(0)
            matrix = np.asarray(npy.read_array(file, allow_pickle=False), np.float64)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {' '.join(str(error).split())}; expected {what}, an .npy file") from error
    if not np.isfinite(matrix).all():
        raise InputError(f"{path} holds values that are not finite, expected {what}")
    return matrix
