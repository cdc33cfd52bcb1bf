"""The whole flow on one page: pictures in, scenes out.

    Source --Frame--> Detector --Detections--> Tracker --Tracks--> CropKeypoints --Tracks--> Cropper --CropBatch--> MeshEstimator
      --CropEstimates--> place in image --Bodies--> BodyFitter --Bodies--> Smoother --Bodies--> KeypointAlignment --Bodies-->
      body model --Scene--> every Sink

Stages are generators. Decoding, detecting, and finding and cropping people, each run ahead on a thread of their own in bounded memory;
the network over the crops runs on the caller's thread, so that detector and network work at the same time.

One thing goes back: the tracker hears where the network saw each person, and so keeps people whom the detector loses.
It asks only when it may lose somebody, and then waits for the network; otherwise it is a frame ahead of it. Which of
the two depends on the detections alone, never on how fast a thread was: a video gives the same bodies every time.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mchmr_stream.body.kinematics import camera_joints
from mchmr_stream.body.model import skin
from mchmr_stream.config import Settings, alone
from mchmr_stream.datatypes import KEYPOINT_NAMES, Bodies, CropBatch, CropEstimates, Float, Frame, Scene, Tracks
from mchmr_stream.detection.keyframes import DetectedFrame, default_interval, detect_every_nth, detect_keyframes
from mchmr_stream.errors import InputError, TruncatedInput
from mchmr_stream.estimators.thread_pool import ThreadPoolEstimator
from mchmr_stream.fitting.alignment import KeypointAlignment
from mchmr_stream.fitting.body_fitter import BodyFitter, Measured
from mchmr_stream.fitting.measurements_file import MeasuredFile
from mchmr_stream.geometry.camera import Intrinsics, project
from mchmr_stream.geometry.crops import image_from_rolled
from mchmr_stream.pipeline.factory import (
    Components,
    build_alignment,
    build_components,
    build_cropper,
    build_fitter,
    build_scene_cuts,
    build_smoother,
    build_tracker,
    build_upright_detector,
    open_input,
)
from mchmr_stream.pipeline.feedback import Feedback
from mchmr_stream.pipeline.full_camera import place_in_image
from mchmr_stream.pipeline.live_settings import AdjustableSettings, AdjustedSmoother
from mchmr_stream.protocols import Detector, MeshEstimator, Smoother, Source, Tracker
from mchmr_stream.runtime.concurrency import Stopwatch, Workers
from mchmr_stream.runtime.threads import plan_threads

log = logging.getLogger(__name__)

_ALIGNED_TOGETHER = 4
"""Frames of a file that are aligned at once: a small fit costs what its calls cost."""

Seen = tuple[Float, Float]
"""Landmarks (n, 17, 3) in picture pixels and presence (n,): what `Tracker.confirm` takes."""


class Found(NamedTuple):
    """The people of a frame on their way to the network; `number` is the frame's in `Feedback`."""

    frame: Frame
    tracks: Tracks
    batch: CropBatch
    number: int


def log_scene(name: str, scene: Scene, watch: Stopwatch) -> None:
    """What is in a finished frame, and how long each stage last took, for `-vv`."""
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
        info = source.info
        log.info(
            "%s: %dx%d px, %.5g frames per second, %s frames expected; focal length %.0f px; reads %d frames ahead",
            info.name, info.width, info.height, info.fps, "unknown" if info.frame_count is None else info.frame_count, intrinsics.fx,
            settings.runtime.ahead,
        )  # fmt: skip
        watch, adjust = watch or Stopwatch(), adjust or self._adjustable(settings)
        say = say or partial(log.warning, "%s: %s", source.info.name)
        picture_wh = source.info.width, source.info.height
        tracker = build_tracker(settings)
        smoother = AdjustedSmoother(adjust, partial(build_smoother, picture_wh=picture_wh, body=self.components.body))
        if live:
            # One frame at a time, and so with all that the cores give: a second one would make each result older.
            torch.set_num_threads(plan_threads(self.settings.runtime.threads, os.cpu_count() or 1, side_by_side=False)[0])
        with Workers() as workers:
            frames = until(stop, source.frames())
            if live:
                workers.before_joining(source.close)
            else:
                frames = workers.ahead(watch.timed("decode", frames), self.settings.runtime.ahead, name="decode")
            feedback: Feedback[Seen] = Feedback()
            workers.before_joining(feedback.cancel)
            together = 1 if live else self.components.frames_together
            detected = self._detect(frames, live, source.info.fps, adjust, watch, say)
            if not live:
                # Detector and keypoint network are the two longest stages on this side: each works on frames of its own.
                detected = workers.ahead(detected, 1, name="detect")
            found = self._find(detected, intrinsics, tracker, feedback, adjust, together, watch)
            estimator = self.components.estimator
            if not live and self.components.batches_at_once > 1:
                estimator = ThreadPoolEstimator(estimator, self.components.batches_at_once)
                workers.before_joining(estimator.close)
            sent = self._send(workers.ahead(found, 0 if live else 1, name="find"), estimator, feedback, intrinsics, watch)
            if estimator.info.in_flight > 1:
                # Sending and waiting go on at once: where the network is elsewhere, the way there and back costs time but no speed.
                sent = workers.ahead(sent, estimator.info.in_flight, name="send")
            fitter = build_fitter(settings, self.components.body, intrinsics)
            alignment = build_alignment(settings, self.components.body, intrinsics)
            bodies = smoothed(self._estimate(sent, fitter, alignment, keep, watch), smoother, watch)
            for frame, smooth in aligned(bodies, alignment, 1 if live else _ALIGNED_TOGETHER, watch):
                yield self.scene(frame, smooth, intrinsics)

    def _detect(
        self,
        frames: Iterator[Frame],
        live: bool,
        fps: float,
        adjust: AdjustableSettings,
        watch: Stopwatch,
        say: Callable[[str], None],
    ) -> Iterator[DetectedFrame]:
        detector = build_upright_detector(self.settings, self.components.detector, say)
        detect = partial(watch.call, "detect", detector.detect)
        cuts = build_scene_cuts(self.settings)

        def new_scene(frame: Frame) -> bool:
            return cuts is not None and watch.call("track", cuts.begins_with, frame.rgb)

        with closing(detector):
            if live:
                yield from detect_every_nth(frames, detect, new_scene, lambda: adjust.now.detector.interval)
                return
            chosen = self.settings.detector
            # Boxes that somebody gave for every frame are all wanted, and cost nothing.
            interval = chosen.file_interval or (1 if chosen.kind == "boxes" else default_interval(fps))
            yield from detect_keyframes(frames, detect, new_scene, interval, chosen.batch)

    def _find(
        self,
        detected: Iterator[DetectedFrame],
        intrinsics: Intrinsics,
        tracker: Tracker,
        feedback: Feedback[Seen],
        adjust: AdjustableSettings,
        together: int,
        watch: Stopwatch,
    ) -> Iterator[list[Found]]:
        """Track and crop. Frames come out `together` at a time; fewer where the tracker cannot go on without the network's answer."""
        before: Found | None = None
        cropper = self.components.cropper
        group: list[Found] = []
        try:
            for frame, detections, new_scene in detected:
                if adjust.now.crops.views != cropper.layout.count:
                    if group:
                        yield group
                        group = []
                    cropper = build_cropper(adjust.now)
                if new_scene:
                    tracker.end_scene()
                if before is not None and tracker.needs_confirmation(detections):
                    if group:
                        yield group
                        group = []
                    tracker.confirm(before.tracks.track_id, *feedback.wait())
                seen = frame.rgb if self.settings.tracker.appearance else None
                tracks = watch.call("track", tracker.update, detections, frame.time_s, seen)
                if self.components.keypoints is not None:
                    tracks = tracker.believed(watch.call("keypoints", self.components.keypoints.refine, frame, tracks, intrinsics))
                before = Found(frame, tracks, watch.call("crop", cropper.crop, frame, tracks, intrinsics), feedback.expect())
                group.append(before)
                if len(group) == together:
                    yield group
                    group = []
        except Exception:
            if group:  # found before it went wrong
                yield group
            raise
        if group:
            yield group

    def _send(
        self, found: Iterator[list[Found]], estimator: MeshEstimator, feedback: Feedback[Seen], intrinsics: Intrinsics, watch: Stopwatch
    ) -> Iterator[tuple[list[Found], Future[CropEstimates]]]:
        """Give the crops of each group to the network, and its answer to the tracker as soon as it is there."""
        for group in found:
            estimates = watch.call("network", estimator.submit, CropBatch.concat([item.batch for item in group]))
            estimates.add_done_callback(partial(_tell_tracker, feedback, group, intrinsics))
            yield group, estimates

    def _estimate(
        self,
        sent: Iterator[tuple[list[Found], Future[CropEstimates]]],
        fitter: BodyFitter | None,
        alignment: KeypointAlignment | None,
        keep: MeasuredFile | None,
        watch: Stopwatch,
    ) -> Iterator[tuple[Frame, Bodies]]:
        for group, estimates in sent:
            arrived = watch.call("network", estimates.result) if not estimates.done() else estimates.result()
            apart = _apart(arrived, group)
            placed = [
                place_in_image(item.frame, item.tracks, item.batch, its_own, self.components.body)
                for item, its_own in zip(group, apart, strict=True)
            ]
            if fitter is not None:
                measured = [_measured(*each, fitter.intrinsics) for each in zip(group, apart, placed, strict=True)]
                placed = watch.call("fit", fitter.fit, measured)
                if alignment is not None:
                    alignment.remember(measured)
                if keep is not None:
                    keep.append(measured, placed)
            for item, bodies in zip(group, placed, strict=True):
                yield item.frame, bodies

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


def _apart(estimates: CropEstimates, group: list[Found]) -> list[CropEstimates]:
    """Those of each frame."""
    return estimates.split([len(item.batch) for item in group])


def _measured(item: Found, estimates: CropEstimates, bodies: Bodies, intrinsics: Intrinsics) -> Measured:
    """What the fit takes of a frame."""
    frame, batch = item.frame, item.batch
    landmarks_px = landmarks_in_image(estimates, batch, intrinsics)
    covariance_px2 = item.tracks.keypoint_covariance_px2
    return Measured(bodies, covariance_px2, landmarks_px, batch.base_px, batch.roll_rad, (frame.width, frame.height), item.tracks.up_rad)


def landmarks_in_image(estimates: CropEstimates, batch: CropBatch, intrinsics: Intrinsics) -> Float:
    """(n, 27, 3) where the network saw its landmarks, picture pixels, and how visible they are."""
    seen_px = image_from_rolled(estimates.landmarks_px[..., :2], intrinsics, batch.roll_rad)
    return np.concatenate([seen_px, estimates.landmarks_px[..., 2:]], -1).astype(np.float32)


def _tell_tracker(feedback: Feedback[Seen], group: list[Found], intrinsics: Intrinsics, done: Future[CropEstimates]) -> None:
    if done.cancelled() or done.exception() is not None:
        return  # raised to whoever takes the frames' bodies
    for item, estimates in zip(group, _apart(done.result(), group), strict=True):
        landmarks_px = landmarks_in_image(estimates, item.batch, intrinsics)[:, : len(KEYPOINT_NAMES)]
        feedback.resolve(item.number, (landmarks_px, estimates.presence))


def smoothed(bodies: Iterator[tuple[Frame, Bodies]], smoother: Smoother, watch: Stopwatch) -> Iterator[tuple[Frame, Bodies]]:
    """Join the smoother's output, which may come later, to the frames it belongs to."""
    waiting: deque[Frame] = deque()

    def held_back() -> Iterator[tuple[Frame, Bodies]]:
        for ready in smoother.flush():
            yield waiting.popleft(), ready

    try:
        for frame, raw in bodies:
            waiting.append(frame)
            for ready in watch.call("smooth", smoother.push, raw):
                yield waiting.popleft(), ready
    except Exception:
        yield from held_back()  # what came before the error
        raise
    yield from held_back()


def aligned(
    bodies: Iterator[tuple[Frame, Bodies]], alignment: KeypointAlignment | None, together: int, watch: Stopwatch
) -> Iterator[tuple[Frame, Bodies]]:
    """Smoothed bodies back on their keypoints, so many frames at a time; what came before an error comes out before it is raised."""
    if alignment is None:
        yield from bodies
        return
    group: list[tuple[Frame, Bodies]] = []

    def finished() -> Iterator[tuple[Frame, Bodies]]:
        done = watch.call("align", alignment.align, [smooth for _, smooth in group])
        yield from zip([frame for frame, _ in group], done, strict=True)
        group.clear()

    try:
        for one in bodies:
            group.append(one)
            if len(group) >= together:
                yield from finished()
    except Exception:
        yield from finished()
        raise
    yield from finished()


def until(stop: threading.Event | None, frames: Iterator[Frame]) -> Iterator[Frame]:
    """Pass frames on until `stop` is set."""
    for frame in frames:
        if stop is not None and stop.is_set():
            return
        yield frame


def stream(path: str | Path, settings: Settings | None = None, *, pipeline: Pipeline | None = None) -> Generator[Scene]:
    """Everyone in a video, frame by frame: ``for scene in stream("clip.mp4"): ...``.

    Pictures that stand alone (`source.pictures`) are processed one by one, in natural order of their names. The frame's index counts
    them, and a track_id holds within one picture only. Leaving the loop early closes everything but a given `pipeline`.

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
    """A run for each picture. Those that cannot be read are left out, and said at the end."""
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
