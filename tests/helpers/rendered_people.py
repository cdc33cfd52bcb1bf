"""Pictures of the free body, with its joints known: people for detectors to find, in tests that need no clip."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import skin
from mchmr_stream.datatypes import JOINT_NAMES, KEYPOINT_NAMES
from mchmr_stream.geometry.camera import Intrinsics, project
from mchmr_stream.rendering.shading import paint_bodies

LIMB_NAMES = KEYPOINT_NAMES[5:]
"""Shoulders to ankles: the keypoints that the body's joints also have."""


def render(width: int, height: int, places_m: list[tuple[float, float, float]]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """People standing with arms half lowered, facing the camera, pelvis at each place -> picture and (n, 12, 2) limbs, px."""
    model, people = load_body(), len(places_m)
    rotations = torch.eye(3).repeat(people, 24, 1, 1)
    rotations[:, 0] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    for name, angle in (("left_shoulder", -1.1), ("right_shoulder", 1.1)):
        c, s = math.cos(angle), math.sin(angle)
        rotations[:, JOINT_NAMES.index(name)] = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    vertices, joints = skin(model, rotations, torch.zeros(people, 10), torch.tensor(places_m))

    camera = Intrinsics.assumed(width, height)
    rgb = np.empty((height, width, 3), np.uint8)
    rgb[:] = np.linspace(210, 120, height)[:, None, None].astype(np.uint8)
    rgb[height * 7 // 10 :] = (90, 110, 80)
    paint_bodies(rgb, vertices.numpy(), model.faces, camera, np.tile(np.float32([0.75, 0.55, 0.45]), (people, 1)), opacity=1.0)
    return rgb, project(joints.numpy(), camera)[:, [JOINT_NAMES.index(name) for name in LIMB_NAMES]]
