"""The clip that is measured when none is named: drawn people as H.264, the same from everywhere."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import torch

from mchmr_stream.speed.drawn_people import CYCLE_FRAMES, drawn_people

FPS = 25


def write_clip(
    path: Path,
    people: int,
    *,
    frames: int = 100,
    size_wh: tuple[int, int] = (1280, 720),
    places: int | None = None,
    fps: int = FPS,
    progress: Callable[[int, int | None], None] | None = None,
) -> Path:
    """So many `people` (see `drawn_people`) for so many `frames`, as an MP4.

    Drawn once and shown over and over: neither decoder nor networks know that they saw a picture before.
    """
    width, height = size_wh
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # many small operations: a team would only wait for each other
    try:
        pictures = []
        for picture in drawn_people(people, width, height, places):
            pictures.append(picture)
            if progress is not None:
                progress(len(pictures), CYCLE_FRAMES)
    finally:
        torch.set_num_threads(threads)
    with av.open(str(path), "w") as output:
        # One thread: what x264 writes does not depend on how many cores there are.
        video = output.add_stream("libx264", rate=Fraction(fps), options={"preset": "veryfast", "crf": "18", "threads": "1"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(pictures[index % len(pictures)], format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
    return path
