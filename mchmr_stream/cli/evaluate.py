"""`mchmr evaluate real3d|reprojection`: how far off the bodies are, in millimetres or pixels."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "evaluate", help="measure accuracy", description="Measure accuracy against ground truth or against the picture."
    )
    kinds = parser.add_subparsers(metavar="KIND", required=True)

    real3d = kinds.add_parser("real3d", help="3D joints of filmed people", description="Joint errors in mm on views with 3D ground truth.")
    real3d.add_argument("--data", required=True, type=Path, metavar="DIR", help="folder with the views and their ground truth")
    real3d.add_argument("--views", type=int, metavar="N", help="crops of each person (crops.views)")
    real3d.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N")
    real3d.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="SECTION.NAME=VALUE", help="one setting; may be repeated"
    )
    real3d.add_argument("--mediapipe-model", type=Path, metavar="FILE.task", help="PoseLandmarker bundle to compare with")
    real3d.add_argument("--json", action="store_true", help="print JSON instead of a table")
    real3d.set_defaults(run=_real3d)

    reprojection = kinds.add_parser(
        "reprojection", help="bodies against detected keypoints", description="Distance of projected joints from detected keypoints."
    )
    reprojection.add_argument("files", nargs="+", type=Path, metavar="FILE.npz", help="bodies as written by `mchmr video`")
    reprojection.add_argument("--json", action="store_true", help="print JSON instead of a table")
    reprojection.set_defaults(run=_reprojection)


def _real3d(args: argparse.Namespace) -> int:
    from mchmr_stream.learning.evaluate import real3d

    rows = real3d(args.data, views=args.views, device=args.device, overrides=args.overrides, mediapipe_model=args.mediapipe_model)
    return _show(rows, args.json)


def _reprojection(args: argparse.Namespace) -> int:
    from mchmr_stream.learning.evaluate import reprojection

    return _show({str(file): reprojection(file) for file in args.files}, args.json)


def _show(rows: Mapping[str, Mapping[str, float]], as_json: bool) -> int:
    """A row per clip, a column per metric."""
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    from rich.console import Console
    from rich.table import Table

    metrics = list(dict.fromkeys(metric for row in rows.values() for metric in row))
    table = Table("", *metrics)
    for name, row in rows.items():
        table.add_row(name, *(f"{row[metric]:.4g}" if metric in row else "" for metric in metrics))
    Console().print(table)
    return 0
