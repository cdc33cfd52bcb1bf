"""`mchmr import-weights FILE --from LAYOUT -o OUT.safetensors`: convert weights that others published."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mchmr_stream.cli.help_text import examples

_NAMED = 5


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "import-weights",
        help="convert a published checkpoint",
        description="Read a published checkpoint and write it as weights of this program; docs/paper.md describes the layouts.",
        epilog=examples("mchmr import-weights multi_roi.pt --from multi-roi -o multi_roi.safetensors"),
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the checkpoint: .pt, .pth or .safetensors")
    parser.add_argument(
        "--from",
        dest="layout",
        required=True,
        metavar="LAYOUT",
        help="multi-roi or cliff (whole networks), torchvision, timm, coco-pose or hmr2 (encoders to start training from)",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT.safetensors", help="where to write the weights")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from mchmr_stream.checkpoints.checkpoint_import import NETWORK_LAYOUTS, import_weights

    result = import_weights(args.file, args.layout, args.out)
    print(f"{args.out}: {result.taken} tensors of layout {result.layout}, encoder {result.encoder}")
    _list("not used", result.not_used)
    _list("unknown, left out", result.unknown)
    _list("not in the file, drawn at random", result.started_anew)
    if result.layout in NETWORK_LAYOUTS:
        views = result.views or 1
        print(
            f"run it with: mchmr video VIDEO --set network.weights={args.out} --set crops.layout=paper --set crops.views={views} "
            "--set body.model=SMPL_FILE"
        )
    return 0


def _list(what: str, names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        print(f"{what}: {len(names)}: {', '.join(names[:_NAMED])}{more}")
