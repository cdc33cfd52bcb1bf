"""Compare decoders: PyAV with its threading modes, the source of this package, OpenCV, and GStreamer where installed.

    python benchmarks/decoding.py [CLIP] [--frames 150]

All produce each frame as RGB bytes in memory. Without a clip: two drawn people at 1920x1080, H.264.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
from measuring import Ratio, Result, arguments, drawn, in_turns, middle, need

from mchmr_stream.config import SourceSettings
from mchmr_stream.runtime.versions import usable_cores
from mchmr_stream.sources import open_source


def with_av(clip: Path, kind: str, threads: int, most: int) -> int:
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        stream.thread_type = kind
        stream.codec_context.thread_count = threads
        for number, frame in enumerate(container.decode(stream), 1):
            frame.to_ndarray(format="rgb24")
            if number == most:
                break
        return number


def with_source(clip: Path, most: int) -> int:
    source = open_source(clip, SourceSettings())
    try:
        for number, _ in enumerate(source.frames(), 1):
            if number == most:
                break
        return number
    finally:
        source.close()


def with_cv2(clip: Path, most: int) -> int:
    capture, number = cv2.VideoCapture(str(clip)), 0
    try:
        while number < most:
            there, picture = capture.read()
            if not there:
                break
            cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
            number += 1
        return number
    finally:
        capture.release()


def with_gstreamer(clip: Path, frames: int) -> int:
    """Decode in a separate process, with its start included."""
    chain = ["filesrc", f"location={clip.resolve()}", "!", "decodebin", "!", "videoconvert", "!", "video/x-raw,format=RGB", "!"]
    subprocess.run(["gst-launch-1.0", "-q", *chain, "fakesink", f"num-buffers={frames}", "sync=false"], check=True, capture_output=True)
    return frames


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("clip", type=Path, nargs="?")
    parser.add_argument("--frames", type=int, default=150)
    args = parser.parse_args()
    with contextlib.ExitStack() as kept:
        clip = (
            kept.enter_context(drawn(2, frames=args.frames, size_wh=(1920, 1080)))
            if args.clip is None
            else need(args.clip, "a video file; leave it out for a drawn one")
        )
        frames = with_source(clip, args.frames)
        ways: dict[str, Callable[[], int]] = {"our source": lambda: with_source(clip, frames)}
        for kind in ("NONE", "SLICE", "FRAME", "AUTO"):
            ways[f"PyAV, threads {kind}"] = lambda kind=kind: with_av(clip, kind, 0, frames)  # type: ignore[misc]
        ways["PyAV, FRAME, one thread"] = lambda: with_av(clip, "FRAME", 1, frames)
        ways[f"OpenCV {cv2.__version__}"] = lambda: with_cv2(clip, frames)
        has_gstreamer = shutil.which("gst-launch-1.0") is not None
        if has_gstreamer:
            ways["GStreamer"] = lambda: with_gstreamer(clip, frames)
        rounds = in_turns(dict(rates(ways)), args.repeats)
        with av.open(str(clip)) as container:
            video = container.streams.video[0]
            about = f"{video.codec_context.name}, {video.width}x{video.height}, {frames} frames, {usable_cores()} cores"
    if not has_gstreamer:
        about += "; GStreamer is not installed here"
    result = Result("decoding", "Which way of decoding is fastest?", ("", "frames/s", "ratio to our source"), about)
    for name in ways:
        ratio = Ratio.of(rounds, name, "our source")
        result.rows.append([name, f"{middle(rounds, name):.0f}", str(ratio)])
    best = max((name for name in ways if name != "our source"), key=lambda name: middle(rounds, name))
    result.ratios[f"our source / the fastest other ({best})"] = Ratio.of(rounds, "our source", best)
    result.finish(args)


def rates(ways: dict[str, Callable[[], int]]) -> Iterator[tuple[str, Callable[[], float]]]:
    """Yield each decoder's name and a measurement of its frames per second."""

    def rate(work: Callable[[], int]) -> float:
        start = time.perf_counter()
        return work() / (time.perf_counter() - start)

    for name, work in ways.items():
        yield name, lambda work=work: rate(work)  # type: ignore[misc]


if __name__ == "__main__":
    main()
