"""Compare speed and accuracy with MediaPipe PoseLandmarker, full and heavy, on the same real views in the same run.

    python benchmarks/vs_mediapipe.py VALIDATION_DIR --heavy pose_landmarker_heavy.task [--views 1 3 5] [--repeats 3]

`VALIDATION_DIR` as for `mchmr evaluate real3d` (docs/evaluation.md). The full bundle ships; tools/make_mediapipe_bundle.py makes the heavy
one, which is left out if not given. Speed: the first view, both sides with PyAV on a thread of its own, networks loaded and warmed up,
nothing drawn or written, and one person tracked (MediaPipe's PoseLandmarker supports one in practice). Accuracy: all views, each side
once, because results do not vary between runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from measuring import Ratio, Result, arguments, in_turns, middle, need, pipeline_fps, settings_of

from mchmr_stream.config import SourceSettings
from mchmr_stream.datatypes import Frame
from mchmr_stream.detection.mediapipe_detector import MediaPipeReference
from mchmr_stream.evaluation.real3d import errors_row
from mchmr_stream.evaluation.real_predictions import PER_FRAME_ASSUMED, SMOOTHED_KNOWN, Predicted, mediapipe_on, predict
from mchmr_stream.evaluation.real_views import load_views
from mchmr_stream.pipeline.pipeline import Pipeline
from mchmr_stream.runtime.concurrency import Workers
from mchmr_stream.sources import open_source

_MEDIAPIPE = ("MediaPipe, per frame", "MediaPipe, smoothed")


def theirs(clip: Path, model: Path | None, frames: int) -> float:
    """Measure frames per second. A new landmarker each time: video mode refuses decreasing times."""
    reference = MediaPipeReference(model)
    try:
        reference.landmarks(next(_frames(clip)).rgb, 0.0)
        start, done = time.perf_counter(), 0
        with Workers() as workers:
            for frame in workers.ahead(_frames(clip), 4, name="decode"):
                reference.landmarks(frame.rgb, 1.0 + frame.time_s)
                done += 1
                if done == frames:
                    break
            return done / (time.perf_counter() - start)
    finally:
        reference.close()


def _frames(clip: Path) -> Iterator[Frame]:
    source = open_source(clip, SourceSettings())
    try:
        yield from source.frames()
    finally:
        source.close()


def _errors(clips: Sequence[Predicted]) -> list[str]:
    row = errors_row(clips, pixels=False)
    return [f"{row[name]:.1f}" for name in ("found %", "MPJPE mm", "PA-MPJPE mm", "accel mm/frame^2")]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("validation", type=Path)
    parser.add_argument("--heavy", type=Path, help="MediaPipe's heavy .task bundle")
    parser.add_argument("--views", type=int, nargs="+", default=[1, 3, 5])
    parser.add_argument("--frames", type=int, default=100, help="of the clip that speed is measured on")
    args = parser.parse_args()
    folder = need(args.validation, "a folder of real views as for `mchmr evaluate real3d`")
    heavy = None if args.heavy is None else need(args.heavy, "a .task bundle; tools/make_mediapipe_bundle.py makes one")
    models = {"MediaPipe full": None} | ({"MediaPipe heavy": heavy} if heavy is not None else {})
    clip = load_views(folder)[0].video

    sides: dict[str, Callable[[], float]] = {}
    for views in args.views:
        settings = settings_of(args.overrides, f"crops.views={views}", "tracker.max_people=1")
        sides[f"ours, {views} views"] = pipeline_fps(clip, settings, Pipeline(settings), args.frames)
    for name, model in models.items():
        sides[name] = lambda model=model: theirs(clip, model, args.frames)  # type: ignore[misc]
    rounds = in_turns(sides, args.repeats)

    result = Result(
        "vs_mediapipe",
        "How fast and how accurate beside MediaPipe PoseLandmarker, with one person?",
        ("", "frames/s", *(f"times {name}" for name in models), "found %", "MPJPE mm", "PA-MPJPE mm", "accel mm/frame^2"),
        f"Speed on {clip.name}, at most {args.frames} frames, our smoother included; errors are means over the views of {folder.name}.",
    )
    for views in args.views:
        side = f"ours, {views} views"
        predictions = predict(folder, views=views, overrides=[*args.overrides, "tracker.max_people=1"], mediapipe=False)
        ratios = {name: Ratio.of(rounds, side, name) for name in models}
        result.ratios |= {f"{side} / {name}": ratio for name, ratio in ratios.items()}
        speed = [f"{middle(rounds, side):.1f}", *(f"{ratio.median:.2f}" for ratio in ratios.values())]
        result.rows.append(
            [f"{side}, each frame alone, focal length assumed", "", *("" for _ in models), *_errors(predictions.of(PER_FRAME_ASSUMED))]
        )
        result.rows.append([f"{side}, smoothed, camera known", *speed, *_errors(predictions.of(SMOOTHED_KNOWN))])
        row = errors_row(predictions.of(SMOOTHED_KNOWN), pixels=False)
        result.figures[f"{side}: PA-MPJPE mm"] = row["PA-MPJPE mm"]
    for name, model in models.items():
        predicted = [one for view in load_views(folder) for one in mediapipe_on(view, model)]
        for method in _MEDIAPIPE:
            alone = method == _MEDIAPIPE[0]
            speed = [f"{middle(rounds, name):.1f}" if alone else "", *("" for _ in models)]
            row_name = name if alone else f"{name}, smoothed"
            result.rows.append([row_name, *speed, *_errors([one for one in predicted if one.method == method])])
            row = errors_row([one for one in predicted if one.method == method], pixels=False)
            result.figures[f"{row_name}: PA-MPJPE mm"] = row["PA-MPJPE mm"]
    result.finish(args)


if __name__ == "__main__":
    main()
