"""Compare ways of running the network, in process and on a Triton server: people per second by people per call.

    python benchmarks/estimators.py [--people 1 2 8] [--views 5] [--variant NAME:SETTING=VALUE[,SETTING=VALUE]] [--no-triton]

All values of `estimator.engine` that work on this machine are measured, with half the cores (as in the pipeline) and with all; and bf16
and fp32. `--variant` adds other settings. All get the same crops of the drawn clip. The script starts the server, if it is installed,
with as many threads as there are cores.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import get_args

from measuring import Ratio, Result, arguments, drawn, in_turns, middle, settings_of

from mchmr_stream.config import Settings
from mchmr_stream.datatypes import CropBatch
from mchmr_stream.errors import MchmrError
from mchmr_stream.pipeline.factory import open_input
from mchmr_stream.pipeline.pipeline import Pipeline
from mchmr_stream.protocols import MeshEstimator
from mchmr_stream.runtime.threads import torch_threads
from mchmr_stream.runtime.versions import usable_cores
from mchmr_stream.speed.recorded_calls import First, record
from mchmr_stream.speed.stages import people_together

_SECONDS = 1.0
_FRAMES = 6


def engines() -> Sequence[str]:
    """List the values of `estimator.engine`, if this version has that setting."""
    section = Settings.model_fields.get("estimator")
    field = getattr(section.annotation, "model_fields", {}).get("engine") if section is not None else None
    return [name for name in get_args(field.annotation) if name != "auto"] if field is not None else []


def variants(added: Sequence[str]) -> dict[str, list[str]]:
    """List settings by name; the first is the reference of the ratios."""
    chosen: dict[str, list[str]] = {"default": []}
    for engine in engines():
        chosen[engine] = [f"estimator.engine={engine}"]
    for precision in ("fp32", "bf16"):
        chosen[f"default, {precision}"] = [f"network.precision={precision}"]
    for text in added:
        name, _, settings = text.partition(":")
        chosen[name] = settings.split(",")
    return chosen


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--people", type=int, nargs="+", default=[1, 2, 8])
    parser.add_argument("--views", type=int, default=5)
    parser.add_argument("--variant", dest="added", action="append", default=[], metavar="NAME:SETTING=VALUE")
    parser.add_argument("--no-triton", action="store_true")
    args = parser.parse_args()
    common = [f"crops.views={args.views}", *args.overrides]
    with drawn(2, frames=_FRAMES) as clip:
        settings = settings_of(common)
        source, intrinsics = open_input(clip, settings)
        pipeline = Pipeline(settings)
        recording = record(pipeline, First(source, _FRAMES), intrinsics)
        source.close()
    batches = {people: people_together(recording.batches, people) for people in args.people}

    teams = sorted({max(1, usable_cores() // 2), usable_cores()})
    sides: dict[str, Callable[[], float]] = {}
    absent: list[str] = []
    with ExitStack() as kept:
        server = None if args.no_triton else kept.enter_context(triton(args.views))
        for name, own in variants(args.added).items():
            for threads in teams:
                add(sides, absent, f"{name}, {threads} threads", [*common, *own, f"runtime.threads={threads}"], threads, batches)
        if server is not None:
            add(sides, absent, "Triton on this machine", [*common, f"triton.servers={json.dumps([server])}"], teams[-1], batches)
        elif not args.no_triton:
            absent.append("Triton: no tritonserver here")
        rounds = in_turns(sides, args.repeats)
    reference = f"default, {teams[0]} threads"
    result = Result(
        "estimators",
        "Which way of running the network is fastest?",
        ("", *(f"people/s, {people} in a call" for people in batches), *(f"ratio, {people} in a call" for people in batches)),
        f"{args.views} views; ratios to {reference}." + "".join(f" Not measured: {one}." for one in dict.fromkeys(absent)),
    )
    for name in dict.fromkeys(side.rpartition(" / ")[0] for side in sides):
        ratios = {people: Ratio.of(rounds, f"{name} / {people}", f"{reference} / {people}") for people in batches}
        rates = [f"{middle(rounds, f'{name} / {people}'):.1f}" for people in batches]
        result.rows.append([name, *rates, *(f"{ratio.median:.2f}" for ratio in ratios.values())])
        if name != reference:
            result.ratios |= {f"{name} / {reference}, {people} in a call": ratio for people, ratio in ratios.items()}
    result.finish(args)


def add(
    sides: dict[str, Callable[[], float]],
    absent: list[str],
    name: str,
    overrides: list[str],
    threads: int,
    batches: dict[int, CropBatch | None],
) -> None:
    """Add a side for each batch size, or a note if it is not available."""
    try:
        estimator = Pipeline(settings_of(overrides)).components.estimator
        for people, batch in batches.items():
            assert batch is not None
            sides[f"{name} / {people}"] = rate(estimator, batch, threads)
    except MchmrError as error:
        absent.append(f"{name.rpartition(',')[0] or name}: {error}")


def rate(estimator: MeshEstimator, batch: CropBatch, threads: int) -> Callable[[], float]:
    def people_per_s() -> float:
        with torch_threads(threads):
            start, done = time.perf_counter(), 0
            while done == 0 or time.perf_counter() - start < _SECONDS:
                estimator.estimate(batch)
                done += len(batch)
            return done / (time.perf_counter() - start)

    estimator.estimate(batch)
    return people_per_s


@contextmanager
def triton(views: int) -> Iterator[str | None]:
    """Yield the address of a server of the default weights on this machine's CPU; None if there is no server."""
    try:
        from mchmr_stream.network.weights import load_network
        from mchmr_stream.serving.model_repository import ModelOptions, write_python_repository
        from mchmr_stream.serving.tritonserver import TritonServer
        from mchmr_stream.serving.tritonserver_binary import find_tritonserver

        binary = find_tritonserver()
    except MchmrError:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        options = ModelOptions(device="cpu", threads=usable_cores(), prepared_views=views)
        write_python_repository(Path(folder), load_network("default"), "default", options)
        with TritonServer(binary, Path(folder)) as server:
            server.wait()
            yield server.grpc_address


if __name__ == "__main__":
    main()
