"""`mchmr synth -o DIR -n N --data DIR`: render people with known bodies, to train on."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "synth", help="render training people", description="Render people with known bodies into training files."
    )
    parser.add_argument("-o", "--out", required=True, type=Path, metavar="DIR", help="folder for the rendered people")
    parser.add_argument("-n", "--count", required=True, type=int, metavar="N", help="how many people")
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="folder with body/, people/ and poses/ (docs/training.md)")
    parser.add_argument("--seed", type=int, default=0, metavar="K", help="the same seed gives the same people (default 0)")
    parser.add_argument("--backgrounds", type=Path, metavar="DIR", help="folder of images to put behind them")
    parser.add_argument("--split", choices=("train", "test"), default="train", help="which half of the pose clips (default train)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from mchmr_stream.cli.progress import progress_bar
    from mchmr_stream.learning.synthetic.shards import run_synth

    with progress_bar("people", wanted=not args.quiet) as progress:
        shards = run_synth(args.data, args.out, args.count, args.seed, args.backgrounds, args.split, progress=progress)
    print(f"{len(shards)} files in {args.out}; {args.out / 'contact.png'} shows some of the people")
    return 0
