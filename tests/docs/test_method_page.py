"""The computations behind docs/method.md: relations that hold exactly, poses that look the same, weights that are shares."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from components import import_or_skip
from places import ROOT

from mchmr_stream.body.files import load_body
from mchmr_stream.datatypes import JOINT_NAMES
from mchmr_stream.errors import UsageError
from mchmr_stream.network.fusion import SelfAttentionFusion
from mchmr_stream.network.mesh_network import NetworkConfig
from mchmr_stream.network.observations import Observations
from mchmr_stream.training.common import losses

TOOLS = ROOT / "tools"
sys.path.insert(0, str(TOOLS))
import method_experiments as experiments  # noqa: E402

from mchmr_stream.training.frozen_encoder.head_trainer import new_head  # noqa: E402


@pytest.fixture(scope="module")
def head() -> experiments.Head:
    torch.manual_seed(0)
    return new_head(NetworkConfig(token_dim=32, trunk_dim=64, trunk_depth=1, use_features=False, use_world=False)).eval()


@pytest.fixture(scope="module")
def seen() -> Observations:
    g = torch.Generator().manual_seed(1)
    n, views = 6, 5
    rand = lambda *shape: torch.rand(shape, generator=g)
    boxes = torch.cat([rand(n, views, 2) * 0.2 - 0.1, 0.8 + rand(n, views, 1)], -1)
    return Observations(
        rand(n, views, 4), rand(n, views, 33, 3), rand(n, views, 33, 3), rand(n, 17, 3), boxes, rand(n, 3), torch.ones(n)
    )  # fmt: skip


def test_the_relations_between_local_cameras_hold():
    for name, departure in experiments.camera_relations(people=200).items():
        assert departure < 1e-9, name


def test_crops_turned_about_their_own_centres_see_no_common_camera():
    assert experiments.disagreement_when_turned(30, about_own_centre=False) < 1e-9
    assert experiments.disagreement_when_turned(30, about_own_centre=True) > 0.1
    assert experiments.disagreement_when_turned(0, about_own_centre=True) < 1e-9


def test_weak_perspective_is_wrong_in_proportion_to_nearness():
    errors = experiments.weak_perspective_error(load_body("free"), (5.0, 10.0, 20.0))
    assert errors[5.0] > errors[10.0] > errors[20.0]
    assert errors[10.0] / errors[20.0] == pytest.approx(2, rel=0.1)


def test_two_poses_with_one_picture():
    body = load_body("free")
    twins = experiments.twins(body)
    limbs = [
        JOINT_NAMES.index(f"{side}_{name}") for side in ("left", "right") for name in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
    ]
    pixels = twins.joints_m[..., :2] / twins.joints_m[..., 2:]
    assert np.abs(pixels[0, limbs] - pixels[1, limbs]).max() < 1e-9
    assert np.linalg.norm(twins.joints_m[0, limbs] - twins.joints_m[1, limbs], axis=-1).mean() > 0.2
    identity = twins.rotations @ twins.rotations.transpose(-1, -2)
    assert torch.allclose(identity, torch.eye(3).expand_as(identity), atol=1e-5)
    assert torch.allclose(torch.linalg.det(twins.rotations), torch.ones(2, 24), atol=1e-5)


def test_independent_errors_are_worth_all_views_and_equal_ones_a_single():
    g = np.random.default_rng(0)
    independent = g.normal(size=(400, 5, 12, 2)) + 3
    everything = np.ones((400, 5, 12), bool)
    assert experiments.independent_looks(independent, everything) == pytest.approx(5, rel=0.05)
    assert experiments.independent_looks(np.repeat(independent[:, :1], 5, 1), everything) == pytest.approx(1)
    mixed = independent / 3 + np.repeat(g.normal(size=(400, 1, 12, 2)), 5, 1)
    assert 1 < experiments.independent_looks(mixed, everything) < 2


def test_points_that_one_view_did_not_see_do_not_count():
    g = np.random.default_rng(1)
    errors, counted = g.normal(size=(300, 3, 12, 2)), np.ones((300, 3, 12), bool)
    expected = experiments.independent_looks(errors[:200], counted[:200])
    errors[200:, 1] += 50
    counted[200:, 1] = False
    assert experiments.independent_looks(errors, counted) == pytest.approx(expected)


def test_attention_weights_are_shares_of_every_target_view(head, seen):
    (weights,) = experiments.attention(head, seen)
    assert weights.shape == (4, 6, 5, 5)
    assert torch.allclose(weights.sum(-1), torch.ones(4, 6, 5), atol=1e-6)
    assert weights.std() > 1e-4
    uniform = experiments.with_uniform_attention(head)
    assert torch.allclose(experiments.attention(uniform, seen)[0], torch.full_like(weights, 0.2))
    assert not torch.equal(experiments.attention(head, seen)[0], experiments.attention(uniform, seen)[0])


def test_without_relations_the_fusion_does_not_see_where_crops_lie(head, seen):
    tokens = torch.randn(6, 5, 32, generator=torch.Generator().manual_seed(2))
    moved = seen.views + torch.tensor([0.1, -0.2, 0.3]) * torch.arange(5)[:, None]
    blind = experiments.without_relations(head).fusion[0]
    assert torch.equal(blind(tokens, seen.views), blind(tokens, moved))
    assert not torch.equal(head.fusion[0](tokens, seen.views), head.fusion[0](tokens, moved))
    plain = SelfAttentionFusion(32).eval()
    assert torch.equal(plain(tokens, seen.views), plain(tokens, moved))


@torch.inference_mode()
def test_the_body_does_not_depend_on_the_order_of_the_crops(head, seen):
    there, back = head(seen), head(experiments.with_views(seen, [4, 3, 2, 1, 0]))
    assert torch.allclose(there.rotations, back.rotations, atol=1e-5)
    assert torch.allclose(there.views_cam, back.views_cam.flip(1), atol=1e-5)


def test_attention_of_another_fusion_is_refused(seen):
    other = new_head(NetworkConfig(token_dim=32, trunk_dim=64, trunk_depth=1, use_features=False, use_world=False, fusion="mean"))
    with pytest.raises(UsageError, match="crop-aware"):
        experiments.attention(other, seen)


def test_the_least_contrastive_loss_is_that_of_one_point_each_at_right_angles():
    embedding = torch.eye(8, dtype=torch.float64)[:6, None].expand(6, 5, 8)
    assert losses.contrastive(embedding).item() == pytest.approx(experiments.least_contrastive_loss(6, 5))


def test_high_frequencies_are_noise_in_float32():
    assert experiments.phase_error(4, torch.float32) < 1e-4
    assert experiments.phase_error(17, torch.float32) < 0.1 < experiments.phase_error(18, torch.float32)
    assert np.isinf(experiments.phase_error(15, torch.float16))
    assert experiments.relation_gap(4) > experiments.relation_gap(0)


def test_errors_along_and_across_the_line_of_sight():
    pelvis = np.array([[0.0, 0.0, 4.0]])
    target = np.zeros((1, 3, 3))
    predicted = np.broadcast_to([0.03, 0.04, 0.1], (1, 3, 3))
    values = experiments.along_and_across(predicted, target, pelvis)
    assert values["along, mm"] == pytest.approx(100)
    assert values["across, mm"] == pytest.approx(50)
    assert values["squared error along, %"] == pytest.approx(80)


def test_only_what_is_between_the_markers_is_rewritten():
    import_or_skip("matplotlib")
    import method_figures as figures

    page = f"before\n{figures.START}\nold\n{figures.END}\nafter\n"
    once = figures.between_markers(page, "new")
    assert "old" not in once
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")
    assert figures.between_markers(once, "new") == once
    with pytest.raises(UsageError, match="markers|lines"):
        figures.between_markers("no markers", "new")
    assert figures.between_markers(figures.PAGE.read_text(), "") != ""
