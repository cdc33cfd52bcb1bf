"""`mchmr serve`: run the network on a Triton Inference Server until Ctrl-C."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from mchmr_stream.cli.help_text import examples
from mchmr_stream.cli.number_types import integer
from mchmr_stream.errors import ServerError


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "serve",
        help="the network on a Triton server",
        description="Start a Triton Inference Server with the network, for `--triton HOST:PORT` of the other commands. Ctrl-C stops it.",
        epilog=examples("mchmr serve --port 8001", "mchmr video clip.mp4 -o out --triton 127.0.0.1:8001"),
    )
    parser.add_argument(
        "--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default auto: every GPU, else the CPU)"
    )
    parser.add_argument("--host", default="127.0.0.1", metavar="IP", help="address to listen on (default 127.0.0.1: this machine only)")
    parser.add_argument(
        "--port", type=integer(2, 65534), default=8001, metavar="N", help="port of gRPC (default 8001); HTTP uses N - 1, metrics N + 1"
    )
    parser.add_argument(
        "--instances", type=integer(1, 1024), default=1, metavar="N", help="copies of the network, on each GPU or the CPU (default 1)"
    )
    parser.add_argument(
        "--views", type=integer(1, 64), metavar="N", help="usual number of crops per person (default: crops.views; any number works)"
    )
    parser.add_argument("--weights", default="default", metavar="FILE", help="weights other than the default")
    parser.add_argument(
        "--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"), help="precision of the encoder (default auto)"
    )
    parser.add_argument(
        "--threads", type=integer(0, 1024), default=0, metavar="N", help="CPU threads of each instance (default: half the cores)"
    )
    parser.add_argument("--tritonserver", type=Path, metavar="FILE", help="the server program (default: on PATH, else in nvidia-pytriton)")
    parser.add_argument("arguments", nargs="*", metavar="-- ARGUMENT", help="passed to tritonserver unchanged")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from mchmr_stream.cli.stopping import StopOnSignals
    from mchmr_stream.network.weights import load_network
    from mchmr_stream.serving.model_repository import ModelOptions, write_python_repository
    from mchmr_stream.serving.tritonserver import TritonServer
    from mchmr_stream.serving.tritonserver_binary import find_tritonserver

    binary = find_tritonserver(args.tritonserver)
    options = ModelOptions(args.device, args.instances, args.views, args.precision, args.threads)
    ports = (args.port, args.port - 1, args.port + 1)
    with tempfile.TemporaryDirectory(prefix="mchmr-models-") as folder, StopOnSignals() as stop:
        write_python_repository(Path(folder), load_network(args.weights), args.weights, options)
        relay = (lambda line: None) if args.quiet else (lambda line: print(line, file=sys.stderr, flush=True))
        with TritonServer(binary, Path(folder), host=args.host, ports=ports, relay=relay, arguments=args.arguments) as server:
            about = server.wait(stop=stop.event)
            if about is not None:
                print(f"serving {about.weights} (SHA-256 {about.weights_sha256[:12]}) on {server.grpc_address}; HTTP {server.http_url}, "
                      f"metrics {server.metrics_url}", flush=True)  # fmt: skip
            while not stop.event.wait(0.2):
                if server.exit_code is not None:
                    raise ServerError(f"tritonserver ended with exit code {server.exit_code}: {server.reason()}")
    return stop.exit_code or 0
