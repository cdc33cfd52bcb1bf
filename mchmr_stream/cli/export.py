"""`mchmr export FILE.npz --to FORMAT`: export motion for Blender, game engines, OpenSim, SMPL tools and spreadsheets."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mchmr_stream.cli.help_text import examples
from mchmr_stream.cli.inputs import bodies_inputs
from mchmr_stream.errors import MchmrError, MissingPart, UsageError
from mchmr_stream.files.same_file import colliding

_FORMATS = ("glb", "usd", "bvh", "amass", "smpl", "trc", "csv", "pkl")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "export",
        help="bodies for Blender and other programs",
        description="Write a STEM.npz as a scene (glb, usd: mesh, skeleton, camera), as the motion of one person each (bvh, amass, smpl, "
        "trc), or as a table (csv, pkl). docs/export.md describes each.",
        epilog=examples("mchmr export out/clip.npz --to glb", "mchmr export out --to bvh -o motion --person 1 --fps 30"),
    )
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE.npz", help="bodies as written by `mchmr video`, folders of them, or quoted patterns"
    )
    parser.add_argument("--to", required=True, choices=_FORMATS, metavar="FORMAT", help=", ".join(_FORMATS))
    parser.add_argument(
        "-o", "--out", type=Path, metavar="DIR", help="folder for the files, created if missing (default: the folder of FILE.npz)"
    )
    parser.add_argument("--person", type=int, action="append", metavar="ID", help="only this person; may be repeated")
    parser.add_argument("--per-person", action="store_true", help="glb, usd: one file per person instead of one scene")
    parser.add_argument("--fps", type=float, metavar="N", help="bvh, amass, smpl, trc: frames per second (default: the clip's)")
    parser.add_argument(
        "--fill-gaps", type=float, default=0.5, metavar="S", help="fill gaps up to this many seconds, leave longer ones open (default 0.5)"
    )
    parser.add_argument("--body", type=Path, metavar="FILE", help="the SMPL file of the run, if it was moved")
    parser.add_argument(
        "--build",
        type=_build,
        metavar="BUILD",
        help="another body.build than the run's: neutral, female, male, or shape coefficients as in 0,0,0,0,1.5; with --person "
        "for one person",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    parser.set_defaults(run=run)


def _build(text: str) -> str | list[float]:
    from mchmr_stream.config import checked_build

    try:
        build: str | list[float] = [float(one) for one in text.split(",")]
    except ValueError:
        build = text  # the name of a build
    try:
        found: str | list[float] = checked_build(build)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"got {text!r}; {error}") from error
    return found


def run(args: argparse.Namespace) -> int:
    """Export all files. A file that fails is reported, and the others are still exported."""
    files = bodies_inputs(args.files)
    named = [(args.out or file.parent) / file.stem for file in files]
    if (twice := colliding(named)) is not None:
        first, second = (files[place] for place in twice)
        raise UsageError(f"{first} and {second} would both be written to {named[twice[1]]}*; export them into two folders")
    keep = [*files, *([args.body] if args.body is not None else [])]
    failed: list[MchmrError] = []
    for file in files:
        try:
            _export(file, args, keep)
        except MissingPart:
            raise  # the other files need the missing part, too
        except MchmrError as error:
            failed.append(error)
            print(f"mchmr: {error if str(file) in str(error) else f'{file}: {error}'}", file=sys.stderr)
    if failed and len(files) > 1:
        print(f"mchmr: {len(failed)} of {len(files)} files were not exported", file=sys.stderr)
    return max((error.exit_code for error in failed), default=0)


def _export(file: Path, args: argparse.Namespace, keep: list[Path]) -> None:
    from mchmr_stream.export.formats import body_of, export_motion
    from mchmr_stream.motion.motion import load

    motion = load(file)
    folder = args.out or file.parent
    folder.mkdir(parents=True, exist_ok=True)
    written = export_motion(
        motion, file.stem, args.to, folder,
        people=args.person, per_person=args.per_person, rate=args.fps, longest_gap_s=args.fill_gaps,
        body=body_of(motion, args.body, args.build), overwrite=args.overwrite, keep=keep,
    )  # fmt: skip
    for one in [] if args.quiet else written:
        who = ("person " if len(one.people) == 1 else "people ") + ", ".join(str(identity) for identity in one.people)
        rate = f" at {one.rate:g} frames per second" if one.rate is not None else ""
        print(f"{one.path}: {who}, {one.first_s:.3f} to {one.last_s:.3f} s, {one.frames} frames{rate}")
