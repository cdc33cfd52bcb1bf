"""Crops and labels of a labelled person in a picture, in one camera.

Augmentations change the labels together with the crops. Rotation rolls the camera about its axis, and flipping mirrors the picture
about its vertical middle line: both are pictures of a true camera, so the relations between the crop cameras stay exact.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mchmr_stream.cropping.cropper import Cropper
from mchmr_stream.datasets.labels import BodyKind, LabelledPerson
from mchmr_stream.datasets.points import MIRRORED_POINTS
from mchmr_stream.datatypes import Float
from mchmr_stream.geometry.camera import Intrinsics, plane_from_image, roll_matrix, turn
from mchmr_stream.geometry.crops import rolled_from_image
from mchmr_stream.geometry.rotation import matrix_from_axis_angle
from mchmr_stream.synthesis.poses import mirrored as mirrored_pose
from mchmr_stream.training.end_to_end.network_settings import Augmentation

_MOST_SD = 2.0
"""Rotations and shifts are sampled from a normal distribution truncated at this many standard deviations."""


@dataclass(frozen=True)
class DrawnPerson:
    """Augmentation of one person."""

    mirrored: bool = False
    roll_rad: float = 0.0
    scale: float = 1.0
    """factor on the base box's side"""
    shift: tuple[float, float] = (0.0, 0.0)
    """of the base box's centre, in sides of the box"""
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """factor on each colour channel"""


AS_LABELLED = DrawnPerson()


@dataclass(frozen=True, eq=False)
class CutPeople:
    """Tensors of n people; lengths in metres, pixels in each person's rolled plane, axes of their rolled camera."""

    crops: Tensor
    """(n, V, 3, height, width) uint8"""
    gain: Tensor
    """(n, 3): factor on the crops' channels"""
    views_px: Tensor
    """(n, V, 3)"""
    focal_px: Tensor
    """(n,)"""
    points_px: Tensor
    """(n, 48, 3): x, y, confidence"""
    points_m: Tensor
    """(n, 48, 4): x, y, z, confidence"""
    rotations: Tensor
    """(n, 24, 3, 3)"""
    betas: Tensor
    """(n, 10)"""
    has_pose: Tensor
    """(n,) 0 or 1"""
    has_betas: Tensor
    """(n,) 1 where betas are known and belong to the trained body"""

    def __len__(self) -> int:
        return len(self.focal_px)

    def to(self, device: torch.device) -> CutPeople:
        return CutPeople(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def pin_memory(self) -> CutPeople:
        """Pin memory, for a loader that copies to a GPU in the background."""
        return CutPeople(**{field.name: getattr(self, field.name).pin_memory() for field in fields(self)})

    @staticmethod
    def joined(people: list[CutPeople]) -> CutPeople:
        """Concatenate people, in order."""
        return CutPeople(**{field.name: torch.cat([getattr(one, field.name) for one in people]) for field in fields(CutPeople)})


def draw_shown(augmentation: Augmentation, rng: np.random.Generator) -> DrawnPerson:
    """Sample an augmentation."""
    normal = lambda most: float(np.clip(rng.normal(), -most, most))
    turned = rng.random() < augmentation.turn
    # All numbers are drawn whether they are used or not, so that one setting does not change the others' random numbers.
    angle, scale, shift = normal(_MOST_SD), normal(1.0), (normal(_MOST_SD), normal(_MOST_SD))
    gain = rng.uniform(1 - augmentation.colour, 1 + augmentation.colour, 3)
    return DrawnPerson(
        mirrored=bool(rng.random() < augmentation.flip),
        roll_rad=float(np.deg2rad(augmentation.turn_sd_deg)) * angle if turned else 0.0,
        scale=1 + augmentation.scale_sd * scale,
        shift=(augmentation.shift_sd * shift[0], augmentation.shift_sd * shift[1]),
        gain=(float(gain[0]), float(gain[1]), float(gain[2])),
    )


def cut_person(label: LabelledPerson, rgb: NDArray[np.uint8], cropper: Cropper, shown: DrawnPerson, body: BodyKind) -> CutPeople:
    """Cut the crops of one person, as a batch of one; `body` is the kind of body whose betas count as known."""
    camera = label.camera(rgb.shape[1], rgb.shape[0])
    if shown.mirrored:
        label, camera = mirrored_label(label, rgb.shape[1]), replace(camera, cx=rgb.shape[1] - 1 - camera.cx)
        rgb = np.ascontiguousarray(rgb[:, ::-1])
    roll = np.array([shown.roll_rad], np.float32)
    base_px = _base(label, camera, shown)
    crops, views_px = cropper.cut(rgb, base_px, roll, camera)
    rolled_from_camera = roll_matrix(-shown.roll_rad)
    rotations = matrix_from_axis_angle(label.pose.astype(np.float64))
    rotations[0] = rolled_from_camera @ rotations[0]
    points_px, points_m = label.points_px.astype(np.float64), label.points_m.astype(np.float64)
    points_px[:, :2] = rolled_from_image(points_px[None, :, :2], camera, np.array([shown.roll_rad]))[0]
    points_m[:, :3] = points_m[:, :3] @ rolled_from_camera.T
    known = label.has_betas and label.body == body and label.gender == "neutral"
    one = lambda values: torch.as_tensor(np.asarray(values, np.float32))[None]
    return CutPeople(
        crops=crops, gain=one(shown.gain), views_px=torch.from_numpy(views_px), focal_px=one(camera.fx), points_px=one(points_px),
        points_m=one(points_m), rotations=one(rotations), betas=one(label.betas), has_pose=one(label.has_pose), has_betas=one(known),
    )  # fmt: skip


def mirrored_label(label: LabelledPerson, width: int) -> LabelledPerson:
    """The person in the mirrored picture: left and right are exchanged and x is negated. The body is assumed to be symmetric."""
    points_px, points_m = (points[list(MIRRORED_POINTS)].copy() for points in (label.points_px, label.points_m))
    points_px[:, 0] = width - 1 - points_px[:, 0]
    points_m[:, 0] *= -1
    K = label.K
    if K is not None:
        K = K.copy()
        K[0, 2] = width - 1 - K[0, 2]
    centre = np.array([width - 1 - label.centre_px[0], label.centre_px[1]], np.float32)
    # The mirrored translation depends on the rest pelvis; it is left unset because no caller uses it.
    return replace(
        label, centre_px=centre, K=K, points_px=points_px, points_m=points_m, pose=mirrored_pose(label.pose), transl_m=None
    )  # fmt: skip


def _base(label: LabelledPerson, camera: Intrinsics, shown: DrawnPerson) -> Float:
    """(1, 3) base box in the rolled plane."""
    side = label.side_px * shown.scale
    centre = turn(plane_from_image(np.asarray(label.centre_px, np.float64), camera), -shown.roll_rad) + side * np.array(shown.shift)
    return np.array([[*centre, side]], np.float32)
