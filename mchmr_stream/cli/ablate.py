"""`mchmr ablate VARIANT.yaml...`: measure the contribution of each part of the method by training without it."""

from __future__ import annotations

import argparse
from pathlib import Path

from mchmr_stream.cli.help_text import examples
from mchmr_stream.cli.number_types import integer
from mchmr_stream.files.output_lock import claimed_folder


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "ablate",
        help="measure the contribution of each part of the method",
        description="Train the network with one changed setting each, with several seeds, and write a page with table and plot. "
        "The same command again goes on where it was stopped.",
        epilog=examples("mchmr ablate configs/ablations/*.yaml --packed PACK -o runs/ablation --steps 2000"),
    )
    parser.add_argument(
        "variants",
        type=Path,
        nargs="*",
        metavar="VARIANT.yaml",
        help="variants: files, or names of those that ship, such as ablations/base (default: all of these)",
    )
    parser.add_argument("--packed", type=Path, required=True, metavar="DIR", help="data with test people, from `mchmr train --pack`")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="folder for the runs and RESULTS.json")
    parser.add_argument("--config", type=Path, metavar="CONFIG.yaml", help="training settings of the base (default: those of the pack)")
    parser.add_argument("--steps", type=integer(1, 1_000_000_000), metavar="N", help="steps of each run, instead of the settings'")
    parser.add_argument(
        "--seeds", type=integer(0, 2**63 - 1), nargs="+", default=[0, 1, 2], metavar="K", help="seeds of each variant (default 0 1 2)"
    )
    parser.add_argument(
        "--processes", type=integer(1, 1024), default=1, metavar="N", help="parallel runs, each on its share of the cores (default 1)"
    )
    parser.add_argument("--real", type=Path, metavar="DIR", help="real views to measure on as well (docs/evaluation.md)")
    parser.add_argument("--table", type=Path, metavar="FILE.md", help="the page (default ablations.md in the output folder)")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from mchmr_stream.cli.stopping import StopOnSignals
    from mchmr_stream.experiments.ablation import ablate
    from mchmr_stream.files.same_file import refuse_to_replace
    from mchmr_stream.files.shipped_configs import find_config, shipped_ablations

    variants = [find_config(variant) for variant in args.variants] or shipped_ablations()
    config = find_config(args.config) if args.config is not None else None
    table = args.table or args.out / "ablations.md"
    refuse_to_replace([*variants, config, args.packed, args.real], [table, args.out / "RESULTS.json"], "choose another name")
    report = (lambda line: None) if args.quiet else (lambda line: print(line, flush=True))
    with claimed_folder(args.out), StopOnSignals() as stop:
        done = ablate(
            variants, packed=args.packed, out=args.out, table=table, config=config, steps=args.steps, seeds=args.seeds,
            real=args.real, processes=args.processes, device=args.device, report=report, stopped=stop.event.is_set,
        )  # fmt: skip
    print(table if done else "stopped; the same command goes on from there")
    return stop.exit_code or 0
