"""Training end to end on a handful of rendered people: the commands' own functions, exact resuming, weights that load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mchmr_stream.body.files import load_body
from mchmr_stream.cropping.layouts import layout
from mchmr_stream.geometry.camera import full_from_local, local_from_full
from mchmr_stream.learning.batches import TrainingBatch
from mchmr_stream.learning.body_landmarks import SparseBody
from mchmr_stream.learning.landmark_samples import LandmarkSampler, ResidualBank, Residuals, SamplerSettings
from mchmr_stream.learning.metrics import LIMBS_IN_SMPL
from mchmr_stream.learning.train import Trainer, run
from mchmr_stream.learning.train_settings import TrainSettings, load_train_settings
from mchmr_stream.network.weights import load_network

QUIET = SamplerSettings(truncated_share=0, keypoints_dropped=0, visibility_noise=0, point_noise=0)


@pytest.fixture(scope="module")
def body() -> SparseBody:
    return SparseBody(load_body("free"))


def perfect_residuals(count: int = 50) -> Residuals:
    """Detectors that make no mistakes and see everything."""
    views = torch.from_numpy(layout("wide", 5).views.copy()).expand(count, 5, 3)
    return Residuals(
        joints_m=torch.randn(count, 24, 3, generator=torch.Generator().manual_seed(0)),
        inside=torch.ones(count, 12),
        landmark_error=torch.zeros(count, 5, 33, 2),
        visibility=torch.full((count, 5, 33), 0.99),
        keypoint_error=torch.zeros(count, 17, 2),
        keypoint_score=torch.full((count, 17), 0.9),
        views=views,
    )


def sampler_of(body: SparseBody, settings: SamplerSettings = QUIET, seed: int = 0) -> LandmarkSampler:
    poses = torch.randn(200, 24, 3, generator=torch.Generator().manual_seed(1)) * 0.2
    return LandmarkSampler(poses, ResidualBank(perfect_residuals(), settings, 0), body, layout("wide", 5), settings, seed)


def projected_in_base(batch: TrainingBatch, points_m: torch.Tensor) -> torch.Tensor:
    plane = points_m[..., :2] / points_m[..., 2:] * batch.focal_px[:, None, None]
    return (plane - batch.base_px[:, None, :2]) / batch.base_px[:, None, 2:]


def test_without_mistakes_the_sample_shows_the_labelled_body_where_its_camera_says(body):
    batch = sampler_of(body).batch(64)
    limbs = projected_in_base(batch, batch.joints_m[:, list(LIMBS_IN_SMPL)] + batch.pelvis_m[:, None])
    assert torch.allclose(batch.seen.keypoints[:, 5:, :2], limbs, atol=1e-4)
    _, landmarks, _ = body.pose(batch.rotations, batch.betas)
    shown = projected_in_base(batch, landmarks + batch.pelvis_m[:, None])
    assert torch.allclose(batch.seen.landmarks[..., :2], shown[:, None].expand(-1, 5, -1, -1), atol=1e-4)


def test_samples_are_upright_and_inside_their_base_box(body):
    batch = sampler_of(body).batch(64)
    trunk = batch.joints_m[:, 12] - batch.joints_m[:, 0]
    assert (torch.atan2(trunk[:, 0], -trunk[:, 1]).abs() < 0.6).float().mean() > 0.9
    assert (batch.seen.keypoints[:, 5:, :2].abs() < 0.5).float().mean() > 0.98


def test_the_same_seed_draws_the_same_people_and_another_does_not(body):
    first, again, other = (sampler_of(body, seed=seed).batch(8) for seed in (3, 3, 4))
    assert torch.equal(first.rotations, again.rotations)
    assert torch.equal(first.seen.landmarks, again.seen.landmarks)
    assert not torch.equal(first.rotations, other.rotations)


def test_borrowed_mistakes_come_from_the_nearest_pose():
    residuals = perfect_residuals(3)._replace(keypoint_error=torch.arange(3.0)[:, None, None].expand(3, 17, 2) * 0.01)
    bank = ResidualBank(residuals, QUIET, 0)
    borrowed = bank.borrow(residuals.joints_m[[2, 0]] + 0.001, torch.ones(2, 12), 1, 0.5, torch.Generator().manual_seed(0))
    assert borrowed.keypoint_error[:, 0, 0].tolist() == pytest.approx([0.02, 0.0])


def test_a_wrong_focal_length_changes_what_is_told_and_not_the_truth(body):
    batch = sampler_of(body).batch(8)
    other, focal = batch.with_focal(batch.assumed_focal_px)
    assert not torch.equal(other.seen.base_info, batch.seen.base_info)
    assert torch.equal(other.rotations, batch.rotations)
    cameras = local_from_full(batch.pelvis_m, batch.views_px, focal)
    assert torch.allclose(full_from_local(cameras, batch.views_px, focal)[:, 0], batch.pelvis_m, atol=1e-3)


def small(steps: int) -> TrainSettings:
    network = {"encoder": "blazepose_lite", "token_dim": 32, "trunk_dim": 64, "trunk_depth": 1}
    return TrainSettings(steps=steps, landmark_people=16, rendered_people=0, network=network, warmup_steps=2)


def test_resuming_continues_exactly(body):
    whole = Trainer(small(6), sampler_of(body), None, body)
    for _ in range(6):
        whole.train_step()
    first = Trainer(small(6), sampler_of(body), None, body)
    for _ in range(3):
        first.train_step()
    second = Trainer(small(6), sampler_of(body, seed=99), None, body)
    second.restore(first.state())
    for _ in range(3):
        second.train_step()
    for one, other in zip(whole.head.state_dict().values(), second.head.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_training_lowers_the_loss_it_says_it_lowers(body):
    trainer = Trainer(small(60), sampler_of(body), None, body)
    losses = [trainer.train_step() for _ in range(60)]
    for name in ("joints_3d", "joints_2d", "vertices"):
        assert np.mean([loss[name] for loss in losses[-10:]]) < 0.8 * np.mean([loss[name] for loss in losses[:5]]), name


def test_the_shipped_recipe_is_readable():
    settings = load_train_settings(Path(__file__).parents[1] / "configs" / "train_default.yaml")
    assert settings == TrainSettings.from_dict(load_network("default").provenance["settings"])


@pytest.mark.slow
def test_rendered_people_to_weights_and_back(shared, tmp_path):
    from mchmr_stream.learning.synthetic.shards import run_synth

    run_synth(shared / "data", tmp_path / "synth", 12, 5)
    config = tmp_path / "train.yaml"
    config.write_text(
        "steps: 3\nlandmark_people: 8\nrendered_people: 4\npose_pool: 100\ncheckpoint_every: 2\nwarmup_steps: 1\n"
        "network: {encoder: blazepose_lite, token_dim: 32, trunk_dim: 64, trunk_depth: 1}\n"
    )
    said: list[str] = []
    arguments = {"data": shared / "data", "shards": tmp_path / "synth", "out": tmp_path / "run", "report": said.append}
    weights = run(config, **arguments)
    assert load_network(str(weights)).provenance["config"] == "train.yaml"
    run(config, **arguments, resume=True)
    assert any("resumed at step 3" in line for line in said)
