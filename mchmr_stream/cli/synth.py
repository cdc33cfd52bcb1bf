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
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from mchmr_stream.learning.synthetic import run_synth

    run_synth(args.out, args.count, args.data, seed=args.seed, backgrounds=args.backgrounds)
    return 0
