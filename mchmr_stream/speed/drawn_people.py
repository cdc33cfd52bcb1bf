"""Rendered people of the body that ships, stepping in place in a room: detectable people without any other data.

The pictures are determined by the number of people and the size, without random numbers. Floating-point arithmetic may differ between
machines by a grey level in a few pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import BodyModel, skin
from mchmr_stream.datatypes import JOINT_NAMES
from mchmr_stream.errors import UsageError
from mchmr_stream.geometry.camera import Intrinsics, project
from mchmr_stream.geometry.rotation import matrix_from_axis_angle
from mchmr_stream.rendering.rasterizer import rasterise

CYCLE_FRAMES = 25
"""Two steps, after which the pictures repeat."""
MAX_PEOPLE = 16
_EYE_M = 1.0
"""height of the camera, which faces horizontally"""
_NEAREST_M = 4.4
_PLACE_M = 1.15
"""width of each person's place"""
_LIGHT = (-0.35, -0.6, -0.72)
_SKIN = ((0.85, 0.66, 0.55), (0.55, 0.38, 0.28), (0.93, 0.76, 0.66), (0.68, 0.49, 0.37))
_SHIRTS = ((0.75, 0.16, 0.14), (0.16, 0.3, 0.62), (0.9, 0.88, 0.8), (0.2, 0.45, 0.25), (0.85, 0.62, 0.15), (0.35, 0.2, 0.42))
_TROUSERS = ((0.16, 0.18, 0.25), (0.42, 0.36, 0.28), (0.12, 0.12, 0.12), (0.3, 0.36, 0.46))
_HAIR = ((0.13, 0.09, 0.07), (0.32, 0.2, 0.11), (0.55, 0.42, 0.22), (0.06, 0.06, 0.06))
_SHOES = (0.08, 0.08, 0.09)


def drawn_people(people: int, width: int, height: int, places: int | None = None) -> Iterator[NDArray[np.uint8]]:
    """Yield `CYCLE_FRAMES` pictures (height, width, 3) uint8.

    Args:
        people: number of people.
        width: of the pictures, pixels.
        height: of the pictures, pixels.
        places: number of places side by side, which determines the people's size; None: as many as people.

    Raises:
        UsageError: a number is out of range.
    """
    places = max(1, people) if places is None else places
    if not 0 <= people <= places <= MAX_PEOPLE:
        raise UsageError(f"{people} people in {places} places, expected 0 to {MAX_PEOPLE} people and no more than places")
    camera = Intrinsics.assumed(width, height)
    distance_m = max(_NEAREST_M, camera.fx * _PLACE_M * places / width)
    body = load_body("free")
    wall = _room(camera, width, height, distance_m)
    if people == 0:
        for _ in range(CYCLE_FRAMES):
            yield wall.copy()
        return
    colours = torch.stack([_face_colours(body, number) for number in range(people)])
    betas = torch.from_numpy(np.stack([_betas(number) for number in range(people)]).astype(np.float32))
    # Inner places first, so that a few people stand near the middle.
    at = sorted(range(places), key=lambda place: (abs(place - (places - 1) / 2), place))[:people]
    sideways_m = torch.tensor([(place - (places - 1) / 2) * distance_m * width / camera.fx / places for place in sorted(at)])
    for frame in range(CYCLE_FRAMES):
        rotations = torch.from_numpy(np.stack([_pose(frame / CYCLE_FRAMES, number) for number in range(people)]).astype(np.float32))
        vertices, _ = skin(body, rotations, betas)
        lowest = vertices[..., 1].amax(1)
        offset = torch.stack([sideways_m, _EYE_M - lowest, torch.full_like(lowest, distance_m)], 1)
        yield _drawn(wall.copy(), vertices + offset[:, None], torch.from_numpy(body.faces), colours, camera)


def _betas(number: int) -> NDArray[np.float64]:
    """Ten numbers within a standard deviation, different for each person."""
    return 0.8 * np.sin((number + 1) * np.arange(1, 11) * 1.7)


def _pose(phase: float, number: int) -> NDArray[np.float64]:
    """(24, 3, 3) rotations of a person stepping in place, slightly rotated to one side; phase 0..1."""
    joint = {name: index for index, name in enumerate(JOINT_NAMES)}
    turn = 2 * math.pi * (phase + 0.21 * number)
    axis_angle = np.zeros((24, 3))
    for side, swing in (("left", math.sin(turn)), ("right", -math.sin(turn))):
        sign = 1.0 if side == "left" else -1.0
        lift = max(0.0, swing)
        axis_angle[joint[f"{side}_hip"]] = (-0.35 * swing - 0.15 * lift, 0, 0.05 * sign)
        axis_angle[joint[f"{side}_knee"]] = (0.15 + 0.75 * lift, 0, 0)
        axis_angle[joint[f"{side}_shoulder"]] = (0.1, 0, -1.15 * sign)
        axis_angle[joint[f"{side}_elbow"]] = (0, -sign * (0.45 + 0.35 * max(0.0, -swing)), 0)
        axis_angle[joint[f"{side}_collar"]] = (0, 0.25 * swing, -0.1 * sign)
    axis_angle[joint["spine3"]] = (0.05, 0.12 * math.sin(turn), 0)
    rotations = np.asarray(matrix_from_axis_angle(axis_angle))
    heading = 0.5 * math.sin(1.9 * number + 0.6)
    upright = np.diag([1.0, -1.0, -1.0])  # the body faces +z with y up, the camera's y points down
    rotations[0] = upright @ np.asarray(matrix_from_axis_angle(np.array([0, heading, 0])))
    return rotations


def _face_colours(body: BodyModel, number: int) -> Tensor:
    """(F, 3): skin, shirt with short sleeves, trousers, shoes and hair, by the joint of each triangle's largest weight."""
    colour = {"skin": _SKIN[number % 4], "shirt": _SHIRTS[number % 6], "trousers": _TROUSERS[number % 4], "hair": _HAIR[(number // 2) % 4]}
    wears = {"hip": "trousers", "knee": "trousers", "pelvis": "trousers", "spine": "shirt", "collar": "shirt", "shoulder": "shirt"}
    by_joint = []
    for name in JOINT_NAMES:
        what = next((wears[part] for part in wears if part in name), "skin")
        by_joint.append(_SHOES if "ankle" in name or "foot" in name else colour[what])
    faces = torch.from_numpy(body.faces)
    owner = body.weights[faces].sum(1).argmax(1)
    colours = torch.tensor(by_joint)[owner]
    middle = body.v_template[faces].mean(1)
    head = body.j_template[JOINT_NAMES.index("head")]
    above, behind = middle[:, 1] - head[1], head[2] - middle[:, 2]
    hair = (owner == JOINT_NAMES.index("head")) & ((above > 0.13) | ((behind > -0.02) & (above > 0.02)))
    colours[hair] = torch.tensor(colour["hair"])
    return colours


def _room(camera: Intrinsics, width: int, height: int, distance_m: float) -> NDArray[np.uint8]:
    """(height, width, 3): a floor of boards, a wall with a few pictures, and light that falls off."""
    x, y = np.meshgrid((np.arange(width) - camera.cx) / camera.fx, (np.arange(height) - camera.cy) / camera.fy)
    wall_m = distance_m + 1.5
    floor = y * wall_m > _EYE_M
    depth_m = np.where(floor, _EYE_M / np.maximum(y, 1e-3), wall_m)
    across_m, up_m = x * depth_m, _EYE_M - y * depth_m
    boards = 0.5 + 0.06 * np.sin(12 * np.floor(across_m / 0.18)) - 0.2 * (np.mod(across_m, 0.18) < 0.012)
    paper = 0.72 + 0.02 * np.sin(24 * across_m) * np.sin(24 * up_m)
    framed = (np.mod(across_m + 0.45, 2.4) < 0.9) & (up_m > 1.6) & (up_m < 2.2)
    paper = np.where(framed, 0.45 + 0.2 * np.sin(5 * across_m + 3 * up_m), paper)
    paper = np.where((up_m > 0) & (up_m < 0.12), 0.88, paper)
    shade = 1 - 0.25 * np.hypot(x, y)
    tint = np.where(floor[..., None], (1.0, 0.82, 0.62), (0.96, 0.97, 0.92))
    return (255 * (np.where(floor, boards, paper) * shade)[..., None] * tint).clip(0, 255).astype(np.uint8)


def _drawn(rgb: NDArray[np.uint8], vertices_m: Tensor, faces: Tensor, colours: Tensor, camera: Intrinsics) -> NDArray[np.uint8]:
    """The picture with one person after the other in flat shading; they stand side by side, so none occludes another."""
    height, width = rgb.shape[:2]
    for vertices, tint in zip(vertices_m, colours, strict=True):
        points = project(vertices, camera)
        low = points.floor().amin(0).clamp(min=0).int().tolist()
        high = torch.minimum(points.ceil().amax(0) + 1, torch.tensor([width, height])).int().tolist()
        corners = vertices[faces]
        normals = torch.nn.functional.normalize(torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), dim=-1)
        light = 0.42 + 0.58 * (normals @ torch.tensor(_LIGHT)).clamp(min=0)
        shown = (255 * (tint * light[:, None])).clamp(0, 255)
        size = high[0] - low[0], high[1] - low[1]
        seen = rasterise(points - torch.tensor(low), 1 / vertices[:, 2], faces, *size, fine=2)
        part = rgb[low[1] : high[1], low[0] : high[0]]
        y, x = np.divmod(seen.pixel.numpy(), size[0])
        cover = seen.coverage.numpy()[:, None]
        part[y, x] = (part[y, x] * (1 - cover) + shown[seen.face].numpy() * cover + 0.5).astype(np.uint8)
    return rgb
