"""Report on ablations: docs/ablations.md with its plot. All its numbers are generated."""

from __future__ import annotations

import json
import logging
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mchmr_stream.files.atomic import atomic_file

log = logging.getLogger(__name__)

Run = dict[str, Any]
"""`settings`, `pack`, `seconds`, `revision`; `rendered` and optionally `real`: errors in mm by number of views (as text, for JSON)"""
METRICS = ("MPJPE mm", "PA-MPJPE mm")
_TITLES = {"rendered": "Rendered people", "real": "Real views"}
_BASE = "base"
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class AblationResults:
    """All finished runs, by variant and seed."""

    about: Mapping[str, Any]
    paper: Mapping[str, str | None]
    """by variant, the paper's result"""
    runs: dict[str, dict[str, Run]]

    def to_json(self) -> str:
        return json.dumps({"about": self.about, "paper": self.paper, "runs": self.runs}, indent=1) + "\n"

    def errors(self, name: str, kind: str, metric: str, views: int | None = None) -> dict[str, float]:
        """Return errors by seed, with this number of views; None: the number of the variant's training."""
        measured = {seed: run[kind] for seed, run in self.runs[name].items() if kind in run}
        count = {seed: str(views) if views is not None else max(errors, key=int) for seed, errors in measured.items()}
        return {seed: errors[count[seed]][metric] for seed, errors in measured.items() if count[seed] in errors}


class Interval(NamedTuple):
    """A mean and half the width of its 95 % confidence interval; infinite for a single value."""

    mean: float
    half: float


def interval(values: Sequence[float]) -> Interval:
    """Compute the interval by Student's t.

    The values are assumed independent and normal, as errors of runs with different seeds nearly are.
    """
    from scipy import stats

    if len(values) < 2:
        return Interval(values[0] if values else math.nan, math.inf)
    quantile = float(stats.t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1))
    return Interval(statistics.fmean(values), quantile * statistics.stdev(values) / math.sqrt(len(values)))


def difference(results: AblationResults, name: str, kind: str, metric: str) -> Interval | None:
    """Compute the increase over the base, paired by seed, as runs of one seed use the same people. None without a common seed."""
    one, base = results.errors(name, kind, metric), results.errors(_BASE, kind, metric)
    return interval([one[seed] - base[seed] for seed in one if seed in base]) if one.keys() & base.keys() else None


def write_report(results: AblationResults, table: Path) -> None:
    """Write the page `table`, and the plot in images/ next to it; without matplotlib log that."""
    table.parent.mkdir(parents=True, exist_ok=True)
    picture = table.parent / "images" / f"{table.stem}.png"
    try:
        draw(results, picture)
    except ImportError:
        log.warning("matplotlib is not installed: %s is not drawn", picture)
    with atomic_file(table) as part:
        part.write_text(page(results, f"images/{picture.name}"))


def page(results: AblationResults, picture: str) -> str:
    """Format the text of the page."""
    about, done = results.about, sum(map(len, results.runs.values()))
    parts = [
        "# Ablations\n",
        "Written by `mchmr ablate`; no number is typed by hand. One thing changed at a time, everything else as "
        "in the base. [training.md](training.md) has the command.\n",
        f"{about['steps']} steps of {about['people per step']} people per run ({about['rendered per step']} of {about['rendered people']} "
        f"rendered ones, the others drawn without pictures), {about['views']} views, seeds {', '.join(map(str, about['seeds']))}; "
        f"{about['test people']} rendered test people; {about['date']}, revision {about['revision'] or 'unknown'}, {about['machine']}, "
        f"{about['threads']} thread{'s' * (about['threads'] > 1)} a run, torch {about['torch']}.\n",
    ]
    if done < about["runs wanted"]:
        parts.append(f"**Not finished: {done} of {about['runs wanted']} runs.**\n")
    parts.append(f"![Errors of every variant, with confidence intervals]({picture})\n")
    kinds = [kind for kind in _TITLES if any(kind in run for seeds in results.runs.values() for run in seeds.values())]
    parts += [f"## {_TITLES[kind]}\n\n{_table(results, kind)}" for kind in kinds]
    parts += [f"## What of the paper reproduces\n\n{_verdicts(results, kinds)}"]
    left_out = "".join(f"- {name}: left out, for lack of observed views.\n" for name in about["left out"])
    return "\n".join([*parts, f"## Notes\n\n{left_out}{_notes(results)}"])


def spread(values: Sequence[float]) -> str:
    """Format mean and standard deviation over the seeds."""
    if not values or not all(map(math.isfinite, values)):
        return ""
    mean = f"{statistics.fmean(values):.1f}"
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def verdict(paper: str, found: Interval) -> str:
    """Compare an interval of the increase with the paper's result."""
    if abs(found.mean) <= found.half:
        return "not decided"
    return "reproduces" if (found.mean > 0) == (paper == "worse") else "the opposite"


def _table(results: AblationResults, kind: str) -> str:
    every = results.runs.values()
    views = sorted({int(count) for seeds in every for run in seeds.values() for count in run.get(kind, {})})
    lines = [
        f"| variant | seeds | {' | '.join(f'V = {count}: MPJPE | PA' for count in views)} | less the base's: MPJPE | PA |",
        f"|---|---|{'---|---|' * (len(views) + 1)}",
    ]
    for name in results.runs:
        seeds = results.errors(name, kind, METRICS[0])
        if seeds:
            cells = [spread(list(results.errors(name, kind, metric, count).values())) for count in views for metric in METRICS]
            cells += ["" if name == _BASE else _signed(difference(results, name, kind, metric)) for metric in METRICS]
            lines.append(f"| {name} | {len(seeds)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _signed(found: Interval | None) -> str:
    if found is None:
        return ""
    return f"{found.mean:+.1f}" + (f" ± {found.half:.1f}" if math.isfinite(found.half) else "")


def _verdicts(results: AblationResults, kinds: Sequence[str]) -> str:
    lines = [
        f"| without, or instead | the paper | {' | '.join(f'{_TITLES[kind].lower()}, PA' for kind in kinds)} |",
        f"|---|---|{'---|' * len(kinds)}",
    ]
    for name, paper in results.paper.items():
        if paper is not None:
            found = [difference(results, name, kind, METRICS[1]) for kind in kinds]
            cells = ["" if one is None else f"{verdict(paper, one)} ({_signed(one)})" for one in found]
            lines.append(f"| {name} | {paper} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _notes(results: AblationResults) -> str:
    features = "reads the features of a frozen encoder and its landmarks" if results.about["reads features"] else "reads landmarks only"
    return f"""\
- This is our network, not the paper's: it {features}, is small and trained briefly on rendered people. What the paper
  measured after full training on real pictures may differ from what shows here, in either direction.
- Rendered: people of the test split whom the detector found, with their true focal length. Real: each frame by itself, the camera
  known, no smoothing, mean over the cameras. MPJPE / PA-MPJPE in mm of twelve joints, see [evaluation.md](evaluation.md).
- Numbers by V are means over the seeds, behind the ± the standard deviation of single runs. "Less the base's" is the mean difference of
  runs with the same seed, as many views as the variant was trained with against as many as the base was, behind the ± half its 95 %
  confidence interval (Student's t over the seeds). An interval that holds 0 decides nothing: "not decided". With some ten
  variants, one of them leaving out 0 by chance is no wonder. The test people are the same for all runs and not part of the interval.
- A variant with fewer views was trained with the first so many crops only. All others see theirs in training, a random subset of them in
  half of the steps, unless said otherwise.
- Concatenation cannot do without one crop or take them in another order, so it always sees all: compare it with "always all five
  views in order". With relations it is the fusion of the paper; ours replaces its flattening by attention, so that any V will do.
- Self-attention and "no positional encoding" are the same function with other initial weights: how far apart they are is noise.
- Tokens are told the place of their own crop in every variant; the relations come on top of that.
"""


def draw(results: AblationResults, path: Path) -> None:
    """Plot mean, 95 % interval and all runs of each variant, with its own number of views. Raises ImportError without matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kinds = [kind for kind in _TITLES if any(kind in run for seeds in results.runs.values() for run in seeds.values())]
    names = [name for name in results.runs if results.errors(name, kinds[0], METRICS[0])]
    figure = Figure(figsize=(4.6 * len(METRICS) + 2.4, (0.34 * len(names) + 1.1) * len(kinds)), layout="constrained")
    panels = figure.subplots(len(kinds), len(METRICS), squeeze=False, sharey=True)
    for row, kind in enumerate(kinds):
        for panel, metric in zip(panels[row], METRICS, strict=True):
            base = interval(list(results.errors(_BASE, kind, metric).values()))
            if math.isfinite(base.half):
                panel.axvspan(base.mean - base.half, base.mean + base.half, color="tab:blue", alpha=0.12, linewidth=0)
            panel.axvline(base.mean, color="tab:blue", linewidth=1)
            for place, name in enumerate(names):
                values = list(results.errors(name, kind, metric).values())
                mean, half = interval(values)
                colour = "tab:blue" if name == _BASE else "black"
                panel.plot(values, [place + 0.27] * len(values), ".", color="grey", markersize=4)
                panel.errorbar(mean, place, xerr=half if math.isfinite(half) else None, fmt="o", color=colour, markersize=5, capsize=3)
            panel.set_title(f"{_TITLES[kind]}: {metric}", fontsize="medium")
            panel.grid(axis="x", alpha=0.3)
            panel.spines[["top", "right"]].set_visible(False)
        panels[row, 0].set_yticks(range(len(names)), names, fontsize="small")
        panels[row, 0].set_ylim(len(names) - 0.5, -0.5)
    figure.supxlabel("lower is better; bar: 95 % interval of the mean over the seeds, grey: single runs, band: the base", fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as part, part.open("wb") as file:
        FigureCanvasAgg(figure).print_png(file)
