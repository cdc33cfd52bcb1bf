"""Pictures of people for tests, painted with the free body: the detector finds them, and where they are is known."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from media import Picture, counter_picture
from scipy.spatial.transform import Rotation

from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import BodyModel, skin
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.rendering.shading import paint_bodies

WIDTH, HEIGHT = 320, 240
FPS = 15
STRIP_PX = 16
"""Height of the bars at the top that carry the number of the picture, for `media.read_counter`."""

Place = tuple[float, float, float]
"""Pelvis, camera axes, m. The floor is at y = 1.2: 0.3 stands on it."""


def people_picture(number: int, places: Sequence[Place]) -> Picture:
    """Someone upright at each place, the arms down, on grey; the picture's number as bars at the top."""
    picture = np.full((HEIGHT, WIDTH, 3), 150, np.uint8)
    if places:
        camera = Intrinsics.assumed(WIDTH, HEIGHT)
        transl = torch.tensor(places, dtype=torch.float32)
        count = len(places)
        vertices_m = skin(_body(), _standing().expand(count, -1, -1, -1), torch.zeros(count, 10), transl)[0].numpy()
        paint_bodies(picture, vertices_m, _body().faces, camera, np.tile(np.array([0.85, 0.65, 0.55], np.float32), (count, 1)), opacity=1.0)
    picture[:STRIP_PX] = counter_picture(number % 256, WIDTH, STRIP_PX)
    return picture


def people_pictures(count: int, paths: Sequence[tuple[Place, Place]]) -> list[Picture]:
    """Everybody walks evenly from one place to another."""
    shares = np.linspace(0, 1, count)
    return [
        people_picture(number, [tuple((1 - share) * np.array(start) + share * np.array(end)) for start, end in paths])
        for number, share in enumerate(shares)
    ]


@functools.cache
def _body() -> BodyModel:
    return load_body("free")


@functools.cache
def _standing() -> torch.Tensor:
    """(1, 24, 3, 3): turned to the camera, the arms down."""
    axis_angle = np.zeros((24, 3))
    axis_angle[0] = [np.pi, 0, 0]
    axis_angle[16], axis_angle[17] = [0, 0, -1.2], [0, 0, 1.2]
    return torch.from_numpy(Rotation.from_rotvec(axis_angle).as_matrix().astype(np.float32))[None]
