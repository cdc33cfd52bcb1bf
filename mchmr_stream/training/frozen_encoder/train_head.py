"""Train the head on rendered people and on millions of samples without pictures: one run, in one or several legs (`loop`).

A packed run (`packing`) needs torch and numpy only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mchmr_stream.body.files import load_body
from mchmr_stream.cropping.crop_layouts import layout
from mchmr_stream.errors import UsageError
from mchmr_stream.files.same_file import refuse_to_replace
from mchmr_stream.network.weights import pick_device
from mchmr_stream.training.common.loop import Leg, Loop, Report, check_folder, provenance, resume_training
from mchmr_stream.training.common.train_settings import TrainSettings, load_train_settings
from mchmr_stream.training.frozen_encoder.head_trainer import VIEWS, HeadTrainer
from mchmr_stream.training.observations.body_landmarks import SparseBody
from mchmr_stream.training.observations.landmark_samples import LandmarkSampler, ResidualBank
from mchmr_stream.training.observations.packing import load_packed, pack, packed_files
from mchmr_stream.training.observations.training_data import TrainingData, gather

log = logging.getLogger(__name__)


def run(
    config: Path | None = None,
    *,
    data: Path | None = None,
    shards: Path | Sequence[Path] = (),
    out: Path,
    test_shards: Path | None = None,
    poses: Sequence[Path] = (),
    packed: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    minutes: float | None = None,
    seed: int | None = None,
    report: Report = log.info,
    progress: Callable[[int, int], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Leg:
    """Train until all steps are done, `minutes` have passed or `stopped` returns True, then write a checkpoint.

    The run reads either `data`, `shards` and optionally `poses`, or `packed`. On one CPU a run in several legs gives the same weights as
    one without interruption, bit for bit.

    Args:
        config: the settings' YAML file; None takes the packed run's settings.
        data: folder of poses and bodies.
        shards: folders of `mchmr synth`.
        out: output folder.
        test_shards: folder of rendered people to measure on during training.
        poses: files and folders of the user's own poses.
        packed: folder of a packed run.
        resume: continue the run in `out`.
        device: torch device or "auto".
        minutes: time limit of this leg.
        seed: overrides the settings' seed.
        report: called with a line at each checkpoint.
        progress: called with (steps done, steps) after each step.
        stopped: ends training when it returns True.

    Returns:
        The state at the end.

    Raises:
        UsageError: the arguments contradict each other.
        MchmrError: the loss or its gradients are not finite; the last checkpoint is kept.
    """
    check_folder(out, resume, [config, *poses], HeadTrainer.name)
    on = pick_device(device)
    settings, training_data = _read(config, data, shards, test_shards, poses, packed, seed, out, report)
    out.mkdir(parents=True, exist_ok=True)
    trainer = _on_device(settings, training_data, on)
    if resume:
        resume_training(trainer, out, report)
    made_by = _provenance(config, packed, settings, training_data.shards, on) | _if_any("own_poses", training_data.own_poses)
    return Loop(trainer, out, made_by, report=report, progress=progress).until(minutes, stopped)


def pack_run(
    config: Path,
    *,
    data: Path,
    shards: Path | Sequence[Path],
    out: Path,
    folder: Path,
    test_shards: Path | None = None,
    poses: Sequence[Path] = (),
    seed: int | None = None,
    report: Report = log.info,
) -> int:
    """Write the data of a run to `folder` (see `packing`) without training; returns the number of bytes."""
    folders = [shards] if isinstance(shards, Path) else shards
    refuse_to_replace([config, data, *folders, test_shards, *poses], packed_files(folder), "choose another folder with --pack")
    settings, training_data = _read(config, data, shards, test_shards, poses, None, seed, out, report)
    return pack(training_data, settings, folder)


def _provenance(config: Path | None, packed: Path | None, settings: TrainSettings, shards: str, device: torch.device) -> dict[str, Any]:
    name = config.name if config is not None else f"of the pack {packed.resolve().name if packed else ''}"
    return provenance(name, settings, device) | {"shards": shards, "body_sha256": load_body("free").sha256}


def _if_any(name: str, value: str) -> dict[str, str]:
    return {name: value} if value else {}


def _read(
    config: Path | None,
    data: Path | None,
    shards: Path | Sequence[Path],
    test_shards: Path | None,
    poses: Sequence[Path],
    packed: Path | None,
    seed: int | None,
    out: Path,
    report: Report,
) -> tuple[TrainSettings, TrainingData]:
    folders = [shards] if isinstance(shards, Path) else list(shards)
    if packed is not None:
        if data is not None or folders or test_shards is not None or poses:
            raise UsageError("packed data already hold poses and rendered people; leave --data, --shards, --test-shards and --poses out")
        packed_settings, training_data = load_packed(packed)
        settings = _seeded(load_train_settings(config) if config is not None else packed_settings, seed)
        _check_fits(settings, packed_settings, packed)
        return settings, training_data
    if config is None or data is None or not folders:
        raise UsageError("training needs a config, --data and --shards, or --packed; docs/training.md has the commands")
    settings = _seeded(load_train_settings(config), seed)
    return settings, gather(settings, data, folders, test_shards, out, report, poses)


def _seeded(settings: TrainSettings, seed: int | None) -> TrainSettings:
    return settings if seed is None else replace(settings, seed=seed)


def _check_fits(settings: TrainSettings, packed: TrainSettings, folder: Path) -> None:
    expected, there = settings.network_config(), packed.network_config()
    for name in ("use_features", "use_world"):
        if getattr(expected, name) and not getattr(there, name):
            raise UsageError(f"the network reads what {folder} was packed without ({name}); pack again with these settings")
    if expected.encoder != there.encoder:
        raise UsageError(f"{folder} was packed with the encoder {there.encoder}, the settings say {expected.encoder}")


def _on_device(settings: TrainSettings, data: TrainingData, device: torch.device) -> HeadTrainer:
    body = SparseBody(load_body("free")).to(device)
    rendered = data.rendered.to(device)
    sampler = None
    if settings.landmark_people:
        if data.poses is None:
            raise UsageError("the settings draw people without pictures, but the packed data hold no poses; pack again with these settings")
        places = rendered.places(body)
        bank = ResidualBank(rendered.residuals(body, places), settings.sampler, settings.seed)
        sampler = LandmarkSampler(data.poses.to(device), bank, places, body, layout("wide", VIEWS), settings.sampler, settings.seed + 2)
    test = data.test.to(device) if data.test is not None else None
    return HeadTrainer(settings, sampler, rendered if settings.rendered_people else None, body, device, test)
