"""The default clip of measurements: rendered people as H.264, reproducible on any machine."""

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
    """Write an MP4 of rendered people (see `drawn_people`).

    The people are rendered for one cycle, which is repeated: neither decoder nor networks cache pictures.

    Args:
        path: output file.
        people: number of people.
        frames: number of frames.
        size_wh: width and height in pixels.
        places: number of places side by side; None: as many as people.
        fps: frame rate.
        progress: called with the frames done and all frames.

    Returns:
        `path`.
    """
    width, height = size_wh
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # many small operations: several threads would only synchronise
    try:
        pictures = []
        for picture in drawn_people(people, width, height, places):
            pictures.append(picture)
            if progress is not None:
                progress(len(pictures), CYCLE_FRAMES)
    finally:
        torch.set_num_threads(threads)
    with av.open(str(path), "w") as output:
        # One thread: the output of x264 must not depend on the number of cores.
        video = output.add_stream("libx264", rate=Fraction(fps), options={"preset": "veryfast", "crf": "18", "threads": "1"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(pictures[index % len(pictures)], format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
    return path
