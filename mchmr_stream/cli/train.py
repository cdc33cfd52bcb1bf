"""`mchmr train CONFIG.yaml`: train weights on rendered people and motion capture, or on labelled pictures."""

from __future__ import annotations

import argparse
import math
import os
import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from mchmr_stream.cli.help_text import examples
from mchmr_stream.cli.number_types import integer
from mchmr_stream.cli.progress import progress_bar
from mchmr_stream.files.output_lock import claimed_folder

if TYPE_CHECKING:
    from mchmr_stream.cli.stopping import StopOnSignals
    from mchmr_stream.training.common.loop import Leg


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "train",
        help="train weights",
        description="Train the network with the data and steps that the config names.",
        epilog=examples("mchmr train default --data DATA --shards people -o runs/train"),
    )
    parser.add_argument(
        "config",
        type=Path,
        nargs="?",
        metavar="CONFIG.yaml",
        help="training settings: a file, or the name of one that ships, such as train_default",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with poses and bodies (docs/training.md)")
    parser.add_argument(
        "--shards",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="rendered people, as written by `mchmr synth`; one or more folders",
    )
    parser.add_argument(
        "--poses", type=Path, nargs="+", default=[], metavar="PATH", help="your own motion: AMASS or SMPL .npz, .bvh, or folders of them"
    )
    parser.add_argument("--test-shards", type=Path, metavar="DIR", help="other rendered people, for measuring errors during training")
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("runs/train"), metavar="DIR", help="folder for checkpoints and weights (default runs/train)"
    )
    parser.add_argument("--pack", type=Path, metavar="DIR", help="write all data of the run to one small folder, without training")
    parser.add_argument("--packed", type=Path, metavar="DIR", help="train from a folder of --pack; needs torch and numpy only")
    parser.add_argument("--resume", action="store_true", help="resume from the last checkpoint in the output folder")
    parser.add_argument("--minutes", type=_minutes, metavar="M", help="stop after M minutes and write a checkpoint to resume from")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default auto: a GPU if there is one)")
    parser.add_argument("--seed", type=integer(0, 2**63 - 1), metavar="K", help="seed, instead of the config's")
    pictures = parser.add_argument_group("training from pictures (CONFIG is paper_resnet50, paper_hrnet_w48 or alike)")
    pictures.add_argument("--sets", type=Path, metavar="DIR", help="folder of data sets, in addition to --shards or instead")
    pictures.add_argument("--unchecked", action="store_true", help="also train on data sets that fail `mchmr data check`")
    pictures.add_argument("--test-set", metavar="NAME", help="data set in --sets whose test split is measured during training")
    pictures.add_argument("--start", type=Path, metavar="FILE", help="initial weights, from `mchmr import-weights` or another run")
    pictures.add_argument(
        "--workers",
        type=integer(0, 256),
        default=0,
        metavar="N",
        help="processes that read pictures (default 0: the training process reads)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from mchmr_stream.cli.stopping import StopOnSignals
    from mchmr_stream.errors import UsageError
    from mchmr_stream.files.shipped_configs import find_config
    from mchmr_stream.training.common.train_settings import read_yaml
    from mchmr_stream.training.end_to_end.network_settings import learns_from_pictures
    from mchmr_stream.training.frozen_encoder import train_head

    report = _silent if args.quiet else _print_line
    if args.config is not None:
        args.config = find_config(args.config)
    if args.config is not None and args.config.is_file() and learns_from_pictures(read_yaml(args.config, "training settings")):
        return _run_pictures(args, report)
    if args.start is not None or args.workers or args.sets is not None or args.test_set is not None:
        raise UsageError("--sets, --test-set, --start and --workers are for training from pictures (network.head: paper)")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("a head on a frozen encoder trains in one process; start it without torchrun")
    if args.pack is not None:
        if args.config is None or args.data is None or not args.shards:
            raise UsageError("--pack needs a config, --data and --shards")
        size = train_head.pack_run(
            args.config, data=args.data, shards=args.shards, out=args.out, folder=args.pack, test_shards=args.test_shards, seed=args.seed,
            poses=args.poses, report=report,
        )  # fmt: skip
        print(f"{args.pack}: {size / 1e6:.1f} MB; train from it with `mchmr train --packed {shlex.quote(str(args.pack))}`")
        return 0
    with _claimed(args.out), StopOnSignals() as stop, progress_bar("training", shown=not args.quiet, unit="steps/s") as progress:
        leg = train_head.run(
            args.config, data=args.data, shards=args.shards, out=args.out, test_shards=args.test_shards, poses=args.poses,
            packed=args.packed, resume=args.resume, device=args.device, minutes=args.minutes, seed=args.seed, report=report,
            progress=progress, stopped=stop.event.is_set,
        )  # fmt: skip
    return _ended(leg, stop)


def _run_pictures(args: argparse.Namespace, report: Callable[[str], None]) -> int:
    from mchmr_stream.cli.stopping import StopOnSignals
    from mchmr_stream.errors import UsageError
    from mchmr_stream.training.end_to_end import train_network

    for name in ("data", "poses", "pack", "packed"):
        if getattr(args, name):
            raise UsageError(f"--{name} is for training a head on a frozen encoder; this config learns from pictures, leave it out")
    with _claimed(args.out), StopOnSignals() as stop, progress_bar("training", shown=not args.quiet, unit="steps/s") as progress:
        leg = train_network.run(
            args.config, shards=args.shards, sets=args.sets, unchecked=args.unchecked, out=args.out, test_shards=args.test_shards,
            test_set=args.test_set, start=args.start, resume=args.resume, device=args.device, minutes=args.minutes, seed=args.seed,
            workers=args.workers, report=report, progress=progress, stopped=stop.event.is_set,
        )  # fmt: skip
    return _ended(leg, stop)


def _claimed(out: Path) -> AbstractContextManager[object]:
    """Lock on the output folder for all processes of a run: the first one that torchrun starts holds it."""
    if int(os.environ.get("RANK", "0")):
        return nullcontext()
    return claimed_folder(out)


def _ended(leg: Leg, stop: StopOnSignals) -> int:
    if leg.weights is not None:
        print(leg.weights)
    if not leg.finished:
        print(f"stopped at step {leg.step} of {leg.steps}; the same command with --resume goes on from there")
    return stop.exit_code or 0


def _minutes(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text} minutes, expected more than 0")
    return value


def _print_line(line: str) -> None:
    print(line, flush=True)


def _silent(line: str) -> None:
    pass
