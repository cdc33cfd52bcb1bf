"""A sheet of pictures of a data set with their labels drawn, so that a wrong camera or exchanged sides are visible at once."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mchmr_stream.body.model import PARENTS, forward_kinematics
from mchmr_stream.datasets.labelled_bodies import LabelledBodies
from mchmr_stream.datasets.labels import LabelledPerson, LabelReader
from mchmr_stream.datasets.points import ANNOTATED_NAMES, ANNOTATED_POINTS, SMPL_POINTS
from mchmr_stream.datatypes import JOINT_NAMES
from mchmr_stream.errors import InputError
from mchmr_stream.geometry.camera import project
from mchmr_stream.geometry.rotation import exp_so3

TILE_PX = 288
_COLUMNS = 5
_SEEN_AROUND = 1.4
"""Side of a tile in sides of the base box."""
_LEFT, _RIGHT, _MIDDLE, _BODY, _BOX = (255, 90, 60), (60, 150, 255), (80, 220, 80), (255, 220, 0), (255, 255, 255)
_BONES = (
    ("right_ankle", "right_knee"), ("right_knee", "right_hip"), ("left_ankle", "left_knee"), ("left_knee", "left_hip"),
    ("right_hip", "left_hip"), ("right_wrist", "right_elbow"), ("right_elbow", "right_shoulder"), ("left_wrist", "left_elbow"),
    ("left_elbow", "left_shoulder"), ("right_shoulder", "left_shoulder"), ("right_hip", "right_shoulder"), ("left_hip", "left_shoulder"),
    ("neck", "head_top"), ("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear"), ("right_eye", "right_ear"),
)  # fmt: skip


def contact_sheet(reader: LabelReader, bodies: LabelledBodies, count: int = 20) -> Image.Image:
    """Draw `count` people spread evenly over the data set.

    White: base box; orange, blue: 2D points of the left and right; yellow: the labelled body, projected, if pose and position are labelled.
    A picture that cannot be read is a grey tile.
    """
    chosen = np.unique(np.linspace(0, len(reader) - 1, min(count, len(reader))).astype(int)).tolist()
    sheet = Image.new("RGB", (_COLUMNS * TILE_PX, math.ceil(len(chosen) / _COLUMNS) * TILE_PX), (90, 90, 90))
    for number, index in enumerate(chosen):
        row, column = divmod(number, _COLUMNS)
        sheet.paste(_tile(reader, index, bodies), (column * TILE_PX, row * TILE_PX))
    return sheet


def _tile(reader: LabelReader, index: int, bodies: LabelledBodies) -> Image.Image:
    label = reader.label(index)
    title = f"{index} {label.image.rsplit('/', 1)[-1]}"[-46:]
    try:
        rgb = reader.image(index)
    except InputError:
        tile = Image.new("RGB", (TILE_PX, TILE_PX), (60, 60, 60))
        ImageDraw.Draw(tile).text((4, 4), f"{title}\nno picture", fill=(255, 160, 160))
        return tile
    side = label.side_px * _SEEN_AROUND
    left, top = label.centre_px - side / 2
    # Pixel centres are at integers: the tile's edge is half a pixel from them.
    window = (left + 0.5, top + 0.5, left + side + 0.5, top + side + 0.5)
    tile = Image.fromarray(rgb).transform((TILE_PX, TILE_PX), Image.Transform.EXTENT, window, Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(tile)
    to_tile = lambda points: (points - [left, top]) * (TILE_PX / side)
    half = label.side_px / 2
    corners = to_tile(np.array([label.centre_px - half, label.centre_px + half]))
    draw.rectangle([*map(float, corners.ravel())], outline=_BOX)
    joints = _body_px(label, rgb, bodies)
    if joints is not None:
        _bones(draw, to_tile(joints), np.ones(24, np.bool_), [(joint, PARENTS[joint]) for joint in range(1, 24)], [_BODY] * 23)
    for points, names, bones in _vocabularies(label):
        colours = [_LEFT if "left" in names[a] else _RIGHT if "right" in names[a] else _MIDDLE for a, _ in bones]
        seen = points[:, 2] > 0
        _bones(draw, to_tile(points[:, :2]), seen, bones, colours)
        for place, labelled in zip(to_tile(points[:, :2]).tolist(), seen.tolist(), strict=True):
            if labelled:
                draw.ellipse([place[0] - 2, place[1] - 2, place[0] + 2, place[1] + 2], fill=_MIDDLE)
    known = [word for word, labelled in (("body", label.has_pose), ("3D", label.has_points_m), ("K", label.K is not None)) if labelled]
    draw.text((4, 4), f"{title}\n{label.gender} {' '.join(known)}", fill=(255, 255, 255), stroke_width=1, stroke_fill=(0, 0, 0))
    return tile


def _vocabularies(label: LabelledPerson) -> list[tuple[NDArray[np.floating], tuple[str, ...], list[tuple[int, int]]]]:
    """The annotated points, or SMPL's if only those are labelled."""
    annotated, smpl = label.points_px[ANNOTATED_POINTS], label.points_px[SMPL_POINTS]
    bones = [(ANNOTATED_NAMES.index(a), ANNOTATED_NAMES.index(b)) for a, b in _BONES]
    if (annotated[:, 2] > 0).any():
        return [(annotated, ANNOTATED_NAMES, bones)]
    return [(smpl, JOINT_NAMES, [(joint, PARENTS[joint]) for joint in range(1, 24)])]


def _bones(draw: ImageDraw.ImageDraw, points: NDArray, seen: NDArray[np.bool_], bones: list[tuple[int, int]], colours: list) -> None:
    for (a, b), colour in zip(bones, colours, strict=True):
        if seen[a] and seen[b]:
            draw.line([*map(float, points[a]), *map(float, points[b])], fill=colour, width=2)


def _body_px(label: LabelledPerson, rgb: NDArray[np.uint8], bodies: LabelledBodies) -> NDArray[np.float64] | None:
    """The 24 joints of the labelled body in the picture; None if its pose, its position or the camera is not known."""
    if not (label.has_pose and label.has_betas) or (label.K is None and label.focal_px is None):
        return None
    model = bodies.of(label.body, label.gender)
    rotations = torch.from_numpy(exp_so3(label.pose.astype(np.float64))).float()[None]
    joints = forward_kinematics(model, rotations, torch.from_numpy(label.betas)[None])[0][0].double().numpy()
    if label.transl_m is not None:
        joints = joints + label.transl_m
    elif label.points_m[0, 3] > 0 and label.points_m[0, 2] > 0:
        joints = joints - joints[0] + label.points_m[0, :3]
    else:
        return None
    if (joints[:, 2] <= 0).any():
        return None
    return np.asarray(project(joints, label.camera(rgb.shape[1], rgb.shape[0])), np.float64)
