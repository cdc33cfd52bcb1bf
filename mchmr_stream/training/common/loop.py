"""The training loop of all trainers: steps, records, checkpoints, weights, resuming.

The output folder holds `checkpoint.pt` (the full state, to resume from), NAME.safetensors (the averaged weights at the last
checkpoint), `progress.jsonl`, `progress.png`, `tensorboard/` where that package is installed, and `kept/` where settings request it.
"""

from __future__ import annotations

import json
import logging
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.files.atomic import atomic_file
from mchmr_stream.files.same_file import refuse_to_replace
from mchmr_stream.network.mesh_network import MultiCropNet
from mchmr_stream.network.weights import save_network
from mchmr_stream.training.common.distributed import ALONE, Ranks
from mchmr_stream.training.common.run_log import Record, RunLog
from mchmr_stream.training.common.train_settings import RunSettings

log = logging.getLogger(__name__)

Report = Callable[[str], None]

RECORD_EVERY = 25
"""Steps per record of progress.jsonl."""
_CHECKPOINT = "checkpoint.pt"


class Training(Protocol):
    """A trainer that the loop drives."""

    name: str
    """of the weights' file, without its ending"""
    half: bool
    """the head is written in float16"""
    step: int

    @property
    def settings(self) -> RunSettings: ...

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step."""

    def train_step(self) -> dict[str, float]:
        """Run one step and return the losses.

        Raises:
            MchmrError: the losses or their gradients are not finite; the state is unchanged.
        """

    def test(self) -> dict[str, float]:
        """Compute errors of the averaged network on test people; empty without test people."""

    def averaged(self) -> MultiCropNet:
        """Return the averaged network. A frozen encoder is read from its file, which needs safetensors."""

    def state(self) -> dict[str, Any]:
        """Return all state that the next step depends on, and "settings".

        Raises:
            MchmrError: the weights are not finite.
        """

    def restore(self, state: dict[str, Any]) -> None:
        """Restore `state`, so that training resumes exactly.

        Raises:
            UsageError: the state is of another network.
        """


@dataclass(frozen=True)
class Leg:
    """State of a run when the loop returns."""

    step: int
    steps: int
    weights: Path | None
    """averaged weights of this step; None where safetensors is not installed"""

    @property
    def finished(self) -> bool:
        return self.step >= self.steps


def check_folder(out: Path, resume: bool, read: Sequence[Path | None], name: str) -> None:
    """Check that a run named `name` overwrites neither another run nor a file that it `read`s.

    Args:
        out: output folder.
        resume: the run resumes the one in `out`.
        read: input files and folders; None entries are ignored.
        name: name of the weights.

    Raises:
        UsageError: it would.
    """
    kept = [out / "kept" / path.name for path in read if path is not None]
    refuse_to_replace(read, [out / f"{name}.safetensors", out / _CHECKPOINT, *kept], "choose another folder with --out")
    if not resume and (out / _CHECKPOINT).is_file():
        raise UsageError(f"{out} already holds a training run; go on with it by --resume, or choose another folder with --out")


def resume_training(training: Training, out: Path, report: Report) -> None:
    """Resume from the checkpoint in `out`, if there is one.

    Raises:
        InputError: the checkpoint cannot be read.
    """
    path = out / _CHECKPOINT
    if not path.is_file():
        return
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise InputError(f"cannot read checkpoint {path}: {' '.join(str(error).split())}; expected one that training wrote") from error
    training.restore(state)
    before, now = state["settings"], training.settings.to_dict()
    changed = [f"{name} {before[name]} -> {now[name]}" for name in now if name in before and before[name] != now[name]]
    if changed:
        log.warning("going on with other settings than the checkpoint's: %s", "; ".join(changed))
    report(f"resumed at step {training.step} of {training.settings.steps}")


def provenance(config: str, settings: RunSettings, device: torch.device) -> dict[str, Any]:
    """Describe the run for the weights' header: config, settings, device, code revision."""
    return {
        "config": config,
        "settings": settings.to_dict(),
        "revision": revision(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }


def revision() -> str:
    """Return the git revision of this code, marked where files differ from it; empty without git."""
    try:
        git = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(git, capture_output=True, text=True, check=False, cwd=Path(__file__).parent).stdout.strip()
    except FileNotFoundError:
        return ""


class Loop:
    """Steps, records and checkpoints. All processes step; the first one writes files and logs."""

    def __init__(
        self,
        training: Training,
        out: Path,
        made_by: dict[str, Any],
        *,
        report: Report = log.info,
        progress: Callable[[int, int], None] | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self._training, self._out, self._made_by, self._ranks = training, out, made_by, ranks
        self._report, self._progress = report, progress
        self._log = RunLog(out, training.step) if ranks.first else None
        self._minutes_before = self._log.minutes if self._log is not None else 0.0
        self._can_write_weights = True
        self._since_record: list[dict[str, float]] = []

    def until(self, minutes: float | None, stopped: Callable[[], bool]) -> Leg:
        """Train until all steps are done, `minutes` have passed or `stopped` returns True, then write a checkpoint."""
        training, settings = self._training, self._training.settings
        self._start, self._first = time.monotonic(), training.step
        saved_at, saved_step, weights = self._start, -1, None
        try:
            while True:
                now = time.monotonic()
                done = training.step >= settings.steps
                leave = self._ranks.any(done or stopped() or (minutes is not None and now - self._start >= minutes * 60))
                due = training.step > self._first and (
                    training.step % settings.checkpoint_every == 0 or now - saved_at >= settings.checkpoint_minutes * 60
                )
                if not self._ranks.first:
                    pass
                elif (leave or due) and training.step != saved_step:
                    weights = self._checkpoint()
                    saved_at, saved_step = time.monotonic(), training.step
                elif self._since_record and training.step % RECORD_EVERY == 0:
                    self._record({})
                if self._ranks.first and training.step > self._first and settings.keep_every and training.step % settings.keep_every == 0:
                    self._write_weights(f"kept/{training.name}_{training.step:07d}")
                if leave:
                    return Leg(training.step, settings.steps, weights)
                losses = training.train_step()
                if self._ranks.first:
                    self._since_record.append(losses)
                if self._progress is not None:
                    self._progress(training.step, settings.steps)
        finally:
            if self._log is not None:
                self._log.close()

    def _record(self, more: Record) -> Record:
        """One record of the log: means over the steps since the last one."""
        steps, self._since_record = self._since_record, []
        means = {name: sum(step[name] for step in steps) / len(steps) for name in steps[0]} if steps else {}
        minutes = self._minutes_before + (time.monotonic() - self._start) / 60
        record: Record = {"step": self._training.step, "minutes": round(minutes, 3), "learning_rate": self._training.learning_rate}
        record |= {name: float(f"{value:.5g}") for name, value in (means | more).items()}
        assert self._log is not None
        self._log.add(record)
        return record

    def _checkpoint(self) -> Path | None:
        training, settings = self._training, self._training.settings
        _save(self._out / _CHECKPOINT, training.state())
        weights = self._write_weights(training.name)
        record: Record = {}
        if training.step > self._first:
            record = self._record({f"test {name}": value for name, value in training.test().items()})
            assert self._log is not None
            self._log.draw()
        rate = (training.step - self._first) / max(time.monotonic() - self._start, 1e-9)
        left = {"left min": round((settings.steps - training.step) / rate / 60, 1)} if rate else {}
        self._report(json.dumps({"step": training.step, "of": settings.steps, "steps/s": round(rate, 2)} | left | record))
        return weights

    def _write_weights(self, name: str) -> Path | None:
        """Write the averaged weights, if safetensors is installed."""
        weights = self._out / f"{name}.safetensors"
        try:
            save_network(weights, self._training.averaged(), self._made_by | {"step": self._training.step}, half=self._training.half)
        except ModuleNotFoundError as error:
            if self._can_write_weights:
                log.warning(
                    "no %s: weights are not written; resume from the checkpoint where it is installed, and they will be", error.name
                )
            self._can_write_weights = False
            return None
        return weights


def _save(path: Path, state: dict[str, Any]) -> None:
    with atomic_file(path) as temporary:
        torch.save(state, temporary)
