"""The data flow from pictures to scenes.

    Source --Frame--> Detector --Detections--> Tracker --Tracks--> CropKeypoints --Tracks--> Cropper --CropBatch--> MeshEstimator
      --CropEstimates--> place in image --Bodies--> BodyFitter --Bodies--> Smoother --Bodies--> KeypointAlignment --Bodies-->
      body model --Scene--> every FileSink or LiveSink

Stages are generators. Decoding, detecting, and finding and cropping people each run ahead on a thread of their own, in bounded memory. The
network runs on the caller's thread (or on several), so that detector and network compute at the same time.

One result goes back: `Feedback` gives the tracker the landmarks that the network saw in each crop, with which the tracker keeps people whom
the detector misses.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mchmr_stream.body.kinematics import camera_joints
from mchmr_stream.body.model import skin
from mchmr_stream.config import Settings, alone
from mchmr_stream.datatypes import Bodies, Float, Frame, Scene, SourceInfo
from mchmr_stream.detection.keyframes import DetectedFrame, default_interval, detect_every_nth, detect_keyframes
from mchmr_stream.errors import InputError, TruncatedInput
from mchmr_stream.estimators.thread_pool import ThreadPoolEstimator
from mchmr_stream.fitting.alignment import KeypointAlignment
from mchmr_stream.fitting.body_fitter import BodyFitter, Measured
from mchmr_stream.fitting.measurements_file import MeasuredFile
from mchmr_stream.geometry.camera import Intrinsics, project
from mchmr_stream.pipeline.factory import (
    Components,
    build_alignment,
    build_components,
    build_fitter,
    build_scene_cuts,
    build_smoother,
    build_upright_detector,
    open_input,
)
from mchmr_stream.pipeline.feedback import Feedback
from mchmr_stream.pipeline.full_camera import place_in_image
from mchmr_stream.pipeline.live_settings import AdjustableSettings, AdjustedSmoother
from mchmr_stream.pipeline.network_batches import EstimatedFrame, send
from mchmr_stream.pipeline.people_finder import Confirmation, PeopleFinder
from mchmr_stream.pipeline.scene_stages import aligned, grouped, smoothed, until
from mchmr_stream.protocols import Detector, MeshEstimator, Source
from mchmr_stream.runtime.concurrency import Stopwatch, Workers
from mchmr_stream.runtime.threads import plan_threads

log = logging.getLogger(__name__)

_ALIGNED_TOGETHER = 4
"""Frames of a file that are aligned at once: most of the time of a small fit is the overhead of its calls."""


def log_scene(name: str, scene: Scene, watch: Stopwatch) -> None:
    """Log the people of a finished frame and the last duration of each stage, for `-vv`."""
    if log.isEnabledFor(logging.DEBUG):
        people = ", ".join(map(str, scene.bodies.track_id.tolist())) or "nobody"
        stages = ", ".join(f"{stage} {1000 * seconds:.1f}" for stage, seconds in watch.latest.items())
        log.debug("%s: frame %d at %.3f s: %s; ms: %s", name, scene.frame.index, scene.frame.time_s, people, stages)


class Pipeline:
    """Settings and components; `scenes` processes one source with them.

    One run at a time, except with components that several runs may call at once, as `LiveRun` uses.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        components: Components | None = None,
        *,
        detector: Detector | None = None,
        estimator: MeshEstimator | None = None,
    ) -> None:
        """Build the components that are not given.

        Args:
            settings: All settings; None: the defaults.
            components: Those of another pipeline, to share them; None: they are built from the settings.
            detector: Your own, in place of the one that the settings name.
            estimator: Your own, in place of the network that the settings name; its weights are not loaded then.

        Raises:
            MissingPart: A file or an optional package is missing.
            UsageError: Settings that do not go together.
        """
        self.settings = settings or Settings()
        if components is None:
            self.components = build_components(self.settings, detector=detector, estimator=estimator)
        else:
            given = {"detector": detector, "estimator": estimator}
            self.components = components.replaced(**{name: own for name, own in given.items() if own is not None})

    def with_components(self, **changed: Any) -> Pipeline:
        """A pipeline with these components in place of its own. It shares all others, so close only one of the two.

        Args:
            changed: Fields of `Components` by name, such as `detector`.
        """
        return Pipeline(self.settings, self.components.replaced(**changed))

    def names(self) -> dict[str, str]:
        """Names and hashes of the body model and the weights, as output files give them."""
        body, estimator = self.components.body, self.components.estimator
        return {
            "body_model": body.name,
            "body_model_sha256": body.sha256,
            "weights": estimator.info.name,
            "weights_sha256": estimator.info.weights_sha256,
        }

    def adjustable(self) -> AdjustableSettings:
        """A thread-safe copy of the settings for `scenes(adjust=...)`, some of which can be changed during the run."""
        return self._adjustable(self.settings)

    def _adjustable(self, settings: Settings) -> AdjustableSettings:
        return AdjustableSettings(settings, fixed_views=self.components.estimator.info.fixed_views)

    def scenes(
        self,
        source: Source,
        intrinsics: Intrinsics,
        *,
        stop: threading.Event | None = None,
        watch: Stopwatch | None = None,
        live: bool = False,
        adjust: AdjustableSettings | None = None,
        say: Callable[[str], None] | None = None,
        keep: MeasuredFile | None = None,
    ) -> Generator[Scene]:
        """Process one source.

        Args:
            source: Pictures in order of time.
            intrinsics: Camera of the source's pictures.
            stop: Setting it ends the run after the frames that are already decoded.
            watch: Measures the duration of each stage.
            live: Take a frame from the source only when the pipeline is ready for it, so that the source decides what to drop. An early
                end closes the source.
            adjust: Settings that may change during the run.
            say: Called, on a thread of the run, with each warning about the source; None: warnings are logged.
            keep: Stores the measurements of all frames for a second pass of the fit.

        Yields:
            One `Scene` per frame, in order; frames without people too.

        Raises:
            TruncatedInput: After the last good frame: the source breaks off.
        """
        settings = alone(self.settings) if source.info.still else self.settings
        _log_source(source.info, intrinsics, settings)
        watch, adjust = watch or Stopwatch(), adjust or self._adjustable(settings)
        say = say or partial(log.warning, "%s: %s", source.info.name)
        body, picture_wh = self.components.body, (source.info.width, source.info.height)
        smoother = AdjustedSmoother(adjust, partial(build_smoother, picture_wh=picture_wh, body=body))
        if live:
            # One frame at a time, on half the cores: a second frame in the network would make each result older.
            torch.set_num_threads(plan_threads(self.settings.runtime.threads, os.cpu_count() or 1, side_by_side=False)[0])
        with Workers() as workers:
            frames = until(stop, source.frames())
            if live:
                workers.before_joining(source.close)
            else:
                frames = workers.ahead(watch.timed("decode", frames), self.settings.runtime.ahead, name="decode")
            detected = self._detect(frames, live, source.info.fps, adjust, watch, say)
            if not live:
                # Detector and keypoint network are the two longest stages before the network: each works on a frame of its own.
                detected = workers.ahead(detected, 1, name="detect")
            feedback: Feedback[Confirmation] = Feedback()
            workers.before_joining(feedback.cancel)
            finder = PeopleFinder(settings, self.components, intrinsics, feedback, adjust, watch)
            groups = grouped(finder.find(detected), 1 if live else self.components.frames_together)
            groups = workers.ahead(groups, 0 if live else 1, name="find")
            estimator = self._estimator(workers, live=live)
            sent = send(groups, estimator, feedback, intrinsics, watch)
            if estimator.info.in_flight > 1:
                # Sending and waiting overlap: the way to a network on another machine and back costs time but no speed.
                sent = workers.ahead(sent, estimator.info.in_flight, name="send")
            fitter = build_fitter(settings, body, intrinsics)
            alignment = build_alignment(settings, body, intrinsics)
            bodies = self._place_and_fit(sent, fitter, alignment, keep, watch)
            bodies = smoothed(bodies, smoother, watch)
            bodies = aligned(bodies, alignment, 1 if live else _ALIGNED_TOGETHER, watch)
            for frame, finished in bodies:
                yield self.scene(frame, finished, intrinsics)

    def _detect(
        self,
        frames: Iterator[Frame],
        live: bool,
        fps: float,
        adjust: AdjustableSettings,
        watch: Stopwatch,
        say: Callable[[str], None],
    ) -> Iterator[DetectedFrame]:
        """Detect people and scene cuts. The detector runs on keyframes of a file, and on every nth frame of a live source."""
        detector = build_upright_detector(self.settings, self.components.detector, say)
        detect = partial(watch.call, "detect", detector.detect)
        cuts = build_scene_cuts(self.settings)

        def is_new_scene(frame: Frame) -> bool:
            return cuts is not None and watch.call("track", cuts.begins_with, frame.rgb)

        with closing(detector):
            if live:
                yield from detect_every_nth(frames, detect, is_new_scene, lambda: adjust.now.detector.interval)
                return
            chosen = self.settings.detector
            # Given boxes cost nothing, and those of every frame are used.
            interval = chosen.file_interval or (1 if chosen.kind == "boxes" else default_interval(fps))
            yield from detect_keyframes(frames, detect, is_new_scene, interval, chosen.batch)

    def _estimator(self, workers: Workers, *, live: bool) -> MeshEstimator:
        """The network; for files on a CPU on several threads, each with a batch of its own."""
        estimator, threads = self.components.estimator, self.components.batches_at_once
        if live or threads == 1:
            return estimator
        pool = ThreadPoolEstimator(estimator, threads)
        workers.before_joining(pool.close)
        return pool

    def _place_and_fit(
        self,
        sent: Iterator[Future[list[EstimatedFrame]]],
        fitter: BodyFitter | None,
        alignment: KeypointAlignment | None,
        keep: MeasuredFile | None,
        watch: Stopwatch,
    ) -> Iterator[tuple[Frame, Bodies]]:
        """Wait for the network; place its bodies in the full-image camera, and fit them to the keypoints."""
        for future in sent:
            frames = future.result() if future.done() else watch.call("network", future.result)
            bodies = [
                place_in_image(found.frame, found.tracks, found.batch, estimates, self.components.body) for found, estimates, _ in frames
            ]
            if fitter is not None:
                measured = [_measured(*pair) for pair in zip(frames, bodies, strict=True)]
                bodies = watch.call("fit", fitter.fit, measured)
                if alignment is not None:
                    alignment.remember(measured)
                if keep is not None:
                    keep.append(measured, bodies)
            yield from zip([found.frame for found, _, _ in frames], bodies, strict=True)

    def scene(self, frame: Frame, bodies: Bodies, intrinsics: Intrinsics) -> Scene:
        """Pose the body model and project its joints.

        Args:
            frame: The picture.
            bodies: Everyone in it.
            intrinsics: Camera of the picture.

        Returns:
            The finished scene; its meshes are posed on demand.
        """
        body = self.components.body
        rotations = bodies.rotations

        def vertices() -> Float:
            return skin(body, *(torch.from_numpy(values) for values in (rotations, bodies.betas, bodies.transl)))[0].numpy()

        joints_m = camera_joints(body, rotations, bodies.betas, bodies.transl)
        return Scene(frame, bodies, intrinsics, joints_m, project(joints_m, intrinsics).astype(np.float32), body.faces, vertices)

    def close(self) -> None:
        """Release what detector and estimator hold, also where other pipelines share them."""
        self.components.detector.close()
        self.components.estimator.close()


def _log_source(info: SourceInfo, intrinsics: Intrinsics, settings: Settings) -> None:
    log.info(
        "%s: %dx%d px, %.5g frames per second, %s frames expected; focal length %.0f px; reads %d frames ahead",
        info.name, info.width, info.height, info.fps, "unknown" if info.frame_count is None else info.frame_count, intrinsics.fx,
        settings.runtime.ahead,
    )  # fmt: skip


def _measured(seen: EstimatedFrame, bodies: Bodies) -> Measured:
    """Collect what the fit takes of a frame."""
    frame, tracks, batch, _ = seen.found
    return Measured(
        bodies=bodies,
        keypoint_covariance_px2=tracks.keypoint_covariance_px2,
        landmarks_px=seen.landmarks_px,
        base_px=batch.base_px,
        roll_rad=batch.roll_rad,
        picture_wh=(frame.width, frame.height),
        up_rad=tracks.up_rad,
    )


def stream(path: str | Path, settings: Settings | None = None, *, pipeline: Pipeline | None = None) -> Generator[Scene]:
    """Process a video and yield its people frame by frame.

    Use it in a loop: ``for scene in stream("clip.mp4"): ...``. Leaving the loop early closes everything but a given `pipeline`. Pictures
    that stand alone (`source.pictures`) are processed one by one, in natural order of their names. The frame's index counts them, and a
    track_id holds within one picture only.

    Args:
        path: A video file, a picture, or a folder or pattern of pictures.
        settings: All settings; None: those of `pipeline`, or the defaults.
        pipeline: Loaded networks to use again, or one with components of your own; made with the same settings.

    Yields:
        One `Scene` per frame, in order; frames without people too.

    Raises:
        UsageError: Before the first frame: settings that do not go together, or a path that cannot be used.
        InputError: Before the first frame: a file that cannot be read.
        TruncatedInput: After the last good frame: the file breaks off.
    """
    from mchmr_stream.sources.stills import stills_in

    chosen = settings or (Settings() if pipeline is None else pipeline.settings)
    stills = stills_in(path, chosen)
    with ExitStack() as opened:
        if stills is not None and len(stills.paths) > 1:
            yield from _stream_stills(stills.paths, chosen, pipeline or opened.enter_context(closing(Pipeline(chosen))))
            return
        source, intrinsics = open_input(path, chosen)
        opened.callback(source.close)
        yield from (pipeline or opened.enter_context(closing(Pipeline(chosen)))).scenes(source, intrinsics)


def _stream_stills(pictures: Sequence[Path], settings: Settings, pipeline: Pipeline) -> Generator[Scene]:
    """Process each picture by itself. Pictures that cannot be read are left out and named in a TruncatedInput at the end."""
    broken: list[str] = []
    for number, picture in enumerate(pictures):
        try:
            source, intrinsics = open_input(picture, settings)
            with closing(source):
                for scene in pipeline.scenes(source, intrinsics):
                    bodies = replace(scene.bodies, frame=number)
                    yield replace(scene, frame=replace(scene.frame, index=number), bodies=bodies)
        except InputError as error:
            broken.append(str(error))
    if broken:
        raise TruncatedInput(f"{len(broken)} of {len(pictures)} pictures are damaged; the first: {broken[0]}")
