"""Training end to end on a handful of rendered people: the commands' own functions, exact resuming, weights that load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from components import import_or_skip
from head_training import QUIET, packed_data, people, perfect_residuals, sampler_of, small
from places import ROOT

from mchmr_stream.body.files import load_body
from mchmr_stream.cropping.base_box import KEYPOINTS_OVER_BOX, base_boxes
from mchmr_stream.cropping.crop_layouts import layout
from mchmr_stream.datatypes import Tracks
from mchmr_stream.errors import InputError, MchmrError, UsageError
from mchmr_stream.geometry.camera import Intrinsics, full_from_local, local_from_full
from mchmr_stream.metrics.joint_errors import LIMBS_IN_SMPL
from mchmr_stream.network.weights import load_network
from mchmr_stream.training.common.run_log import RunLog, read_records
from mchmr_stream.training.common.train_settings import TrainSettings, load_train_settings
from mchmr_stream.training.frozen_encoder.head_trainer import HeadTrainer
from mchmr_stream.training.frozen_encoder.train_head import run
from mchmr_stream.training.observations.batches import TrainingBatch
from mchmr_stream.training.observations.body_landmarks import SparseBody
from mchmr_stream.training.observations.keypoint_boxes import base_of_keypoints
from mchmr_stream.training.observations.landmark_samples import ResidualBank
from mchmr_stream.training.observations.packing import load_packed, pack


@pytest.fixture(scope="module")
def body() -> SparseBody:
    return SparseBody(load_body("free"))


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


def test_resuming_continues_exactly(body):
    whole = HeadTrainer(small(6), sampler_of(body), None, body)
    for _ in range(6):
        whole.train_step()
    first = HeadTrainer(small(6), sampler_of(body), None, body)
    for _ in range(3):
        first.train_step()
    second = HeadTrainer(small(6), sampler_of(body, seed=99), None, body)
    second.restore(first.state())
    for _ in range(3):
        second.train_step()
    for one, other in zip(whole.head.state_dict().values(), second.head.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoint.pt", weights_only=True)["average"]


def test_two_legs_give_the_weights_and_the_log_of_one(body, tmp_path):
    packed = packed_data(body, tmp_path / "pack", checkpoint_every=8)
    whole = run(packed=packed, out=tmp_path / "whole")
    assert whole.finished
    done: list[int] = []
    arguments = {"packed": packed, "out": tmp_path / "legs", "progress": lambda step, steps: done.append(step)}
    leg = run(**arguments, stopped=lambda: len(done) >= 5)
    assert (leg.step, leg.finished) == (5, False)
    # What a leg wrote after its last checkpoint is done again, and is not there twice.
    with (tmp_path / "legs" / "progress.jsonl").open("a") as log:
        log.write(json.dumps({"step": 7, "minutes": 1.0}) + "\n")
    assert run(**arguments, resume=True).finished
    for one, other in zip(weights_of(tmp_path / "whole").values(), weights_of(tmp_path / "legs").values(), strict=True):
        assert torch.equal(one, other)
    steps = [[record["step"] for record in read_records(tmp_path / name / "progress.jsonl")] for name in ("whole", "legs")]
    assert steps == [[8, 10], [5, 8, 10]]
    last = [read_records(tmp_path / name / "progress.jsonl")[-1] for name in ("whole", "legs")]
    assert last[0]["test PA-MPJPE mm"] == last[1]["test PA-MPJPE mm"]
    assert load_network(str(leg.weights)).provenance["step"] == 10
    assert (tmp_path / "legs" / "progress.png").read_bytes()[:4] == b"\x89PNG"


def test_a_leg_ends_after_its_minutes_and_is_not_overwritten_by_a_new_run(body, tmp_path):
    packed = packed_data(body, tmp_path / "pack")
    leg = run(packed=packed, out=tmp_path / "run", minutes=1e-6)
    assert leg.step < 10
    assert (tmp_path / "run" / "checkpoint.pt").is_file()
    with pytest.raises(UsageError, match="--resume"):
        run(packed=packed, out=tmp_path / "run")


@pytest.mark.clock
def test_minutes_of_wall_time_bring_a_checkpoint_too(body, tmp_path):
    packed = packed_data(body, tmp_path / "pack", steps=3, checkpoint_minutes=0.001)
    said: list[str] = []
    run(packed=packed, out=tmp_path / "run", report=said.append, progress=lambda step, steps: time.sleep(0.07))
    assert [json.loads(line)["step"] for line in said] == [1, 2, 3]


def test_seeds_make_other_weights(body, tmp_path):
    packed = packed_data(body, tmp_path / "pack", steps=2)
    for name, seed in (("config", None), ("same", 0), ("other", 1)):
        run(packed=packed, out=tmp_path / name, seed=seed)
    first, same, other = (weights_of(tmp_path / name)["landmark_in.weight"] for name in ("config", "same", "other"))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_numbers_that_break_end_the_run_and_leave_the_checkpoint(body, tmp_path):
    packed = packed_data(body, tmp_path / "pack")
    run(packed=packed, out=tmp_path / "run", stopped=lambda: True)
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    settings, data = load_packed(packed)
    data.poses.fill_(torch.nan)
    pack(data, settings, packed)
    with pytest.raises(MchmrError, match="training broke at step 0.*lower learning_rate") as caught:
        run(packed=packed, out=tmp_path / "run", resume=True)
    assert caught.value.exit_code == 1
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before


def test_gradients_alone_can_stop_a_step(body):
    trainer = HeadTrainer(small(4), sampler_of(body), None, body)
    before = {name: value.clone() for name, value in trainer.head.state_dict().items()}
    trainer.head.landmark_in.weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(MchmrError, match="gradient"):
        trainer.train_step()
    assert all(torch.equal(value, before[name]) for name, value in trainer.head.state_dict().items())


BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"kornia", "av", "scipy", "filterpy", "pydantic", "yaml", "safetensors", "rich", "PIL", "matplotlib",
                                  "tensorboard", "mediapipe", "smplx"}:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)
sys.meta_path.insert(0, Blocked())
from mchmr_stream.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_pack_trains_where_there_is_only_torch_and_numpy(body, tmp_path):
    packed = packed_data(body, tmp_path / "pack")
    command = ["train", "--packed", str(packed), "--out", str(tmp_path / "bare"), "--device", "cpu"]
    # Sums depend on the number of threads, and earlier tests may have set it.
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    bare = subprocess.run([sys.executable, "-c", BLOCKED, *command], capture_output=True, text=True, check=False, env=os.environ | threads)
    assert bare.returncode == 0, bare.stderr
    assert "no safetensors" in bare.stderr
    assert "Traceback" not in bare.stderr
    run(packed=packed, out=tmp_path / "here", device="cpu")
    for one, other in zip(weights_of(tmp_path / "here").values(), weights_of(tmp_path / "bare").values(), strict=True):
        assert torch.equal(one, other)
    # At home the weights are made from the checkpoint, without another step.
    leg = run(packed=packed, out=tmp_path / "bare", resume=True)
    assert load_network(str(leg.weights)).provenance["step"] == 10


@pytest.mark.gpu
def test_training_runs_on_a_gpu(body, tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    packed = packed_data(body, tmp_path / "pack")
    done: list[int] = []
    arguments = {"packed": packed, "out": tmp_path / "run", "device": "cuda", "progress": lambda step, steps: done.append(step)}
    assert run(**arguments, stopped=lambda: len(done) >= 5).step == 5
    assert run(**arguments, resume=True).finished
    losses = [record["total"] for record in read_records(tmp_path / "run" / "progress.jsonl")]
    assert losses[-1] < losses[0]


def test_a_pack_holds_what_the_network_reads_and_refuses_what_it_does_not_hold(body, tmp_path):
    original = people(body, 30)
    settings, data = load_packed(packed_data(body, tmp_path / "pack"))
    for name in ("landmarks", "keypoints", "rotations", "joints_m"):
        assert torch.allclose(getattr(data.rendered, name), getattr(original, name), atol=2e-3), name
    for name in ("focal_px", "base_px", "views_px", "pelvis_m"):
        assert torch.equal(getattr(data.rendered, name), getattr(original, name)), name
    assert data.rendered.features.shape == (30, 5, 1)
    config = tmp_path / "reads_features.yaml"
    config.write_text("network: {encoder: blazepose_lite, use_features: true}\n")
    with pytest.raises(UsageError, match="use_features"):
        run(config, packed=tmp_path / "pack", out=tmp_path / "run")
    with pytest.raises(UsageError, match="at most 50"):
        pack(replace(data, poses=torch.zeros(400_000, 24, 3)), settings, tmp_path / "large")
    with pytest.raises(InputError, match="no packed training data"):
        load_packed(tmp_path)


def test_a_log_goes_on_after_a_torn_line_and_refuses_other_files(tmp_path):
    path = tmp_path / "progress.jsonl"
    path.write_text('{"step": 1, "minutes": 0.1}\n{"step": 2, "minutes": 0.2}\n{"step": 3, "min')
    log = RunLog(tmp_path, from_step=2)
    log.add({"step": 3, "minutes": 0.3})
    log.close()
    assert [record["step"] for record in read_records(path)] == [1, 2, 3]
    path.write_text("hello\nthere\n")
    with pytest.raises(InputError, match="line 1"):
        read_records(path)


def test_event_files_hold_the_records(tmp_path):
    reader = import_or_skip("tensorboard.backend.event_processing.event_accumulator")
    log = RunLog(tmp_path, from_step=0)
    log.add({"step": 5, "minutes": 0.1, "total": 2.5, "test MPJPE mm": 90.0})
    log.close()
    events = reader.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert events.Tags()["scalars"] == ["loss/total", "test/MPJPE_mm"]
    assert [(event.step, event.value) for event in events.Scalars("loss/total")] == [(5, 2.5)]


def test_boxes_of_keypoints_are_those_of_the_pipeline():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(500, 17, 2, generator=generator) * 200 + torch.randn(500, 1, 2, generator=generator) * 400
    score = torch.rand(500, 17, generator=generator) * (torch.rand(500, 17, generator=generator) > torch.rand(500, 1, generator=generator))
    score[:3] = 0
    points[7, 3], score[7, 3] = torch.nan, 0
    # One or two keypoints: whether they span anything is a matter of rounding.
    keep = ((score > 0).sum(1) > 2) | (score == 0).all(1)
    points, score = points[keep], score[keep]
    wide = layout("wide", 5)
    landmarks = torch.cat([points, score[..., None]], -1).numpy()
    low = np.where(landmarks[..., 2:] > 0, landmarks[..., :2], np.inf).min(1)
    high = np.where(landmarks[..., 2:] > 0, landmarks[..., :2], -np.inf).max(1)
    margin = np.nan_to_num((high - low).max(1, keepdims=True), neginf=0) * (1 / KEYPOINTS_OVER_BOX - 1) / 2
    boxes = np.concatenate([low - margin, high + margin], 1).astype(np.float32)
    count = len(boxes)
    tracks = Tracks(np.arange(count), boxes, np.ones(count, np.float32), landmarks, np.ones(count, np.bool_), landmarks)
    with np.errstate(invalid="ignore"):
        base, roll = base_boxes(tracks, Intrinsics(1.0, 1.0, 0.0, 0.0), wide)
    got_base, got_roll = base_of_keypoints(points, score, wide)
    np.testing.assert_allclose(got_base.numpy(), base, atol=1e-2)
    np.testing.assert_allclose(got_roll.numpy(), roll, atol=1e-5)


def test_training_lowers_the_loss_it_says_it_lowers(body):
    trainer = HeadTrainer(small(60), sampler_of(body), None, body)
    losses = [trainer.train_step() for _ in range(60)]
    for name in ("joints_3d", "joints_2d", "vertices"):
        assert np.mean([loss[name] for loss in losses[-10:]]) < 0.8 * np.mean([loss[name] for loss in losses[:5]]), name


def test_the_shipped_recipe_is_readable():
    settings = load_train_settings(ROOT / "configs" / "train_default.yaml")
    assert settings == TrainSettings.from_dict(load_network("default").provenance["settings"])


@pytest.mark.slow
def test_rendered_people_to_weights_and_back(shared, tmp_path):
    from mchmr_stream.synthesis.shards import run_synth

    run_synth(shared / "data", tmp_path / "synth", 12, 5)
    config = tmp_path / "train.yaml"
    config.write_text(
        "steps: 3\nlandmark_people: 8\nrendered_people: 4\npose_pool: 100\ncheckpoint_every: 2\nwarmup_steps: 1\n"
        "network: {encoder: blazepose_lite, token_dim: 32, trunk_dim: 64, trunk_depth: 1}\n"
    )
    said: list[str] = []
    arguments = {"data": shared / "data", "shards": tmp_path / "synth", "out": tmp_path / "run", "report": said.append}
    leg = run(config, **arguments)
    assert load_network(str(leg.weights)).provenance["config"] == "train.yaml"
    run(config, **arguments, resume=True)
    assert any("resumed at step 3" in line for line in said)
