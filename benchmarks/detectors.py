"""Measure speed and accuracy against the detector's input size and interval.

    python benchmarks/detectors.py VALIDATION_DIR [--sizes 256 320 384 512] [--intervals 4 8 16] [--frames 60]

Speed: the full pipeline on the first real view with one person. Errors: the same view's ground truth, per frame, with the known camera.
Recall and false alarms: eight drawn people, small at 1280x720, by the detector alone (score over 0.3).
"""

from __future__ import annotations

from pathlib import Path

from measuring import Ratio, Result, arguments, drawn, in_turns, middle, need, pipeline_fps, settings_of

from mchmr_stream.config import SourceSettings
from mchmr_stream.datatypes import Frame
from mchmr_stream.detection.movenet_detector import MoveNetDetector
from mchmr_stream.evaluation.real3d import errors_row
from mchmr_stream.evaluation.real_predictions import known_camera, main_person
from mchmr_stream.evaluation.real_views import load_views
from mchmr_stream.network.weights import pick_device
from mchmr_stream.pipeline.pipeline import Pipeline
from mchmr_stream.sources import open_source

_DRAWN, _SCORE = 8, 0.3


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("validation", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 320, 384, 512])
    parser.add_argument("--intervals", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--frames", type=int, default=60)
    args = parser.parse_args()
    view = load_views(need(args.validation, "a folder of real views as for `mchmr evaluate real3d`"))[0]
    default = settings_of(args.overrides).detector.input_px
    chosen = {f"{size} px, every frame": (f"detector.input_px={size}", "detector.file_interval=1") for size in args.sizes}
    chosen |= {
        f"{default} px, one frame in {n} or more": (f"detector.input_px={default}", f"detector.file_interval={n}") for n in args.intervals
    }
    reference = f"{default} px, every frame"
    if reference not in chosen:
        chosen[reference] = (f"detector.input_px={default}", "detector.file_interval=1")

    sides, errors, recall = {}, {}, {}
    shared = Pipeline(settings_of(args.overrides))
    apart = drawn_frames()
    for name, own in chosen.items():
        settings = settings_of([*own, *args.overrides], "tracker.max_people=1")
        detector = MoveNetDetector(
            input_px=settings.detector.input_px, min_score=settings.detector.min_score, device=pick_device(settings.runtime.device),
            precision=settings.network.precision, batch=settings.detector.batch,
        )  # fmt: skip
        # One network and one body for all runs.
        names = ("estimator", "body", "batches_at_once", "frames_together")
        pipeline = Pipeline(settings, detector=detector).with_components(**{name: getattr(shared.components, name) for name in names})
        sides[name] = pipeline_fps(view.video, settings, pipeline, args.frames)
        with known_camera(view) as known:
            alone = settings_of([*own, *args.overrides], "tracker.max_people=1", "smoother.kind=none", known)
            errors[name] = errors_row([main_person(view, name, alone, undistorted=True)], pixels=False)
        recall[name] = found_drawn(detector, apart) if settings.detector.file_interval == 1 else ("", "")
    rounds = in_turns(sides, args.repeats)
    result = Result(
        "detectors",
        "What do the detector's picture size and interval cost and bring?",
        (
            "detector",
            "frames/s",
            "ratio to the default",
            "found %",
            "MPJPE mm",
            "PA-MPJPE mm",
            "of 8 drawn, recall %",
            "false alarms a frame",
        ),
        f"{view.video.name}, {args.frames} frames for speed and all for errors, one person followed.",
    )
    for name, row in errors.items():
        ratio = Ratio.of(rounds, name, reference)
        if name != reference:
            result.ratios[f"{name} / {reference}"] = ratio
        figures = [f"{row[key]:.1f}" for key in ("found %", "MPJPE mm", "PA-MPJPE mm")]
        result.rows.append([name, f"{middle(rounds, name):.1f}", str(ratio), *figures, *recall[name]])
    result.finish(args)


def drawn_frames() -> list[Frame]:
    """People standing apart."""
    with drawn(_DRAWN, frames=25) as clip:
        source = open_source(clip, SourceSettings())
        frames = list(source.frames())
        source.close()
    return frames


def found_drawn(detector: MoveNetDetector, frames: list[Frame]) -> tuple[str, str]:
    """Percentage of the drawn people that were found, and the mean number of false boxes per frame."""
    counts = [int((found.scores > _SCORE).sum()) for frame in frames for found in detector.detect([frame])]
    hit = sum(min(count, _DRAWN) for count in counts)
    extra = sum(max(0, count - _DRAWN) for count in counts)
    return f"{100 * hit / (_DRAWN * len(counts)):.1f}", f"{extra / len(counts):.2f}"


if __name__ == "__main__":
    main()
