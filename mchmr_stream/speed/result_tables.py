"""Results of measurements as printed tables."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def print_tables(result: dict[str, Any], console: Console) -> None:
    """Print one table of stages and a few lines for each run."""
    machine, clip = result["machine"], result["clip"]
    console.print(f"{machine['cpu']}, {machine['cores']} cores, {machine['gpu'] or 'no GPU'}; {result['date']}", highlight=False)
    console.print(f"{clip['name']}, {clip['width']}x{clip['height']}", highlight=False, markup=False)
    for run in result["runs"]:
        _print_run(run, console)


def _print_run(run: dict[str, Any], console: Console) -> None:
    console.print()
    console.print(f"{run['views']} views, {run['people_per_frame']:.1f} people a frame", style="bold", highlight=False)
    threads = run["threads"]
    table = Table(box=None, pad_edge=False, padding=(0, 1), collapse_padding=True)
    table.add_column("only ...", no_wrap=True)
    for title in ("frames/s", "all cores", "people/s", "p50 ms", "p95 ms", "p99 ms", "CPU ms", "MiB"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, stage in run["stages"].items():
        table.add_row(
            name, _rate(stage["frames_per_s"]), _rate(stage["all_cores"]["frames_per_s"]), _rate(stage["people_per_s"]),
            *_three(stage["call_ms"]), f"{1e3 * stage['cpu_s_per_frame']:.1f}", _mib(stage["peak_memory_mib"]),
        )  # fmt: skip
    for name, title in (("whole", "all together"), ("whole with overlay", "with overlay")):
        whole = run[name]
        if whole is not None:
            table.add_row(
                title, _rate(whole["frames_per_s"]), "", _rate(whole["people_per_s"]), *_three(whole["pause_ms"]),
                f"{1e3 * whole['cpu_s_per_frame']:.1f}", _mib(whole["peak_memory_mib"]), style="bold",
            )  # fmt: skip
    console.print(table)
    console.print(
        f"One stage only: torch has {threads['torch, in the pipeline']} threads, as in the pipeline; all cores: one for each. "
        "ms: of a call, and of the whole the pauses between finished frames. CPU ms: of a frame. MiB: peak of the process.",
        highlight=False,
    )
    for name in ("whole", "whole with overlay"):
        if run[name] is not None:
            console.print(_bounds(name, run[name]), highlight=False)
    if run["triton"] is not None:
        console.print("The network's CPU time is its server's and not in these figures.", highlight=False)
    gpu = run["whole"]
    if gpu["gpu_peak_memory_mib"] is not None:
        busy = "unknown (pip install nvidia-ml-py)" if gpu["gpu_percent"] is None else f"{gpu['gpu_percent']:.0f} %"
        console.print(f"GPU: busy {busy}, torch held at most {gpu['gpu_peak_memory_mib']:.0f} MiB", highlight=False)
    for people, rate in run["network by batch"].items():
        console.print(f"network only, {people} people in a call: {rate:.1f} people/s", highlight=False)
    for server in run["triton"] or []:
        console.print(
            f"{server['server']}: {server['requests']} requests, {server['failures']} failed, "
            f"{server['requests_per_execution']:.2f} requests in an execution, {server['queue_ms_per_request'] or 0:.1f} ms in the queue, "
            f"{server['compute_ms_per_execution'] or 0:.1f} ms to compute",
            highlight=False,
        )


def _bounds(name: str, whole: dict[str, Any]) -> str:
    overlap = whole["overlap"]
    nearer, slowest, evenly = (overlap[name] for name in ("of_nearer_bound", "of_slowest_stage", "of_cpu_bound"))
    return (
        f"{name}: {nearer:.2f} of what is possible. {overlap['slowest_stage']} alone with the whole machine: "
        f"{overlap['slowest_stage_alone_frames_per_s']:.1f} frames/s ({slowest:.2f} of it); all stages' CPU time spread over all cores: "
        f"{overlap['cpu_bound_frames_per_s']:.1f} ({evenly:.2f} of it). {whole['cores_busy']:.2f} cores busy."
    )


def _three(milliseconds: dict[str, float]) -> list[str]:
    return [f"{milliseconds[name]:.1f}" for name in ("p50", "p95", "p99")]


def _rate(value: float) -> str:
    return f"{value:.1f}"


def _mib(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"
