"""Compare the cost of a clip without people with that of its detection alone.

    python benchmarks/empty.py [--frames 100]

Both sides decode on a thread of their own and run the detector on each frame; the pipeline runs all other stages in addition.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from measuring import Ratio, Result, arguments, drawn, in_turns, middle, pipeline_fps, settings_of

from mchmr_stream.config import Settings
from mchmr_stream.pipeline.factory import open_input
from mchmr_stream.pipeline.pipeline import Pipeline
from mchmr_stream.runtime.concurrency import Workers


def detection_alone(clip: Path, settings: Settings, pipeline: Pipeline, frames: int) -> Callable[[], float]:
    """Measure frames per second of decoding and detection, overlapped, with the pipeline's threads."""

    def rate() -> float:
        source, _ = open_input(clip, settings)
        try:
            start, done = time.perf_counter(), 0
            with Workers() as workers:
                for frame in workers.ahead(islice(source.frames(), frames), settings.runtime.ahead, name="decode"):
                    pipeline.components.detector.detect([frame])
                    done += 1
            return done / (time.perf_counter() - start)
        finally:
            source.close()

    return rate


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--frames", type=int, default=100)
    args = parser.parse_args()
    settings = settings_of(args.overrides)
    pipeline = Pipeline(settings)
    with drawn(0, frames=args.frames) as clip:
        sides = {
            "whole pipeline": pipeline_fps(clip, settings, pipeline, args.frames),
            "decoding and detection alone": detection_alone(clip, settings, pipeline, args.frames),
        }
        rounds = in_turns(sides, args.repeats)
    result = Result("empty", "What does a clip without people cost?", ("", "frames/s"), f"An empty room, 1280x720, {args.frames} frames.")
    result.rows = [[name, f"{middle(rounds, name):.1f}"] for name in sides]
    result.ratios["whole pipeline / decoding and detection alone"] = Ratio.of(rounds, *sides)
    result.finish(args)


if __name__ == "__main__":
    main()
