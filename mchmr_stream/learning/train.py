"""Train the head on rendered people and on millions of samples without pictures: one run, in one leg or in several.

The output folder holds `checkpoint.pt` (everything, to go on from), `mchmr_default.safetensors` (the averaged weights at
the last checkpoint), `progress.jsonl`, `progress.png`, and `tensorboard/` where that package is installed.
A packed run (`packing`) needs torch and numpy only.
"""

from __future__ import annotations

import json
import logging
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mchmr_stream.body.files import load_body
from mchmr_stream.cropping.layouts import layout
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.learning.body_landmarks import SparseBody
from mchmr_stream.learning.landmark_samples import LandmarkSampler, ResidualBank
from mchmr_stream.learning.observed import ObservedPeople
from mchmr_stream.learning.packing import load_packed, pack
from mchmr_stream.learning.run_log import Record, RunLog
from mchmr_stream.learning.train_settings import TrainSettings, load_train_settings
from mchmr_stream.learning.trainer import VIEWS, Trainer, validate
from mchmr_stream.learning.training_data import Report, TrainingData, gather
from mchmr_stream.network.weights import pick_device, save_network

log = logging.getLogger(__name__)

RECORD_EVERY = 25
"""Steps per record of progress.jsonl."""


@dataclass(frozen=True)
class Leg:
    """Where a run stands when `run` returns."""

    step: int
    steps: int
    weights: Path | None
    """averaged weights of this step; None where safetensors is not installed"""

    @property
    def finished(self) -> bool:
        return self.step >= self.steps


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
    """Train as `config` says until its steps are done, `minutes` have passed or `stopped` says so; then a checkpoint is there.

    Reads either `data` (poses and bodies), `shards` (what `mchmr synth` wrote; one or more folders) and perhaps `poses` (files and
    folders of the user's own), or `packed`, whose own settings hold where `config` is None. `seed` overrides the config's. `report`
    gets a line at every checkpoint, `progress` (steps done, steps) after every step. On one CPU a run in legs gives the same
    weights as one in one go, bit for bit.
    Raises UsageError when the request makes no sense, MchmrError when the loss or its gradients are no longer finite; the
    last checkpoint then stays as it is.
    """
    checkpoint = out / "checkpoint.pt"
    if checkpoint.is_file() and not resume:
        raise UsageError(f"{out} already holds a training run; go on with it by --resume, or choose another folder with --out")
    on = pick_device(device)
    settings, training_data = _read(config, data, shards, test_shards, poses, packed, seed, out, report)
    out.mkdir(parents=True, exist_ok=True)
    trainer, test = _on_device(settings, training_data, on)
    if resume and checkpoint.is_file():
        _restore(trainer, checkpoint)
        report(f"resumed at step {trainer.step} of {settings.steps}")
    made_by = _provenance(config, packed, settings, training_data.shards, on) | _if_any("own_poses", training_data.own_poses)
    return _Loop(trainer, test, out, made_by, report, progress).until(minutes, stopped)


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
    """Write what the run would read to `folder` (see `packing`), and do not train; returns the bytes written."""
    settings, training_data = _read(config, data, shards, test_shards, poses, None, seed, out, report)
    return pack(training_data, settings, folder)


def provenance(config: Path, settings: TrainSettings, shards: Path) -> dict[str, Any]:
    """What made the weights: settings, revision, data."""
    return _provenance(config, None, settings, shards.name, torch.device("cpu"))


def _provenance(config: Path | None, packed: Path | None, settings: TrainSettings, shards: str, device: torch.device) -> dict[str, Any]:
    return {
        "config": config.name if config is not None else f"of the pack {packed.resolve().name if packed else ''}",
        "settings": settings.to_dict(),
        "revision": revision(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "shards": shards,
        "body_sha256": load_body("free").sha256,
    }


def _if_any(name: str, value: str) -> dict[str, str]:
    return {name: value} if value else {}


def revision() -> str:
    """Of the code that trains; with a mark where files differ from it; empty where there is no git."""
    try:
        git = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(git, capture_output=True, text=True, check=False, cwd=Path(__file__).parent).stdout.strip()
    except FileNotFoundError:
        return ""


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
    wanted, there = settings.network_config(), packed.network_config()
    for name in ("use_features", "use_world"):
        if getattr(wanted, name) and not getattr(there, name):
            raise UsageError(f"the network reads what {folder} was packed without ({name}); pack again with these settings")
    if wanted.encoder != there.encoder:
        raise UsageError(f"{folder} was packed with the encoder {there.encoder}, the settings say {wanted.encoder}")


def _on_device(settings: TrainSettings, data: TrainingData, device: torch.device) -> tuple[Trainer, ObservedPeople | None]:
    body = SparseBody(load_body("free")).to(device)
    rendered = data.rendered.to(device)
    sampler = None
    if settings.landmark_people:
        if data.poses is None:
            raise UsageError("the settings draw people without pictures, but the packed data hold no poses; pack again with these settings")
        bank = ResidualBank(rendered.residuals(body), settings.sampler, settings.seed)
        sampler = LandmarkSampler(data.poses.to(device), bank, body, layout("wide", VIEWS), settings.sampler, settings.seed + 2)
    trainer = Trainer(settings, sampler, rendered if settings.rendered_people else None, body, device)
    return trainer, data.test.to(device) if data.test is not None else None


def _restore(trainer: Trainer, checkpoint: Path) -> None:
    try:
        state = torch.load(checkpoint, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise InputError(
            f"cannot read checkpoint {checkpoint}: {' '.join(str(error).split())}; expected one that training wrote"
        ) from error
    trainer.restore(state)
    before, now = state["settings"], trainer.settings.to_dict()
    changed = [f"{name} {before[name]} -> {now[name]}" for name in now if name in before and before[name] != now[name]]
    if changed:
        log.warning("going on with other settings than the checkpoint's: %s", "; ".join(changed))


class _Loop:
    """Steps, records and checkpoints."""

    def __init__(
        self,
        trainer: Trainer,
        test: ObservedPeople | None,
        out: Path,
        made_by: dict[str, Any],
        report: Report,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._trainer, self._test, self._out, self._made_by = trainer, test, out, made_by
        self._report, self._progress = report, progress
        self._log = RunLog(out, trainer.step)
        self._minutes_before = self._log.minutes
        self._can_write_weights = True
        self._since_record: list[dict[str, float]] = []

    def until(self, minutes: float | None, stopped: Callable[[], bool]) -> Leg:
        trainer, settings = self._trainer, self._trainer.settings
        self._start, self._first = time.monotonic(), trainer.step
        saved_at, saved_step, weights = self._start, -1, None
        try:
            while True:
                now = time.monotonic()
                done = trainer.step >= settings.steps
                leave = done or stopped() or (minutes is not None and now - self._start >= minutes * 60)
                due = trainer.step > self._first and (
                    trainer.step % settings.checkpoint_every == 0 or now - saved_at >= settings.checkpoint_minutes * 60
                )
                if (leave or due) and trainer.step != saved_step:
                    weights = self._checkpoint()
                    saved_at, saved_step = time.monotonic(), trainer.step
                elif self._since_record and trainer.step % RECORD_EVERY == 0:
                    self._record({})
                if leave:
                    return Leg(trainer.step, settings.steps, weights)
                self._since_record.append(trainer.train_step())
                if self._progress is not None:
                    self._progress(trainer.step, settings.steps)
        finally:
            self._log.close()

    def _record(self, more: Record) -> Record:
        """One line of the log: means over the steps since the last one."""
        steps, self._since_record = self._since_record, []
        means = {name: sum(step[name] for step in steps) / len(steps) for name in steps[0]} if steps else {}
        minutes = self._minutes_before + (time.monotonic() - self._start) / 60
        record: Record = {"step": self._trainer.step, "minutes": round(minutes, 3), "learning_rate": self._trainer.learning_rate}
        record |= {name: float(f"{value:.5g}") for name, value in (means | more).items()}
        self._log.add(record)
        return record

    def _checkpoint(self) -> Path | None:
        trainer, settings = self._trainer, self._trainer.settings
        _save(self._out / "checkpoint.pt", trainer.state())
        weights = self._write_weights()
        record: Record = {}
        if trainer.step > self._first:
            tested = validate(trainer.average, self._test, trainer.body, settings.views) if self._test is not None else {}
            record = self._record({f"test {name}": value for name, value in tested.items()})
            self._log.draw()
        rate = (trainer.step - self._first) / max(time.monotonic() - self._start, 1e-9)
        left = {"left min": round((settings.steps - trainer.step) / rate / 60, 1)} if rate else {}
        self._report(json.dumps({"step": trainer.step, "of": settings.steps, "steps/s": round(rate, 2)} | left | record))
        return weights

    def _write_weights(self) -> Path | None:
        """The averaged weights, where the package that writes them is installed."""
        weights = self._out / "mchmr_default.safetensors"
        try:
            net = self._trainer.net
            net.head = self._trainer.average
            save_network(weights, net, self._made_by | {"step": self._trainer.step})
        except ModuleNotFoundError as error:
            if self._can_write_weights:
                log.warning(
                    "no %s: weights are not written; resume from the checkpoint where it is installed, and they will be", error.name
                )
            self._can_write_weights = False
            return None
        return weights


def _save(path: Path, state: dict[str, Any]) -> None:
    temporary = path.with_suffix(".part")
    torch.save(state, temporary)
    temporary.replace(path)
