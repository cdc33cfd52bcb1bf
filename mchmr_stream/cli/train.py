"""`mchmr train CONFIG.yaml`: train weights from rendered people and motion capture."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "train", help="train weights", description="Train the network; the config says on what and for how long."
    )
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml", help="training settings, for example configs/train.yaml")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with the training data (docs/training.md)")
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("runs/train"), metavar="DIR", help="folder for checkpoints and weights (default runs/train)"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in the output folder")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from mchmr_stream.learning.train import run as train

    train(args.config, data=args.data, out=args.out, resume=args.resume)
    return 0
