"""COCO's points on the free body: they move with the body, and measuring finds what was there."""

from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np
import pytest
import torch
from places import ROOT

from mchmr_stream.body.coco_points import CocoPoints, coco_points
from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import forward_kinematics
from mchmr_stream.errors import InputError
from mchmr_stream.geometry.rotation import matrix_from_axis_angle

TOOL = ROOT / "tools" / "measure_coco_points.py"


def _people(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Joints around the pelvis and rotations of random people."""
    generator = torch.Generator().manual_seed(seed)
    rotations = matrix_from_axis_angle(0.4 * torch.randn(count, 24, 3, generator=generator))
    joints, _ = forward_kinematics(load_body("free"), rotations, torch.zeros(count, 10))
    return (joints - joints[:, :1]).numpy(), rotations.numpy()


def test_points_turn_and_move_with_the_person() -> None:
    points = coco_points(load_body("free"))
    assert points is not None
    joints, rotations = _people(5, 0)
    turn = matrix_from_axis_angle(torch.tensor([0.3, -1.0, 0.5])).numpy()
    turned = rotations.copy()
    turned[:, 0] = turn @ rotations[:, 0]
    there = points.place(joints @ turn.T + 2.0, turned)
    np.testing.assert_allclose(there, points.place(joints, rotations) @ turn.T + 2.0, atol=1e-5)


def test_hips_are_higher_than_the_joints_and_sides_mirror() -> None:
    points = coco_points(load_body("free"))
    assert points is not None
    left_hip, right_hip = points.offsets_m[6], points.offsets_m[7]
    assert 0.01 < left_hip[1] < 0.05
    np.testing.assert_allclose(left_hip, right_hip * [-1, 1, 1], atol=1e-5)
    assert np.abs(points.offsets_m).max() < 0.05


def test_other_bodies_have_none_and_another_version_is_refused() -> None:
    body = load_body("free")
    assert coco_points(dataclasses.replace(body, name="SMPL_NEUTRAL")) is None
    with pytest.raises(InputError, match="measure_coco_points"):
        coco_points(dataclasses.replace(body, sha256="0" * 64))


def test_measuring_finds_offsets_that_made_the_keypoints() -> None:
    spec = importlib.util.spec_from_file_location("measure_coco_points", TOOL)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    joints, rotations = _people(400, 1)
    rng = np.random.default_rng(2)
    true = rng.normal(0, 0.03, (12, 3))
    true[1::2] = true[0::2] * [-1, 1, 1]
    pelvis, focal, side = np.array([0.2, -0.1, 6.0]), 1500.0, 700.0
    points = CocoPoints(true).place(joints + pelvis, rotations)
    keypoints = np.zeros((400, 17, 3))
    keypoints[:, 5:, :2] = points[..., :2] / points[..., 2:] * focal / side
    keypoints[:, 5:, :2] += rng.normal(0, 0.003, (400, 12, 2))
    keypoints[..., 2] = 0.9
    wild = rng.random((400, 17)) < 0.1
    keypoints[wild, :2] += rng.normal(0, 0.3, (int(wild.sum()), 2))
    values = {
        "rotations": rotations, "joints_m": joints, "pelvis_m": np.tile(pelvis, (400, 1)), "focal_px": np.full(400, focal),
        "base_px": np.tile([0.0, 0.0, side], (400, 1)), "keypoints": keypoints,
    }  # fmt: skip
    empty = torch.zeros(400, 1)
    fields = {field.name: empty for field in dataclasses.fields(tool.ObservedPeople)}
    fields |= {name: torch.as_tensor(value, dtype=torch.float32) for name, value in values.items()}
    offsets, used, before, after = tool.measure(tool.ObservedPeople(**fields))
    np.testing.assert_allclose(offsets.numpy(), true, atol=3e-3)
    assert used == 400 * 12
    assert after < 0.5 * before
