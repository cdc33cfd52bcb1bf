"""Measure the cost of the overlay: `mchmr video` with and without it, two drawn people at 720p.

python benchmarks/overlay.py [--frames 60]
"""

from __future__ import annotations

from measuring import Ratio, Result, arguments, drawn, in_turns, middle, settings_of

from mchmr_stream.pipeline.pipeline import Pipeline
from mchmr_stream.speed.whole_run import run_with_files


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--frames", type=int, default=60)
    args = parser.parse_args()
    off, on = (settings_of(args.overrides, f"output.overlay={value}") for value in ("false", "true"))
    pipelines = [Pipeline(one) for one in (off, on)]
    with drawn(2, frames=args.frames) as clip:
        for settings, pipeline in zip((off, on), pipelines, strict=True):
            run_with_files(clip, settings, pipeline, 10)  # warm up both
        sides = {
            "with overlay": lambda: run_with_files(clip, on, pipelines[1], args.frames).frames_per_s,
            "without": lambda: run_with_files(clip, off, pipelines[0], args.frames).frames_per_s,
        }
        rounds = in_turns(sides, args.repeats)
    result = Result(
        "overlay", "What does the overlay cost?", ("", "frames/s"), f"Two drawn people, 1280x720, {args.frames} frames, files written."
    )
    result.rows = [[name, f"{middle(rounds, name):.1f}"] for name in sides]
    result.ratios["with overlay / without"] = Ratio.of(rounds, "with overlay", "without")
    result.finish(args)


if __name__ == "__main__":
    main()
