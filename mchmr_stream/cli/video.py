"""`mchmr video INPUT... -o OUT`: process files and folders of pictures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mchmr_stream.cli.help_text import examples
from mchmr_stream.cli.inputs import video_inputs
from mchmr_stream.cli.still_inputs import Input, expanded
from mchmr_stream.errors import MchmrError, UsageError
from mchmr_stream.files.same_file import colliding, refuse_to_replace

if TYPE_CHECKING:
    from mchmr_stream.config import Settings
    from mchmr_stream.jobs.video_job import VideoResult


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "video",
        help="turn videos into bodies",
        description="Write STEM.npz (bodies), STEM.mp4 (the picture with the bodies over it; of a photo STEM.jpg or STEM.png) "
        "and STEM.json (report of the run) for each input. Pictures of a folder that are no frames of a clip are processed one by one.",
        epilog=examples("mchmr video clip.mp4 -o out", "mchmr video 'clips/*.mp4' -o out --views 1 --no-overlay"),
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="a video, a picture, or a folder of videos or of pictures")
    parser.add_argument("-o", "--out", required=True, type=Path, metavar="OUT", help="folder for the results, created if missing")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="continue an interrupted run, skip complete results")
    existing.add_argument("--overwrite", action="store_true", help="replace existing results")
    add_settings_arguments(parser)
    quick = parser.add_argument_group("shorthands", "each stands for one setting; `mchmr config` lists all settings")
    quick.add_argument("--views", type=int, metavar="N", help="crops of each person, fewer is faster (crops.views)")
    quick.add_argument("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N (runtime.device)")
    quick.add_argument("--detector", metavar="KIND", help="movenet, mediapipe or boxes (detector.kind)")
    quick.add_argument("--max-people", type=int, metavar="N", help="keep only the N largest people (tracker.max_people)")
    quick.add_argument("--every", type=int, metavar="N", help="use each N-th frame (source.every)")
    quick.add_argument("--start", type=float, metavar="S", help="start at this time, in seconds (source.start_s)")
    quick.add_argument("--end", type=float, metavar="S", help="stop at this time, in seconds (source.end_s)")
    quick.add_argument("--stream", type=int, metavar="N", help="which video stream of the file (source.stream)")
    quick.add_argument("--no-overlay", action="store_true", help="bodies only, no video (output.overlay)")
    quick.add_argument("--rerun", action="store_true", help="also STEM.rrd, for the Rerun viewer (output.rerun)")
    quick.add_argument(
        "--static-camera", action="store_true",
        help="the camera does not move: add an estimate of world coordinates (y up, floor at 0) with standing feet held in place "
        "to STEM.npz, computed from the people alone (camera.static; docs/world.md)",
    )  # fmt: skip
    camera = quick.add_mutually_exclusive_group()
    camera.add_argument("--focal", type=float, metavar="PX", help="focal length in pixels (camera.focal_px)")
    camera.add_argument("--fov", type=float, metavar="DEG", help="horizontal field of view in degrees (camera.fov_deg)")
    camera.add_argument(
        "--intrinsics",
        type=Path,
        metavar="FILE",
        help="calibration of OpenCV, COLMAP, Kalibr, ... or JSON (camera.intrinsics; docs/camera.md)",
    )
    parser.set_defaults(run=run)


def add_settings_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--config` and `--set`, which are the same for all commands with settings."""
    group = parser.add_argument_group("settings")
    group.add_argument(
        "--config",
        type=Path,
        metavar="FILE.yaml",
        help="settings in the format of `mchmr config`, missing ones keep their defaults; or the name of a file that ships: fast, accurate",
    )
    group.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="SECTION.NAME=VALUE", help="one setting; may be repeated"
    )
    add_triton_arguments(group)


def add_triton_arguments(parser: argparse._ActionsContainer) -> None:
    """Add `--triton` and `--shm`; their settings go to `overrides`, like those of `--set`."""
    parser.add_argument(
        "--triton", dest="overrides", action="append", type=_servers, metavar="HOST:PORT[,HOST:PORT]",
        help="run the network on a Triton server, and on the next one if it fails (triton.servers); `mchmr serve` starts one",
    )  # fmt: skip
    parser.add_argument(
        "--shm", dest="overrides", action="append", type="triton.shm={}".format, metavar="HOW",
        help="send crops to a Triton server through shared memory: auto, system, cuda or off (triton.shm)",
    )  # fmt: skip


def _servers(text: str) -> str:
    return f"triton.servers={json.dumps([server.strip() for server in text.split(',')])}"


def run(args: argparse.Namespace) -> int:
    from mchmr_stream.config import load_settings

    settings = load_settings(args.config, [*shorthand_overrides(args), *args.overrides])
    return process(
        video_inputs(args.inputs), args.out, settings,
        resume=args.resume, overwrite=args.overwrite, quiet=args.quiet, settings_file=args.config,
    )  # fmt: skip


def shorthand_overrides(args: argparse.Namespace) -> list[str]:
    """The shorthand options as `section.name=value` strings; they precede --set, which therefore overrides them."""
    camera = {"camera.focal_px": args.focal, "camera.fov_deg": args.fov, "camera.intrinsics": args.intrinsics}
    given = {
        "crops.views": args.views,
        "runtime.device": args.device,
        "detector.kind": args.detector,
        "tracker.max_people": args.max_people,
        "source.every": args.every,
        "source.start_s": args.start,
        "source.end_s": args.end,
        "source.stream": args.stream,
        "output.overlay": False if args.no_overlay else None,
        "output.rerun": True if args.rerun else None,
        "camera.static": True if args.static_camera else None,
    }
    values = {name: value for name, value in given.items() if value is not None}
    if any(value is not None for value in camera.values()):
        values |= camera  # including nulls: a camera on the command line replaces the file's, of any kind
    return [f"{name}={json.dumps(str(value) if isinstance(value, Path) else value)}" for name, value in values.items()]


def process(
    names: Sequence[str],
    out_dir: Path,
    settings: Settings,
    *,
    resume: bool,
    overwrite: bool,
    quiet: bool,
    settings_file: Path | None = None,
) -> int:
    """Process all inputs and print the result of each. If an input fails, the others are still processed.

    Args:
        names: inputs as on the command line.
        out_dir: output folder.
        settings: settings of the run.
        resume: continue interrupted runs and skip complete results.
        overwrite: replace existing results.
        quiet: print errors only.
        settings_file: the settings' file, which must not be overwritten.

    Returns:
        The exit code.

    Raises:
        UsageError: outputs collide with each other, with existing files, or with an input; nothing is written.
        MchmrError: the error of a single input.
    """
    if out_dir.exists() and not out_dir.is_dir():
        raise UsageError(f"-o got {out_dir}, which is a file; expected a folder")
    inputs = expanded(names, out_dir, settings, report=lambda text: None if quiet else print(f"mchmr: {text}", file=sys.stderr))
    _check_outputs(names, inputs, settings, settings_file, allow_existing=resume or overwrite)
    from mchmr_stream.cli.progress import progress_bar
    from mchmr_stream.cli.stopping import StopOnSignals
    from mchmr_stream.jobs.video_job import process_video
    from mchmr_stream.pipeline.pipeline import Pipeline

    out_dir.mkdir(parents=True, exist_ok=True)
    failed = 0
    with StopOnSignals() as stop, ExitStack() as loaded:
        pipeline = loaded.enter_context(closing(Pipeline(settings))) if len(inputs) > 1 else None  # networks are loaded once for all inputs
        run_one = partial(process_video, settings=settings, resume=resume, overwrite=overwrite, stop=stop.event, pipeline=pipeline)
        for number, one in enumerate(inputs):
            name = one.name
            if stop.event.is_set():
                left = " ".join(other.name for other in inputs[number:])
                print(f"mchmr: stopped before {len(inputs) - number} of {len(inputs)} inputs: {left}", file=sys.stderr)
                break
            try:
                with progress_bar(Path(name).name, shown=not quiet) as progress:
                    result = run_one(name, one.out_dir, progress=progress)
            except (MchmrError, OSError) as error:
                if len(inputs) == 1:
                    raise
                print(f"mchmr: {name}: failed: {' '.join(str(error).split())}", file=sys.stderr)
                failed += 1
                continue
            _print_result(one, result, stopped=stop.event.is_set() and not result.complete, quiet=quiet)
            failed += not result.complete
    if stop.exit_code is not None:
        return stop.exit_code
    if len(inputs) > 1 and failed:
        print(f"mchmr: {failed} of {len(inputs)} inputs failed or are incomplete", file=sys.stderr)
    return 1 if failed else 0


def _check_outputs(
    names: Sequence[str], inputs: Sequence[Input], settings: Settings, settings_file: Path | None, *, allow_existing: bool
) -> None:
    from mchmr_stream.config import files_named
    from mchmr_stream.motion.output_paths import OutputPaths
    from mchmr_stream.sinks.run_report import is_worth_keeping
    from mchmr_stream.sources.playlists import files_listed

    if (twice := colliding([one.paths.bodies for one in inputs])) is not None:
        first, second = (inputs[place] for place in twice)
        place = second.out_dir / second.paths.stem
        raise UsageError(f"{first.name} and {second.name} would both be written to {place}.*; run them into two folders")
    wanted = partial(OutputPaths.wanted, overlay=settings.output.overlay, rerun=settings.output.rerun)
    outputs = [path for one in inputs for path in wanted(one.paths)]
    refuse_to_replace([settings_file], outputs)
    listed = [file for name in names for file in files_listed(Path(name))]
    refuse_to_replace([*names, *listed, *files_named(settings)], outputs, "choose another folder with -o")
    existing = [output for one in inputs for output in wanted(one.paths) if is_worth_keeping(output, one.paths)]
    if existing and not allow_existing:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise UsageError(f"{existing[0]}{more} exist; --overwrite replaces, --resume goes on, or choose another folder with -o")


def _print_result(one: Input, result: VideoResult, *, stopped: bool, quiet: bool) -> None:
    """Print one line on the result, and its warnings. Results go to stdout, warnings to stderr."""
    name = one.name
    for warning in [] if quiet else result.warnings:
        print(f"mchmr: warning: {name}: {warning}", file=sys.stderr)
    files = ", ".join(str(path) for path in (result.npz, result.overlay) if path is not None)
    frames = "" if one.still else f"{result.frames} frames, "
    summary = f"{name}: {frames}{result.people} {'person' if result.people == 1 else 'people'} -> {files}"
    if stopped:
        print(f"mchmr: {summary}; stopped early, the files are whole up to there; --resume goes on", file=sys.stderr)
    elif not result.complete:
        print(f"mchmr: {summary}; incomplete: {result.message or 'the input broke off'}", file=sys.stderr)
    elif not quiet:
        print(f"{summary}{f' ({result.message})' if result.message else ''}")
    if result.world is not None and not quiet:
        print(f"{name}: {result.world}")
