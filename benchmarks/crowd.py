"""Measure the cost of a frame against the number of people: one to eight drawn people of one size, with a fitted line.

    python benchmarks/crowd.py [--people 0 1 2 3 4 5 6 7 8] [--frames 50]

The line is the least-squares one through the medians over the rounds of milliseconds per frame, from one person on.
"""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
from measuring import Result, arguments, drawn, in_turns, middle, pipeline_fps, settings_of

from mchmr_stream.pipeline.pipeline import Pipeline


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--people", type=int, nargs="+", default=list(range(9)))
    parser.add_argument("--frames", type=int, default=50)
    args = parser.parse_args()
    settings = settings_of(args.overrides)
    pipeline, places = Pipeline(settings), max(args.people)
    with ExitStack() as kept:
        sides = {}
        for people in args.people:
            clip = kept.enter_context(drawn(people, frames=args.frames, places=places))
            sides[str(people)] = pipeline_fps(clip, settings, pipeline, args.frames)
        rounds = in_turns(sides, args.repeats)
    ms = {people: 1e3 / middle(rounds, str(people)) for people in args.people}
    slope, start, r2 = line({people: value for people, value in ms.items() if people})
    result = Result(
        "crowd",
        "How does the cost of a frame grow with the people in it?",
        ("people", "frames/s", "people/s", "ms a frame", "the line says"),
        f"{settings.crops.views} views, 1280x720, {args.frames} frames. Line: {start:.1f} ms + {slope:.1f} ms a person, R^2 {r2:.4f}.",
        figures={"ms a person": slope, "ms a frame without": start, "R^2": r2},
    )
    for people, value in ms.items():
        result.rows.append(
            [str(people), f"{1e3 / value:.1f}", f"{people * 1e3 / value:.1f}", f"{value:.1f}", f"{start + slope * people:.1f}"]
        )
    result.finish(args)


def line(points: dict[int, float]) -> tuple[float, float, float]:
    """Return slope, intercept and R^2 of the least-squares line."""
    x, y = np.array(list(points), float), np.array(list(points.values()))
    slope, start = np.polyfit(x, y, 1)
    left = y - (start + slope * x)
    return float(slope), float(start), float(1 - (left**2).sum() / ((y - y.mean()) ** 2).sum())


if __name__ == "__main__":
    main()
