"""Compare the speed of the full pipeline with the bounds of its stages, by `mchmr bench` over several rounds.

    python benchmarks/overlap.py [--views 1 5] [--frames 60]

Two bounds: the slowest stage alone with the full machine, and the CPU time of all stages spread evenly over all cores. Except for noise,
no pipeline is faster than the smaller one.
"""

from __future__ import annotations

import statistics

from measuring import Ratio, Result, arguments, drawn, settings_of

from mchmr_stream.speed.benchmark import bench


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--views", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--frames", type=int, default=60)
    args = parser.parse_args()
    result = Result(
        "overlap",
        "How near does the whole come to what its parts allow?",
        (
            "views",
            "whole, frames/s",
            "slowest stage",
            "alone, frames/s",
            "CPU spread evenly, frames/s",
            "of the nearer bound",
            "cores busy",
        ),
        f"Two drawn people, 1280x720, {args.frames} frames, nothing written.",
    )
    for views in args.views:
        settings = settings_of(args.overrides, f"crops.views={views}", "output.overlay=false")
        with drawn(2, frames=args.frames) as clip:
            rounds = [
                bench(clip, [settings], frames=args.frames, repeats=1, drawn_people=2)["runs"][0]["whole"] for _ in range(args.repeats)
            ]
        mid = sorted(rounds, key=lambda whole: whole["overlap"]["of_nearer_bound"])[(len(rounds) - 1) // 2]
        overlap = mid["overlap"]
        result.ratios[f"whole / nearer bound, {views} views"] = Ratio([one["overlap"]["of_nearer_bound"] for one in rounds])
        result.rows.append(
            [
                str(views), f"{mid['frames_per_s']:.1f}", overlap["slowest_stage"], f"{overlap['slowest_stage_alone_frames_per_s']:.1f}",
                f"{overlap['cpu_bound_frames_per_s']:.1f}", f"{overlap['of_nearer_bound']:.2f}",
                f"{statistics.median(one['cores_busy'] for one in rounds):.2f}",
            ]
        )  # fmt: skip
    result.finish(args)


if __name__ == "__main__":
    main()
