"""Losses and metrics by law: what is zero, what changes nothing, and hand-worked values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mchmr_stream.geometry.camera import local_from_full
from mchmr_stream.geometry.rotation import matrix_from_axis_angle
from mchmr_stream.metrics.joint_errors import centred_on_hips, pose_errors, similarity_aligned
from mchmr_stream.training.common import losses


@pytest.fixture
def views() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Full-camera translations (3, 3), views of three people (3, 5, 3) px, focal lengths (3,)."""
    g = torch.Generator().manual_seed(0)
    transl = torch.randn(3, 3, generator=g, dtype=torch.float64) + torch.tensor([0, 0, 6.0])
    views_px = torch.rand(3, 5, 3, generator=g, dtype=torch.float64) * 400 + 100
    return transl, views_px, torch.tensor([900.0, 1500.0, 2200.0], dtype=torch.float64)


def test_cameras_made_from_one_full_camera_are_consistent(views):
    transl, views_px, focal = views
    cameras = local_from_full(transl, views_px, focal)
    assert losses.camera_consistency(cameras, views_px, focal).item() == pytest.approx(0, abs=1e-12)


def test_a_camera_that_disagrees_costs_and_a_common_shift_does_not(views):
    transl, views_px, focal = views
    cameras = local_from_full(transl, views_px, focal)
    one_off = cameras.clone()
    one_off[0, 2, 1] += 0.5
    all_off = cameras.clone()
    all_off[..., 1] += 0.1
    assert losses.camera_consistency(one_off, views_px, focal) > 1e-3
    assert losses.camera_consistency(all_off, views_px, focal).item() == pytest.approx(0, abs=1e-12)


def test_reprojection_is_zero_for_the_true_camera_in_every_view(views):
    transl, views_px, focal = views
    joints = torch.randn(3, 24, 3, dtype=torch.float64) * 0.4
    points = joints + transl[:, None]
    target_px = points[..., :2] / points[..., 2:] * focal[:, None, None]
    every_view = transl[:, None].expand(3, 5, 3)
    assert losses.joints_2d(joints, every_view, target_px, views_px, focal).item() == pytest.approx(0, abs=1e-12)
    shifted = target_px + torch.tensor([10.0, 0.0])
    expected = (10 / (views_px[..., 2] / 2)).clamp(max=2).mean() / 2
    assert losses.joints_2d(joints, every_view, shifted, views_px, focal).item() == pytest.approx(expected.item())


def test_contrastive_loss_prefers_crops_of_one_person_together():
    person = torch.nn.functional.normalize(torch.randn(4, 1, 16), dim=-1)
    together = person.expand(4, 5, 16)
    scattered = torch.nn.functional.normalize(torch.randn(4, 5, 16), dim=-1)
    assert losses.contrastive(together) < losses.contrastive(scattered)
    assert losses.contrastive(together[:, :1]) == 0


def test_contrastive_loss_against_a_slow_obvious_sum():
    embedding = torch.nn.functional.normalize(torch.randn(3, 2, 8, dtype=torch.float64), dim=-1)
    flat = embedding.reshape(6, 8)
    total = 0.0
    for anchor in range(6):
        positive = anchor ^ 1
        others = [math.exp(float(flat[anchor] @ flat[k]) / 0.5) for k in range(6) if k != anchor]
        total -= math.log(math.exp(float(flat[anchor] @ flat[positive]) / 0.5) / sum(others))
    assert losses.contrastive(embedding).item() == pytest.approx(total / 6)


def test_uncertainty_is_least_when_it_equals_the_error():
    target = torch.zeros(1, 24, 3)
    predicted = torch.full((1, 24, 3), 0.1 / math.sqrt(3))
    value = {sigma: losses.joint_uncertainty(torch.full((1, 24), math.log(sigma)), predicted, target).item() for sigma in (0.05, 0.1, 0.2)}
    assert value[0.1] == min(value.values())


def test_rotation_loss_ignores_the_free_hands_and_weighs_the_root():
    identity = torch.eye(3).expand(1, 24, 3, 3)
    quarter = matrix_from_axis_angle(torch.tensor([0.0, 0.0, math.pi / 2]))
    changed = {joint: identity.clone() for joint in (0, 5, 23)}
    for joint, rotations in changed.items():
        rotations[0, joint] = quarter
    loss = {joint: losses.rotations(rotations, identity).item() for joint, rotations in changed.items()}
    assert loss[23] == 0
    assert loss[0] == pytest.approx(3 * loss[5])


@pytest.mark.parametrize("name", ["joints_3d", "betas", "vertices", "camera_consistency"])
def test_gradients_agree_with_finite_differences(name, views):
    transl, views_px, focal = views
    if name == "camera_consistency":
        # away from the kinks of the absolute value
        start = local_from_full(transl, views_px, focal) * (1 + 0.1 * torch.rand(3, 5, 3, dtype=torch.float64))
        with_depth_fixed = lambda cameras: losses.camera_consistency(cameras, views_px, focal)
        shift_only = lambda shift: with_depth_fixed(torch.cat([start[..., :1], shift], -1))
        assert torch.autograd.gradcheck(shift_only, (start[..., 1:].clone().requires_grad_(),))
        return
    function = getattr(losses, name)
    predicted, target = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True), torch.randn(2, 5, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: function(x, target), (predicted,))


def test_metrics_of_a_known_perturbation():
    rng = np.random.default_rng(0)
    target = rng.normal(size=(20, 12, 3))
    predicted = target.copy()
    predicted[:, 4] += [0.03, 0, 0.04]  # one of twelve joints is 50 mm off
    errors = pose_errors(predicted, target)
    assert errors.mpjpe == pytest.approx(50 / 12)
    assert errors.found == 1.0
    assert errors.acceleration == pytest.approx(0, abs=1e-9)


def test_pa_mpjpe_does_not_see_a_similarity_but_mpjpe_does():
    rng = np.random.default_rng(1)
    target = rng.normal(size=(7, 12, 3))
    turn = matrix_from_axis_angle(rng.normal(size=3))
    predicted = 1.3 * target @ turn.T + rng.normal(size=(7, 1, 3))
    errors = pose_errors(predicted, target)
    assert errors.pa_mpjpe == pytest.approx(0, abs=1e-9)
    assert errors.mpjpe > 100


def test_alignment_never_mirrors():
    rng = np.random.default_rng(2)
    target = rng.normal(size=(1, 12, 3))
    mirrored = target * [-1, 1, 1]
    assert np.abs(similarity_aligned(mirrored, target) - target).max() > 0.1


def test_alignment_against_scipy():
    from scipy.spatial import procrustes

    rng = np.random.default_rng(3)
    target = rng.normal(size=(12, 3))
    points = target @ matrix_from_axis_angle(np.array([0.3, 0.2, 0.1])).T + rng.normal(size=(12, 3)) * 0.05
    _, _, disparity = procrustes(target, points)
    aligned = similarity_aligned(points[None], target[None])[0]
    normalised = ((aligned - target) ** 2).sum() / ((target - target.mean(0)) ** 2).sum()
    assert normalised == pytest.approx(disparity, rel=1e-6)


def test_frames_without_a_prediction_count_as_not_found_only():
    rng = np.random.default_rng(4)
    target = rng.normal(size=(10, 12, 3))
    predicted = target + 0.01
    predicted[3] = np.nan
    errors = pose_errors(predicted, target)
    assert errors.found == pytest.approx(0.9)
    assert errors.mpjpe == pytest.approx(0, abs=1e-9)
    assert np.allclose(centred_on_hips(target)[:, 6:8].mean(1), 0)
