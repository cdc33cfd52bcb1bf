"""The published losses by law: zero where they must be, blind to what they must not see, gradients, hand-worked values."""

from __future__ import annotations

import math

import pytest
import torch

from mchmr_stream.geometry.camera import local_from_full
from mchmr_stream.geometry.rotation import matrix_from_axis_angle
from mchmr_stream.training.end_to_end import paper_losses as losses

PEOPLE, VIEWS, POINTS = 3, 5, 24
CROP_HW = (256, 192)
HIPS = (1, 2)


@pytest.fixture
def cameras() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Full-camera translations (3, 3), views of three people (3, 5, 3) px, focal lengths (3,)."""
    g = torch.Generator().manual_seed(0)
    transl = torch.randn(PEOPLE, 3, generator=g, dtype=torch.float64) + torch.tensor([0, 0, 6.0])
    views_px = torch.rand(PEOPLE, VIEWS, 3, generator=g, dtype=torch.float64) * 400 + 100
    return transl, views_px, torch.tensor([900.0, 1500.0, 2200.0], dtype=torch.float64)


def _random(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("form", ["paper", "authors"])
def test_local_cameras_of_one_full_camera_cost_nothing_and_a_common_shift_neither(cameras, form):
    transl, views_px, focal = cameras
    local = local_from_full(transl, views_px, focal)
    assert losses.camera_consistency(local, views_px, form).item() == pytest.approx(0, abs=1e-20)
    moved = local_from_full(transl + torch.tensor([0.3, -0.2, 1.5]), views_px, focal)
    assert losses.camera_consistency(moved, views_px, form).item() == pytest.approx(0, abs=1e-20)
    local[..., 1:] += torch.tensor([0.1, -0.4])
    assert losses.camera_consistency(local, views_px, form).item() == pytest.approx(0, abs=1e-20)


def test_camera_consistency_against_the_sum_over_pairs_written_out():
    cams, boxes = _random(2, VIEWS, 3).abs() + 0.3, _random(2, VIEWS, 3, seed=2).abs() * 100 + 50
    total = 0.0
    for person in range(2):
        for i in range(VIEWS):
            for j in range(i + 1, VIEWS):
                (s_i, x_i, y_i), (s_j, x_j, y_j) = cams[person, i].tolist(), cams[person, j].tolist()
                (cx_i, cy_i, b_i), (cx_j, cy_j, b_j) = boxes[person, i].tolist(), boxes[person, j].tolist()
                total += (1e-4 * (b_i * s_i - b_j * s_j)) ** 2
                total += (x_i - x_j - (2 * cx_j / (b_j * s_j) - 2 * cx_i / (b_i * s_i))) ** 2
                total += (y_i - y_j - (2 * cy_j / (b_j * s_j) - 2 * cy_i / (b_i * s_i))) ** 2
    assert losses.camera_consistency(cams, boxes).item() == pytest.approx(total / (2 * VIEWS * (VIEWS - 1) / 2))


def test_errors_in_x_and_y_that_cancel_are_seen_by_the_papers_form_only(cameras):
    transl, views_px, focal = cameras
    local = local_from_full(transl, views_px, focal)
    local[:, 3, 1] += 0.2
    local[:, 3, 2] -= 0.2
    assert losses.camera_consistency(local, views_px, "authors").item() == pytest.approx(0, abs=1e-20)
    # 4 of the 10 pairs hold view 3, each with 0.2^2 in x and in y.
    assert losses.camera_consistency(local, views_px, "paper").item() == pytest.approx(4 / 10 * 2 * 0.2**2)


def test_a_wrong_size_costs_its_pixels_and_one_view_costs_nothing(cameras):
    transl, views_px, focal = cameras
    views_px = torch.cat([torch.zeros_like(views_px[..., :2]), views_px[..., 2:]], -1)
    transl[:, :2] = 0
    local = local_from_full(transl, views_px, focal)
    size = views_px[:, 2, 2] * local[:, 2, 0]
    local[:, 2, 0] *= 1.1
    expected = (size * 0.1 * 1e-4).square().mean()
    assert losses.camera_consistency(local, views_px).item() == pytest.approx(4 / 10 * expected.item())
    assert losses.camera_consistency(local, views_px, "authors").item() == pytest.approx(1 / 5 * expected.item())
    assert losses.camera_consistency(local[:, :1], views_px[:, :1]).item() == 0


def _seen(cameras):
    transl, views_px, focal = cameras
    joints = _random(PEOPLE, POINTS, 3) * 0.4
    points = joints + transl[:, None]
    target_px = points[..., :2] / points[..., 2:] * focal[:, None, None]
    cams = local_from_full(transl, views_px, focal)
    return joints[:, None].expand(-1, VIEWS, -1, -1), losses.views_transl(cams, views_px, focal), target_px


def test_reprojection_is_zero_for_the_true_camera_and_known_for_a_shift_in_every_crop(cameras):
    _, views_px, focal = cameras
    points, transl, target_px = _seen(cameras)
    sure = torch.ones(PEOPLE, POINTS, dtype=torch.float64)
    assert losses.joints_2d(points, transl, target_px, sure, views_px, focal, CROP_HW).item() == pytest.approx(0, abs=1e-20)
    shifted = target_px + torch.tensor([6.0, 8.0])
    side = views_px[..., 2]
    expected = ((6 / (side * 192 / 256 / 2)).square() + (8 / (side / 2)).square()).mean() / 2
    assert losses.joints_2d(points, transl, shifted, sure, views_px, focal, CROP_HW).item() == pytest.approx(expected.item())
    half = torch.full_like(sure, 0.5)
    assert losses.joints_2d(points, transl, shifted, half, views_px, focal, CROP_HW).item() == pytest.approx(expected.item() / 2)


def test_points_without_a_label_may_hold_anything(cameras):
    _, views_px, focal = cameras
    points, transl, target_px = _seen(cameras)
    points = points.clone().requires_grad_()
    sure = torch.ones(PEOPLE, POINTS, dtype=torch.float64)
    sure[1, 4] = 0
    target_px[1, 4] = torch.nan
    value = losses.joints_2d(points, transl, target_px, sure, views_px, focal, CROP_HW)
    (gradient,) = torch.autograd.grad(value, points)
    assert value.item() == pytest.approx(0, abs=1e-20)
    assert torch.isfinite(gradient).all()


def test_3d_points_do_not_see_where_the_body_is_but_see_one_joint():
    target = _random(PEOPLE, POINTS, 3)
    predicted = target[:, None].expand(-1, VIEWS, -1, -1) + _random(PEOPLE, VIEWS, 1, 3, seed=2)
    known, sure = torch.ones(PEOPLE), torch.ones(PEOPLE, POINTS)
    assert losses.joints_3d(predicted, target, sure, known, HIPS).item() == pytest.approx(0, abs=1e-20)
    predicted = predicted.clone()
    predicted[:, :, 9, 0] += 0.1
    assert losses.joints_3d(predicted, target, sure, known, HIPS).item() == pytest.approx(0.01 / (POINTS * 3))


LABELLED = {
    "rotations": (losses.rotations, (24, 3, 3), lambda e: e**2),
    "betas": (losses.betas, (10,), lambda e: e**2),
    "vertices": (losses.vertices, (50, 3), abs),
}


@pytest.mark.parametrize("name", LABELLED)
def test_a_known_offset_costs_its_power_and_people_without_the_label_do_not_count(name):
    function, shape, cost = LABELLED[name]
    target = _random(PEOPLE, *shape)
    target[1] = torch.nan
    predicted = (torch.nan_to_num(target)[:, None].expand(-1, VIEWS, *shape) + 0.3).clone().requires_grad_()
    known = torch.tensor([1.0, 0.0, 1.0])
    value = function(predicted, target, known)
    (gradient,) = torch.autograd.grad(value, predicted)
    assert value.item() == pytest.approx(cost(0.3))
    assert torch.isfinite(gradient).all()
    assert (gradient[1] == 0).all()
    assert (gradient[0] != 0).all()
    nobody = function(predicted, target, torch.zeros(PEOPLE))
    nobody.backward()
    assert nobody.item() == 0
    assert (predicted.grad == 0).all()


def test_rotation_loss_of_a_turn_is_that_of_its_angle():
    target = torch.eye(3, dtype=torch.float64).expand(1, 24, 3, 3)
    predicted = target[:, None].clone()
    predicted[0, 0, 7] = matrix_from_axis_angle(torch.tensor([0.0, 0.6, 0.0], dtype=torch.float64))
    # |R - I|_F^2 = 4 (1 - cos a)
    assert losses.rotations(predicted, target, torch.ones(1)).item() == pytest.approx(4 * (1 - math.cos(0.6)) / (24 * 9))


def test_contrastive_forms_against_the_formula_written_out():
    z = torch.nn.functional.normalize(_random(PEOPLE, 3, 8), dim=-1)
    total = 0.0
    for p in range(PEOPLE):
        for v in range(3):
            all_others = sum(math.exp(float(z[p, v] @ z[q, w]) / 0.5) for q in range(PEOPLE) for w in range(3) if (q, w) != (p, v))
            total -= sum(math.log(math.exp(float(z[p, v] @ z[p, u]) / 0.5) / all_others) for u in range(3) if u != v) / 2
    assert losses.contrastive(z).item() == pytest.approx(total / (PEOPLE * 3))
    assert losses.contrastive(z, form="authors").item() == pytest.approx(0.5 * total / (PEOPLE * 3))


def test_gradients_agree_with_finite_differences(cameras):
    transl, views_px, focal = cameras
    noise = 1 + 0.1 * torch.rand(PEOPLE, VIEWS, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    cams = (local_from_full(transl, views_px, focal) * noise).requires_grad_()
    for form in ("paper", "authors"):
        assert torch.autograd.gradcheck(lambda c, form=form: losses.camera_consistency(c, views_px, form), (cams,))
    points, _, target_px = _seen(cameras)
    points = points.clone().requires_grad_()
    sure = torch.rand(PEOPLE, POINTS, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def reprojection(points, cams):
        return losses.joints_2d(points, losses.views_transl(cams, views_px, focal), target_px, sure, views_px, focal, CROP_HW)

    assert torch.autograd.gradcheck(reprojection, (points, cams))
    known = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    target = _random(PEOPLE, POINTS, 3, seed=6)
    assert torch.autograd.gradcheck(lambda x: losses.joints_3d(x, target, sure, known, HIPS), (points,))
    for function, shape, _ in LABELLED.values():
        predicted = _random(PEOPLE, 2, *shape, seed=7).requires_grad_()
        label = _random(PEOPLE, *shape, seed=8)
        assert torch.autograd.gradcheck(lambda x, function=function, label=label: function(x, label, known), (predicted,))
    unit = torch.nn.functional.normalize(_random(PEOPLE, 2, 4), dim=-1).requires_grad_()
    assert torch.autograd.gradcheck(losses.contrastive, (unit,))
