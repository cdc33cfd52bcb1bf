"""`mchmr smooth FILE.npz -o OUT.npz --preset NAME`: smooth a finished file again, without running the network."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from mchmr_stream.cli.help_text import examples
from mchmr_stream.errors import UsageError
from mchmr_stream.files.output_lock import claimed

log = logging.getLogger(__name__)

PRESETS = {
    "gentle": ("smoother.strength=0.6", "smoother.fill_gap_s=0.2"),
    "standard": (),
    "strong": ("smoother.strength=2", "smoother.lookahead_s=1", "smoother.fill_gap_s=0.8"),
}
"""Settings of each preset; --set overrides them."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "smooth",
        help="smooth a finished file again, fill gaps, one shape per person",
        description="Smooth the people of a STEM.npz without running the network. Best on files written with --set smoother.kind=none: "
        "others have been smoothed once already.",
        epilog=examples("mchmr smooth out/clip.npz -o out/smooth.npz --preset strong"),
    )
    parser.add_argument("file", type=Path, metavar="FILE.npz", help="bodies as written by `mchmr video`")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT.npz", help="where to write the result")
    parser.add_argument("--preset", choices=tuple(PRESETS), default="standard", help="strength of smoothing (default standard)")
    parser.add_argument(
        "--static-camera",
        action="store_true",
        help="the camera does not move: add an estimate of world coordinates (y up, metres, floor at 0) with standing feet held in place, "
        "computed from the people alone (docs/world.md); with --set smoother.kind=none nothing else is changed",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing OUT.npz, which may be FILE.npz itself")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="smoother.NAME=VALUE", help="one setting; may be repeated"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    wrong = [text for text in args.overrides if not text.startswith(("smoother.", "body.model="))]
    if wrong:
        raise UsageError(f"--set got {wrong[0]}, expected a setting of the smoother, such as smoother.strength=2, or body.model")
    with claimed([args.out]):
        return _smooth(args)


def _smooth(args: argparse.Namespace) -> int:
    from mchmr_stream.body.files import load_body
    from mchmr_stream.config import apply_override, files_named, settings_from
    from mchmr_stream.files.same_file import refuse_to_replace
    from mchmr_stream.jobs.resmooth import smooth_again
    from mchmr_stream.motion import motion as motions
    from mchmr_stream.world.world_motion import ground, in_a_line

    if args.out.exists() and not args.overwrite:
        raise UsageError(f"{args.out} is there already; use --overwrite, or another name")
    motion = motions.load(args.file)
    data = {"crops": motion.settings.get("crops", {}), "body": motion.settings.get("body", {})}
    for text in (*PRESETS[args.preset], *args.overrides):
        apply_override(data, text)
    settings = settings_from(data)
    refuse_to_replace(files_named(settings), [args.out])
    body = load_body(settings.body.model)
    smooth = smooth_again(motion, settings, body)
    if args.static_camera:
        smooth = ground(smooth, body)
    elif motion.world is not None:
        log.warning(
            "%s: what it holds of the world does not fit what was smoothed again and is left out; --static-camera estimates it anew",
            args.file,
        )
    smooth.save(args.out)
    for warning in smooth.world.info["warnings"] if smooth.world is not None else []:
        log.warning("%s: %s", args.out, warning)
    if not args.quiet:
        rows = sum(len(track) for track in motion.tracks.values())
        filled = sum(len(track) for track in smooth.tracks.values()) - rows
        print(f"{args.file}: {len(smooth.tracks)} people, {rows} rows, {filled} filled in -> {args.out}")
        if smooth.world is not None:
            print(f"{args.out}: {in_a_line(smooth.world)}")
    return 0
