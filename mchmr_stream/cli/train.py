"""`mchmr train CONFIG.yaml`: train weights from rendered people and motion capture."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "train", help="train weights", description="Train the network; the config says on what and for how long."
    )
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml", help="training settings, for example configs/train.yaml")
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="folder with poses and bodies (docs/training.md)")
    parser.add_argument("--shards", required=True, type=Path, metavar="DIR", help="rendered people, as written by `mchmr synth`")
    parser.add_argument("--test-shards", type=Path, metavar="DIR", help="other rendered people, to measure on while training")
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("runs/train"), metavar="DIR", help="folder for checkpoints and weights (default runs/train)"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in the output folder")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from mchmr_stream.learning.train import run as train

    weights = train(
        args.config,
        data=args.data,
        shards=args.shards,
        out=args.out,
        test_shards=args.test_shards,
        resume=args.resume,
        report=_silent if args.quiet else _say,
    )
    print(weights)
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def _silent(line: str) -> None:
    pass
