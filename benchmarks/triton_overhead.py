"""Measure the overhead of a Triton server: the same clip in process and served, alternating in one run.

    python benchmarks/triton_overhead.py [CLIP] [--views 5] [--repeats 3] [--frames 200] [--shm auto]

Without a clip: that of `mchmr demo`. The script starts the server on this machine's CPU, with as many threads as the network has in
process. Three measurements:

1. End to end: frames per second of the pipeline, in process and through Triton, in alternating rounds.
2. Latency: one person's crops, the network in process and through Triton alternating, one at a time; the difference of the medians.
3. Sharing: people per second of one client that always has work in flight, and of four such processes together on one server,
    with the mean number of requests per execution of the server.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch

from mchmr_stream.config import Settings, load_settings
from mchmr_stream.datatypes import CropBatch, Frame
from mchmr_stream.estimators.local import LocalEstimator
from mchmr_stream.network.weights import load_network
from mchmr_stream.pipeline.factory import open_input
from mchmr_stream.pipeline.pipeline import Pipeline
from mchmr_stream.runtime.concurrency import Stopwatch
from mchmr_stream.runtime.versions import cpu_name
from mchmr_stream.serving.model_repository import ModelOptions, write_python_repository
from mchmr_stream.serving.server_metrics import model_work
from mchmr_stream.serving.tritonserver import TritonServer
from mchmr_stream.serving.tritonserver_binary import find_tritonserver
from mchmr_stream.triton.connection import Connection, ServerAccess
from mchmr_stream.triton.triton_estimator import TritonEstimator
from mchmr_stream.triton.wire_format import probe_batch


class First:
    """A source that ends after the first frames of another one."""

    def __init__(self, source: object, frames: int) -> None:
        self._source, self._frames = source, frames

    def __getattr__(self, name: str) -> object:
        return getattr(self._source, name)

    def frames(self) -> Iterator[Frame]:
        return islice(self._source.frames(), self._frames)  # type: ignore[attr-defined]


def end_to_end(clip: Path, settings: Settings, pipeline: Pipeline, frames: int) -> tuple[float, Stopwatch]:
    """Measure frames per second."""
    source, intrinsics = open_input(clip, settings)
    watch = Stopwatch()
    try:
        start = time.perf_counter()
        done = sum(1 for _ in pipeline.scenes(First(source, frames), intrinsics, watch=watch))  # type: ignore[arg-type]
        return done / (time.perf_counter() - start), watch
    finally:
        source.close()


def latency_ms(estimator: LocalEstimator | TritonEstimator, batch: CropBatch) -> float:
    start = time.perf_counter()
    estimator.estimate(batch)
    return 1e3 * (time.perf_counter() - start)


def busy_client(address: str, seconds: float, views: int, shm: str) -> None:
    """Keep four requests in flight for a time and print the number of finished people. Runs in a separate process."""
    estimator = TritonEstimator([address], "mchmr", expected_sha256=None, views=views, shm=shm)  # type: ignore[arg-type]
    batch = probe_batch(estimator.info.crop_size_hw, views)
    estimator.estimate(batch)
    print("ready", flush=True)
    sys.stdin.readline()
    until, sent = time.monotonic() + seconds, []
    while time.monotonic() < until:
        sent.append(estimator.submit(batch))  # blocks while four are in flight
    print(sum(len(answer.result()) for answer in sent), flush=True)
    estimator.close()


def throughput(address: str, clients: int, seconds: float, views: int, shm: str) -> tuple[float, float]:
    """People per second of all clients together, and requests per execution."""
    command = [sys.executable, __file__, "--client", address, "--seconds", str(seconds), "--views", str(views), "--shm", shm]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(clients)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
    with Connection(address, "mchmr", ServerAccess()) as connection:
        before, start = model_work(connection), time.perf_counter()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        people = sum(int(process.stdout.readline()) for process in processes if process.stdout is not None)
        took = time.perf_counter() - start
        for process in processes:
            process.communicate()
        return people / took, (model_work(connection) - before).requests_per_execution


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, nargs="?", default=Path("demo/clip/two_people.mp4"))
    parser.add_argument("--views", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--shm", default="auto")
    parser.add_argument("--seconds", type=float, default=6, help="of each throughput measurement")
    parser.add_argument("--client", help=argparse.SUPPRESS)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    args = parser.parse_args()
    if args.client:
        busy_client(args.client, args.seconds, args.views, args.shm)
        return
    if not args.clip.is_file():
        raise SystemExit(f"no clip at {args.clip}: name one, or run `mchmr demo` first")

    threads = max(1, (os.cpu_count() or 1) // 2)
    options = ModelOptions(device="cpu", threads=threads, prepared_views=args.views)
    common = [f"crops.views={args.views}", f"runtime.threads={threads}", "runtime.device=cpu", *args.overrides]
    with tempfile.TemporaryDirectory() as folder:
        write_python_repository(Path(folder), load_network("default"), "default", options)
        with TritonServer(find_tritonserver(), Path(folder)) as server:
            server.wait()
            here = load_settings(None, common)
            there = load_settings(None, [*common, f"triton.servers=[{json.dumps(server.grpc_address)}]", f"triton.shm={args.shm}"])
            pipelines = {"in process": (here, Pipeline(here)), "triton": (there, Pipeline(there))}
            result: dict[str, object] = {
                "clip": args.clip.name,
                "frames": args.frames,
                "views": args.views,
                "threads": threads,
                "shm": args.shm,
            }

            for settings, pipeline in pipelines.values():
                end_to_end(args.clip, settings, pipeline, 30)
            rounds = []
            for number in range(args.repeats):
                fps, stages = {}, {}
                for name, (settings, pipeline) in pipelines.items():
                    fps[name], watch = end_to_end(args.clip, settings, pipeline, args.frames)
                    stages[name] = {stage: round(1e3 * statistics.median(seconds), 2) for stage, seconds in watch.seconds.items()}
                rounds.append(fps["triton"] / fps["in process"])
                print(
                    f"round {number + 1}: {json.dumps({name: round(value, 2) for name, value in fps.items()})}, ratio {rounds[-1]:.3f}",
                    flush=True,
                )
            result["end to end"] = {"ratio": round(statistics.median(rounds), 3), "rounds": [round(ratio, 3) for ratio in rounds]}
            result["median ms of each stage, last round"] = stages

            torch.set_num_threads(threads)
            local, served = pipelines["in process"][1].components.estimator, pipelines["triton"][1].components.estimator
            batch = probe_batch(local.crop_size_hw, args.views)
            pairs = [(latency_ms(local, batch), latency_ms(served, batch)) for _ in range(130)][30:]  # type: ignore[arg-type]
            medians = [statistics.median(side) for side in zip(*pairs, strict=True)]
            result["latency, ms"] = {
                "in process": round(medians[0], 2),
                "triton": round(medians[1], 2),
                "added, p50": round(statistics.median(b - a for a, b in pairs), 2),
            }
            print(json.dumps(result["latency, ms"]), flush=True)

            shared = []
            for _ in range(args.repeats):
                one, _batch = throughput(server.grpc_address, 1, args.seconds, args.views, args.shm)
                four, batched = throughput(server.grpc_address, 4, args.seconds, args.views, args.shm)
                shared.append(
                    {
                        "one": round(one, 1),
                        "four": round(four, 1),
                        "ratio": round(four / one, 3),
                        "requests per execution": round(batched, 2),
                    }
                )
                print(json.dumps(shared[-1]), flush=True)
            result["four clients, people per second"] = shared
            result["four to one, median"] = statistics.median(row["ratio"] for row in shared)
            for _, pipeline in pipelines.values():
                pipeline.close()
    result["machine"] = {"cores": os.cpu_count(), "cpu": cpu_name(), "python": platform.python_version(), "torch": torch.__version__}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
