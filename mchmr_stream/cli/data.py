"""`mchmr data check DIR`: check folders of labelled data sets and draw samples of their labels."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mchmr_stream.cli.help_text import examples


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "data",
        help="check folders of labelled data sets",
        description="Labelled data sets, see docs/datasets.md.",
        epilog=examples("mchmr data check DATA", "mchmr data check --help"),
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    check = actions.add_parser(
        "check",
        help="count people, find missing and wrong labels, draw samples",
        description="Read all labels, check that all pictures exist, draw samples to DIR/check_NAME.jpg. Exit code 1 when a set fails.",
        epilog=examples("mchmr data check DATA --set 3dpw --sheets sheets"),
    )
    check.add_argument("folder", type=Path, metavar="DIR", help="folder with a subfolder for each data set")
    check.add_argument("--set", dest="names", action="append", metavar="NAME", help="only this data set; may be repeated")
    check.add_argument(
        "--bodies", type=Path, metavar="DIR", help="folder of SMPL files for drawing labelled bodies (default: the free body)"
    )
    check.add_argument("--sheets", type=Path, metavar="DIR", help="folder for the pictures of samples (default: DIR itself)")
    check.set_defaults(run=_check)


def _check(args: argparse.Namespace) -> int:
    from rich.table import Table

    from mchmr_stream.cli.tables import TableConsole
    from mchmr_stream.datasets.checking import check_set, missing_sets
    from mchmr_stream.datasets.contact_sheet import contact_sheet
    from mchmr_stream.datasets.labelled_bodies import LabelledBodies
    from mchmr_stream.datasets.opening import sets_in
    from mchmr_stream.errors import UsageError

    there = sets_in(args.folder)
    unknown = sorted(set(args.names or ()) - set(there))
    if unknown:
        raise UsageError(f"{args.folder} has no labels of {', '.join(unknown)}; it has {', '.join(there) or 'none'}")
    reports = [check_set(args.folder, name) for name in args.names or there]
    console = TableConsole()
    if reports:
        columns = list(dict.fromkeys(column for report in reports for column in report.counts))
        table = Table("data set", "label files", *columns, "")
        for report in reports:
            counts = [str(report.counts.get(column, "")) for column in columns]
            table.add_row(report.name, str(report.files), *counts, "sound" if report.sound else "FAILS")
        console.print(table)
    for report in reports:
        for finding in report.findings:
            print(f"{report.name}: {'fault' if finding.fault else 'remark'}: {finding.text}")
    sheets = args.sheets or args.folder
    for report in reports:
        if report.reader is not None:
            sheets.mkdir(parents=True, exist_ok=True)
            path = sheets / f"check_{report.name}.jpg"
            contact_sheet(report.reader, LabelledBodies(args.bodies)).save(path, quality=92)
            print(f"{report.name}: samples drawn to {path}")
    if not args.names:
        for text in missing_sets(args.folder):
            print(f"not there: {text}")
    if not reports:
        print(f"mchmr: {args.folder} has no labels of any data set", file=sys.stderr)
    return 0 if reports and all(report.sound for report in reports) else 1
