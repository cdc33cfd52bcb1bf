"""A synthetic person: an identity, and the same person posed in the world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mchmr_stream.synthesis.poses import Pose
from mchmr_stream.synthesis.random_shapes import BodyShape
from mchmr_stream.synthesis.rig import BETAS, SKIN_VERTICES, RenderBody, joint_transforms, rotations_from_axis_angle, skin
from mchmr_stream.synthesis.wardrobe import DressedMesh, Outfit


@dataclass(frozen=True, eq=False)
class Identity:
    """Properties of a person that do not change with the pose."""

    build: BodyShape
    outfit: Outfit


@dataclass(frozen=True, eq=False)
class PosedPerson:
    """A person in the world (y up, ground at y = 0, metres), at the position of `moved_by`."""

    identity: Identity
    pose: Pose
    rotations: Tensor
    """(24, 3, 3), the root in world axes"""
    joints_m: Tensor
    """(24, 3)"""
    parts_m: tuple[Tensor, ...]
    """vertices of each part of the dressed mesh, the body first"""
    normals: tuple[Tensor, ...]
    """of the same, not exactly unit length"""
    mesh: DressedMesh

    def moved_by(self, offset_m: Tensor) -> PosedPerson:
        """Translate the person."""
        parts = tuple(part + offset_m for part in self.parts_m)
        return PosedPerson(self.identity, self.pose, self.rotations, self.joints_m + offset_m, parts, self.normals, self.mesh)

    @property
    def skin_m(self) -> Tensor:
        """All skin, (SKIN_VERTICES, 3), including skin under clothes."""
        return self.parts_m[0][:SKIN_VERTICES]

    @property
    def ground_radius_m(self) -> float:
        """Largest horizontal distance of the body from its pelvis."""
        reach = self.joints_m[:, [0, 2]] - self.joints_m[0, [0, 2]]
        return float(reach.norm(dim=-1).max())


def pose_person(body: RenderBody, identity: Identity, mesh: DressedMesh, pose: Pose, yaw_rad: float) -> PosedPerson:
    """Pose a dressed person, rotated about the vertical; the pelvis above the world's origin and the lowest point on the ground."""
    rotations = rotations_from_axis_angle(pose.axis_angle)
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    rotations[0] = torch.tensor([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]], dtype=torch.float32) @ rotations[0]
    shape = torch.as_tensor(identity.build.betas)
    rest = body.rest_joints(shape[None])[0]
    shaped = lambda template, directions: template + (directions.reshape(-1, BETAS) @ shape).view(-1, 3)
    transforms, joints = joint_transforms(rotations, rest)
    skinned = [skin(part.weights, transforms, shaped(part.template_m, part.directions), part.normals) for part in mesh.parts]
    parts, normals = zip(*skinned, strict=True)
    lowest = min(float(part[:, 1].min()) for part in parts)
    offset = torch.tensor([-joints[0, 0], -lowest, -joints[0, 2]])
    return PosedPerson(identity, pose, rotations, joints, parts, normals, mesh).moved_by(offset)
