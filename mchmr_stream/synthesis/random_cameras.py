"""Random cameras and positions of people.

World: y up, ground at y = 0. A camera faces along camera z; `camera_from_world` rotates world vectors into camera axes and
``point_camera = camera_from_world @ point_world + translation_m``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mchmr_stream.geometry.camera import Intrinsics, project, roll_matrix
from mchmr_stream.synthesis.people import PosedPerson

_FLIP = np.diag([1.0, -1.0, -1.0])
_NEAREST_M = 0.55
_SHOTS: dict[str, tuple[int, ...]] = {
    "full": tuple(range(24)),
    "knees": (0, 1, 2, 3, 4, 5, 6, 9, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21),
    "waist": (0, 1, 2, 3, 6, 9, 12, 13, 14, 15, 16, 17),
    "chest": (6, 9, 12, 13, 14, 15, 16, 17),
    "head": (12, 15, 16, 17),
    "headless": (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11),
}
"""Joints that each kind of shot frames."""


@dataclass(frozen=True)
class RandomCameraSettings:
    """Settings of cameras and shots."""

    long_side_px: tuple[int, int] = (640, 960)
    aspects: tuple[float, ...] = (16 / 9, 4 / 3, 1.0, 3 / 4, 9 / 16)
    fov_deg: tuple[float, float] = (35.0, 75.0)
    """of the longer side"""
    wide_probability: float = 0.1
    """of a field of view between the upper limit and 100 degrees"""
    tele_probability: float = 0.1
    """of one between 15 degrees and the lower limit"""
    truncated_probability: float = 0.35
    """probability that the first person is meant to be truncated by the picture's border"""
    people_probability: tuple[float, ...] = (0.42, 0.28, 0.18, 0.12)
    """of 1, 2, ... people"""
    lifted_probability: float = 0.05
    """of a person off the ground"""


@dataclass(frozen=True, eq=False)
class SceneCamera:
    """A camera of the synthetic world."""

    width: int
    height: int
    intrinsics: Intrinsics
    camera_from_world: Tensor
    """(3, 3)"""
    translation_m: Tensor
    """(3,)"""

    def camera_points(self, world_m: Tensor) -> Tensor:
        """Transform (..., 3) world -> camera axes."""
        return world_m @ self.camera_from_world.T + self.translation_m

    @property
    def position_m(self) -> Tensor:
        """(3,) in the world."""
        return -self.camera_from_world.T @ self.translation_m


def draw_camera(rng: np.random.Generator, settings: RandomCameraSettings) -> SceneCamera:
    """Draw picture size, field of view, pitch and roll; the camera is at the world's origin until `frame_subject`."""
    long_side = int(rng.integers(settings.long_side_px[0], settings.long_side_px[1] + 1)) // 16 * 16
    aspect = float(rng.choice(settings.aspects))
    width, height = (long_side, round(long_side / aspect)) if aspect >= 1 else (round(long_side * aspect), long_side)
    kind = rng.random()
    low, high = settings.fov_deg
    if kind < settings.wide_probability:
        low, high = high, 100.0
    elif kind < settings.wide_probability + settings.tele_probability:
        low, high = 15.0, low
    fov = np.radians(rng.uniform(low, high))
    focal = float(long_side / 2 / np.tan(fov / 2))
    pitch = rng.normal(0.1, 0.14) if rng.random() < 0.85 else rng.uniform(-0.5, 0.95)
    roll = rng.normal(0, 0.03) if rng.random() < 0.75 else rng.normal(0, 0.2)
    turn = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    camera_from_world = torch.as_tensor(roll_matrix(np.float64(roll)) @ turn @ _FLIP, dtype=torch.float32)
    return SceneCamera(width, height, Intrinsics.from_focal(width, height, focal), camera_from_world, torch.zeros(3))


def draw_shot(rng: np.random.Generator, settings: RandomCameraSettings) -> str:
    """Draw the kind of shot of the first person: a name in _SHOTS, or "side" (half of the body outside of the picture)."""
    if rng.random() >= settings.truncated_probability:
        return "full"
    return str(rng.choice(["knees", "waist", "chest", "head", "headless", "side"], p=[0.25, 0.25, 0.17, 0.05, 0.08, 0.2]))


def frame_subject(rng: np.random.Generator, camera: SceneCamera, person: PosedPerson, shot: str, others: int) -> SceneCamera:
    """Move the camera so that it frames the part of `person` that `shot` names."""
    joints = (person.joints_m - person.joints_m[0]) @ camera.camera_from_world.T
    if shot == "side":
        order = joints[:, 0].argsort(descending=bool(rng.random() < 0.5))
        shown = joints[order[:14]]
    else:
        shown = joints[list(_SHOTS[shot])]
    low, high = shown.amin(0), shown.amax(0)
    centre, size = (low + high) / 2, (high - low)[:2] + 0.22
    if shot == "full":
        fill = rng.beta(2.2, 2.0) * 0.75 + 0.2 if others == 0 else rng.beta(2, 2.2) * 0.65 + 0.2
    else:
        fill = rng.uniform(0.65, 1.05)
    focal = camera.intrinsics.fx
    depth = max(focal * float(size[0]) / (fill * camera.width), focal * float(size[1]) / (fill * camera.height))
    depth = max(depth, _NEAREST_M + float(centre[2] - low[2]) + 0.15)
    free = np.maximum([camera.width, camera.height] - size.numpy() * focal / depth, 0) / 2
    spot = rng.uniform(-1, 1, 2) * free + rng.normal(0, 0.015, 2) * [camera.width, camera.height]
    if shot == "side":
        outward = math.copysign(1.0, float(joints[order[-5:], 0].mean() - centre[0]))
        spot[0] = outward * free[0] * rng.uniform(0.85, 1.15)
    target = torch.as_tensor(np.r_[spot / focal * depth, depth], dtype=torch.float32)
    pelvis = target - centre
    return replace(camera, translation_m=pelvis - camera.camera_from_world @ person.joints_m[0])


def place_apart(rng: np.random.Generator, camera: SceneCamera, person: PosedPerson, placed: list[PosedPerson]) -> PosedPerson | None:
    """Place `person` on the ground inside the view, apart from those already placed; None if no position was found."""
    subject_depth = float(camera.camera_points(placed[0].joints_m)[0, 2])
    up = camera.camera_from_world[:, 1]
    for _ in range(15):
        depth = subject_depth * float(np.exp(rng.normal(0.12, 0.35)))
        column = rng.uniform(-0.02, 1.02) * camera.width
        x = (column - camera.intrinsics.cx) / camera.intrinsics.fx
        y = (float(up @ camera.translation_m) / depth - float(up[0]) * x - float(up[2])) / float(up[1])
        spot = camera.camera_from_world.T @ (depth * torch.tensor([x, y, 1.0]) - camera.translation_m)
        moved = person.moved_by(torch.tensor([float(spot[0]), 0.0, float(spot[2])]))
        joints = camera.camera_points(moved.joints_m)
        if float(joints[:, 2].min()) < _NEAREST_M:
            continue
        pelvis = project(joints[0], camera.intrinsics)
        across, down = float(pelvis[0]) / camera.width, float(pelvis[1]) / camera.height
        if not (-0.05 < across < 1.05 and -0.1 < down < 1.1):
            continue
        if all(_apart(moved, other) for other in placed):
            return moved
    return None


def _apart(a: PosedPerson, b: PosedPerson) -> bool:
    """Whether all joints of one are at least 25 cm from all joints of the other."""
    distance = float((a.joints_m[0, [0, 2]] - b.joints_m[0, [0, 2]]).norm())
    if distance > a.ground_radius_m + b.ground_radius_m + 0.25:
        return True
    return float(torch.cdist(a.joints_m, b.joints_m).min()) > 0.25
