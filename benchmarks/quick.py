"""Detect slowdowns: a few ratios, measured in under three minutes and compared with stored ones.

    make bench-quick          or          python benchmarks/quick.py [--save]

Only ratios are compared, not times, because ratios vary far less between machines and days. A ratio has changed if its median differs from
the earlier one by more than the wider of the two runs' spreads (least to most over the rounds), and by at least five per cent. Exit code 1
if a ratio fell by so much; else 0, also without earlier values. `--save` stores benchmarks/results/quick.json for later comparisons, as
the first run does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from empty import detection_alone
from measuring import RESULTS, Ratio, Result, Rounds, arguments, drawn, in_turns, middle, pipeline_fps, settings_of
from vs_mediapipe import theirs

from mchmr_stream.errors import MissingPart
from mchmr_stream.pipeline.pipeline import Pipeline
from mchmr_stream.runtime.versions import usable_cores
from mchmr_stream.speed.whole_run import run_scenes, run_with_files

_FRAMES = 30
_LEAST = 0.05


def measure(overrides: list[str], repeats: int) -> dict[str, Ratio]:
    """Measure the ratios; higher is better in all of them."""
    five, one = (Pipeline(settings_of(overrides, f"crops.views={views}", "output.overlay=false")) for views in (5, 1))
    written = five.settings.model_copy(update={"output": five.settings.output.model_copy(update={"overlay": True})})
    with_overlay = Pipeline(written, five.components)
    with ExitStack() as kept:
        empty, single, two = (kept.enter_context(drawn(people, frames=_FRAMES)) for people in (0, 1, 2))
        sides: dict[str, Callable[[], float]] = {
            "5 views": pipeline_fps(two, five.settings, five, _FRAMES),
            "1 view": pipeline_fps(two, one.settings, one, _FRAMES),
            "1 person, 5 views": lambda: run_scenes(single, five.settings, five, _FRAMES).frames_per_s,
            "1 person, 1 view": lambda: run_scenes(single, one.settings, one, _FRAMES).frames_per_s,
            "detection": detection_alone(empty, five.settings, five, _FRAMES),
            "nobody": pipeline_fps(empty, five.settings, five, _FRAMES),
            "without overlay": lambda: run_with_files(two, five.settings, five, _FRAMES).frames_per_s,
            "with overlay": lambda: run_with_files(two, written, with_overlay, _FRAMES).frames_per_s,
        }
        try:
            theirs(single, None, 5)
            sides["MediaPipe full"] = lambda: theirs(single, None, _FRAMES)
        except MissingPart as error:
            print(f"without MediaPipe: {error}", file=sys.stderr)
        rounds = in_turns(sides, repeats)
    ratios = {
        "nobody there / detection alone": Ratio.of(rounds, "nobody", "detection"),
        "two people, 5 views / detection alone": Ratio.of(rounds, "5 views", "detection"),
        "two people, 1 view / 5 views": Ratio.of(rounds, "1 view", "5 views"),
        "with overlay / without": Ratio.of(rounds, "with overlay", "without overlay"),
    }
    if "MediaPipe full" in sides:
        ratios["one person, 5 views / MediaPipe full"] = Ratio.of(rounds, "1 person, 5 views", "MediaPipe full")
        ratios["one person, 1 view / MediaPipe full"] = Ratio.of(rounds, "1 person, 1 view", "MediaPipe full")
    say_rates(rounds)
    return ratios


def say_rates(rounds: Rounds) -> None:
    print(", ".join(f"{name} {middle(rounds, name):.1f}" for name in rounds[0]), "frames/s", flush=True)


def verdict(now: Ratio, before: Mapping[str, Any]) -> tuple[str, bool]:
    """Describe a ratio in comparison with its earlier value, and return whether it fell."""
    change = now.median / before["median"] - 1
    spreads = [(max(rounds) - min(rounds)) / median for rounds, median in ((now.rounds, now.median), (before["rounds"], before["median"]))]
    allowed = max(*spreads, _LEAST)
    moved = abs(change) > allowed
    said = ("FELL" if change < 0 else "rose") if moved else "as before"
    return f"{said}: {change:+.0%}, noise up to {allowed:.0%}", moved and change < 0


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--save", action="store_true", help="compare the next run with this one")
    args = parser.parse_args()
    path: Path = args.out or RESULTS / "quick.json"
    before = json.loads(path.read_text()) if path.exists() else None
    ratios = measure(args.overrides, args.repeats)
    result = Result("quick", "A few ratios to compare the next run with", ("ratio", "median", "least", "most"))
    result.ratios = ratios
    result.about = f"Drawn people, 1280x720, {_FRAMES} frames, {usable_cores()} cores; `make bench-quick` compares with these."
    result.rows = [[name, f"{one.median:.2f}", f"{min(one.rounds):.2f}", f"{max(one.rounds):.2f}"] for name, one in ratios.items()]
    args.no_save = args.no_save or (before is not None and not args.save)
    result.finish(args)
    if before is None:
        print(f"nothing to compare with yet: this run was the first; {path}")
        return 0
    fell = False
    print(f"\nbeside {before['date']}:")
    for name, ratio in ratios.items():
        if name not in before["ratios"]:
            print(f"  {name}: {ratio}, new")
            continue
        said, worse = verdict(ratio, before["ratios"][name])
        print(f"  {name}: {ratio}, {said}")
        fell |= worse
    return int(fell)


if __name__ == "__main__":
    sys.exit(main())
