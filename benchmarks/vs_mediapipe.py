"""Frames per second of the whole pipeline beside MediaPipe's PoseLandmarker on the same clip, in turn, in one process.

    python benchmarks/vs_mediapipe.py [CLIP] [--model pose_landmarker_heavy.task] [--views 5] [--repeats 3]

Without a clip: the one of `mchmr demo`. Without a model: the "full" bundle that ships.

Both sides decode with PyAV on a thread of its own and get every frame; nothing is drawn or written. Networks are loaded
and warmed up before the clock starts. Both follow one person (MediaPipe's PoseLandmarker knows no more in practice; ours
gets tracker.max_people=1, see --people). The heavy bundle does not ship: tools/make_mediapipe_bundle.py makes it.
Rounds alternate (ours, theirs, ours, ...), so that a machine whose speed drifts treats both alike; the ratio of each round
is printed and their median is the result.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from mchmr_stream.build import open_input
from mchmr_stream.config import Settings, SourceSettings, load_settings
from mchmr_stream.detection.mediapipe import MediaPipeReference
from mchmr_stream.pipeline import Pipeline
from mchmr_stream.records import Frame
from mchmr_stream.sources import open_source
from mchmr_stream.streaming import Workers


def ours(clip: Path, settings: Settings, pipeline: Pipeline) -> float:
    """Frames per second."""
    source, intrinsics = open_input(clip, settings)
    try:
        start = time.perf_counter()
        frames = sum(1 for _ in pipeline.scenes(source, intrinsics))
        return frames / (time.perf_counter() - start)
    finally:
        source.close()


def theirs(clip: Path, model: Path | None) -> float:
    """Frames per second. A new landmarker each time: video mode refuses times that run backwards."""
    reference = MediaPipeReference(model)
    try:
        first = next(_frames(clip))
        reference.landmarks(first.rgb, 0.0)
        start = time.perf_counter()
        frames = 0
        with Workers() as workers:
            for frame in workers.ahead(_frames(clip), 4, name="decode"):
                reference.landmarks(frame.rgb, 1.0 + frame.time_s)
                frames += 1
        return frames / (time.perf_counter() - start)
    finally:
        reference.close()


def _frames(clip: Path) -> Iterator[Frame]:
    source = open_source(clip, SourceSettings())
    try:
        yield from source.frames()
    finally:
        source.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, nargs="?", default=Path("demo/clip/two_people.mp4"))
    parser.add_argument("--model", type=Path, help="MediaPipe .task bundle to compare with")
    parser.add_argument("--people", type=int, default=1, help="how many people ours follows at most")
    parser.add_argument("--views", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    args = parser.parse_args()

    if not args.clip.is_file():
        raise SystemExit(f"no clip at {args.clip}: name one, or run `mchmr demo` first")
    settings = load_settings(None, [f"crops.views={args.views}", f"tracker.max_people={args.people}", *args.overrides])
    pipeline = Pipeline(settings)
    ours(args.clip, settings, pipeline)
    rounds = []
    for number in range(args.repeats):
        mine, other = ours(args.clip, settings, pipeline), theirs(args.clip, args.model)
        rounds.append({"ours_fps": round(mine, 2), "mediapipe_fps": round(other, 2), "ratio": round(mine / other, 3)})
        print(f"round {number + 1}: {json.dumps(rounds[-1])}", flush=True)
    machine = {"cores": os.cpu_count(), "cpu": cpu_name(), "python": platform.python_version()}
    result = {
        "clip": args.clip.name,
        "model": args.model.name if args.model else "pose_landmarker_full.task",
        "people": args.people,
        "views": args.views,
        "rounds": rounds,
    }
    print(json.dumps(result | {"median_ratio": statistics.median(r["ratio"] for r in rounds), "machine": machine}, indent=2))


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    )
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
