"""Measure the cost per frame against the length of a clip: two drawn people for 50 to 400 frames.

    python benchmarks/length.py [--lengths 50 100 200 400]

At the start the smoother's look-ahead and the threads' queues fill, which a short clip amortises over fewer frames.
"""

from __future__ import annotations

from contextlib import ExitStack

from measuring import Ratio, Result, arguments, drawn, in_turns, middle, pipeline_fps, settings_of

from mchmr_stream.pipeline.pipeline import Pipeline


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[50, 100, 200, 400])
    args = parser.parse_args()
    settings = settings_of(args.overrides)
    pipeline = Pipeline(settings)
    with ExitStack() as kept:
        sides = {str(n): pipeline_fps(kept.enter_context(drawn(2, frames=n)), settings, pipeline, n) for n in args.lengths}
        rounds = in_turns(sides, args.repeats)
    reference = str(args.lengths[0])
    result = Result(
        "length",
        "Does a frame cost more in a longer clip?",
        ("frames", "frames/s", f"ratio to {reference} frames"),
        f"{settings.crops.views} views, two drawn people, 1280x720.",
    )
    for name in sides:
        ratio = Ratio.of(rounds, name, reference)
        result.rows.append([name, f"{middle(rounds, name):.1f}", str(ratio)])
        if name != reference:
            result.ratios[f"{name} frames / {reference} frames"] = ratio
    result.finish(args)


if __name__ == "__main__":
    main()
