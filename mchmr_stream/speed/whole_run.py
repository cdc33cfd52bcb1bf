"""Measurement of the full pipeline, with and without output files: rates, intervals between finished frames, CPU and memory."""

from __future__ import annotations

import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mchmr_stream.config import Settings
from mchmr_stream.errors import InputError
from mchmr_stream.jobs.video_job import process_video
from mchmr_stream.motion.motion import load
from mchmr_stream.pipeline.factory import open_input
from mchmr_stream.pipeline.pipeline import Pipeline
from mchmr_stream.runtime.concurrency import Stopwatch
from mchmr_stream.speed.recorded_calls import First
from mchmr_stream.speed.resource_usage import Timed, measured


@dataclass(frozen=True)
class WholeRun(Timed):
    """One run, from the request of the first frame to the last finished frame; `each_s` are the intervals between finished frames."""

    people: int
    """sum over all frames"""
    stage_s: dict[str, list[float]]
    """of each call of each stage, while the other stages run"""


def run_scenes(clip: Path, settings: Settings, pipeline: Pipeline, frames: int) -> WholeRun:
    """Run the pipeline without drawing or writing.

    Raises:
        InputError: the clip has no frame.
    """
    source, intrinsics = open_input(clip, settings)
    watch, finished_s, people = Stopwatch(), [], 0
    try:
        with measured() as usage:
            finished_s.append(time.perf_counter())
            for scene in pipeline.scenes(First(source, frames), intrinsics, watch=watch):
                finished_s.append(time.perf_counter())
                people += len(scene)
    finally:
        source.close()
    done = len(finished_s) - 1
    if not done:
        raise InputError(f"{clip} gave no frame; expected a video or a folder of images")
    return WholeRun(done, np.diff(finished_s).tolist(), usage, people, watch.seconds)


def run_with_files(clip: Path, settings: Settings, pipeline: Pipeline, frames: int) -> WholeRun:
    """Run the pipeline as `mchmr video` does: with STEM.npz, and the overlay if settings request it."""
    stop, finished_s = threading.Event(), [time.perf_counter()]

    def finished(done: int, _: int | None) -> None:
        finished_s.append(time.perf_counter())
        if done >= frames:
            stop.set()

    with tempfile.TemporaryDirectory() as folder:
        with measured() as usage:
            result = process_video(clip, folder, settings, progress=finished, stop=stop, pipeline=pipeline)
        people = sum(map(len, load(result.npz).tracks.values()))
    return WholeRun(result.frames, np.diff(finished_s).tolist(), usage, people, {})
