"""Trainer of the paper's network, encoder included, in one or several processes (`ranks`); `loop` drives it.

Deterministic for a seed, a device, a thread count and a machine; a restored run resumes exactly. With several processes a step equals
that of one process with all rows, except for the order of sums and for dropout, which each process samples for itself.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mchmr_stream.body.files import FREE_BODY
from mchmr_stream.body.model import BodyModel, skin
from mchmr_stream.cropping.crop_layouts import layout
from mchmr_stream.datasets.labels import BodyKind, LabelReader
from mchmr_stream.datasets.points import ANNOTATED_HIPS, ANNOTATED_POINTS, SMPL_HIPS, SMPL_POINTS, LabelledPoints
from mchmr_stream.errors import InputError, MchmrError, UsageError
from mchmr_stream.geometry.camera import box_info
from mchmr_stream.metrics.joint_errors import LIMBS_IN_SMPL, pose_errors
from mchmr_stream.network.mesh_network import MultiCropNet
from mchmr_stream.network.paper_head import PaperHead, ViewBodies
from mchmr_stream.training.common.distributed import ALONE, Ranks, share_batch_norms
from mchmr_stream.training.end_to_end import paper_losses
from mchmr_stream.training.end_to_end.crop_sampling import Draws, MixedPeople, batches, batches_as_labelled
from mchmr_stream.training.end_to_end.labelled_crops import CutPeople
from mchmr_stream.training.end_to_end.network_settings import NetworkTrainSettings
from mchmr_stream.training.frozen_encoder.head_trainer import learning_rate_share

_SMPL_VERTICES = 6890
_RELATIVE_TO_STEP = 1_000_003
"""A large prime, so that seeds of steps of two runs differ."""


def trainer_name(settings: NetworkTrainSettings) -> str:
    """Return the name of a run's weights."""
    return f"paper_{settings.network_config().encoder}"


class NetworkTrainer:
    """All state of a run from pictures. `start` is the initial network; None creates a new one."""

    half = False

    def __init__(
        self,
        settings: NetworkTrainSettings,
        people: MixedPeople,
        body: BodyModel,
        *,
        test: LabelReader | None = None,
        start: MultiCropNet | None = None,
        ranks: Ranks = ALONE,
        workers: int = 0,
    ) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self._ranks, self._test_people, self._workers = settings, ranks, test, workers
        self._kind = body_kind(body)
        config = settings.network_config()
        net = start if start is not None else new_network(settings)
        assert isinstance(net.head, PaperHead)
        views = config.concat_views
        self._layout = layout("paper", views)
        if tuple(net.encoder.input_hw) != self._layout.crop_hw:
            raise UsageError(f"encoder {config.encoder} takes crops of {net.encoder.input_hw}, the paper's are {self._layout.crop_hw}")
        self.name = trainer_name(settings)
        self._dtype = torch.float64 if settings.precision == "fp64" else torch.float32
        self.net = net.to(ranks.device, self._dtype).requires_grad_(True)
        share_batch_norms(self.net, ranks)
        self.average = copy.deepcopy(self.net).eval().requires_grad_(False)
        self._body, self._points, self._read = _thinned(body.to(ranks.device, self._dtype), settings.vertex_step)
        self.optimiser = torch.optim.AdamW(self.net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
        self._draws = Draws(people, self._layout, settings.augmentation, self._kind, settings.seed)
        self._rows = ranks.rows(settings.people)
        self._batches: Iterator[CutPeople] | None = None
        self.step = 0

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step."""
        settings = self.settings
        constant = settings.schedule == "constant" and self.step >= settings.warmup_steps
        return settings.learning_rate * (1.0 if constant else learning_rate_share(self.step, settings.warmup_steps, settings.steps))

    def train_step(self) -> dict[str, float]:
        """Run one step and return the losses.

        Raises:
            MchmrError: the losses or their gradients are not finite; the state is unchanged.
        """
        settings = self.settings
        # Dropout is seeded with the step alone, so that a checkpoint holds no generator state.
        torch.manual_seed((settings.seed * _RELATIVE_TO_STEP + self.step) * self._ranks.count + self._ranks.rank)
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate
        norms = self._norm_state()
        self._train_mode()
        self.optimiser.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for _ in range(settings.accumulate):
            terms = self._losses(self.next_batch())
            weights = asdict(settings.losses)
            terms["total"] = torch.stack([weights[name] * value for name, value in terms.items()]).sum()
            (terms["total"] / settings.accumulate).backward()
            for name, value in terms.items():
                sums[name] = sums.get(name, 0) + value.detach() / settings.accumulate
        parameters = list(self.net.parameters())
        self._ranks.add_gradients(parameters)
        gradient = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        numbers = dict(zip([*sums, "gradient"], torch.stack([*sums.values(), gradient]).tolist(), strict=True))
        if not (math.isfinite(numbers["total"]) and math.isfinite(numbers["gradient"])):
            for buffer, before in norms:
                buffer.copy_(before)
            raise MchmrError(
                f"training broke at step {self.step}: loss {numbers['total']}, gradient {numbers['gradient']}; "
                "the last checkpoint is good: resume from it with a lower learning_rate"
            )
        if settings.gradient_limit:
            nn.utils.clip_grads_with_norm_(parameters, settings.gradient_limit, gradient)
        self.optimiser.step()
        self.step += 1
        self._follow()
        return numbers

    def next_batch(self) -> CutPeople:
        """The next batch of this process's rows."""
        if self._batches is None:
            settings, pin = self.settings, self._ranks.device.type == "cuda"
            self._batches = batches(self._draws, self.step, settings.accumulate, settings.people, self._rows, self._workers, pin)
        return next(self._batches).to(self._ranks.device)

    def _norm_state(self) -> list[tuple[Tensor, Tensor]]:
        return [(buffer, buffer.clone()) for buffer in self.net.buffers()]

    def _train_mode(self) -> None:
        self.net.train()
        if self.settings.freeze_norms:
            self.net.encoder.eval()

    def _losses(self, batch: CutPeople) -> dict[str, Tensor]:
        """All losses of the full batch, by the names of `PictureLosses`."""
        outputs, embedding = self.forward(self.net, batch)
        gather = self._ranks.gather
        outputs, embedding = ViewBodies(*map(gather, outputs)), gather(embedding)
        labels = {field.name: gather(getattr(batch, field.name)) for field in fields(CutPeople) if field.name not in ("crops", "gain")}
        return self._terms(outputs, embedding, replace(batch, **{name: self._real(value) for name, value in labels.items()}))

    def forward(self, net: MultiCropNet, batch: CutPeople) -> tuple[ViewBodies, Tensor]:
        """Forward pass of this process's rows: bodies and cameras, and the embedding for the contrastive loss."""
        n, count = batch.crops.shape[:2]
        crops = (batch.crops.to(self._dtype) / 255 * self._real(batch.gain)[:, None, :, None, None]).clamp(max=1)
        with torch.autocast(batch.crops.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16"):
            encoded = net.encoder(crops.flatten(0, 1))
        # The positional encoding's angles reach 2^31 half turns: from here on nothing may be rounded to 16 bits.
        features = encoded.features.to(self._dtype).unflatten(0, (n, count))
        assert isinstance(net.head, PaperHead)
        outputs = net.head.regress(features, box_info(self._real(batch.views_px), self._real(batch.focal_px)))
        return outputs, net.head.embed(features)

    def _terms(self, outputs: ViewBodies, embedding: Tensor, batch: CutPeople) -> dict[str, Tensor]:
        # A shared body is the same for all views: it is computed once.
        per_view = self.settings.network_config().bodies == "per_view"
        rotations, betas = (value if per_view else value[:, :1] for value in (outputs.rotations, outputs.betas))
        vertices, points = self._posed(rotations, betas)
        both_known = batch.has_pose * batch.has_betas
        with torch.no_grad():
            true_vertices, _ = self._posed(batch.rotations[:, None], batch.betas[:, None])
        transl = paper_losses.views_transl(outputs.views_cam, batch.views_px, batch.focal_px)
        target, confidence, chosen = _either(batch.points_m[..., :3], batch.points_m[..., 3], points)
        return {
            "joints_2d": paper_losses.joints_2d(
                points, transl, batch.points_px[..., :2], batch.points_px[..., 2], batch.views_px, batch.focal_px, self._layout.crop_hw
            ),
            "joints_3d": paper_losses.joints_3d(chosen, target, confidence, (confidence > 0).any(1).to(confidence), SMPL_HIPS),
            "vertices": paper_losses.vertices(vertices, true_vertices[:, 0], both_known),
            "rotations": paper_losses.rotations(rotations, batch.rotations, batch.has_pose),
            "betas": paper_losses.betas(betas, batch.betas, batch.has_betas),
            "camera_consistency": paper_losses.camera_consistency(outputs.views_cam, batch.views_px),
            "contrastive": paper_losses.contrastive(embedding),
        }  # fmt: skip

    def _posed(self, rotations: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
        """(n, V, 24, 3, 3), (n, V, 10) -> every n-th vertex (n, V, N, 3) and the 48 points (n, V, 48, 3), relative to the pelvis."""
        shape = rotations.shape[:2]
        vertices, joints = skin(self._body, rotations.flatten(0, 1), betas.flatten(0, 1))
        vertices, joints = vertices - joints[:, :1], joints - joints[:, :1]
        points = self._points.place(joints, vertices)
        return vertices[:, : self._read].unflatten(0, shape), points.unflatten(0, shape)

    def _real(self, values: Tensor) -> Tensor:
        return values.to(self._dtype)

    @torch.no_grad()
    def _follow(self) -> None:
        """Update the average; its decay grows, so that the first steps are soon forgotten."""
        keep = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        now, average = self.net.state_dict(), self.average.state_dict()
        real = [name for name, value in now.items() if value.is_floating_point()]
        torch._foreach_lerp_([average[name] for name in real], [now[name] for name in real], 1 - keep)
        for name in now.keys() - set(real):
            average[name].copy_(now[name])

    @torch.inference_mode()
    def test(self) -> dict[str, float]:
        """Compute errors of the averaged network on test people, as labelled: twelve limbs, as in `head_trainer.validate`.

        Raises:
            InputError: the test people have no usable truth.
        """
        if self._test_people is None:
            return {}
        predicted, target = [], []
        for batch in batches_as_labelled(self._test_people, self._layout, self._kind, self.settings.test_people, self.settings.people):
            on_device = batch.to(self._ranks.device)
            outputs, _ = self.forward(self.average, on_device)
            predicted.append(self._posed(outputs.rotations[:, :1], outputs.betas[:, :1])[1][:, 0])
            target.append(on_device.points_m)
        points, labelled = torch.cat(predicted).double().cpu().numpy(), torch.cat(target).double().cpu().numpy()
        limbs = np.array(LIMBS_IN_SMPL)
        if not (labelled[:, limbs, 3] > 0).any():
            limbs = np.array(LIMBS_AMONG_ANNOTATED)
        known = (labelled[:, limbs, 3] > 0).all(1)
        if not known.any():
            raise InputError("none of the test people has its limbs labelled in 3D; test on another data set")
        errors = pose_errors(points[known][:, limbs], labelled[known][:, limbs, :3])
        return {"MPJPE mm": errors.mpjpe, "PA-MPJPE mm": errors.pa_mpjpe}

    def averaged(self) -> MultiCropNet:
        """Return the averaged network on the CPU, with ordinary batch norms."""
        with torch.random.fork_rng(devices=[]):
            net = new_network(self.settings)
        net.load_state_dict({name: value.cpu() for name, value in self.average.state_dict().items()})
        return net

    def state(self) -> dict[str, Any]:
        """Return all state that the next step depends on.

        Raises:
            MchmrError: the weights are not finite.
        """
        for name, values in self.net.state_dict().items():
            if not torch.isfinite(values).all():
                raise MchmrError(f"the weights {name} are not finite at step {self.step}; resume with a lower learning_rate")
        return {
            "step": self.step,
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "settings": self.settings.to_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore `state`, so that training resumes exactly, with any number of processes.

        Raises:
            InputError: the checkpoint is of a run of another kind.
            UsageError: it is of another network.
        """
        if "net" not in state:
            raise InputError("the checkpoint is of a run that trains a head on a frozen encoder; choose another folder with --out")
        before = state["settings"]["network"]
        if replace(self.settings, network=before).network_config() != self.settings.network_config():
            raise UsageError(f"the checkpoint holds the network {before}, the settings say {self.settings.network}; they must agree")
        self.step = state["step"]
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self._batches = None


def new_network(settings: NetworkTrainSettings) -> MultiCropNet:
    """Build a randomly initialised network from the settings, ready to be saved."""
    return MultiCropNet(settings.network_config()).eval()


def _thinned(body: BodyModel, step: int) -> tuple[BodyModel, LabelledPoints, int]:
    """The body with each `step`-th vertex and those of labelled points; the points on it; the number of the thinned vertices."""
    points = LabelledPoints.of(body.to("cpu"))
    every = torch.arange(0, body.vertex_count, step)
    kept = torch.cat([every, points.vertices])
    thin = {name: getattr(body, name)[kept.to(body.device)] for name in ("v_template", "shapedirs", "weights")}
    posedirs = None if body.posedirs is None else body.posedirs[kept.to(body.device)]
    renumbered = replace(points, vertices=torch.arange(len(every), len(kept)))
    return replace(body, **thin, posedirs=posedirs), renumbered.to(body.device), len(every)


def body_kind(body: BodyModel) -> BodyKind:
    """Return the kind of betas that a body takes."""
    if body.name == FREE_BODY:
        return "free"
    return "smpl" if body.vertex_count == _SMPL_VERTICES else "smplx"


LIMBS_AMONG_ANNOTATED = tuple(ANNOTATED_POINTS.start + place for place in (9, 8, 10, 7, 11, 6, 3, 2, 4, 1, 5, 0))
"""The twelve limbs, left before right, among the 48 points, where SMPL's joints are not labelled."""


def _hips_where_smpl_has_them() -> list[int]:
    order = list(range(ANNOTATED_POINTS.start, ANNOTATED_POINTS.stop))
    for place, hip in zip(SMPL_HIPS, ANNOTATED_HIPS, strict=True):
        there = order.index(ANNOTATED_POINTS.start + hip)
        order[place], order[there] = order[there], order[place]
    return order


_ANNOTATED = _hips_where_smpl_has_them()


def _either(target: Tensor, confidence: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """SMPL's 24 joints of each person where they are labelled, else the 24 annotated points; the hips are at `SMPL_HIPS` in both.

    target (n, 48, 3), confidence (n, 48), points (n, V, 48, 3) -> (n, 24, 3), (n, 24), (n, V, 24, 3).
    """
    smpl = (confidence[:, SMPL_POINTS] > 0).any(1)
    return (
        torch.where(smpl[:, None, None], target[:, SMPL_POINTS], target[:, _ANNOTATED]),
        torch.where(smpl[:, None], confidence[:, SMPL_POINTS], confidence[:, _ANNOTATED]),
        torch.where(smpl[:, None, None, None], points[..., SMPL_POINTS, :], points[..., _ANNOTATED, :]),
    )
