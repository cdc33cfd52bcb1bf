"""The whole flow on one page: pictures in, scenes out.

    Source --Frame--> Detector --Detections--> Tracker --Tracks--> Cropper --CropBatch--> MeshEstimator
      --CropEstimates--> place in image --Bodies--> Smoother --Bodies--> body model --Scene--> every Sink

Stages are generators. Decoding runs ahead on a thread of its own; the networks run on the caller's, each with all cores:
two at once would only fight for them, and the OpenMP runtime that PyTorch ships computes a quarter slower when a second
thread brings a team of its own. One thing goes back: the tracker hears where the network saw each person, and so keeps
people whom the detector loses.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import torch

from mchmr_stream.body.model import forward_kinematics, skin
from mchmr_stream.build import Parts, build_parts, build_smoother, build_tracker, open_input
from mchmr_stream.config import Settings
from mchmr_stream.errors import TruncatedInput
from mchmr_stream.geometry.camera import Intrinsics, project
from mchmr_stream.geometry.crops import image_from_rolled
from mchmr_stream.placing import place_in_image
from mchmr_stream.protocols import Smoother, Source, Tracker
from mchmr_stream.records import Bodies, Detections, Float, Frame, Scene
from mchmr_stream.streaming import Stopwatch, Workers


class Pipeline:
    """Networks and settings; `scenes` runs one source through them. One run at a time."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.parts: Parts = build_parts(self.settings)

    def scenes(
        self, source: Source, intrinsics: Intrinsics, *, stop: threading.Event | None = None, watch: Stopwatch | None = None
    ) -> Generator[Scene]:
        """Every frame of the source as a finished scene, in order; frames without people too.

        Setting `stop` ends the run after what was already decoded. Raises TruncatedInput after the last good frame.
        """
        watch, ahead = watch or Stopwatch(), self.settings.runtime.ahead
        tracker, smoother = build_tracker(self.settings), build_smoother(self.settings)
        with Workers() as workers:
            frames = workers.ahead(watch.timed("decode", until(stop, source.frames())), ahead, name="decode")
            bodies = self._estimate(self._detect(frames, watch), intrinsics, tracker, watch)
            for frame, smooth in smoothed(bodies, smoother, watch):
                yield self.scene(frame, smooth, intrinsics)

    def _detect(self, frames: Iterator[Frame], watch: Stopwatch) -> Iterator[tuple[Frame, Detections | None]]:
        """Ask the detector on each n-th frame, a batch at a time; None on the frames between."""
        interval, batch = self.settings.detector.interval, self.settings.detector.batch
        waiting: list[Frame] = []
        broken: TruncatedInput | None = None
        try:
            for frame in frames:
                waiting.append(frame)
                if len(waiting) == interval * batch:
                    yield from self._detected(waiting, interval, watch)
                    waiting = []
        except TruncatedInput as error:
            broken = error
        if waiting:
            yield from self._detected(waiting, interval, watch)
        if broken is not None:
            raise broken

    def _detected(self, frames: list[Frame], interval: int, watch: Stopwatch) -> Iterator[tuple[Frame, Detections | None]]:
        found = iter(watch.call("detect", self.parts.detector.detect, frames[::interval]))
        for i, frame in enumerate(frames):
            yield frame, next(found) if i % interval == 0 else None

    def _estimate(
        self, detected: Iterator[tuple[Frame, Detections | None]], intrinsics: Intrinsics, tracker: Tracker, watch: Stopwatch
    ) -> Iterator[tuple[Frame, Bodies]]:
        cropper, estimator, body = self.parts.cropper, self.parts.estimator, self.parts.body
        for frame, detections in detected:
            tracks = watch.call("track", tracker.update, detections, frame.time_s)
            if not len(tracks):
                yield frame, Bodies.empty(frame.index, frame.time_s, cropper.layout.count)
                continue
            batch = watch.call("crop", cropper.crop, frame, tracks, intrinsics)
            estimates = watch.call("network", estimator.estimate, batch)
            seen_px = image_from_rolled(estimates.landmarks_px[..., :2], intrinsics, batch.roll_rad)
            landmarks_px = np.concatenate([seen_px, estimates.landmarks_px[..., 2:]], -1)
            tracker.confirm(tracks.track_id, landmarks_px.astype(np.float32), estimates.presence)
            yield frame, place_in_image(frame, tracks, batch, estimates, body)

    def scene(self, frame: Frame, bodies: Bodies, intrinsics: Intrinsics) -> Scene:
        """Pose the body model and project."""
        body = self.parts.body
        rotations = torch.from_numpy(np.concatenate([bodies.global_orient[:, None], bodies.body_pose], 1))
        betas, transl = torch.from_numpy(bodies.betas), torch.from_numpy(bodies.transl)

        def vertices() -> Float:
            return skin(body, rotations, betas, transl)[0].numpy()

        joints_m = forward_kinematics(body, rotations, betas, transl)[0].numpy()
        return Scene(frame, bodies, intrinsics, joints_m, project(joints_m, intrinsics).astype(np.float32), body.faces, vertices)

    def close(self) -> None:
        """Release what detectors and estimators hold."""
        self.parts.detector.close()
        self.parts.estimator.close()


def smoothed(bodies: Iterator[tuple[Frame, Bodies]], smoother: Smoother, watch: Stopwatch) -> Iterator[tuple[Frame, Bodies]]:
    """Join the smoother's output, which may come later, to the frames it belongs to."""
    waiting: deque[Frame] = deque()
    broken: TruncatedInput | None = None
    try:
        for frame, raw in bodies:
            waiting.append(frame)
            for ready in watch.call("smooth", smoother.push, raw):
                yield waiting.popleft(), ready
    except TruncatedInput as error:
        broken = error
    for ready in smoother.flush():
        yield waiting.popleft(), ready
    if broken is not None:
        raise broken


def until(stop: threading.Event | None, frames: Iterator[Frame]) -> Iterator[Frame]:
    """Pass frames on until `stop` is set."""
    for frame in frames:
        if stop is not None and stop.is_set():
            return
        yield frame


def stream(path: str | Path, settings: Settings | None = None) -> Generator[Scene]:
    """Everyone in a video, frame by frame: ``for scene in stream("clip.mp4"): ...``.

    Leaving the loop early closes everything.
    Raises UsageError and InputError before the first frame, TruncatedInput after the last good one.
    """
    chosen = settings or Settings()
    source, intrinsics = open_input(path, chosen)
    try:
        pipeline = Pipeline(chosen)
        try:
            yield from pipeline.scenes(source, intrinsics)
        finally:
            pipeline.close()
    finally:
        source.close()
