"""The body model: joints and vertices in metres from 24 rotations and 10 betas.

`BodyModel` is a value (arrays only); its operations are the functions below. They are batched, differentiable and run on the device of the
model's tensors. The model is SMPL's (Loper et al. 2015, equations 2 to 10): linear shape and pose corrections on a template, then linear
blend skinning along a tree of 24 joints.

Body axes at rest: x to the body's left, y up, z forward. The root rotation transforms them to the camera's axes.
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
"""Parent of every joint of `JOINT_NAMES`; -1 for the root."""


def _tree_levels() -> tuple[tuple[int, ...], ...]:
    """Joints by their distance from the root: each level depends only on the level before."""
    depth = [0]
    for parent in PARENTS[1:]:
        depth.append(depth[parent] + 1)
    return tuple(tuple(joint for joint in range(JOINT_COUNT) if depth[joint] == level) for level in range(max(depth) + 1))


TREE_LEVELS = _tree_levels()


@dataclass(frozen=True, eq=False)
class BodyModel:
    """One body of SMPL's structure. V vertices, all lengths in metres."""

    v_template: Tensor
    """(V, 3)"""
    shapedirs: Tensor
    """(V, 3, 10): metres per unit of beta"""
    posedirs: Tensor | None
    """(V, 3, 207): metres per unit of (rotation - identity) of joints 1 to 23; None if the body has none"""
    j_template: Tensor
    """(24, 3): joints of the template"""
    j_shapedirs: Tensor
    """(24, 3, 10): displacement of the joints per unit of beta"""
    weights: Tensor
    """(V, 24): skinning weight of each joint for each vertex; rows sum to one"""
    faces: NDArray[np.int64]
    """(F, 3), counter-clockwise seen from outside"""
    level_joints: tuple[Tensor, ...]
    """Joint indices of every level of the tree below the root"""
    level_parents: tuple[Tensor, ...]
    """For every joint of `level_joints`, its parent's index within the level above"""
    level_order: Tensor
    """(24,): index of each joint in the concatenated levels"""
    name: str
    sha256: str
    """Of the file from which it was loaded: it identifies the body in results."""
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
        """Build a body from checked numpy arrays. `body/files.py` reads files.

        The joints are linear in the vertices and those in betas, so regressor and shape blend are combined into two small arrays.

        Args:
            v_template: (V, 3) m.
            shapedirs: (V, 3, 10) m per unit of beta.
            posedirs: (V, 3, 207) or None.
            joint_regressor: (24, V): joints from vertices.
            weights: (V, 24) skinning weights.
            faces: (F, 3).
            name: Name of the body.
            sha256: Hash of its file.
            dtype: Floating type of its tensors.

        Returns:
            The body.
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
        """For numpy: joints of the template (24, 3), and their displacement per unit of beta (10, 72)."""
        template, of_betas = (tensor.detach().cpu().numpy().astype(np.float64) for tensor in (self.j_template, self.j_shapedirs))
        return template, of_betas.reshape(-1, BETA_COUNT).T

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> BodyModel:
        """Copy the body to another device or floating type."""

        def move(value: object) -> object:
            if isinstance(value, tuple):
                return tuple(move(item) for item in value)
            if not isinstance(value, Tensor):
                return value
            return value.to(device=device, dtype=dtype if value.is_floating_point() else None)

        return dataclasses.replace(self, **{field.name: move(getattr(self, field.name)) for field in dataclasses.fields(self)})  # type: ignore[arg-type]


def rest_joints(model: BodyModel, betas: Tensor) -> Tensor:
    """Joints (B, 24, 3) of the T-pose, body axes, metres, for betas (B, 10)."""
    with _full_precision(model):
        return _rest_joints(model, betas.to(model.dtype))


def rest_pelvis(model: BodyModel, betas: Tensor) -> Tensor:
    """Root joint (B, 3) of betas (B, 10) before `transl` is added, metres. It does not depend on the pose."""
    return rest_joints(model, betas)[:, 0]


def forward_kinematics(model: BodyModel, rotations: Tensor, betas: Tensor, transl: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Pose the skeleton.

    The root rotates about its own joint, as in SMPL: posed pelvis = rest_pelvis(betas) + transl. The computation uses the model's floating
    type, also under autocast.

    Args:
        model: The body.
        rotations: (B, 24, 3, 3), root first, each relative to its parent.
        betas: (B, 10).
        transl: (B, 3) m; None for 0.

    Returns:
        Joints (B, 24, 3) in metres and the rotation of every joint in the root's outer axes (B, 24, 3, 3).
    """
    with _full_precision(model):
        rest = _rest_joints(model, betas.to(model.dtype))
        joints, outer_rotations = _pose_tree(model, rotations.to(model.dtype), rest)
        return _moved(joints, transl), outer_rotations


def skin(model: BodyModel, rotations: Tensor, betas: Tensor, transl: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Pose the mesh.

    Args:
        model: The body.
        rotations: (B, 24, 3, 3), root first, each relative to its parent.
        betas: (B, 10).
        transl: (B, 3) m; None for 0.

    Returns:
        Vertices (B, V, 3) and joints (B, 24, 3), metres.
    """
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

        # Each joint transforms rest points p to  R (p - rest) + joint;  a vertex gets the weighted mean of these transforms.
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
    """Pose the tree level by level: eight batched steps without in-place writes (gradients)."""
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
    # Half precision causes errors of centimetres along a chain of ten bones, and saves no noticeable time.
    return torch.autocast(model.device.type, enabled=False)
