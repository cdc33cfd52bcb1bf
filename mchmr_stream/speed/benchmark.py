"""`mchmr bench`: the full pipeline, then each of its stages alone, and bounds derived from them; as plain data for JSON."""

from __future__ import annotations

import datetime
import logging
import statistics
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from mchmr_stream.config import Settings
from mchmr_stream.datatypes import SourceInfo
from mchmr_stream.fitting.alignment import KeypointAlignment
from mchmr_stream.fitting.body_fitter import BodyFitter
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.pipeline.factory import build_alignment, build_fitter, open_input
from mchmr_stream.pipeline.pipeline import Pipeline
from mchmr_stream.protocols import Source
from mchmr_stream.runtime.threads import torch_threads
from mchmr_stream.runtime.versions import machine, usable_cores, versions
from mchmr_stream.speed.recorded_calls import First, Recording, record
from mchmr_stream.speed.resource_usage import Usage
from mchmr_stream.speed.stages import (
    Alone,
    aligning,
    cropping,
    decoding,
    detecting,
    encoding,
    estimating,
    fitting,
    people_per_s,
    people_together,
    refining,
    rendering,
    run_alone,
)
from mchmr_stream.speed.whole_run import WholeRun, run_scenes, run_with_files

log = logging.getLogger(__name__)

SCHEMA = 1
_KEPT_FRAMES = 48
"""Limit of frames for the single stages: they are kept in memory, with their crops."""
_WARM_UP_FRAMES = 10
ON_THE_WAY = ("decode", "detect", "keypoints", "crop", "network", "fit", "align")
"""The stages that produce bodies; an overlay adds the others."""
_OWN_THREADS = ("decode", "fit", "align", "encode")
"""Stages that do not use torch's threads."""

Step = Callable[[str], None]
"""Called with a description of the next measurement."""


def bench(
    clip: Path,
    settings: Sequence[Settings],
    *,
    frames: int = 100,
    repeats: int = 3,
    batches: Sequence[int] = (),
    drawn_people: int | None = None,
    step: Step = lambda _: None,
) -> dict[str, Any]:
    """Measure with each of `settings`, one after the other.

    Args:
        clip: video to process.
        settings: settings to compare.
        frames: limit of frames.
        repeats: runs of the full pipeline.
        batches: numbers of people per call of the network, for an additional measurement.
        drawn_people: number of people in a generated clip, None for a user's clip.
        step: called with a description before each measurement.

    Returns:
        The results as plain data.

    Raises:
        MchmrError: the clip cannot be opened, or a component cannot be loaded.
    """
    clip_about: dict[str, Any] = {}
    runs = []
    for one in settings:
        source, _ = open_input(clip, one)
        source.close()
        clip_about = _about(clip, source.info, drawn_people)
        with closing(Pipeline(one)) as pipeline:
            runs.append(_run(clip, one, pipeline, frames, repeats, batches, step))
    found = runs[0]["people_per_frame"]
    if drawn_people is not None and abs(found - drawn_people) > 0.3 * max(1, drawn_people):
        log.warning("%.1f people a frame were found of the %d drawn: compare with no run that found another number", found, drawn_people)
    return {
        "schema": SCHEMA,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "clip": clip_about,
        "runs": runs,
    }


def steps_of(settings: Sequence[Settings], repeats: int) -> int:
    """Return how many times `bench` calls `step`."""
    return sum(6 + repeats + len(_chosen_stages(one)) + (2 + repeats) * one.output.overlay for one in settings)


def _chosen_stages(settings: Settings) -> list[str]:
    """The optional stages that these settings use."""
    fits, smooths = settings.fit.kind != "none", settings.smoother.kind != "none"
    is_used = {"keypoints": settings.keypoints.kind != "detector", "fit": fits, "align": fits and smooths}
    return [name for name, used in is_used.items() if used]


def _run(
    clip: Path, settings: Settings, pipeline: Pipeline, frames: int, repeats: int, batches: Sequence[int], step: Step
) -> dict[str, Any]:
    step("warming up")
    run_scenes(clip, settings, pipeline, _WARM_UP_FRAMES)
    served = _Served(settings)
    bodies, files = [], []
    for number in range(repeats):  # alternating, so that a drift of the machine's speed affects both alike
        step(f"whole pipeline, {number + 1} of {repeats}")
        bodies.append(run_scenes(clip, settings, pipeline, frames))
        if settings.output.overlay:
            step(f"whole pipeline with overlay, {number + 1} of {repeats}")
            files.append(run_with_files(clip, settings, pipeline, frames))
    triton = served.since()
    team = pipeline_threads()
    step("recording")
    source, intrinsics = open_input(clip, settings)
    with closing(source):
        recording = record(pipeline, First(source, min(frames, _KEPT_FRAMES)), intrinsics)
    alone = _stages_alone(clip, settings, pipeline, recording, source.info, intrinsics, team, step)
    in_flow = _median_of(bodies)
    return {
        "views": settings.crops.views,
        "settings": settings.model_dump(mode="json"),
        "threads": {"torch, in the pipeline": team, "cores": usable_cores()},
        "people_per_frame": round(in_flow.people / in_flow.frames, 3),
        "whole": _whole(bodies, [name for name in alone if name in ON_THE_WAY], alone),
        "whole with overlay": _whole(files, list(alone), alone) if files else None,
        "stages": {name: _stage(name, own, every, in_flow, recording.people_per_frame) for name, (own, every) in alone.items()},
        "network by batch": _by_batch(pipeline, recording, batches, usable_cores()),
        "triton": triton,
    }


def pipeline_threads() -> int:
    """Threads of torch in each of the pipeline's two computing threads, as set when the components are built."""
    import torch

    return torch.get_num_threads()


def _stages_alone(
    clip: Path,
    settings: Settings,
    pipeline: Pipeline,
    recording: Recording,
    info: SourceInfo,
    intrinsics: Intrinsics,
    team: int,
    step: Step,
) -> dict[str, tuple[Alone, Alone]]:
    """Results of each stage: with its number of threads in the pipeline, and with all cores."""

    def opened() -> Source:
        return First(open_input(clip, settings)[0], len(recording.scenes))

    def new_fitter() -> BodyFitter:
        fitter = build_fitter(settings, components.body, intrinsics)
        assert fitter is not None
        return fitter

    def new_alignment() -> KeypointAlignment:
        alignment = build_alignment(settings, components.body, intrinsics)
        assert alignment is not None
        return alignment

    components = pipeline.components
    work = {"decode": decoding(opened), "detect": detecting(recording, components)}
    chosen = _chosen_stages(settings)
    if "keypoints" in chosen:
        work["keypoints"] = refining(recording, components)
    work |= {"crop": cropping(recording, components), "network": estimating(recording, components)}
    if "fit" in chosen:
        work["fit"] = fitting(recording, new_fitter)
    if "align" in chosen:
        work["align"] = aligning(recording, new_alignment)
    if settings.output.overlay:
        work["render"] = rendering(recording)
        with torch_threads(usable_cores()):
            work["encode"] = encoding(recording, info)
    alone = {}
    for name, calls in work.items():
        step(f"{name} alone")
        own = run_alone(calls, team)
        takes_torch = name not in _OWN_THREADS and usable_cores() != team
        alone[name] = own, run_alone(calls, usable_cores()) if takes_torch else own
    return alone


def _median_of(runs: Sequence[WholeRun]) -> WholeRun:
    """The run of median rate."""
    return sorted(runs, key=lambda run: run.frames_per_s)[(len(runs) - 1) // 2]


def _whole(runs: Sequence[WholeRun], stages: Sequence[str], alone: dict[str, tuple[Alone, Alone]]) -> dict[str, Any]:
    """Rates of the full pipeline, and their ratio to two bounds.

    No pipeline is faster than its slowest stage with the full machine, nor than its CPU time spread evenly over all cores.
    """
    middle = _median_of(runs)
    rate = statistics.median(run.frames_per_s for run in runs)
    best = {name: max(measured.frames_per_s for measured in alone[name]) for name in stages}
    slowest = min(best, key=lambda name: best[name])
    slowest_rate = best[slowest]
    stage_cpu_s = sum(alone[name][0].cpu_s_per_frame for name in stages)
    cpu_rate = usable_cores() / stage_cpu_s if stage_cpu_s else float("inf")
    p50, p95, p99 = middle.percentiles_ms()
    return {
        "frames": middle.frames,
        "frames_per_s": round(rate, 3),
        "rounds_frames_per_s": [round(run.frames_per_s, 3) for run in runs],
        "people_per_s": round(rate * middle.people / middle.frames, 3),
        "pause_ms": _milliseconds(p50, p95, p99),
        "cpu_s_per_frame": round(statistics.median(run.cpu_s_per_frame for run in runs), 6),
        "cores_busy": round(statistics.median(run.usage.cpu_s / run.usage.wall_s for run in runs), 3),
        "overlap": {
            "slowest_stage": slowest,
            "slowest_stage_alone_frames_per_s": round(slowest_rate, 3),
            "of_slowest_stage": round(rate / slowest_rate, 3),
            "stages_cpu_s_per_frame": round(stage_cpu_s, 6),
            "cpu_bound_frames_per_s": round(cpu_rate, 3),
            "of_cpu_bound": round(rate / cpu_rate, 3),
            "of_nearer_bound": round(rate / min(slowest_rate, cpu_rate), 3),
        },
        **_memory([run.usage for run in runs]),
    }


def _stage(name: str, own: Alone, every: Alone, flow: WholeRun, people: float) -> dict[str, Any]:
    in_pipeline = flow.stage_s.get(name)
    return {
        "frames": own.frames,
        "calls": len(own.each_s),
        "threads": own.threads,
        "frames_per_s": round(own.frames_per_s, 3),
        "people_per_s": round(own.frames_per_s * people, 3),
        "call_ms": _milliseconds(*own.percentiles_ms()),
        "call_ms_in_pipeline": _milliseconds(*_percentiles(in_pipeline)) if in_pipeline else None,
        "cpu_s_per_frame": round(own.cpu_s_per_frame, 6),
        "all_cores": {
            "threads": every.threads,
            "frames_per_s": round(every.frames_per_s, 3),
            "people_per_s": round(every.frames_per_s * people, 3),
            "call_ms": _milliseconds(*every.percentiles_ms()),
        },
        **_memory([own.usage, every.usage]),
    }


def _percentiles(seconds: list[float]) -> tuple[float, float, float]:
    import numpy as np

    p50, p95, p99 = (1e3 * np.percentile(seconds, (50, 95, 99))).tolist()
    return p50, p95, p99


def _milliseconds(p50: float, p95: float, p99: float) -> dict[str, float]:
    return {"p50": round(p50, 3), "p95": round(p95, 3), "p99": round(p99, 3)}


def _memory(usages: Sequence[Usage]) -> dict[str, Any]:
    def most(name: str) -> float | None:
        known = [value for usage in usages if (value := getattr(usage, name)) is not None]
        return round(max(known), 1) if known else None

    return {name: most(name) for name in ("peak_memory_mib", "gpu_percent", "gpu_peak_memory_mib")}


def _by_batch(pipeline: Pipeline, recording: Recording, batches: Sequence[int], threads: int) -> dict[str, float]:
    """People per second of the network alone, by people per call."""
    rates = {}
    for people in batches:
        batch = people_together(recording.batches, people)
        if batch is None:
            log.warning("no person was found in the clip: the network was not measured by batch")
            break
        rates[str(people)] = round(people_per_s(pipeline.components.estimator, batch, threads), 3)
    return rates


def _about(clip: Path, info: SourceInfo, drawn_people: int | None) -> dict[str, Any]:
    name = clip.name if drawn_people is None else f"drawn, {drawn_people} people"
    return {"name": name, "width": info.width, "height": info.height, "fps": info.fps, "drawn_people": drawn_people}


class _Served:
    """Statistics of the Triton servers over an interval, if the network runs on some."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.triton
        self._before = self._totals()

    def since(self) -> list[dict[str, Any]] | None:
        """Return the statistics per server; None without a server."""
        if not self._settings.servers:
            return None
        statistics_rows = []
        for server, before, after in zip(self._settings.servers, self._before, self._totals(), strict=True):
            work = after - before
            statistics_rows.append(
                {
                    "server": server,
                    "requests": work.requests,
                    "failures": work.failures,
                    "people": work.people,
                    "people_per_execution": round(work.mean_batch, 3),
                    "requests_per_execution": round(work.requests_per_execution, 3),
                    "queue_ms_per_request": round(1e3 * work.queue_s / work.requests, 3) if work.requests else None,
                    "compute_ms_per_execution": round(1e3 * work.compute_s / work.executions, 3) if work.executions else None,
                }
            )
        return statistics_rows

    def _totals(self) -> list[Any]:
        if not self._settings.servers:
            return []
        from mchmr_stream.serving.server_metrics import model_work
        from mchmr_stream.triton.connection import Connection, ServerAccess

        chosen = self._settings
        headers = {name: value.get_secret_value() for name, value in chosen.headers.items()}
        access = ServerAccess(chosen.tls, chosen.ca_file, chosen.cert_file, chosen.key_file, headers)
        totals = []
        for server in chosen.servers:
            with Connection(server, chosen.model, access) as connection:
                totals.append(model_work(connection))
        return totals
