"""`mchmr bench [INPUT]`: measure speed on this machine, for each stage and for the full pipeline."""

from __future__ import annotations

import argparse
import json
import tempfile
from contextlib import nullcontext
from pathlib import Path

from mchmr_stream.cli.help_text import examples
from mchmr_stream.cli.number_types import integer
from mchmr_stream.errors import UsageError
from mchmr_stream.files.same_file import refuse_to_replace


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    from mchmr_stream.cli.video import add_settings_arguments

    parser = subparsers.add_parser(
        "bench",
        help="measure speed: each stage alone, and the full pipeline",
        description="Frames and people per second, milliseconds, CPU time and memory of each stage alone and of the full pipeline. "
        "Without INPUT on a clip that is drawn here and is the same everywhere, so that figures of machines can be compared.",
        epilog=examples("mchmr bench --frames 50", "mchmr bench clip.mp4 --views 1,2 --plot where.png"),
    )
    parser.add_argument("input", nargs="?", type=Path, metavar="INPUT", help="a video file or a folder of images")
    parser.add_argument(
        "--people", type=integer(1, 100), default=2, metavar="P", help="without INPUT: number of rendered people (default 2)"
    )
    parser.add_argument("--size", default="1280x720", metavar="WxH", help="without INPUT: size of the pictures (default 1280x720)")
    parser.add_argument("--views", metavar="N[,N]", help="crops of each person; several are measured one after the other (crops.views)")
    parser.add_argument("--batch", metavar="N[,N]", help="also measure the network alone with N people per call")
    parser.add_argument("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N (runtime.device)")
    parser.add_argument("--frames", type=integer(1, 1_000_000), default=100, metavar="N", help="limit of frames (default 100)")
    parser.add_argument(
        "--repeats",
        type=integer(1, 10_000),
        default=3,
        metavar="N",
        help="runs of the full pipeline, of which the median counts (default 3)",
    )
    parser.add_argument("--no-overlay", action="store_true", help="leave out drawing and encoding (output.overlay)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw a chart of the time per stage")
    add_settings_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from mchmr_stream.config import load_settings

    if args.plot is not None and args.plot.suffix.lower() != ".png":
        raise UsageError(f"--plot got {args.plot}, expected a name that ends in .png")
    if args.plot is not None and not args.plot.absolute().parent.is_dir():
        raise UsageError(f"--plot: there is no folder {args.plot.parent}; make it first")
    if args.plot is not None:
        refuse_to_replace([args.input, args.config], [args.plot], "choose another name")
    views, batches, size_wh = _numbers("--views", args.views, 9), _numbers("--batch", args.batch, 1024), _size(args.size)
    common = [f"runtime.device={args.device}"] if args.device else []
    common += ["output.overlay=false"] if args.no_overlay else []
    settings = [load_settings(args.config, [*common, *args.overrides, *own]) for own in ([f"crops.views={n}"] for n in views)]
    settings = settings or [load_settings(args.config, [*common, *args.overrides])]

    from mchmr_stream.cli.progress import progress_bar
    from mchmr_stream.cli.tables import TableConsole
    from mchmr_stream.speed.benchmark import bench, steps_of
    from mchmr_stream.speed.drawn_clip import write_clip
    from mchmr_stream.speed.result_tables import print_tables
    from mchmr_stream.speed.time_chart import draw_chart

    with tempfile.TemporaryDirectory() if args.input is None else nullcontext() as folder:
        clip = args.input
        if folder is not None:
            clip = Path(folder) / "drawn.mp4"
            with progress_bar("drawing the clip", shown=not args.quiet) as drawing:
                write_clip(clip, args.people, frames=args.frames, size_wh=size_wh, progress=drawing)
        expected, done = steps_of(settings, args.repeats), 0
        with progress_bar("measuring", shown=not args.quiet, unit="measurements/s") as progress:

            def step(_: str) -> None:
                nonlocal done
                if progress is not None:
                    progress(done, expected)
                done += 1

            result = bench(
                clip, settings, frames=args.frames, repeats=args.repeats, batches=batches,
                drawn_people=args.people if folder is not None else None, step=step,
            )  # fmt: skip
    if args.plot is not None:
        draw_chart(result, args.plot)
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        print_tables(result, TableConsole())
    return 0


def _numbers(option: str, text: str | None, most: int) -> list[int]:
    if text is None:
        return []
    parts = text.split(",")
    if not all(part.strip().isdecimal() and len(part) < 9 and 1 <= int(part) <= most for part in parts):
        raise UsageError(f"{option} got {text!r}, expected whole numbers from 1 to {most}, as in 1,3,5")
    return [int(part) for part in parts]


def _size(text: str) -> tuple[int, int]:
    width, cross, height = text.partition("x")
    if not (
        cross
        and width.isdecimal()
        and height.isdecimal()
        and all(len(n) < 9 and 64 <= int(n) <= 8192 and int(n) % 2 == 0 for n in (width, height))
    ):
        raise UsageError(f"--size got {text!r}, expected two even numbers from 64 to 8192, as in 1280x720")
    return int(width), int(height)
