"""Measure the age of live results and its trend, with real-time sources of 30 pictures per second as in `mchmr live`.

    python benchmarks/live_latency.py [CLIP] [--minutes 10] [--sources 1] [--out benchmarks/results/live_latency.json]

CLIP is played in real time in a loop; the default is a clip with drawn people. The computing cost of one result is the sum of the stages'
medians in the same run. Prints the ages in relation to it with a verdict on each bound, and writes all figures to the file, one entry per
number of sources. Exits with 1 if a bound is exceeded.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.config import load_settings
from mchmr_stream.datatypes import Moment
from mchmr_stream.live.run import LiveRun
from mchmr_stream.runtime.versions import machine, versions
from mchmr_stream.speed.drawn_clip import write_clip

WARM_UP_S = 10.0
FPS = 30
MOST_BINS = 60
"""Number of parts of the run whose mean ages the line is fitted to."""
WORST_KEPT = 10


class Ages:
    """Records the time, the age and the stage times of each result; implements `protocols.LiveSink`."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, float]] = []
        self.work_s: list[dict[str, float]] = []

    def write(self, moment: Moment) -> None:
        self.rows.append((time.monotonic(), moment.age_s))
        self.work_s.append(dict(moment.work_s))

    def close(self) -> None:
        """Do nothing."""


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def slope(seconds: NDArray[np.float64], age_s: NDArray[np.float64]) -> tuple[float, float]:
    """Fit the least-squares line to the ages; returns its slope, s per s, and its standard error.

    The line is fitted to means over equal parts of the run: consecutive ages are correlated, so an error computed from them is too small.
    """
    edges = np.linspace(seconds[0], seconds[-1], min(MOST_BINS, max(6, int((seconds[-1] - seconds[0]) / 5))) + 1)
    bins = np.clip(np.searchsorted(edges, seconds, side="right") - 1, 0, len(edges) - 2)
    used = np.unique(bins)
    middle, means = (np.array([values[bins == one].mean() for one in used]) for values in (seconds, age_s))
    (line, _), covariance = np.polyfit(middle, means, 1, cov=True)
    return float(line), float(covariance[0, 0] ** 0.5)


def measured(clip: Path, sources: int, minutes: float, overrides: Sequence[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the figures of a run, and its oldest results with the stage times at that moment."""
    settings = load_settings(None, ["live.restart=always", *overrides], defaults=["smoother.kind=causal"])
    ages, memory, collections = Ages(), [], []

    def collected(phase: str, info: dict[str, int]) -> None:
        if info["generation"] == 2:
            collections.append((phase, time.monotonic()))

    gc.callbacks.append(collected)
    with LiveRun([str(clip)] * sources, settings) as run:
        run.add_sink(ages)
        begun_s = time.monotonic()

        def watch() -> None:
            while time.monotonic() - begun_s < 60 * minutes + WARM_UP_S:
                time.sleep(1)
                memory.append((time.monotonic() - begun_s, resident_mib()))
            run.stop()

        threading.Thread(target=watch, daemon=True).start()
        statuses = run.run()
    gc.callbacks.remove(collected)

    warm = np.array([at_s - begun_s > WARM_UP_S for at_s, _ in ages.rows])
    rows = np.array(ages.rows)[warm]
    work = [one for one, counted in zip(ages.work_s, warm, strict=True) if counted]
    seconds, age_s = rows[:, 0] - begun_s, rows[:, 1]
    stages_s = {stage: float(np.median([one[stage] for one in work if stage in one])) for stage in work[-1]}
    p50, p90, p99 = np.percentile(age_s, [50, 90, 99])
    per_s, error_per_s = slope(seconds, age_s)
    mib = np.array([value for at_s, value in memory if at_s > WARM_UP_S])
    tenth = max(1, len(mib) // 10)
    figures = {
        "seconds": seconds[-1] - seconds[0],
        "came": sum(status.decoded for status in statuses),
        "done": sum(status.finished for status in statuses),
        "dropped": sum(status.dropped for status in statuses),
        "results_per_s": len(age_s) / (seconds[-1] - seconds[0]),
        "work_ms": 1000 * sum(stages_s.values()),
        "stages_ms": {stage: 1000 * value for stage, value in stages_s.items()},
        "age_p50_ms": 1000 * p50,
        "age_p90_ms": 1000 * p90,
        "age_p99_ms": 1000 * p99,
        "age_max_ms": 1000 * age_s.max(),
        "slope_ms_per_minute": 60e3 * per_s,
        "slope_error_ms_per_minute": 60e3 * error_per_s,
        "memory_second_tenth_mib": mib[tenth : 2 * tenth].mean(),
        "memory_last_tenth_mib": mib[-tenth:].mean(),
        "memory_mib_every_10_s": [round(value, 1) for _, value in memory[9::10]],
        "full_garbage_collections": len(collections) // 2,
    }
    oldest = [
        {"at_s": seconds[i], "age_ms": 1000 * age_s[i], "work_ms": {stage: 1000 * value for stage, value in work[i].items()}}
        for i in np.argsort(-age_s)[:WORST_KEPT]
    ]
    return figures, oldest


def verdicts(figures: dict[str, Any]) -> dict[str, tuple[bool, str]]:
    """For each bound: whether it is met, and a description."""
    work_ms = figures["work_ms"]
    growth_mib = figures["memory_last_tenth_mib"] - figures["memory_second_tenth_mib"]
    line, error = figures["slope_ms_per_minute"], figures["slope_error_ms_per_minute"]
    p50_bound, p99_bound = 2 * work_ms + 50, 3 * work_ms + 100
    return {
        "p50": (figures["age_p50_ms"] <= p50_bound, f"{figures['age_p50_ms']:.1f} ms, at most 2 x work + 50 = {p50_bound:.0f} ms"),
        "p99": (figures["age_p99_ms"] <= p99_bound, f"{figures['age_p99_ms']:.1f} ms, at most 3 x work + 100 = {p99_bound:.0f} ms"),
        # One-sided: a falling age is no fault. Two standard errors are exceeded by chance in 2 to 3 of 100 runs.
        "slope": (line <= 2 * error, f"{line:+.2f} +- {error:.2f} ms per minute, at most two standard errors"),
        "memory": (
            growth_mib <= 0.02 * figures["memory_second_tenth_mib"],
            f"{growth_mib:+.1f} MiB from the second to the last tenth, at most 2 %",
        ),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, nargs="?")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--sources", type=int, default=1)
    parser.add_argument("--people", type=int, default=1, help="in the drawn clip (1)")
    parser.add_argument("--out", type=Path, help="file to leave the figures in, beside those for other numbers of sources")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        clip = args.clip or write_clip(Path(folder) / "drawn.mp4", args.people, frames=20 * FPS, fps=FPS)
        figures, oldest = measured(clip, args.sources, args.minutes, args.overrides)
    judged = verdicts(figures)
    about = machine()
    what = args.clip.name if args.clip else f"drawn, 1280x720, {args.people} person(s)"
    print(f"{about['cpu']}, {about['cores']} cores; {what}, {args.sources} source(s), {figures['seconds']:.0f} s")
    print(
        f"{figures['came']} came, {figures['done']} done, {figures['dropped']} dropped; {figures['results_per_s']:.1f} results per second"
    )
    print(f"work on one result {figures['work_ms']:.1f} ms: " + ", ".join(f"{k} {v:.1f}" for k, v in figures["stages_ms"].items()))
    print(f"age p50 {figures['age_p50_ms']:.1f}, p90 {figures['age_p90_ms']:.1f}, p99 {figures['age_p99_ms']:.1f}, "
          f"max {figures['age_max_ms']:.1f} ms; {figures['full_garbage_collections']} full garbage collections")  # fmt: skip
    for one in oldest[:5]:
        parts = ", ".join(f"{stage} {value:.0f}" for stage, value in one["work_ms"].items())
        print(f"  {one['age_ms']:.0f} ms old at {one['at_s']:.1f} s: {parts}")
    print("resident MiB, every 10 s: " + " ".join(f"{value:.0f}" for value in figures["memory_mib_every_10_s"]))
    for name, (kept, words) in judged.items():
        print(f"{'kept  ' if kept else 'BROKEN'} {name}: {words}")
    if args.out is not None:
        entry = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": about, "versions": versions(), "clip": what,
            "settings": args.overrides, "figures": figures, "oldest": oldest,
            "verdicts": {name: {"kept": bool(kept), "text": words} for name, (kept, words) in judged.items()},
        }  # fmt: skip
        kept_before = json.loads(args.out.read_text()) if args.out.exists() else {}
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({**kept_before, f"{args.sources} source(s)": entry}, indent=1, default=float) + "\n")
    return 0 if all(kept for kept, _ in judged.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
