"""Measure the memory of `mchmr video` over a long video of 3,000 frames of 720p (Linux).

    python benchmarks/memory.py [--frames 3000] [--clip CLIP.mp4] [-- OPTIONS OF mchmr video]

The clip is the demo's, repeated (`mchmr demo` downloads it), or a generated one without people if it does not exist: then only decoding
and detection run, and the report states it. Prints the peak and the difference between the means of the second and the last tenth of the
run; the first tenth is loading.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT, FPS = 1280, 720, 30
DEMO_CLIP = Path("demo/clip/two_people.mp4")
SAMPLE_EVERY_S = 0.2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--clip", type=Path, default=DEMO_CLIP)
    parser.add_argument("options", nargs="*", help="more options for `mchmr video`, after --")
    args = parser.parse_args()
    if not Path("/proc/self/statm").exists():
        print("memory.py reads /proc and runs on Linux only", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        long_clip = Path(folder) / "long.mp4"
        has_clip = args.clip.is_file()
        write_clip(long_clip, looped(args.clip) if has_clip else moving_pattern(), args.frames)
        material = f"{args.clip} over and over" if has_clip else "a generated pattern WITHOUT people"
        print(f"machine: {platform.processor() or platform.machine()}, {os.cpu_count()} cores, {platform.platform()}")
        print(f"input: {args.frames} frames {WIDTH}x{HEIGHT}, {material}; Python {platform.python_version()}")
        command = [
            str(Path(sys.executable).with_name("mchmr")),
            "video",
            str(long_clip),
            "-o",
            str(Path(folder) / "out"),
            "--no-overlay",
            *args.options,
        ]
        code, seconds, rss_mib = watch(command)
        if code:
            print(f"mchmr video ended with exit code {code}", file=sys.stderr)
            return 1
    tenth = max(1, len(rss_mib) // 10)
    second, last = statistics.fmean(rss_mib[tenth : 2 * tenth]), statistics.fmean(rss_mib[-tenth:])
    peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"time: {seconds:.0f} s, {args.frames / seconds:.1f} frames per second, {len(rss_mib)} samples")
    print(f"peak: {peak_mib:.0f} MiB")
    print(f"second tenth: {second:.0f} MiB, last tenth: {last:.0f} MiB, difference: {last - second:+.0f} MiB")
    return 0


def watch(command: list[str]) -> tuple[int, float, list[float]]:
    """Run a command. Returns its exit code, its duration in seconds, and its resident memory in MiB over time."""
    page_mib = os.sysconf("SC_PAGE_SIZE") / 2**20
    rss_mib: list[float] = []
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
        statm = Path(f"/proc/{child.pid}/statm")
        while child.poll() is None:
            resident_pages = int(statm.read_text().split()[1])
            if resident_pages:  # zero after it has ended and before it is collected
                rss_mib.append(resident_pages * page_mib)
            time.sleep(SAMPLE_EVERY_S)
    return child.returncode, time.perf_counter() - start, rss_mib


def looped(clip: Path) -> Iterator[av.VideoFrame]:
    """Yield a clip's pictures in a loop."""
    while True:
        with av.open(str(clip)) as container:
            yield from container.decode(video=0)


def moving_pattern() -> Iterator[av.VideoFrame]:
    """Sliding noise, so that no two pictures are alike."""
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    shift = 0
    while True:
        yield av.VideoFrame.from_ndarray(np.roll(noise, shift, axis=1), format="rgb24")
        shift += 7


def write_clip(path: Path, pictures: Iterator[av.VideoFrame], count: int) -> None:
    """Encode the first `count` pictures as H.264 at WIDTH x HEIGHT."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index, picture in zip(range(count), pictures, strict=False):
            scaled = picture.reformat(WIDTH, HEIGHT, "yuv420p")
            scaled.pts, scaled.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(scaled))
        container.mux(stream.encode())


if __name__ == "__main__":
    sys.exit(main())
