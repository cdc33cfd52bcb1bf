"""`mchmr average FILE FILE... -o OUT.safetensors`: average the weights of several checkpoints."""

from __future__ import annotations

import argparse
from pathlib import Path

from mchmr_stream.cli.help_text import examples


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "average",
        help="average the weights of several checkpoints",
        description="Write the mean of weights of one shape, for example of RUN/kept/*.safetensors (training setting keep_every).",
        epilog=examples("mchmr average runs/train/kept/*.safetensors -o mean.safetensors"),
    )
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE.safetensors", help="weights of one run, or of runs from one start")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT.safetensors", help="where to write the mean")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from mchmr_stream.checkpoints.weight_average import average_weights

    average_weights(args.files, args.out)
    print(f"{args.out}: the mean of {len(args.files)} files")
    return 0
