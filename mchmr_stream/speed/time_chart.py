"""Chart of the time per call of each stage, and of the CPU time per frame by stage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mchmr_stream.errors import MchmrError, MissingPart
from mchmr_stream.files.atomic import atomic_file
from mchmr_stream.files.output_lock import claimed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = {
    "decode": "#7b9acc", "detect": "#e0a458", "keypoints": "#d9c255", "crop": "#8fb996", "network": "#c8553d", "fit": "#4f8a8b",
    "align": "#2f5d62", "render": "#9d7bb0", "encode": "#8c7a6b",
}  # fmt: skip
_REST = "#cfcfcf"


def draw_chart(result: dict[str, Any], path: Path) -> None:
    """Write a PNG.

    Raises:
        MissingPart: matplotlib is not installed.
        MchmrError: `path` cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPart("a plot needs matplotlib: python -m pip install matplotlib") from error
    runs = result["runs"]
    figure = Figure(figsize=(11, 1.6 + 1.9 * len(runs)), layout="constrained")
    rows = figure.subplots(len(runs), 2, squeeze=False)
    for (calls, cpu), run in zip(rows, runs, strict=True):
        _draw_calls(calls, run)
        _draw_cpu(cpu, run)
    machine = result["machine"]
    figure.suptitle(f"{result['clip']['name']} on {machine['cpu']}, {machine['cores']} cores, {machine['gpu'] or 'no GPU'}", fontsize=9)
    with claimed([path]):
        _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    try:
        with atomic_file(path) as temporary:
            figure.savefig(temporary, dpi=130, format="png")
    except OSError as error:
        raise MchmrError(f"--plot: cannot write {path}: {error.strerror}") from error


def _draw_calls(axes: Any, run: dict[str, Any]) -> None:
    names = list(run["stages"])
    for place, name in enumerate(names):
        call = run["stages"][name]["call_ms"]
        axes.barh(place, call["p50"], color=_COLOURS[name])
        axes.plot([call["p50"], call["p99"]], [place, place], color="#444444", linewidth=1)
        axes.plot([call["p95"], call["p99"]], [place, place], "|", color="#444444")
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("ms a call, alone: median, and up to p95 and p99", fontsize=8)
    axes.set_title(f"{run['views']} views, {run['people_per_frame']:.1f} people a frame", fontsize=9, loc="left")


def _draw_cpu(axes: Any, run: dict[str, Any]) -> None:
    wholes = [name for name in ("whole", "whole with overlay") if run[name] is not None]
    for place, whole in enumerate(wholes):
        left = 0.0
        for name, stage in run["stages"].items():
            if whole == "whole" and name in ("render", "encode"):
                continue
            wide = 1e3 * stage["cpu_s_per_frame"]
            axes.barh(place, wide, left=left, color=_COLOURS[name], label=name if place == len(wholes) - 1 else None)
            left += wide
        total = 1e3 * run[whole]["cpu_s_per_frame"]
        if total > left:
            axes.barh(place, total - left, left=left, color=_REST, label="all else" if place == len(wholes) - 1 else None)
        available = 1e3 * run["threads"]["cores"] / run[whole]["frames_per_s"]
        axes.plot([available, available], [place - 0.4, place + 0.4], color="black", linewidth=2)
        axes.text(available, place - 0.42, f" {run[whole]['frames_per_s']:.1f} frames/s", fontsize=7, va="bottom", ha="right")
    axes.set_yticks(range(len(wholes)), wholes, fontsize=8)
    axes.set_ylim(len(wholes) - 0.5, -0.75)
    axes.set_xlabel("CPU ms a frame by stage; line: what all cores had in that time", fontsize=8)
    axes.legend(fontsize=7, ncols=10, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False, handlelength=1, columnspacing=0.8)
