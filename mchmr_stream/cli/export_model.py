"""`mchmr export-model --to FORMAT -o DIR`: export the network as a Triton model repository, or as a file for other runtimes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mchmr_stream.cli.help_text import examples
from mchmr_stream.cli.number_types import integer
from mchmr_stream.files.output_lock import claimed_folder


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "export-model",
        help="the network for Triton, ONNX or TorchScript",
        description="Write DIR/mchmr, a model for Triton with its repository in DIR. The file in mchmr/1 also works in other runtimes.",
        epilog=examples("mchmr export-model --to onnx -o models"),
    )
    parser.add_argument(
        "--to", required=True, choices=("python", "onnx", "torchscript"),
        help="python: this package inside of Triton, on CPU or GPU; onnx, torchscript: a file for Triton's own backends, or others",
    )  # fmt: skip
    parser.add_argument("-o", "--out", required=True, type=Path, metavar="DIR", help="folder of the repository, created if missing")
    parser.add_argument("--weights", default="default", metavar="FILE", help="weights other than the default")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N; torchscript files are for one device")
    parser.add_argument(
        "--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"), help="precision of the encoder, with --to python"
    )
    parser.add_argument(
        "--instances", type=integer(1, 1024), default=1, metavar="N", help="copies of the network, on each GPU or the CPU (default 1)"
    )
    parser.add_argument(
        "--views", type=integer(1, 64), metavar="N", help="usual number of crops per person (default: crops.views; any number works)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from mchmr_stream.files.same_file import refuse_to_replace
    from mchmr_stream.network.weights import load_network
    from mchmr_stream.serving import model_repository

    written = {"python": model_repository.WEIGHTS_FILE, "onnx": "model.onnx", "torchscript": "model.pt"}[args.to]
    refuse_to_replace([args.weights], [args.out / model_repository.MODEL / model_repository.VERSION / written])
    network = load_network(args.weights)
    options = model_repository.ModelOptions(args.device, args.instances, args.views, args.precision)
    off: float | None = None
    with claimed_folder(args.out):
        if args.to == "python":
            model = model_repository.write_python_repository(args.out, network, args.weights, options)
        elif args.to == "onnx":
            model, off = model_repository.write_onnx_repository(args.out, network, options)
            if off is None:
                print(
                    "mchmr: warning: not compared with the network without onnxruntime: python -m pip install onnxruntime", file=sys.stderr
                )
        else:
            model, off = model_repository.write_torchscript_repository(args.out, network, options)
    if not args.quiet:
        print(
            f"{model}: weights {network.name}, SHA-256 {network.sha256[:12]}"
            + (f"; differs from the network by at most {off:.1g}" if off is not None else "")
        )
    return 0
