"""Measure speed and accuracy against the number of views: frames per second of the full pipeline, and errors on real views, in one run.

    python benchmarks/views.py [CLIP] [--real DIR] [--views 1 2 3 4 5 6 7 8 9] [--people 1] [--repeats 3] [--frames 100]

Without a clip: one drawn person. Nothing is drawn over or written, networks are loaded and warmed up before the measurement; each round
runs each number of views once, and ratios are those within a round. With `--real`, a folder as for `mchmr evaluate real3d`, the errors
per frame with the known camera: the crops are encoded once with the most views, and the network uses the first ones of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from measuring import Ratio, Result, Rounds, arguments, drawn, in_turns, middle, need, pipeline_fps, settings_of

from mchmr_stream.body.files import load_body
from mchmr_stream.evaluation.real_observations import observe_real, real_errors
from mchmr_stream.network.weights import load_network
from mchmr_stream.pipeline.pipeline import Pipeline
from mchmr_stream.training.observations.body_landmarks import SparseBody

REFERENCE = 5
"""The default; ratios are to this number."""


def errors(folder: Path, weights: str, counts: list[int]) -> dict[int, dict[str, float]]:
    """Compute MPJPE and PA-MPJPE by number of views."""
    observed, body = observe_real(folder, weights, max(counts), "cpu"), SparseBody(load_body("free"))
    head = load_network(weights).net.head
    return {views: real_errors(head, observed, body, views) for views in counts}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("clip", type=Path, nargs="?")
    parser.add_argument("--real", type=Path, help="folder of real views with ground truth")
    parser.add_argument("--views", type=int, nargs="+", default=list(range(1, 10)))
    parser.add_argument("--people", type=int, default=1, help="how many people are followed at most")
    parser.add_argument("--frames", type=int, default=100)
    args = parser.parse_args()
    counts = sorted({*args.views, REFERENCE})
    with contextlib.ExitStack() as kept:
        if args.clip is None:
            clip = kept.enter_context(drawn(args.people, frames=args.frames))
        else:
            clip = need(args.clip, "a video file; leave it out for a drawn one")
        sides, shared = {}, None
        for views in counts:
            settings = settings_of(args.overrides, f"crops.views={views}", f"tracker.max_people={args.people}")
            # One detector and one body for all: nine of each would only fill the memory.
            pipeline = Pipeline(settings, detector=shared.detector if shared else None)
            shared = shared or pipeline.components
            pipeline = pipeline.with_components(body=shared.body)
            sides[str(views)] = pipeline_fps(clip, settings, pipeline, args.frames)
        real = None if args.real is None else need(args.real, "a folder of real views as for `mchmr evaluate real3d`")
        accuracy = errors(real, settings.network.weights, counts) if real is not None else {}
        result = table(in_turns(sides, args.repeats), accuracy)
        result.about = f"{'drawn' if args.clip is None else clip.name}, {args.frames} frames, {args.people} followed"
        result.about += f"; errors on {real.name}, each frame by itself, camera known." if real is not None else "."
    result.finish(args)


def table(rounds: Rounds, accuracy: Mapping[int, Mapping[str, float]]) -> Result:
    """Build the table with ratios within each round, which do not depend on the machine's speed in it."""
    result = Result(
        "views",
        "What does each number of views cost and bring?",
        ("views", "frames/s", f"ratio to {REFERENCE} views", "MPJPE mm", "PA-MPJPE mm", f"PA against {REFERENCE} views"),
    )
    for name in rounds[0]:
        ratio = Ratio.of(rounds, name, str(REFERENCE))
        figures = ["", "", ""]
        if accuracy:
            own, reference = accuracy[int(name)], accuracy[REFERENCE]
            figures = [f"{own['MPJPE mm']:.1f}", f"{own['PA-MPJPE mm']:.1f}", f"{own['PA-MPJPE mm'] / reference['PA-MPJPE mm']:.3f}"]
        if name != str(REFERENCE):
            result.ratios[f"{name} views / {REFERENCE} views"] = ratio
        result.rows.append([name, f"{middle(rounds, name):.1f}", str(ratio), *figures])
    return result


if __name__ == "__main__":
    main()
