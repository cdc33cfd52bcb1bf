"""Rotations obey their laws, agree with scipy, and can be trained through and exported."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from mchmr_stream.geometry.rotation import (
    axis_angle_from_matrix,
    exp_so3,
    geodesic_rad,
    log_so3,
    matrix_from_axis_angle,
    matrix_from_sixd,
    project_to_so3,
    sixd_from_matrix,
)

LIBRARIES = pytest.mark.parametrize("array", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
components = st.floats(-4, 4, allow_subnormal=False)
vectors = arrays(np.float64, (3,), elements=components)
some = settings(max_examples=60, deadline=None)


def random_rotations(n: int, seed: int = 0) -> Rotation:
    return Rotation.random(n, random_state=seed)


@LIBRARIES
def test_exponential_and_logarithm_agree_with_scipy(array):
    rotations = random_rotations(500)
    vectors = rotations.as_rotvec()
    np.testing.assert_allclose(np.asarray(matrix_from_axis_angle(array(vectors))), rotations.as_matrix(), atol=1e-14)
    np.testing.assert_allclose(np.asarray(axis_angle_from_matrix(array(rotations.as_matrix()))), vectors, atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_short_ways_of_numpy_give_what_the_long_ones_give(dtype):
    lengths = np.concatenate([[0, 1e-30, 1e-20, 1e-12, 1e-7, 1e-3, 0.0099, 0.0101], np.linspace(0.1, math.pi - 1e-3, 40)])
    axes = np.random.default_rng(0).normal(size=(len(lengths), 3))
    vectors = (lengths[:, None] * axes / np.linalg.norm(axes, axis=-1, keepdims=True)).astype(dtype)
    tolerance = 4 * np.finfo(dtype).eps
    matrices = matrix_from_axis_angle(torch.from_numpy(vectors)).numpy()
    short = matrix_from_axis_angle(vectors)
    assert short.dtype == dtype
    np.testing.assert_allclose(short, matrices, atol=tolerance)
    moderate = lengths < 2  # the others go the long way
    back = axis_angle_from_matrix(matrices[moderate])
    assert back.dtype == dtype
    np.testing.assert_allclose(back, axis_angle_from_matrix(torch.from_numpy(matrices[moderate])).numpy(), atol=4 * tolerance)
    np.testing.assert_allclose(back, vectors[moderate], atol=4 * tolerance)


@some
@given(vectors)
def test_the_exponential_is_a_rotation(vector):
    matrix = exp_so3(vector)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-14)
    assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-14)
    np.testing.assert_allclose(matrix @ vector, vector, atol=1e-13)  # the axis stays


@some
@given(vectors)
def test_the_logarithm_undoes_the_exponential_up_to_whole_turns(vector):
    back = log_so3(exp_so3(vector))
    assert np.linalg.norm(back) <= math.pi + 1e-12
    np.testing.assert_allclose(exp_so3(back), exp_so3(vector), atol=1e-13)
    if np.linalg.norm(vector) < math.pi - 1e-9:
        np.testing.assert_allclose(back, vector, atol=1e-12)


@pytest.mark.parametrize("angle", [0, 1e-300, 1e-9, 1e-4, 0.00999999, 0.01000001, 1.0, 3.0, math.pi - 1e-4, math.pi - 1e-8])
def test_every_angle_survives_the_round_trip(angle):
    axes = random_rotations(50).as_matrix()[:, 0]
    np.testing.assert_allclose(log_so3(exp_so3(axes * angle)), axes * angle, rtol=1e-7, atol=1e-14)


def test_half_turns_about_every_axis():
    axes = np.concatenate([random_rotations(200).as_matrix()[:, 0], np.eye(3), -np.eye(3), [[0.6, 0, 0.8], [0, -0.6, 0.8]]])
    half_turns = 2 * axes[:, :, None] * axes[:, None, :] - np.eye(3)  # exactly pi, sine exactly zero
    vectors = log_so3(half_turns)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), math.pi, atol=1e-12)
    np.testing.assert_allclose(abs((vectors * axes).sum(-1)), math.pi, atol=1e-12)  # either sign of the axis


def test_float32_stays_float32_and_keeps_its_digits_near_zero_and_pi():
    for angle in (1e-6, 1e-3, 0.02, 3.1415):
        vector = (np.array([2, -1, 2]) / 3 * angle).astype(np.float32)
        for back in (log_so3(exp_so3(vector)), log_so3(exp_so3(torch.tensor(vector))).numpy()):
            assert back.dtype == np.float32
            np.testing.assert_allclose(back, vector, rtol=2e-6, atol=3e-7)


@some
@given(vectors, vectors)
def test_composition_agrees_with_scipy(first, second):
    ours = log_so3(exp_so3(first) @ exp_so3(second))
    theirs = (Rotation.from_rotvec(first) * Rotation.from_rotvec(second)).as_matrix()
    np.testing.assert_allclose(exp_so3(ours), theirs, atol=1e-13)


@LIBRARIES
def test_sixd_holds_a_rotation(array):
    matrices = random_rotations(300).as_matrix().reshape(3, 100, 3, 3)
    sixd = sixd_from_matrix(array(matrices))
    assert sixd.shape == (3, 100, 6)
    np.testing.assert_allclose(np.asarray(matrix_from_sixd(sixd)), matrices, atol=1e-14)


def test_sixd_layout_is_two_columns_row_by_row():
    columns = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 50.0]])
    matrix = matrix_from_sixd(columns.reshape(6))
    np.testing.assert_allclose(matrix[:, 0], columns[:, 0] / np.linalg.norm(columns[:, 0]), atol=1e-14)
    assert matrix[:, 1] @ columns[:, 1] > 0  # the second column leans towards a2 and spans the same plane
    assert matrix[:, 2] @ columns[:, 1] == pytest.approx(0, abs=1e-12)


@some
@given(arrays(np.float64, (6,), elements=components))
def test_any_sixd_of_two_directions_gives_a_rotation(sixd):
    a1, a2 = sixd[0::2], sixd[1::2]
    area = np.linalg.norm(np.cross(a1, a2))
    if area < 1e-3 * max(1, np.linalg.norm(a1) * np.linalg.norm(a2)):
        assert np.isfinite(matrix_from_sixd(sixd)).all()
        return
    matrix = matrix_from_sixd(sixd)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(3), atol=1e-9)
    assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-9)


@LIBRARIES
def test_geodesic_angle_is_the_angle_of_the_relative_rotation(array):
    a, b = random_rotations(200, 1), random_rotations(200, 2)
    ours = np.asarray(geodesic_rad(array(a.as_matrix()), array(b.as_matrix())))
    np.testing.assert_allclose(ours, (a.inv() * b).magnitude(), atol=1e-13)


@pytest.mark.parametrize("angle", [0, 1e-8, 1e-3, math.pi - 1e-8, math.pi])
def test_geodesic_angle_is_exact_at_both_ends(angle):
    matrix = exp_so3(np.array([0.48, 0.6, 0.64]) * angle)
    assert geodesic_rad(np.eye(3), matrix) == pytest.approx(angle, abs=1e-15, rel=1e-9)
    assert geodesic_rad(matrix, np.eye(3)) == pytest.approx(angle, abs=1e-15, rel=1e-9)


@LIBRARIES
def test_projection_finds_the_nearest_rotation(array):
    rng = np.random.default_rng(0)
    noisy = random_rotations(100).as_matrix() + rng.normal(0, 0.2, (100, 3, 3))
    nearest = np.asarray(project_to_so3(array(noisy)))
    np.testing.assert_allclose(nearest @ nearest.swapaxes(-1, -2), np.broadcast_to(np.eye(3), (100, 3, 3)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(nearest), 1, atol=1e-12)
    distance = np.linalg.norm(noisy - nearest, axis=(-1, -2))
    for vector in rng.normal(0, 0.05, (20, 100, 3)):
        assert (np.linalg.norm(noisy - nearest @ exp_so3(vector), axis=(-1, -2)) >= distance).all()


@pytest.mark.parametrize("matrix", [np.zeros((3, 3)), np.diag([1.0, 1, -1]), np.diag([1.0, 0, 0]), -np.eye(3)])
def test_projection_gives_a_rotation_even_where_it_is_not_unique(matrix):
    rotation = project_to_so3(matrix)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)


@pytest.mark.parametrize("vector", [[0, 0, 0], [1e-30, 0, 0], [1e-5, -1e-5, 0], [0.006, 0.008, 0], [1, 2, -0.5]])
def test_gradient_of_the_exponential(vector):
    vector = torch.tensor(vector, dtype=torch.float64, requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(matrix_from_axis_angle, vector)
    step = 1e-6
    for i in range(3):
        ahead, behind = vector.detach().clone(), vector.detach().clone()
        ahead[i] += step
        behind[i] -= step
        numeric = (matrix_from_axis_angle(ahead) - matrix_from_axis_angle(behind)) / (2 * step)
        torch.testing.assert_close(jacobian[..., i], numeric, atol=1e-8, rtol=1e-6)


def test_gradients_are_finite_at_identity_and_at_half_turns():
    for matrix in (np.eye(3), np.diag([1.0, -1, -1]), np.diag([-1.0, -1, 1])):
        leaf = torch.tensor(matrix, dtype=torch.float32, requires_grad=True)
        loss = axis_angle_from_matrix(leaf).sum() + geodesic_rad(leaf, torch.eye(3)) + geodesic_rad(torch.eye(3), leaf)
        loss.backward()
        assert torch.isfinite(leaf.grad).all()
    for sixd in (torch.zeros(6), torch.tensor([1.0, 2, 0, 0, 0, 0]), sixd_from_matrix(torch.eye(3))):
        leaf = sixd.clone().requires_grad_()
        matrix_from_sixd(leaf).square().sum().backward()
        assert torch.isfinite(leaf.grad).all()


def test_the_logarithm_has_the_right_gradient_at_the_identity():
    """Through exp and log a small rotation must come back with derivative one."""
    leaf = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(lambda v: log_so3(exp_so3(v)), leaf)
    torch.testing.assert_close(jacobian, torch.eye(3, dtype=torch.float64))


def test_sixd_exports():
    class Head(torch.nn.Module):
        def forward(self, sixd: torch.Tensor) -> torch.Tensor:
            return matrix_from_sixd(sixd)

    example, other = torch.randn(2, 24, 6), torch.randn(5, 24, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of TorchScript
        traced = torch.jit.trace(Head(), example)
    torch.testing.assert_close(traced(other), matrix_from_sixd(other))
    exported = torch.export.export(Head(), (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=2)},))
    torch.testing.assert_close(exported.module()(other), matrix_from_sixd(other))
