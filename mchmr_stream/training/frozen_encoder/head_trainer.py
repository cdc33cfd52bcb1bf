"""State and step of one training run of the head: model, optimiser, averages and generators, all of which a checkpoint holds.

Needs torch and numpy only. Deterministic for a seed, a device, a thread count and a machine; a restored run resumes exactly.
"""

from __future__ import annotations

import copy
import logging
import math
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from mchmr_stream.errors import InputError, MchmrError, UsageError
from mchmr_stream.geometry.camera import full_from_local
from mchmr_stream.metrics.joint_errors import LIMBS_IN_SMPL, pose_errors
from mchmr_stream.network.encoders import make_encoder
from mchmr_stream.network.landmarks import BLAZEPOSE_NAMES
from mchmr_stream.network.mesh_network import HeadOutput, MultiCropHead, MultiCropNet, NetworkConfig
from mchmr_stream.training.common import losses
from mchmr_stream.training.common.train_settings import TrainSettings
from mchmr_stream.training.observations.batches import TrainingBatch
from mchmr_stream.training.observations.body_landmarks import SparseBody
from mchmr_stream.training.observations.landmark_samples import LandmarkSampler
from mchmr_stream.training.observations.observed_people import ObservedPeople

log = logging.getLogger(__name__)

VIEWS = 5
_CPU = torch.device("cpu")


def new_head(config: NetworkConfig) -> MultiCropHead:
    """Build an untrained head that fits its encoder; the encoder's weights are not read."""
    encoder = make_encoder(config.encoder, pretrained=False)
    return MultiCropHead(config, encoder.feature_dim, min(encoder.landmark_count, len(BLAZEPOSE_NAMES)))


class HeadTrainer:
    """All state of a run, on one device.

    `sampler` samples people without pictures and `rendered` holds rendered people; one of them may be None. `test` are rendered people for
    measuring errors.
    """

    name = "mchmr_default"
    half = True

    def __init__(
        self,
        settings: TrainSettings,
        sampler: LandmarkSampler | None,
        rendered: ObservedPeople | None,
        body: SparseBody,
        device: torch.device = _CPU,
        test: ObservedPeople | None = None,
    ) -> None:
        if sampler is None and rendered is None:
            raise InputError("training has neither rendered people nor poses to draw from")
        _check_views(settings, sampler, rendered)
        torch.manual_seed(settings.seed)
        self.settings, self.sampler, self.rendered, self.body, self.device = settings, sampler, rendered, body, device
        self._test = test
        # People that the detector misses are rarely tracked; people whose keypoints are removed stand for frames in which it misses them.
        self._usable = torch.nonzero(rendered.found())[:, 0] if rendered is not None else None
        # Random numbers that control a step are drawn on the CPU: reading them from a GPU would synchronise with it.
        self.generator = torch.Generator().manual_seed(settings.seed + 1)
        self.head = new_head(settings.network_config()).to(device)
        self._start_from_mean_pose()
        self.average = copy.deepcopy(self.head).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(self.head.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
        self.step = 0

    def averaged(self) -> MultiCropNet:
        """Return the averaged head within the full network, with the encoder's weights from its file (needs safetensors)."""
        with torch.random.fork_rng(devices=[]):
            net = MultiCropNet(self.settings.network_config())
        net.head = self.average
        return net

    def test(self) -> dict[str, float]:
        """Compute errors of the averaged head on the test people; empty without test people."""
        return validate(self.average, self._test, self.body, self.settings.views) if self._test is not None else {}

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        return self.settings.learning_rate * learning_rate_share(self.step, self.settings.warmup_steps, self.settings.steps)

    def _start_from_mean_pose(self) -> None:
        batch = self._batch(1000 if self.sampler else 0, 1000 if self.rendered else 0)
        self.head.body.mean_sixd.copy_(batch.rotations[..., :2].mean(0).reshape(-1))

    def _batch(self, drawn: int, from_renders: int) -> TrainingBatch:
        parts = []
        if self.sampler is not None and drawn:
            parts.append(self.sampler.batch(drawn))
        if self.rendered is not None and self._usable is not None and from_renders:
            rows = torch.randint(0, len(self._usable), (from_renders,), generator=self.generator).to(self.device)
            batch = self.rendered.batch(self._usable[rows], self.body)
            hidden = torch.rand(from_renders, 1, 1, generator=self.generator) < self.settings.keypoints_dropped
            batch.seen.keypoints.mul_(~hidden.to(self.device))
            parts.append(batch)
        return TrainingBatch.joined(parts, self.head.feature_dim)

    def draw_views(self) -> list[int]:
        """All views in order, or a random subset in random order: one set of weights serves all numbers of views."""
        everything: list[int] = torch.randperm(self.settings.views, generator=self.generator).tolist()
        if float(torch.rand(1, generator=self.generator)) >= self.settings.single_view_share:
            return sorted(everything)
        return everything[: int(torch.randint(1, self.settings.views + 1, (1,), generator=self.generator))]

    def train_step(self) -> dict[str, float]:
        """Run one step and return the losses.

        Raises:
            MchmrError: the losses or their gradients are not finite; the state is unchanged.
        """
        settings = self.settings
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate
        batch = self._batch(settings.landmark_people, settings.rendered_people).choose_views(self.draw_views())
        focal_known = (torch.rand(len(batch), generator=self.generator) >= settings.assumed_focal_share).to(self.device)
        batch, focal_px = batch.with_focal(torch.where(focal_known, batch.focal_px, batch.assumed_focal_px))
        self.head.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            out = HeadOutput(*(value.float() for value in self.head(batch.seen)))
        terms = loss_terms(out, batch, focal_px, focal_known, self.body)
        weights = asdict(settings.losses)
        total = sum((weights[name] * value for name, value in terms.items()), torch.zeros((), device=self.device))
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        gradient = torch.nn.utils.clip_grad_norm_(self.head.parameters(), 1.0)
        numbers = torch.stack([*terms.values(), total, gradient]).detach().tolist()
        if not all(map(math.isfinite, numbers[-2:])):
            raise MchmrError(
                f"training broke at step {self.step}: loss {numbers[-2]}, gradient {numbers[-1]}; "
                "the last checkpoint is good: resume from it with a lower learning_rate"
            )
        self.optimiser.step()
        self.step += 1
        keep = min(settings.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.head.parameters()), 1 - keep)
        return dict(zip([*terms, "total", "gradient"], numbers, strict=True))

    def state(self) -> dict[str, Any]:
        """Return all state that the next step depends on.

        Raises:
            MchmrError: the weights are not finite.
        """
        for name, values in self.head.state_dict().items():
            if not torch.isfinite(values).all():
                raise MchmrError(f"the weights {name} are not finite at step {self.step}; resume with a lower learning_rate")
        on_gpu = self.device.type == "cuda"
        return {
            "step": self.step,
            "head": self.head.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "sampler": self.sampler.generator.get_state() if self.sampler else None,
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.device) if on_gpu else None,
            "device": self.device.type,
            "settings": self.settings.to_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore `state`, so that training resumes exactly; on another kind of device with other random people.

        Raises:
            UsageError: the state is of another network than the settings'.
        """
        before = TrainSettings.from_dict(state["settings"])
        if before.network_config() != self.settings.network_config():
            raise UsageError(
                f"the checkpoint holds the network {before.network}, the settings say {self.settings.network}; they must agree"
            )
        self.step = state["step"]
        self.head.load_state_dict(state["head"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch"])
        if state.get("device", "cpu") == self.device.type:
            if self.sampler is not None:
                self.sampler.generator.set_state(state["sampler"])
            if self.device.type == "cuda":
                torch.cuda.set_rng_state(state["cuda"], self.device)
        elif self.sampler is not None:
            # The generators of a CPU and a GPU have different states.
            self.sampler.generator.manual_seed(self.settings.seed + 3 + self.step)
            log.warning("the checkpoint was made on %s: it goes on, but with other random people", state.get("device", "cpu"))


def _check_views(settings: TrainSettings, sampler: LandmarkSampler | None, rendered: ObservedPeople | None) -> None:
    """Raises UsageError if fewer views were observed than the settings need, or the fusion does not support random subsets."""
    for views in ([rendered.views] if rendered is not None else []) + ([sampler.bank.residuals.views] if sampler is not None else []):
        if views.shape[1] < settings.views:
            raise UsageError(f"training setting views is {settings.views}, but {views.shape[1]} views of each person were observed")
    network = settings.network_config()
    if network.fusion == "concat" and (settings.single_view_share > 0 or network.concat_views != settings.views):
        raise UsageError(
            f"network fusion concat takes one number of views in one order: set single_view_share to 0 and network.concat_views "
            f"to {settings.views}, the training setting views"
        )


def learning_rate_share(step: int, warmup: int, steps: int) -> float:
    """Return the factor on the learning rate: linear warm-up, then a cosine down to a thousandth."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup)))) + 1e-3


def loss_terms(out: HeadOutput, batch: TrainingBatch, focal_px: Tensor, focal_known: Tensor, body: SparseBody) -> dict[str, Tensor]:
    """All losses by the names of `LossWeights`."""
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
        "depth": (depth_error.clamp(max=1.0) * focal_known[:, None]).mean(),
        "uncertainty": losses.joint_uncertainty(out.joint_log_sigma, joints, batch.joints_m),
    }


@torch.inference_mode()
def validate(head: MultiCropHead, people: ObservedPeople, body: SparseBody, views: int = VIEWS) -> dict[str, float]:
    """Compute errors on rendered people that the detector found, with the known focal length. All on one device."""
    head.eval()
    predicted, target = [], []
    for rows in torch.nonzero(people.found())[:, 0].split(256):
        batch = people.batch(rows, body).choose_views(range(views))
        out = head(batch.seen)
        predicted.append(body.pose(out.rotations, out.betas)[0])
        target.append(batch.joints_m)
    limbs = list(LIMBS_IN_SMPL)
    errors = pose_errors(torch.cat(predicted)[:, limbs].double().cpu().numpy(), torch.cat(target)[:, limbs].double().cpu().numpy())
    return {"MPJPE mm": errors.mpjpe, "PA-MPJPE mm": errors.pa_mpjpe}
