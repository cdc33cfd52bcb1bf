"""`mchmr synth -o DIR -n N --data DIR`: render people with known bodies, as pictures for training or clips for measurements."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mchmr_stream.cli.help_text import examples
from mchmr_stream.cli.number_types import integer
from mchmr_stream.files.output_lock import claimed_folder


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "synth",
        help="render people to train on or to measure with",
        description="Render people with known bodies: single pictures in training files, or clips of moving people (--clips).",
        epilog=examples("mchmr synth -o people -n 1000 --data DATA"),
    )
    parser.add_argument("-o", "--out", required=True, type=Path, metavar="DIR", help="output folder")
    parser.add_argument(
        "-n", "--count", required=True, type=integer(1, 100_000_000), metavar="N", help="number of people; with --clips, of clips"
    )
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="folder with body/, people/ and poses/ (docs/training.md)")
    parser.add_argument(
        "--seed", type=integer(0, 2**63 - 1), default=0, metavar="K", help="the same seed gives the same people (default 0)"
    )
    parser.add_argument("--backgrounds", type=Path, metavar="DIR", help="folder of background pictures")
    parser.add_argument(
        "--poses", type=Path, nargs="+", default=[], metavar="PATH", help="your own motion: AMASS or SMPL .npz, .bvh, or folders of them"
    )
    parser.add_argument(
        "--poses-share",
        type=_share,
        default=0.3,
        metavar="S",
        help="share of the poses that comes from --poses (default 0.3; all if DATA has none)",
    )
    parser.add_argument("--split", choices=("train", "test"), default="train", help="split of the pose clips (default train)")
    parser.add_argument("--clips", action="store_true", help="clips of moving people with identities: mp4, labels as npz, contact sheet")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of a clip (default 4)")
    parser.add_argument("--fps", type=float, metavar="F", help="frames per second of a clip (default 25)")
    parser.add_argument(
        "--camera", choices=("still", "moving", "mixed"), help="camera of clips (default mixed: half of them pan and drift slowly)"
    )
    parser.add_argument(
        "--staging", metavar="NAME", help="staging of clips: crossing, hiding, entering, running, sitting or crowd (default: random paths)"
    )
    parser.add_argument("--long-side", type=int, metavar="PX", help="longer side of the pictures (default 640 to 960, drawn at random)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from mchmr_stream.cli.progress import progress_bar
    from mchmr_stream.errors import UsageError
    from mchmr_stream.synthesis.poses import PoseSettings
    from mchmr_stream.synthesis.shards import run_synth

    if args.long_side is not None and not 64 <= args.long_side <= 4096:
        raise UsageError(f"--long-side is {args.long_side}, expected 64 to 4096 px")
    long_side: dict[str, Any] = {} if args.long_side is None else {"long_side_px": (args.long_side, args.long_side)}
    of_clips: dict[str, Any] = {
        name: getattr(args, name) for name in ("seconds", "fps", "camera", "staging") if getattr(args, name) is not None
    }
    poses = PoseSettings(split=args.split, files=tuple(args.poses), files_share=args.poses_share)
    where = (args.data, args.out, args.count, args.seed, args.backgrounds, poses)
    with claimed_folder(args.out):
        if args.clips:
            from mchmr_stream.synthesis.clip_files import run_clips
            from mchmr_stream.synthesis.clips import ClipSettings

            with progress_bar("frames", shown=not args.quiet) as progress:
                made = run_clips(*where, settings=ClipSettings(**of_clips, **long_side), progress=progress)
        elif of_clips:
            raise UsageError(f"--{next(iter(of_clips))} is for clips; add --clips, or leave it out")
        else:
            with progress_bar("people", shown=not args.quiet, unit="people/s") as progress:
                made = run_synth(*where, **long_side, progress=progress)
    print(f"{len(made)} files in {args.out}; {args.out / 'contact.png'} shows some of the people")
    return 0


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"share {text}, expected more than 0 and less than 1")
    return value
