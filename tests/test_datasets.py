"""Data sets: points on bodies, readers of every layout, mixing, checking."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import skin
from mchmr_stream.errors import InputError
from mchmr_stream.geometry.rotation import matrix_from_axis_angle
from mchmr_stream.learning.datasets.points import (
    ANNOTATED_NAMES,
    ANNOTATED_POINTS,
    MIRRORED_POINTS,
    POINT_NAMES,
    BodyPoints,
    load_regressor,
)
from mchmr_stream.records import JOINT_NAMES


@pytest.fixture(scope="module")
def body():
    return load_body("free")


@pytest.fixture(scope="module")
def posed(body):
    generator = torch.Generator().manual_seed(0)
    rotations = matrix_from_axis_angle(0.3 * torch.randn(2, 24, 3, generator=generator))
    return skin(body, rotations, torch.randn(2, 10, generator=generator), torch.tensor([[0.0, 0.0, 4.0], [0.5, 0.0, 6.0]]))


def test_points_lie_where_their_names_say(body):
    vertices, joints = skin(body, torch.eye(3).expand(1, 24, 3, 3), torch.zeros(1, 10))
    points = dict(zip(POINT_NAMES, BodyPoints.of(body).place(joints, vertices)[0].tolist(), strict=True))
    assert points["head_top"][1] == pytest.approx(float(vertices[0, :, 1].max()))
    up = ["left_ankle", "left_knee", "pelvis", "spine", "thorax", "jaw", "head", "head_top"]
    assert [points[name][1] for name in up] == sorted(points[name][1] for name in up)
    for name in ANNOTATED_NAMES:
        if name.startswith("left"):
            assert points[name][0] > 0.02, name
            assert points[name.replace("left", "right")][0] < -0.02, name
    assert points["nose"][2] > points["left_ear"][2] + 0.05
    assert points["left_knee"] == points["smpl_left_knee"]


def test_points_move_with_the_body_and_mirror_in_pairs(body, posed):
    vertices, joints = posed
    shift = torch.tensor([0.3, -0.2, 1.0])
    points = BodyPoints.of(body)
    assert torch.allclose(points.place(joints + shift, vertices + shift), points.place(joints, vertices) + shift, atol=1e-5)
    assert [MIRRORED_POINTS[other] for other in MIRRORED_POINTS] == list(range(48))
    assert POINT_NAMES[MIRRORED_POINTS[POINT_NAMES.index("smpl_left_hip")]] == "smpl_right_hip"


def test_a_regressor_of_the_user_replaces_the_stand_ins(body, posed, tmp_path):
    vertices, joints = posed
    matrix = np.zeros((9, body.vertex_count))
    matrix[np.arange(9), 100 * np.arange(9)] = 1
    np.save(tmp_path / "extra.npy", matrix)
    points = BodyPoints.of(body, load_regressor(tmp_path / "extra.npy", 9, "J_regressor_extra")).place(joints, vertices)
    order = ["right_hip", "left_hip", "neck", "head_top", "pelvis", "thorax", "spine", "jaw", "head"]
    for row, name in enumerate(order):
        assert torch.allclose(points[:, ANNOTATED_POINTS][:, ANNOTATED_NAMES.index(name)], vertices[:, 100 * row], atol=1e-6)
    assert torch.allclose(points[:, :24], joints)
    assert torch.allclose(points[:, POINT_NAMES.index("left_wrist")], joints[:, JOINT_NAMES.index("left_wrist")])
    np.save(tmp_path / "other.npy", matrix[:, :500])
    with pytest.raises(InputError, match="shape"):
        BodyPoints.of(body, load_regressor(tmp_path / "other.npy", 9, "J_regressor_extra"))
    with pytest.raises(InputError, match="17, vertices"):
        load_regressor(tmp_path / "extra.npy", 17, "J_regressor_h36m")
