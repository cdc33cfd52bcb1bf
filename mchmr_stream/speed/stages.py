"""Each stage alone with its inputs from a run of the pipeline: frames per second, time per call, CPU time."""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from mchmr_stream.datatypes import Bodies, CropBatch, CropEstimates, Scene, SourceInfo
from mchmr_stream.estimators.thread_pool import ThreadPoolEstimator
from mchmr_stream.fitting.alignment import KeypointAlignment
from mchmr_stream.fitting.body_fitter import BodyFitter
from mchmr_stream.pipeline.factory import Components
from mchmr_stream.protocols import MeshEstimator, Source
from mchmr_stream.runtime.threads import torch_threads
from mchmr_stream.sinks.overlay import OverlaySink, draw_scene
from mchmr_stream.speed.recorded_calls import Recording
from mchmr_stream.speed.resource_usage import Timed, measured

STAGES = ("decode", "detect", "keypoints", "crop", "network", "fit", "align", "render", "encode")
"""In the order of processing; keypoints, fit and align if the settings use them, the last two only with an overlay."""

Calls = Callable[[list[float]], int]
"""Does the work, appends the seconds of each call to the list, and returns the number of frames."""


@dataclass(frozen=True)
class Alone(Timed):
    """Measurement of one stage; `each_s` are its calls."""

    threads: int
    """of torch; decoder and encoder choose their own"""


def run_alone(calls: Calls, threads: int) -> Alone:
    """Run the calls twice and measure the second run."""
    with torch_threads(threads):
        calls([])
        call_s: list[float] = []
        with measured() as usage:
            frames = calls(call_s)
    return Alone(frames, call_s, usage, threads)


def decoding(open_source: Callable[[], Source]) -> Calls:
    """Decode the frames of a newly opened source, one after the other."""

    def calls(seconds: list[float]) -> int:
        source = open_source()
        try:
            frames, start = 0, time.perf_counter()
            for _ in source.frames():
                seconds.append(time.perf_counter() - start)
                frames, start = frames + 1, time.perf_counter()
            return frames
        finally:
            source.close()

    return calls


def detecting(recording: Recording, components: Components) -> Calls:
    """Detect people in the frames of the recorded calls, in batches of the same size."""
    return lambda seconds: _timed(seconds, [partial(components.detector.detect, frames) for frames in recording.detected], recording)


def refining(recording: Recording, components: Components) -> Calls:
    """Refine the keypoints of all people in crops of their own.

    Raises:
        ValueError: the settings do not use keypoint crops.
    """
    keypoints = components.keypoints
    if keypoints is None:
        raise ValueError("these components have nothing that finds keypoints in crops")
    return lambda seconds: _timed(seconds, [partial(keypoints.refine, *given) for given in recording.refined], recording)


def cropping(recording: Recording, components: Components) -> Calls:
    """Cut the crops of all people."""
    return lambda seconds: _timed(seconds, [partial(components.cropper.crop, *given) for given in recording.cropped], recording)


def estimating(recording: Recording, components: Components) -> Calls:
    """Run the network on the same batches, with as many in flight as in the pipeline. A call lasts until its result is available."""

    def calls(seconds: list[float]) -> int:
        with ExitStack() as at_end:
            estimator: MeshEstimator = components.estimator
            if components.batches_at_once > 1:
                estimator = at_end.enter_context(closing(ThreadPoolEstimator(estimator, components.batches_at_once)))
            sent: deque[Future[CropEstimates]] = deque()
            for batch in recording.batches:
                if len(sent) >= estimator.info.in_flight:
                    sent.popleft().result()
                start = time.perf_counter()
                sent.append(estimator.submit(batch))
                sent[-1].add_done_callback(partial(_note, seconds, start))
            for answer in sent:
                answer.result()
        return len(recording.scenes)

    return calls


def fitting(recording: Recording, new_fitter: Callable[[], BodyFitter]) -> Calls:
    """Fit the bodies of all people with a new fitter, from the first frame on."""

    def calls(seconds: list[float]) -> int:
        fitter = new_fitter()
        return _timed(seconds, [partial(fitter.fit, measured) for measured in recording.fitted], recording)

    return calls


def aligning(recording: Recording, new_alignment: Callable[[], KeypointAlignment]) -> Calls:
    """Align the smoothed bodies of all people with their keypoints."""

    def calls(seconds: list[float]) -> int:
        alignment, remembered = new_alignment(), 0
        for known, bodies in recording.aligned:
            for group in recording.fitted[remembered:known]:
                alignment.remember(group)
            remembered = known
            _timed(seconds, [partial(alignment.align, bodies)], recording)
        return len(recording.scenes)

    return calls


def rendering(recording: Recording) -> Calls:
    """Pose and draw the bodies over the pictures."""
    return lambda seconds: _timed(seconds, [partial(draw_scene, scene) for scene in recording.scenes], recording)


def encoding(recording: Recording, info: SourceInfo) -> Calls:
    """Encode the overlay as H.264. The pictures are already drawn and passed without people, so that only the encoding is measured."""
    painted = [
        replace(
            scene,
            frame=replace(scene.frame, rgb=draw_scene(scene)),
            bodies=_no_bodies(scene),
            joints_m=_none(24, 3),
            joints_px=_none(24, 2),
        )
        for scene in recording.scenes
    ]

    def calls(seconds: list[float]) -> int:
        with tempfile.TemporaryDirectory() as folder:
            sink = OverlaySink(Path(folder) / "overlay.mp4", info)
            _timed(seconds, [partial(sink.write, scene) for scene in painted], recording)
            sink.close()
        return len(painted)

    return calls


def _note(seconds: list[float], start: float, _: object) -> None:
    seconds.append(time.perf_counter() - start)


def _no_bodies(scene: Scene) -> Bodies:
    return Bodies.empty(scene.bodies.frame, scene.bodies.time_s, scene.bodies.views_cam.shape[1])


def _none(*shape: int) -> np.ndarray:
    return np.zeros((0, *shape), np.float32)


def _timed(seconds: list[float], calls: list[Callable[[], object]], recording: Recording) -> int:
    cuda = torch.cuda.is_available()
    for call in calls:
        start = time.perf_counter()
        call()
        if cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return len(recording.scenes)


def people_together(batches: list[CropBatch], people: int) -> CropBatch | None:
    """Build a batch of `people` people by repeating the recorded ones; None without any."""
    found = [batch for batch in batches if len(batch)]
    if not found:
        return None
    have = sum(map(len, found))
    take = [index % have for index in range(people)]
    return CropBatch.concat(found).only(take)


def people_per_s(estimator: MeshEstimator, batch: CropBatch, threads: int, seconds: float = 1.0) -> float:
    """Measure the network's rate on one batch, repeated for `seconds` after one call to warm up."""
    with torch_threads(threads):
        estimator.estimate(batch)
        start, done = time.perf_counter(), 0
        while done == 0 or time.perf_counter() - start < seconds:
            estimator.estimate(batch)
            done += len(batch)
        return done / (time.perf_counter() - start)
