"""Test a long run while its Triton server is killed and restarted three times and the model's process once: are all frames equal?

    python benchmarks/triton_faults.py [CLIP] [--frames 600]

Without a clip: that of `mchmr demo`, repeated until there are enough frames. The undisturbed run comes first, through the same kind of
server; then the same frames with faults after a fifth, two, three and four fifths of them. Bodies are compared bit by bit. A fault's
seconds are those until the next finished frame.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from mchmr_stream.config import load_settings
from mchmr_stream.datatypes import Frame, Scene, SourceInfo
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.network.weights import load_network
from mchmr_stream.pipeline.factory import open_input
from mchmr_stream.pipeline.pipeline import Pipeline
from mchmr_stream.serving.model_repository import ModelOptions, write_python_repository
from mchmr_stream.serving.tritonserver import TritonServer
from mchmr_stream.serving.tritonserver_binary import find_tritonserver


class Repeated:
    """The frames of a clip in a loop, numbered and timed as one clip."""

    def __init__(self, frames: list[Frame], info: SourceInfo, count: int) -> None:
        self.info, self.warnings = info, []
        self._frames, self._count = frames, count

    def frames(self) -> Iterator[Frame]:
        for index in range(self._count):
            yield Frame(index, index / self.info.fps, self._frames[index % len(self._frames)].rgb)

    def close(self) -> None:
        """Do nothing."""


class Served:
    """One server at one address, over several restarts."""

    def __init__(self, repository: Path) -> None:
        self._repository, self._ports = repository, (0, 0, 0)
        self.start()
        self.now.wait()

    def start(self) -> None:
        self.now = TritonServer(find_tritonserver(), self._repository, ports=self._ports)
        self._ports = (self.now.grpc_port, self.now.http_port, self.now.metrics_port)
        self.now.start()

    def kill_and_restart(self) -> None:
        assert self.now.pid is not None
        os.kill(self.now.pid, signal.SIGKILL)
        self.now.stop()
        self.start()

    def kill_model_process(self) -> None:
        for tasks in Path(f"/proc/{self.now.pid}/task").glob("*/children"):
            for child in tasks.read_text().split():
                os.kill(int(child), signal.SIGKILL)


def run(
    pipeline: Pipeline, source: Repeated, intrinsics: Intrinsics, faults: dict[int, Callable[[], None]]
) -> tuple[list[Scene], list[float]]:
    """Return all scenes, and for each fault the seconds until the next scene."""
    scenes, waits, pending = [], [], None
    for scene in pipeline.scenes(source, intrinsics):
        if pending is not None:
            waits.append(round(time.perf_counter() - pending, 1))
            pending = None
        scenes.append(scene)
        if len(scenes) in faults:
            pending = time.perf_counter()
            faults[len(scenes)]()
    return scenes, waits


def same(a: Scene, b: Scene) -> bool:
    names = ("track_id", "global_orient", "body_pose", "betas", "transl", "views_cam", "confidence")
    return a.frame.index == b.frame.index and all(np.array_equal(getattr(a.bodies, name), getattr(b.bodies, name)) for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, nargs="?", default=Path("demo/clip/two_people.mp4"))
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--views", type=int, default=5)
    args = parser.parse_args()
    if not args.clip.is_file():
        raise SystemExit(f"no clip at {args.clip}: name one, or run `mchmr demo` first")
    threads = max(1, (os.cpu_count() or 1) // 2)
    with tempfile.TemporaryDirectory() as folder:
        options = ModelOptions(device="cpu", threads=threads, prepared_views=args.views)
        write_python_repository(Path(folder), load_network("default"), "default", options)
        served = Served(Path(folder))
        try:
            address = json.dumps(served.now.grpc_address)
            settings = load_settings(
                None, [f"crops.views={args.views}", f"runtime.threads={threads}", f"triton.servers=[{address}]", "triton.budget_s=120"]
            )
            opened, intrinsics = open_input(args.clip, settings)
            source = Repeated(list(opened.frames()), opened.info, args.frames)
            opened.close()
            pipeline = Pipeline(settings)
            undisturbed, _ = run(pipeline, source, intrinsics, {})
            kinds = {1: served.kill_and_restart, 2: served.kill_model_process, 3: served.kill_and_restart, 4: served.kill_and_restart}
            faults = {args.frames * fifth // 5: fault for fifth, fault in kinds.items()}
            disturbed, waits = run(pipeline, source, intrinsics, faults)
            pipeline.close()
        finally:
            served.now.stop()
    result = {
        "frames": [len(undisturbed), len(disturbed)],
        "people in all frames": sum(len(scene) for scene in undisturbed),
        "in order, each once": [scene.frame.index for scene in disturbed] == list(range(args.frames)),
        "bit-equal": sum(map(same, undisturbed, disturbed)),
        "faults": {str(at): fault.__name__ for at, fault in faults.items()},
        "seconds to the next frame": waits,
        "left in /dev/shm": [name for name in os.listdir("/dev/shm") if name.startswith("mchmr")],
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
    }
    print(json.dumps(result, indent=2))
    if result["bit-equal"] != args.frames or not result["in order, each once"]:
        raise SystemExit("frames were lost, doubled, reordered or changed")


if __name__ == "__main__":
    main()
