"""What each number of views costs and brings: frames per second of the whole pipeline, and errors on real views, in one run.

    python benchmarks/views.py [CLIP] [--real DIR] [--views 1 2 3 4 5 6 7 8 9] [--people 1] [--repeats 3]

Without a clip: the one of `mchmr demo`. Speed is measured as in vs_mediapipe.py: nothing drawn or written, networks loaded and
warmed up before the clock starts. Every round runs each number of views once, one right after the other, and every second round
backwards, so that a machine whose speed drifts treats all alike; the result is the median over the rounds of the ratio to
five views in the same round. With `--real`, a folder as for `mchmr evaluate real3d`, the errors of each frame by itself with
the camera known: the crops are seen once with the most views, and the network reads the first so many of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from dataclasses import replace
from pathlib import Path

from vs_mediapipe import cpu_name, ours

from mchmr_stream.body.files import load_body
from mchmr_stream.config import Settings, load_settings
from mchmr_stream.learning.body_landmarks import SparseBody
from mchmr_stream.learning.evaluation.real_observations import observe_real, real_errors
from mchmr_stream.network.weights import load_network
from mchmr_stream.pipeline import Pipeline

REFERENCE = 5
"""The default; others are told as ratios to it."""
_WARM_UP_S = 0.5


def speeds(clip: Path, settings: dict[int, Settings], repeats: int) -> list[dict[int, float]]:
    """Frames per second by number of views, a row per round."""
    pipelines: dict[int, Pipeline] = {}
    for views, own in settings.items():
        pipelines[views] = pipeline = Pipeline(own)
        # One detector and one body for all: nine of each would fill the memory and say nothing.
        first = next(iter(pipelines.values())).parts
        pipeline.parts = replace(pipeline.parts, detector=first.detector, body=first.body)
        ours(clip, own.model_copy(update={"source": own.source.model_copy(update={"end_s": _WARM_UP_S})}), pipeline)
    rounds = []
    for number in range(repeats):
        order = list(settings) if number % 2 == 0 else list(settings)[::-1]
        measured = {views: ours(clip, settings[views], pipelines[views]) for views in order}
        rounds.append({views: measured[views] for views in settings})
        print(f"round {number + 1}: {json.dumps({views: round(fps, 2) for views, fps in rounds[-1].items()})}", flush=True)
    return rounds


def errors(folder: Path, weights: str, counts: list[int]) -> dict[int, dict[str, float]]:
    """MPJPE and PA-MPJPE by number of views."""
    observed, body = observe_real(folder, weights, max(counts), "cpu"), SparseBody(load_body("free"))
    head = load_network(weights).net.head
    return {views: real_errors(head, observed, body, views) for views in counts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, nargs="?", default=Path("demo/clip/two_people.mp4"))
    parser.add_argument("--real", type=Path, help="folder of real views with ground truth")
    parser.add_argument("--views", type=int, nargs="+", default=list(range(1, 10)))
    parser.add_argument("--people", type=int, default=1, help="how many people are followed at most")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    args = parser.parse_args()

    if not args.clip.is_file():
        raise SystemExit(f"no clip at {args.clip}: name one, or run `mchmr demo` first")
    counts = sorted({*args.views, REFERENCE})
    changes = [f"tracker.max_people={args.people}", *args.overrides]
    settings = {views: load_settings(None, [f"crops.views={views}", *changes]) for views in counts}
    accuracy = errors(args.real, settings[REFERENCE].network.weights, counts) if args.real is not None else {}
    rounds = speeds(args.clip, settings, args.repeats)
    print(table(rounds, accuracy))
    machine = {"cores": os.cpu_count(), "cpu": cpu_name(), "python": platform.python_version()}
    print(json.dumps({"clip": args.clip.name, "people": args.people, "rounds": args.repeats, "machine": machine}, indent=2))


def table(rounds: list[dict[int, float]], accuracy: dict[int, dict[str, float]]) -> str:
    """Markdown."""
    lines = [
        "| views | frames per second | ratio to five views (least, most) | MPJPE / PA-MPJPE, mm | PA against five views |",
        "|" + "---|" * 5,
    ]
    for views in rounds[0]:
        ratios = [each[views] / each[REFERENCE] for each in rounds]
        speed = f"{statistics.median(each[views] for each in rounds):.1f}"
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f})"
        error, relative = "", ""
        if accuracy:
            error = f"{accuracy[views]['MPJPE mm']:.1f} / {accuracy[views]['PA-MPJPE mm']:.1f}"
            relative = f"{accuracy[views]['PA-MPJPE mm'] / accuracy[REFERENCE]['PA-MPJPE mm']:.3f}"
        lines.append(f"| {views} | {speed} | {ratio} | {error} | {relative} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
