"""The body model: 24 rotations and 10 betas in, joints and vertices in metres out.

`BodyModel` is a value (arrays only); the behaviour is the functions below it. They are batched, differentiable and run
where the model's tensors are. The model is SMPL's (Loper et al. 2015, equations 2 to 10): linear shape and pose
corrections on a template, then linear blend skinning along a tree of 24 joints.

Body axes at rest: x to the body's left, y up, z forward. The root rotation takes them to the camera's axes.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mchmr_stream.datatypes import JOINT_NAMES

JOINT_COUNT = 24
BETA_COUNT = 10
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
"""The parent of every joint of `JOINT_NAMES`; -1 for the root."""


def _tree_levels() -> tuple[tuple[int, ...], ...]:
    """Joints by their distance from the root: every level needs only the level before it."""
    depth = [0]
    for parent in PARENTS[1:]:
        depth.append(depth[parent] + 1)
    return tuple(tuple(joint for joint in range(JOINT_COUNT) if depth[joint] == level) for level in range(max(depth) + 1))


TREE_LEVELS = _tree_levels()


@dataclass(frozen=True, eq=False)
class BodyModel:
    """One body of SMPL's structure, ready to pose. V vertices, all lengths in metres."""

    v_template: Tensor
    """(V, 3)"""
    shapedirs: Tensor
    """(V, 3, 10): metres per unit of beta"""
    posedirs: Tensor | None
    """(V, 3, 207): metres per unit of (rotation - identity) of joints 1 to 23; None where the body has none"""
    j_template: Tensor
    """(24, 3): joints of the template"""
    j_shapedirs: Tensor
    """(24, 3, 10): how betas move the joints"""
    weights: Tensor
    """(V, 24): how much each joint moves each vertex; rows sum to one"""
    faces: NDArray[np.int64]
    """(F, 3), counter-clockwise seen from outside"""
    level_joints: tuple[Tensor, ...]
    """Joint indices of every level of the tree below the root"""
    level_parents: tuple[Tensor, ...]
    """For every joint of `level_joints`, its parent's place within the level above"""
    level_order: Tensor
    """(24,): where each joint stands when the levels are laid end to end"""
    name: str
    sha256: str
    """Of the file it came from: results say exactly what body they mean."""
    parents: tuple[int, ...] = PARENTS
    joint_names: tuple[str, ...] = JOINT_NAMES

    @staticmethod
    def from_arrays(
        *,
        v_template: NDArray,
        shapedirs: NDArray,
        posedirs: NDArray | None,
        joint_regressor: NDArray,
        weights: NDArray,
        faces: NDArray,
        name: str,
        sha256: str,
        dtype: torch.dtype = torch.float32,
    ) -> BodyModel:
        """From checked numpy arrays; `joint_regressor` (24, V) makes joints of vertices. `files.load_body` reads files.

        The joints are linear in the vertices and those in betas, so regressor and shape blend fold into two small arrays.
        """
        template = np.asarray(v_template, np.float64)
        shape_blend = np.asarray(shapedirs, np.float64)
        regressor = np.asarray(joint_regressor, np.float64)
        tensor = lambda array: torch.as_tensor(np.ascontiguousarray(array), dtype=dtype)
        has_pose_blend = posedirs is not None and bool(np.any(posedirs))
        return BodyModel(
            v_template=tensor(template),
            shapedirs=tensor(shape_blend),
            posedirs=tensor(posedirs) if has_pose_blend else None,
            j_template=tensor(regressor @ template),
            j_shapedirs=tensor(np.einsum("jv,vcb->jcb", regressor, shape_blend)),
            weights=tensor(weights),
            faces=np.ascontiguousarray(faces, np.int64),
            level_joints=tuple(torch.tensor(level) for level in TREE_LEVELS[1:]),
            level_parents=tuple(
                torch.tensor([above.index(PARENTS[joint]) for joint in level]) for above, level in itertools.pairwise(TREE_LEVELS)
            ),
            level_order=torch.tensor([joint for level in TREE_LEVELS for joint in level]).argsort(),
            name=name,
            sha256=sha256,
        )

    @property
    def vertex_count(self) -> int:
        return self.v_template.shape[0]

    @property
    def device(self) -> torch.device:
        return self.v_template.device

    @property
    def dtype(self) -> torch.dtype:
        return self.v_template.dtype

    @cached_property
    def joints_float64(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """For numpy: joints of the template (24, 3), and how betas move them (10, 72)."""
        template, of_betas = (tensor.detach().cpu().numpy().astype(np.float64) for tensor in (self.j_template, self.j_shapedirs))
        return template, of_betas.reshape(-1, BETA_COUNT).T

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> BodyModel:
        """The same body on another device or in another floating type."""

        def move(value: object) -> object:
            if isinstance(value, tuple):
                return tuple(move(item) for item in value)
            if not isinstance(value, Tensor):
                return value
            return value.to(device=device, dtype=dtype if value.is_floating_point() else None)

        return dataclasses.replace(self, **{field.name: move(getattr(self, field.name)) for field in dataclasses.fields(self)})  # type: ignore[arg-type]


def rest_joints(model: BodyModel, betas: Tensor) -> Tensor:
    """(B, 10) betas -> (B, 24, 3) joints of the T-pose, body axes."""
    with _full_precision(model):
        return _rest_joints(model, betas.to(model.dtype))


def rest_pelvis(model: BodyModel, betas: Tensor) -> Tensor:
    """(B, 10) betas -> (B, 3): where the root joint is before `transl` is added. It does not depend on the pose."""
    return rest_joints(model, betas)[:, 0]


def forward_kinematics(model: BodyModel, rotations: Tensor, betas: Tensor, transl: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Pose the skeleton.

    `rotations` (B, 24, 3, 3): root first, each relative to its parent. `betas` (B, 10). `transl` (B, 3) m or None for 0.
    Returns joints (B, 24, 3) in metres and the rotation of every joint in the root's outer axes (B, 24, 3, 3).
    The root turns about its own joint, as in SMPL: posed pelvis = rest_pelvis(betas) + transl.
    Computed in the model's floating type, also under autocast.
    """
    with _full_precision(model):
        rest = _rest_joints(model, betas.to(model.dtype))
        joints, outer_rotations = _pose_tree(model, rotations.to(model.dtype), rest)
        return _moved(joints, transl), outer_rotations


def skin(model: BodyModel, rotations: Tensor, betas: Tensor, transl: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Pose the mesh. Arguments as for `forward_kinematics`; returns vertices (B, V, 3) and joints (B, 24, 3), metres."""
    with _full_precision(model):
        rotations, betas = rotations.to(model.dtype), betas.to(model.dtype)
        batch, vertex_count = len(rotations), model.vertex_count
        rest = _rest_joints(model, betas)
        joints, outer_rotations = _pose_tree(model, rotations, rest)

        offsets = betas @ model.shapedirs.reshape(vertex_count * 3, BETA_COUNT).T
        if model.posedirs is not None:
            identity = torch.eye(3, dtype=model.dtype, device=model.device)
            pose_feature = (rotations[:, 1:] - identity).reshape(batch, -1)
            offsets = offsets + pose_feature @ model.posedirs.reshape(vertex_count * 3, -1).T
        unposed = model.v_template + offsets.view(batch, vertex_count, 3)

        # Each joint carries rest points p to  R (p - rest) + joint;  a vertex is carried by the weighted mean of these.
        shift = joints - (outer_rotations @ rest[..., None])[..., 0]
        carry = torch.cat([outer_rotations, shift[..., None]], -1)  # (B, 24, 3, 4)
        carry = carry.permute(0, 2, 3, 1).reshape(batch * 12, JOINT_COUNT) @ model.weights.T
        carry = carry.view(batch, 3, 4, vertex_count)
        vertices = (carry[:, :, :3] * unposed.transpose(1, 2)[:, None]).sum(2) + carry[:, :, 3]
        return _moved(vertices.transpose(1, 2), transl), _moved(joints, transl)


def _rest_joints(model: BodyModel, betas: Tensor) -> Tensor:
    offsets = betas @ model.j_shapedirs.reshape(JOINT_COUNT * 3, BETA_COUNT).T
    return model.j_template + offsets.view(-1, JOINT_COUNT, 3)


def _pose_tree(model: BodyModel, rotations: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
    """Walk the tree a level at a time: eight batched steps, and no tensor is written in place (gradients)."""
    level_rotations, level_positions = rotations[:, :1], rest[:, :1]
    all_rotations, all_positions = [level_rotations], [level_positions]
    rest_above = rest[:, :1]
    for joints, parents in zip(model.level_joints, model.level_parents, strict=True):
        bones = rest[:, joints] - rest_above[:, parents]
        parent_rotations = level_rotations[:, parents]
        level_positions = level_positions[:, parents] + (parent_rotations @ bones[..., None])[..., 0]
        level_rotations = parent_rotations @ rotations[:, joints]
        rest_above = rest[:, joints]
        all_rotations.append(level_rotations)
        all_positions.append(level_positions)
    return torch.cat(all_positions, 1)[:, model.level_order], torch.cat(all_rotations, 1)[:, model.level_order]


def _moved(points: Tensor, transl: Tensor | None) -> Tensor:
    return points if transl is None else points + transl.to(points.dtype)[:, None]


def _full_precision(model: BodyModel) -> torch.autocast:
    # Half precision costs centimetres along a chain of ten bones; the arithmetic saved is nothing.
    return torch.autocast(model.device.type, enabled=False)
