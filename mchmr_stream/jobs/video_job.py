"""One input to its files: STEM.npz, STEM.mp4 and STEM.json, whole whatever happens, and resumable."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from mchmr_stream.config import Settings, alone, files_named
from mchmr_stream.datatypes import Bodies, Scene, SourceInfo
from mchmr_stream.errors import EncodingError, InputError, MchmrError, TruncatedInput, UsageError
from mchmr_stream.files.content_hash import MadeOf
from mchmr_stream.files.output_lock import claimed, remove_left_over
from mchmr_stream.files.same_file import refuse_to_replace
from mchmr_stream.fitting.measurements_file import MeasuredFile
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.jobs.killed_run import publish_what_was_kept
from mchmr_stream.motion.motion import Motion
from mchmr_stream.motion.npz_writer import NpzSink
from mchmr_stream.motion.output_paths import OutputPaths, output_paths
from mchmr_stream.motion.resume import EarlierRun
from mchmr_stream.pipeline.factory import open_input
from mchmr_stream.pipeline.pipeline import Pipeline, log_scene
from mchmr_stream.pipeline.second_pass import fitted_again
from mchmr_stream.protocols import Source
from mchmr_stream.runtime.concurrency import BackgroundWriter, Stopwatch
from mchmr_stream.sinks.overlay import OverlaySink
from mchmr_stream.sinks.rerun_file import RerunFileSink
from mchmr_stream.sinks.run_report import ReportSink, is_worth_keeping
from mchmr_stream.sinks.still_overlay import StillOverlaySink
from mchmr_stream.sources.made_of import made_of
from mchmr_stream.sources.playlists import files_listed
from mchmr_stream.sources.stills import stills_in
from mchmr_stream.world.world_motion import ground, in_a_line

log = logging.getLogger(__name__)

_Sink = OverlaySink | StillOverlaySink | NpzSink | ReportSink | RerunFileSink
Progress = Callable[[int, int | None], None]
"""Told how many frames are done and how many are expected, None where that is unknown."""


@dataclass(frozen=True)
class VideoResult:
    """Outcome of `process_video`. After resuming, frames and people are those of all runs together."""

    stem: str
    """Name of the output files without their endings."""
    npz: Path
    """STEM.npz, the bodies."""
    overlay: Path | None
    """The picture with the bodies over it; None if it was not written."""
    report: Path
    """STEM.json."""
    frames: int
    """Processed frames."""
    people: int
    """Identities that were found."""
    complete: bool
    """Whether the whole input was processed."""
    message: str | None = None
    """Why it was not, or what is worth knowing."""
    warnings: list[str] = field(default_factory=list)
    """What was odd about the input, one line each."""
    world: str | None = None
    """With `camera.static`: quality of the estimated gravity, floor and foot contacts, in a line."""


def process_video(
    path: str | Path,
    out_dir: str | Path,
    settings: Settings | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    pipeline: Pipeline | None = None,
) -> VideoResult:
    """Process one input and write STEM.npz, the overlay and STEM.json.

    An input that breaks off gives `complete=False` and a message. Any other error is raised after the results so far are published.
    An input that fails before its first frame leaves a report with the error, unless that would replace a file and `overwrite` is off.

    Args:
        path: A video file, or a picture or pattern of numbered pictures. Each picture of a folder that is no clip is an input of its own.
        out_dir: Folder of the files, created if missing.
        settings: All settings; None: those of `pipeline`, or the defaults.
        resume: Continue after an earlier run that was stopped or killed; the files of a complete run are left as they are.
        overwrite: Replace existing files.
        progress: Called with the number of finished frames, and of expected frames or None.
        stop: Setting it ends the run early, with complete files of the frames so far.
        pipeline: Loaded networks to use again, made with the same settings.

    Returns:
        Names of the files, and whether the whole input was processed.

    Raises:
        UsageError: Before anything is written: files that exist, a folder of pictures that are no clip, or contradictory settings.
        InputError: A file that cannot be read.
        MchmrError: Another process writes these files.
    """
    began = datetime.now(UTC)
    settings = settings or (Settings() if pipeline is None else pipeline.settings)
    is_still = _is_still(path, settings)
    if is_still:
        settings = alone(settings)
    paths = output_paths(path, out_dir, still=is_still)
    wanted = paths.wanted(overlay=settings.output.overlay, rerun=settings.output.rerun)
    refuse_to_replace([path, *files_listed(Path(path)), *files_named(settings)], wanted, "choose another folder")
    paths.bodies.parent.mkdir(parents=True, exist_ok=True)
    with claimed(paths.wanted(overlay=True, rerun=True), clean=False) as are_held, ExitStack() as opened:
        if are_held:
            _clear_up(paths, settings, keep=not overwrite)
        is_resuming = resume and os.path.exists(paths.bodies)
        _refuse_existing(wanted, paths, may_exist=overwrite or is_resuming)
        may_report = overwrite or not any(is_worth_keeping(file, paths) for file in (paths.bodies, paths.report))
        with _reported(Path(path), paths, settings, began, wanted=may_report):
            made = made_of(Path(path), settings)
            earlier = EarlierRun(paths.bodies, paths.report, settings, made) if is_resuming else None
            if earlier is not None and earlier.complete:
                return _already_done(paths, earlier.motion)
            source, intrinsics = open_input(path, earlier.settings_to_resume(settings) if earlier is not None else settings)
            opened.callback(source.close)
            if pipeline is None:
                pipeline = opened.enter_context(closing(Pipeline(settings)))
            outputs = _Outputs(paths, _Run(settings, made, began, source, intrinsics, pipeline, earlier, may_report))
        return _run(outputs, progress, stop)


@dataclass(frozen=True, eq=False)
class _Run:
    """What runs on what."""

    settings: Settings
    made: MadeOf
    began: datetime
    source: Source
    intrinsics: Intrinsics
    pipeline: Pipeline
    earlier: EarlierRun | None
    may_report: bool
    """whether a failure before the first frame may write the report"""


@contextmanager
def _reported(path: Path, paths: OutputPaths, settings: Settings, began: datetime, *, wanted: bool) -> Iterator[None]:
    """Leave a report of an error that comes before anything is open."""
    try:
        yield
    except Exception as error:
        if wanted:
            _report_failure(path, paths, settings, began, error)
        raise


def _report_failure(path: Path, paths: OutputPaths, settings: Settings, began: datetime, error: Exception) -> None:
    source: dict[str, str | int] = {"path": os.path.abspath(path), "name": path.name}
    if os.path.isfile(path):
        source["bytes"] = os.path.getsize(path)
    try:
        paths.report.parent.mkdir(parents=True, exist_ok=True)
        report = ReportSink(paths.report, None, settings=settings.model_dump(mode="json"), names={}, made_of=source, began=began)
        report.finish(complete=False, error=_in_words(error))
        report.close()
    except (MchmrError, OSError) as later:
        log.error("%s", later)


def _run(outputs: _Outputs, progress: Progress | None, stop: threading.Event | None) -> VideoResult:
    run = outputs.run
    pipeline, intrinsics, earlier = run.pipeline, run.intrinsics, run.earlier
    with outputs:
        scenes = pipeline.scenes(run.source, intrinsics, stop=stop, watch=outputs.watch, say=outputs.note, keep=outputs.measured)
        if earlier is not None:
            scenes = earlier.only_new(scenes)

        def write(scene: Scene) -> None:
            outputs.write(scene)
            if progress is not None:
                progress(outputs.frames, outputs.info.frame_count)

        try:
            with closing(scenes), BackgroundWriter(write, pipeline.settings.runtime.ahead, name="write") as writer:
                for scene in scenes:
                    writer.put(scene)
        except TruncatedInput as error:
            if not outputs.frames:
                raise
            outputs.message = str(error)
        outputs.complete = outputs.message is None and not (stop is not None and stop.is_set())
        if outputs.measured is not None and not (stop is not None and stop.is_set()):
            outputs.keep()
            again = fitted_again(outputs.measured, pipeline.settings, pipeline.components.body, intrinsics)
            outputs.replace_bodies(again if earlier is None else earlier.only_new_bodies(again))
        for line in outputs.watch.lines():
            log.info("%s: %s", outputs.info.name, line)
    return outputs.result()


class _Outputs:
    """Every file of one run: written together, and published together when the `with` block is left, for whatever reason."""

    def __init__(self, paths: OutputPaths, run: _Run) -> None:
        self.run, self.watch = run, Stopwatch()
        source, settings, pipeline, earlier = run.source, run.settings, run.pipeline, run.earlier
        self.info: SourceInfo = earlier.with_total_frames(source.info) if earlier is not None else source.info
        self.frames = 0
        self.complete = False
        self.message: str | None = None
        self.world: str | None = None
        self._paths = paths
        self._body = pipeline.components.body
        self._kept_s = time.monotonic()
        self._odd: list[str] = []
        self._people: set[int] = set()
        plain, made = settings.model_dump(mode="json"), run.made.plain()
        names = pipeline.names()
        self._report = ReportSink(
            paths.report, self.info, settings=plain, names=names,
            made_of={"path": str(run.made.path), **made}, device=pipeline.components.device, began=run.began,
        )  # fmt: skip
        body = pipeline.components.body if settings.smoother.kind != "none" else None
        views = pipeline.components.cropper.layout.count
        grounded = self._grounded if settings.camera.static else None
        self._bodies = bodies = NpzSink(
            paths.bodies, run.intrinsics, self.info, views, **names,
            settings=plain, made_of=made, one_shape_of=body, grounded=grounded,
        )  # fmt: skip
        self._sinks: list[_Sink] = [bodies, self._report]
        self._has_overlay = settings.output.overlay
        if self._has_overlay:
            # First: should writing fail, the numbers never have a frame that the pictures lack.
            self._sinks.insert(0, _overlay(paths.overlay, self.info, settings))
        if settings.output.rerun:
            self._sinks.insert(0, RerunFileSink(paths.rerun, self.info, lambda: self.watch.latest))
        has_second_pass = settings.fit.kind != "none" and settings.fit.passes > 1 and not self.info.still
        self.measured = MeasuredFile(paths.bodies, views) if has_second_pass else None
        """What was measured, where it is fitted a second time"""
        if earlier is not None:
            self._extend(earlier.motion)

    def replace_bodies(self, frames: Iterable[Bodies]) -> None:
        """Bodies of the second pass, after the last scene: for the numbers; the pictures of the first pass are drawn."""
        self.watch.call("fit again", self._bodies.replace_rows, self._report.replacing(frames), self._body)

    def keep(self) -> None:
        """What was written is there for a later run, should this one be killed."""
        self.watch.call("keep", self._bodies.checkpoint)
        self._kept_s = time.monotonic()

    def note(self, text: str) -> None:
        """Something to warn of. May be called from any thread."""
        self._odd.append(text)

    def write(self, scene: Scene) -> None:
        for sink in list(self._sinks):
            with self._spared(sink):
                self.watch.call(f"write {type(sink).__name__}", sink.write, scene)
        self.frames += 1
        self._people.update(scene.bodies.track_id.tolist())
        if time.monotonic() - self._kept_s >= self.run.settings.output.checkpoint_s:
            self.keep()
        log_scene(self.info.name, scene, self.watch)

    @contextmanager
    def _spared(self, sink: _Sink) -> Iterator[None]:
        """An overlay that cannot be encoded costs the overlay and nothing else."""
        try:
            yield
        except EncodingError as error:
            if not isinstance(sink, OverlaySink | StillOverlaySink):
                raise
            self.note(str(error))
            self._sinks.remove(sink)
            sink.give_up()

    def _close(self, sink: _Sink) -> None:
        with self._spared(sink):
            sink.close()

    def result(self) -> VideoResult:
        return VideoResult(
            stem=self._paths.stem,
            npz=self._paths.bodies,
            overlay=self._paths.overlay if self._has_overlay and self.frames and self._paths.overlay.exists() else None,
            report=self._paths.report,
            frames=self.frames,
            people=len(self._people),
            complete=self.complete,
            message=self.message,
            warnings=self._warnings(),
            world=self.world,
        )

    def __enter__(self) -> _Outputs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None and not self.frames:
            if isinstance(error, Exception) and self.run.may_report:
                self._publish_failure(error)
            self._discard()
            return
        if self.measured is not None:
            self.measured.close()
        try:
            self._publish(error)
        except MchmrError as later:
            if error is None:
                raise
            if str(later) != str(error):
                log.error("%s", later)  # what came first is raised: it is what has to be mended

    def _publish(self, error: BaseException | None) -> None:
        """Close every sink whatever the others do; the report last, for it says how it all went."""

        def close_report(kind: type[BaseException] | None, closing_error: BaseException | None, trace: TracebackType | None) -> None:
            failures = [_in_words(failure) for failure in (error, closing_error) if failure is not None]
            why = [*([self.message] if self.message is not None else []), *failures]
            warnings = [*self._warnings(), *dict.fromkeys(why)]  # a full disk says the same twice
            complete, first = self.complete and not failures, why[0] if why else None
            self._report.finish(complete=complete, error=first, warnings=warnings, seconds=self.watch.seconds)
            self._report.close()

        with ExitStack() as at_end:
            at_end.push(close_report)
            for sink in self._sinks:
                if sink is not self._report:
                    at_end.callback(self._close, sink)

    def _publish_failure(self, error: Exception) -> None:
        try:
            self._report.finish(complete=False, error=_in_words(error), warnings=self._warnings(), seconds=self.watch.seconds)
            self._report.close()
        except MchmrError as later:
            log.error("%s", later)

    def _grounded(self, motion: Motion) -> Motion | None:
        """The world, from all people at the end: every step of everybody counts. Where there is none it is said why."""
        try:
            grounded = self.watch.call("ground", ground, motion, self._body)
        except InputError as error:
            self._odd.append(f"no world coordinates: {error}")
            return None
        assert grounded.world is not None
        self.world = in_a_line(grounded.world)
        self._odd += grounded.world.info["warnings"]
        return grounded

    def _extend(self, motion: Motion) -> None:
        try:
            for sink in self._sinks:
                sink.extend(motion)
        except BaseException:
            self._discard()
            raise
        self.frames = len(motion.frames)
        self._people.update(motion.tracks)

    def _discard(self) -> None:
        if self.measured is not None:
            self.measured.close()
        for sink in self._sinks:
            sink.discard()

    def _warnings(self) -> list[str]:
        odd = [text for text in self.run.source.warnings if self.message is None or text not in self.message]
        nobody = ["no people were found; the arrays are empty"] if self.frames and not self._people else []
        return [*odd, *nobody, *self._odd]


def _overlay(path: Path, info: SourceInfo, settings: Settings) -> OverlaySink | StillOverlaySink:
    if info.still:
        return StillOverlaySink(path)
    return OverlaySink(path, info, audio_from=info.path if settings.output.audio else None, video_stream=settings.source.stream)


def _is_still(path: str | Path, settings: Settings) -> bool:
    stills = stills_in(path, settings)
    if stills is not None and len(stills.paths) > 1:
        raise UsageError(
            f"{path} holds {len(stills.paths)} single pictures ({stills.why}); expected a clip: process each picture, or set "
            "source.pictures to clip"
        )
    return stills is not None


def _clear_up(paths: OutputPaths, settings: Settings, *, keep: bool) -> None:
    """What an earlier run left that was killed is published, or thrown away, and the rest is removed."""
    if keep:
        publish_what_was_kept(paths, overlay=settings.output.overlay)
    for output in paths.wanted(overlay=True, rerun=True):
        remove_left_over(output)


def _refuse_existing(wanted: Sequence[Path], paths: OutputPaths, *, may_exist: bool) -> None:
    existing = [output for output in wanted if is_worth_keeping(output, paths)]
    if existing and not may_exist:
        go_on = "--resume goes on after it" if paths.bodies.exists() else f"there is no {paths.bodies} to resume"
        raise UsageError(f"{existing[0]} exists; --overwrite replaces it, {go_on}, or choose another folder")


def _in_words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _already_done(paths: OutputPaths, motion: Motion) -> VideoResult:
    return VideoResult(
        stem=paths.stem,
        npz=paths.bodies,
        overlay=paths.overlay if paths.overlay.exists() else None,
        report=paths.report,
        frames=len(motion.frames),
        people=len(motion.tracks),
        complete=True,
        message="was complete already",
    )
