"""Ablations: trainings of the network with one changed setting each, with a fixed budget and several seeds.

A variant is a YAML file (configs/ablations/): a `name`, the paper's statement about it, and the training settings in which it differs
from the base. Each run is a training of its own in its own folder; finished runs are not repeated.
"""

from __future__ import annotations

import json
import multiprocessing
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from mchmr_stream.body.files import load_body
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.evaluation.real_observations import load_observed, observe_real, real_errors, save_observed
from mchmr_stream.experiments.ablation_report import AblationResults, Run, write_report
from mchmr_stream.files.atomic import atomic_file
from mchmr_stream.network.mesh_network import MultiCropHead
from mchmr_stream.network.weights import load_network, pick_device
from mchmr_stream.runtime.threads import torch_threads
from mchmr_stream.runtime.versions import cpu_name
from mchmr_stream.training.common.loop import Report, revision
from mchmr_stream.training.common.train_settings import TrainSettings, load_train_settings, read_yaml, settings_from
from mchmr_stream.training.frozen_encoder import train_head
from mchmr_stream.training.frozen_encoder.head_trainer import validate
from mchmr_stream.training.observations.body_landmarks import SparseBody
from mchmr_stream.training.observations.packing import load_packed

BASE = "base"
"""The variant to which the others are compared."""
TESTED_VIEWS = (1, 3, 5, 7)
_PAPER_SAYS = ("worse", "better")


@dataclass(frozen=True)
class AblationVariant:
    """Differences of one variant from the base."""

    name: str
    changes: Mapping[str, Any]
    """training settings, as in their file"""
    paper: str | None = None
    """the paper's result for it against the full method: "worse", "better", or None"""

    def of(self, base: TrainSettings) -> TrainSettings:
        """Apply the changes to the base's settings.

        Raises:
            UsageError: a setting does not exist.
        """
        return settings_from(_merged(base.to_dict(), self.changes), f"of the variant {self.name!r}", TrainSettings)


@dataclass(frozen=True)
class _Job:
    """One run; pickled for a process of its own."""

    variant: str
    seed: int
    folder: Path
    settings: TrainSettings
    packed: Path
    real: Path | None
    """observed real views"""
    device: str
    threads: int


def load_variant(path: Path) -> AblationVariant:
    """Read and check a variant's file.

    Raises:
        UsageError: the file is not valid.
    """
    data = read_yaml(path, "variant")
    name, paper = data.pop("name", None), data.pop("paper", None)
    if not isinstance(name, str) or not re.sub(r"\W", "", name):
        raise UsageError(f"variant {path} has the name {name!r}, expected `name: WORDS`")
    if paper is not None and paper not in _PAPER_SAYS:
        raise UsageError(f"variant {path}: paper is {paper!r}, expected {' or '.join(_PAPER_SAYS)}, or nothing")
    return AblationVariant(name, data, paper)


def tested_views(settings: TrainSettings) -> list[int]:
    """List the numbers of views for testing a run: up to its own; for a concatenation only its own."""
    if settings.network_config().fixed_views is not None:
        return [settings.views]
    return [views for views in TESTED_VIEWS if views <= settings.views]


def ablate(
    variants: Sequence[Path],
    *,
    packed: Path,
    out: Path,
    table: Path,
    config: Path | None = None,
    steps: int | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    real: Path | None = None,
    processes: int = 1,
    device: str = "auto",
    report: Report = print,
    stopped: Callable[[], bool] = lambda: False,
) -> bool:
    """Train and measure all variants with all seeds; finished runs are not repeated.

    Args:
        variants: the variants' YAML files.
        packed: pack of training data; its settings are the base.
        out: folder of the runs; RESULTS.json is rewritten there after each run.
        table: the page, rewritten with its plot after each run.
        config: settings of the base instead of the pack's.
        steps: overrides the number of steps.
        seeds: seeds of the runs of each variant.
        real: folder of real views, observed once, to measure on as well.
        processes: number of parallel runs, each on its share of the cores.
        device: torch device or "auto".
        report: called with lines for the log.
        stopped: ends the runs when it returns True.

    Returns:
        True when all runs are finished.

    Raises:
        UsageError: the arguments contradict each other, or a run was made with other settings.
    """
    chosen = sorted((load_variant(path) for path in variants), key=lambda variant: variant.name != BASE)
    _check_names(chosen)
    base, data = load_packed(packed)
    if config is not None:
        base = load_train_settings(config)
    if data.test is None:
        raise UsageError(f"{packed} has no test people; pack again with --test-shards")
    if steps is not None:
        base = replace(base, steps=steps, warmup_steps=min(base.warmup_steps, max(1, steps // 10)))
    pick_device(device)
    settings = {variant.name: variant.of(base) for variant in chosen}
    there = min(data.rendered.views.shape[1], data.test.views.shape[1])
    skipped = [name for name, of_variant in settings.items() if of_variant.views > there]
    for name in skipped:
        report(f"{name}: left out, only {there} views of each person were observed")
    out.mkdir(parents=True, exist_ok=True)
    seen = _real_views(real, out, there, device) if real is not None else None
    threads = max(1, torch.get_num_threads() // processes)
    jobs = [
        _Job(name, seed, out / f"{_slug(name)}_seed{seed}", replace(of_variant, seed=seed), packed, seen, device, threads)
        for seed in seeds for name, of_variant in settings.items() if name not in skipped
    ]  # fmt: skip
    for job in jobs:
        _finished(job)
    results = AblationResults(
        {
            "machine": _machine(device), "threads": threads, "torch": torch.__version__,
            "date": datetime.now(UTC).date().isoformat(),
            "revision": revision(), "steps": base.steps, "seeds": list(seeds), "pack": packed.resolve().name,
            "people per step": base.landmark_people + base.rendered_people, "rendered per step": base.rendered_people,
            "rendered people": int(data.rendered.found().sum()), "test people": int(data.test.found().sum()), "views": base.views,
            "reads features": base.network_config().use_features,
            "real views": real.resolve().name if real is not None else None, "left out": skipped, "runs wanted": len(jobs),
        },
        {variant.name: variant.paper for variant in chosen if variant.name not in skipped},
        {name: {} for name in settings if name not in skipped},
    )  # fmt: skip
    done = 0
    for job, result in _results(jobs, processes, stopped):
        done += 1
        results.runs[job.variant][str(job.seed)] = result
        report(f"{done} of {len(jobs)}: {job.variant}, seed {job.seed}: {_line(result)}")
        _write(out / "RESULTS.json", results.to_json())
        write_report(results, table)
    return done == len(jobs)


def _check_names(variants: Sequence[AblationVariant]) -> None:
    names = [variant.name for variant in variants]
    if BASE not in names:
        raise UsageError(f"no variant is called {BASE!r}, which the others are compared with; give ablations/base, which ships, too")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UsageError(f"two variants are called {twice[0]!r}; give each its own name")


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` updated with `changes`, recursively."""
    both = lambda name, value: isinstance(value, dict) and isinstance(base.get(name), dict)
    return {**base, **{name: _merged(base[name], value) if both(name, value) else value for name, value in changes.items()}}


def _real_views(folder: Path, out: Path, views: int, device: str) -> Path:
    kept = out / f"real_{views}views.npz"
    if not kept.is_file():
        save_observed(kept, observe_real(folder, views=views, device=device))
    return kept


def _results(jobs: Sequence[_Job], processes: int, stopped: Callable[[], bool]) -> Iterator[tuple[_Job, Run]]:
    """Results of all runs as they finish, stored ones first. Ends early when `stopped` returns True."""
    waiting = []
    for job in jobs:
        result = _finished(job)
        if result is not None and not (job.real is not None and "real" not in result):
            yield job, result
        else:
            waiting.append(job)
    if processes == 1:
        for job in waiting:
            with torch_threads(job.threads):
                result = _train_and_measure(job, stopped)
            if result is None:
                return
            yield job, result
        return
    # spawn: a forked process could inherit a lock that a thread of torch holds.
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_start_process, initargs=(stop,)) as pool:
        futures = {pool.submit(_in_process, job): job for job in waiting}
        try:
            for future in as_completed(futures):
                result = future.result()
                if result is not None:
                    yield futures[future], result
                if stopped():
                    return
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


_stop: Any = None
"""In a process of the pool: the event that requests it to end."""


def _start_process(stop: Any) -> None:
    """Ignore Ctrl-C, which reaches all processes of a terminal; the first process stops the others."""
    global _stop
    _stop = stop
    for number in {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}:
        signal.signal(number, signal.SIG_IGN)


def _in_process(job: _Job) -> Run | None:
    torch.set_num_threads(job.threads)
    return _train_and_measure(job, _stop.is_set)


def _finished(job: _Job) -> Run | None:
    """The stored result of a run. Raises UsageError when it was made with other settings or other data."""
    path = job.folder / "result.json"
    if not path.is_file():
        return None
    try:
        result: Run = json.loads(path.read_text())
        same = result["settings"] == job.settings.to_dict() and result["pack"] == job.packed.resolve().name
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no result of an ablation ({error}); delete {job.folder}") from error
    if not same:
        raise UsageError(f"{path} was made with other settings or another pack; choose another folder with -o, or delete {job.folder}")
    return result


def _train_and_measure(job: _Job, stopped: Callable[[], bool]) -> Run | None:
    """Train and measure one run; None when it was stopped, after which the same job resumes it."""
    result = _finished(job)
    weights, checkpoint = job.folder / "mchmr_default.safetensors", job.folder / "checkpoint.pt"
    _, data = load_packed(job.packed)
    body = SparseBody(load_body("free"))
    views = tested_views(job.settings)
    if result is None:
        job.folder.mkdir(parents=True, exist_ok=True)
        config = job.folder / "settings.yaml"
        config.write_text(json.dumps(job.settings.to_dict(), indent=1))
        start = time.monotonic()
        leg = train_head.run(
            config,
            packed=job.packed,
            out=job.folder,
            resume=checkpoint.is_file(),
            device=job.device,
            report=lambda line: None,
            stopped=stopped,
        )
        if not leg.finished:
            return None
        assert data.test is not None
        head = _head(weights)
        result = {
            "settings": job.settings.to_dict(), "pack": job.packed.resolve().name, "seconds": round(time.monotonic() - start, 1),
            "revision": revision(), "rendered": {str(count): validate(head, data.test, body, count) for count in views},
        }  # fmt: skip
    if job.real is not None and "real" not in result:
        head, observed = _head(weights), load_observed(job.real)
        result["real"] = {str(count): real_errors(head, observed, body, count) for count in views}
    _write(job.folder / "result.json", json.dumps(result, indent=1) + "\n")
    # The weights stay for measurements with other views; the rest of the checkpoint takes five times the space.
    checkpoint.unlink(missing_ok=True)
    return result


def _head(weights: Path) -> MultiCropHead:
    head = load_network(str(weights)).net.head
    assert isinstance(head, MultiCropHead)
    return head


def _line(result: Run) -> str:
    most = max(result["rendered"], key=int)
    parts = [f"{kind} {result[kind][most]['MPJPE mm']:.1f} / {result[kind][most]['PA-MPJPE mm']:.1f}" for kind in ("rendered", "real")
             if kind in result]  # fmt: skip
    return f"{', '.join(parts)} mm with {most} views, {result['seconds']:.0f} s"


def _machine(device: str) -> str:
    """Description of the training device."""
    on = pick_device(device)
    if on.type == "cuda":
        return torch.cuda.get_device_name(on)
    return cpu_name()


def _slug(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_")


def _write(path: Path, text: str) -> None:
    """Write a file atomically."""
    with atomic_file(path) as part:
        part.write_text(text)
