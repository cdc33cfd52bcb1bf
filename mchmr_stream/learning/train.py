"""Train the head on rendered people and on millions of samples without pictures, in one loop.

Needs torch and numpy only. The encoder is frozen; what it says of rendered people is computed once (`prepare`).
Deterministic for a seed, a thread count and a machine; resuming continues exactly.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mchmr_stream.body.files import load_body
from mchmr_stream.cropping.cropper import Cropper
from mchmr_stream.cropping.layouts import layout
from mchmr_stream.detection.movenet import MoveNetDetector
from mchmr_stream.errors import InputError, MchmrError
from mchmr_stream.geometry.camera import full_from_local
from mchmr_stream.learning import losses
from mchmr_stream.learning.batches import TrainingBatch
from mchmr_stream.learning.body_landmarks import SparseBody
from mchmr_stream.learning.landmark_samples import LandmarkSampler, ResidualBank
from mchmr_stream.learning.metrics import LIMBS_IN_SMPL, pose_errors
from mchmr_stream.learning.observed import ObservedPeople, Observer
from mchmr_stream.learning.synthetic.poses import PoseLibrary, PoseSettings
from mchmr_stream.learning.synthetic.rig import load_render_body
from mchmr_stream.learning.synthetic.shards import read_shards
from mchmr_stream.learning.train_settings import TrainSettings, load_train_settings
from mchmr_stream.network.encoders import make_encoder, optimise_for_inference
from mchmr_stream.network.model import HeadOutput, MultiCropHead, MultiCropNet
from mchmr_stream.network.weights import save_network, sha256_of

log = logging.getLogger(__name__)

VIEWS = 5
Report = Callable[[str], None]


def prepare(shards: Path, out: Path, encoder: str, seed: int, report: Report = log.info) -> ObservedPeople:
    """Observe every rendered person under `shards`, once; kept in `out`."""
    if out.is_file():
        return ObservedPeople.load(out)
    cpu = torch.device("cpu")
    crop_layout = layout("wide", VIEWS)
    net = optimise_for_inference(make_encoder(encoder), cpu, "auto")
    observer = Observer(MoveNetDetector(device=cpu), Cropper(crop_layout, device=cpu), net, seed)
    start = time.monotonic()
    people = observer.observe(read_shards(shards))
    report(f"observed {len(people)} people of {shards} in {time.monotonic() - start:.0f} s")
    out.parent.mkdir(parents=True, exist_ok=True)
    people.save(out)
    return people


def pose_pool(data: Path, count: int, seed: int) -> Tensor:
    """(count, 24, 3) axis-angle poses of the training split."""
    library = PoseLibrary(data, load_render_body(data), PoseSettings(split="train"))
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([library.draw(rng).axis_angle for _ in range(count)]))


class Trainer:
    """One run: model, optimiser, averages and generators, all of which a checkpoint holds."""

    def __init__(self, settings: TrainSettings, sampler: LandmarkSampler | None, rendered: ObservedPeople | None, body: SparseBody) -> None:
        if sampler is None and rendered is None:
            raise InputError("training has neither rendered people nor poses to draw from")
        torch.manual_seed(settings.seed)
        self.settings, self.sampler, self.rendered, self.body = settings, sampler, rendered, body
        # People whom the detector misses are seldom tracked; hidden keypoints stand for the moments when they are.
        self._usable = torch.nonzero(rendered.found())[:, 0] if rendered is not None else None
        self.generator = torch.Generator().manual_seed(settings.seed + 1)
        self.net = MultiCropNet(settings.network_config())
        self.head: MultiCropHead = self.net.head
        self._start_from_mean_pose()
        self.average = copy.deepcopy(self.head).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(self.head.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
        self.step = 0

    def _start_from_mean_pose(self) -> None:
        batch = self._batch(1000 if self.sampler else 0, 1000 if self.rendered else 0)
        self.head.body.mean_sixd.copy_(batch.rotations[..., :2].mean(0).reshape(-1))

    def _batch(self, drawn: int, from_renders: int) -> TrainingBatch:
        parts = []
        if self.sampler is not None and drawn:
            parts.append(self.sampler.batch(drawn))
        if self.rendered is not None and self._usable is not None and from_renders:
            rows = torch.randint(0, len(self._usable), (from_renders,), generator=self.generator)
            batch = self.rendered.batch(self._usable[rows], self.body)
            hidden = torch.rand(from_renders, 1, 1, generator=self.generator) < self.settings.keypoints_dropped
            batch.seen.keypoints.mul_(~hidden)
            parts.append(batch)
        return TrainingBatch.joined(parts, self.head.feature_dim)

    def _views(self) -> list[int]:
        """All views in order, or some in any order: one set of weights for every V."""
        everything = torch.randperm(VIEWS, generator=self.generator).tolist()
        if float(torch.rand(1, generator=self.generator)) >= self.settings.single_view_share:
            return sorted(everything)
        return everything[: int(torch.randint(1, VIEWS + 1, (1,), generator=self.generator))]

    def train_step(self) -> dict[str, float]:
        """One step; returns the losses."""
        settings = self.settings
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * learning_rate_share(self.step, settings.warmup_steps, settings.steps)
        batch = self._batch(settings.landmark_people, settings.rendered_people).choose_views(self._views())
        told = torch.rand(len(batch), generator=self.generator) >= settings.assumed_focal_share
        batch, focal_px = batch.with_focal(torch.where(told, batch.focal_px, batch.assumed_focal_px))
        self.head.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
            out = HeadOutput(*(value.float() for value in self.head(batch.seen)))
        terms = loss_terms(out, batch, focal_px, told, self.body)
        weights = asdict(settings.losses)
        total = sum((weights[name] * value for name, value in terms.items()), torch.zeros(()))
        if not torch.isfinite(total):
            raise MchmrError(f"the loss is {float(total)} at step {self.step}; resume from the last checkpoint with a lower learning_rate")
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.head.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        keep = min(settings.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.head.parameters(), strict=True):
                mean.lerp_(value, 1 - keep)
        return {name: float(value.detach()) for name, value in terms.items()} | {"total": float(total.detach())}

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "step": self.step,
            "head": self.head.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "sampler": self.sampler.generator.get_state() if self.sampler else None,
            "torch": torch.get_rng_state(),
            "settings": self.settings.to_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken."""
        self.step = state["step"]
        self.head.load_state_dict(state["head"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        if self.sampler is not None:
            self.sampler.generator.set_state(state["sampler"])
        torch.set_rng_state(state["torch"])


def learning_rate_share(step: int, warmup: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to a thousandth."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup)))) + 1e-3


def loss_terms(out: HeadOutput, batch: TrainingBatch, focal_px: Tensor, told: Tensor, body: SparseBody) -> dict[str, Tensor]:
    """All losses by the names that `LossWeights` has."""
    joints, _, vertices = body.pose(out.rotations, out.betas)
    transl = full_from_local(out.views_cam, batch.views_px, focal_px)
    target = batch.joints_m + batch.pelvis_m[:, None]
    target_px = target[..., :2] / target[..., 2:].clamp(min=0.15) * batch.focal_px[:, None, None]
    depth_error = (torch.log(transl[..., 2]) - torch.log(batch.pelvis_m[:, None, 2])).abs()
    return {
        "joints_3d": losses.joints_3d(joints, batch.joints_m),
        "vertices": losses.vertices(vertices, batch.vertices_m),
        "rotations": losses.rotations(out.rotations, batch.rotations),
        "betas": losses.betas(out.betas, batch.betas),
        "joints_2d": losses.joints_2d(joints, transl, target_px, batch.views_px, focal_px),
        "camera_consistency": losses.camera_consistency(out.views_cam, batch.views_px, focal_px),
        "contrastive": losses.contrastive(out.embedding[batch.seen.has_image > 0]),
        "depth": (depth_error.clamp(max=1.0) * told[:, None]).mean(),
        "uncertainty": losses.joint_uncertainty(out.joint_log_sigma, joints, batch.joints_m),
    }


@torch.inference_mode()
def validate(head: MultiCropHead, people: ObservedPeople, body: SparseBody, views: int = VIEWS) -> dict[str, float]:
    """Errors on rendered people whom the detector found, known focal length."""
    head.eval()
    predicted, target = [], []
    for rows in torch.nonzero(people.found())[:, 0].split(256):
        batch = people.batch(rows, body).choose_views(range(views))
        out = head(batch.seen)
        predicted.append(body.pose(out.rotations, out.betas)[0])
        target.append(batch.joints_m)
    limbs = list(LIMBS_IN_SMPL)
    errors = pose_errors(torch.cat(predicted)[:, limbs].double().numpy(), torch.cat(target)[:, limbs].double().numpy())
    return {"MPJPE mm": errors.mpjpe, "PA-MPJPE mm": errors.pa_mpjpe}


def run(
    config: Path, *, data: Path, shards: Path, out: Path, test_shards: Path | None = None, resume: bool = False, report: Report = log.info
) -> Path:
    """Train as `config` says; returns the weights file. `data` holds poses and bodies, `shards` what `mchmr synth` wrote."""
    settings = load_train_settings(config)
    out.mkdir(parents=True, exist_ok=True)
    body = SparseBody(load_body("free"))
    encoder = settings.network_config().encoder
    rendered = prepare(shards, out / "observed.npz", encoder, settings.seed, report)
    test = prepare(test_shards, out / "observed_test.npz", encoder, settings.seed, report) if test_shards is not None else None
    sampler = None
    if settings.landmark_people:
        poses = pose_pool(data, settings.pose_pool, settings.seed)
        bank = ResidualBank(rendered.residuals(body), settings.sampler, settings.seed)
        sampler = LandmarkSampler(poses, bank, body, layout("wide", VIEWS), settings.sampler, settings.seed + 2)
    trainer = Trainer(settings, sampler, rendered if settings.rendered_people else None, body)
    checkpoint = out / "checkpoint.pt"
    if resume and checkpoint.is_file():
        trainer.restore(torch.load(checkpoint, weights_only=True))
        report(f"resumed at step {trainer.step} of {settings.steps}")
    start, first = time.monotonic(), trainer.step
    for terms in _steps(trainer):
        if trainer.step % settings.checkpoint_every == 0 or trainer.step == settings.steps:
            _save(checkpoint, trainer.state())
            rate = (trainer.step - first) / (time.monotonic() - start)
            line = {"step": trainer.step, "steps/s": round(rate, 2), "left min": round((settings.steps - trainer.step) / rate / 60, 1)}
            line |= {name: round(value, 4) for name, value in terms.items()}
            if test is not None:
                line |= {f"test {name}": round(value, 1) for name, value in validate(trainer.average, test, body).items()}
            report(json.dumps(line))
    trainer.net.head.load_state_dict(trainer.average.state_dict())
    weights = out / "mchmr_default.safetensors"
    save_network(weights, trainer.net, provenance(config, settings, shards))
    report(f"weights: {weights} ({sha256_of(weights)[:12]})")
    return weights


def provenance(config: Path, settings: TrainSettings, shards: Path) -> dict[str, Any]:
    """What made the weights: settings, revision, data."""
    revision = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    ).stdout.strip()
    return {
        "config": config.name,
        "settings": settings.to_dict(),
        "revision": revision,
        "torch": torch.__version__,
        "shards": shards.name,
    }


def _steps(trainer: Trainer) -> Iterator[dict[str, float]]:
    while trainer.step < trainer.settings.steps:
        yield trainer.train_step()


def _save(path: Path, state: dict[str, Any]) -> None:
    temporary = path.with_suffix(".part")
    torch.save(state, temporary)
    temporary.replace(path)
