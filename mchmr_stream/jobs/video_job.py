"""One input to its files: STEM.npz, STEM.mp4 and STEM.json, whole whatever happens, and resumable."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from mchmr_stream.config import Settings, alone, files_named
from mchmr_stream.datatypes import Scene
from mchmr_stream.errors import InputError, MchmrError, TruncatedInput, UsageError
from mchmr_stream.files.output_lock import claimed, remove_left_over
from mchmr_stream.files.same_file import refuse_to_replace
from mchmr_stream.fitting.measurements_file import MeasuredFile
from mchmr_stream.jobs.killed_run import publish_what_was_kept
from mchmr_stream.jobs.video_sinks import VideoRun, build_sinks
from mchmr_stream.motion.motion import Motion
from mchmr_stream.motion.output_paths import OutputPaths, output_paths
from mchmr_stream.motion.resume import EarlierRun
from mchmr_stream.pipeline.factory import open_input
from mchmr_stream.pipeline.pipeline import Pipeline, log_scene
from mchmr_stream.pipeline.second_pass import fitted_again
from mchmr_stream.runtime.concurrency import BackgroundWriter, Stopwatch
from mchmr_stream.sinks.run_report import ReportSink, is_worth_keeping
from mchmr_stream.sources.made_of import made_of
from mchmr_stream.sources.playlists import files_listed
from mchmr_stream.sources.stills import stills_in
from mchmr_stream.world.world_motion import ground, in_a_line

log = logging.getLogger(__name__)

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
            job = _VideoJob(
                VideoRun(
                    settings=settings,
                    paths=paths,
                    made=made,
                    began=began,
                    source=source,
                    intrinsics=intrinsics,
                    pipeline=pipeline,
                    earlier=earlier,
                    may_report=may_report,
                )
            )
        return job.run(progress, stop)


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


@dataclass
class _Outcome:
    """How a run went so far."""

    frames: int = 0
    people: set[int] = field(default_factory=set)
    complete: bool = False
    message: str | None = None
    """Why the input was not processed to its end."""
    world: str | None = None
    """Quality of the world coordinates, in a line."""
    warnings: list[str] = field(default_factory=list)
    """Besides those of the source. Appended to from any thread."""


class _VideoJob:
    """One run: its files are opened when it is made; `run` fills and publishes them, whatever happens."""

    def __init__(self, run: VideoRun) -> None:
        self._run = run
        self._watch, self._outcome = Stopwatch(), _Outcome()
        self._body = run.pipeline.components.body
        warn = self._outcome.warnings.append
        self._sinks = build_sinks(run, self._watch, ground=self._ground, warn=warn)
        self._measured = MeasuredFile(run.paths.bodies, run.pipeline.components.cropper.layout.count) if _has_second_pass(run) else None
        self._checkpoint_s = time.monotonic()
        if run.earlier is not None:
            self._extend(run.earlier.motion)

    def run(self, progress: Progress | None, stop: threading.Event | None) -> VideoResult:
        """Process the input and publish the files; raise what went wrong after that."""
        with self._publishing():
            self._first_pass(progress, stop)
            is_stopped = stop is not None and stop.is_set()
            self._outcome.complete = self._outcome.message is None and not is_stopped
            if self._measured is not None and not is_stopped:
                self._second_pass(self._measured)
            for line in self._watch.lines():
                log.info("%s: %s", self._run.info.name, line)
        return self._result()

    def _extend(self, motion: Motion) -> None:
        try:
            self._sinks.group.extend(motion)
            self._sinks.report.extend(motion)
        except BaseException:
            self._discard()
            raise
        self._outcome.frames = len(motion.frames)
        self._outcome.people.update(motion.tracks)

    def _first_pass(self, progress: Progress | None, stop: threading.Event | None) -> None:
        run, outcome, info = self._run, self._outcome, self._run.info
        warn = outcome.warnings.append
        scenes = run.pipeline.scenes(run.source, run.intrinsics, stop=stop, watch=self._watch, say=warn, keep=self._measured)
        if run.earlier is not None:
            scenes = run.earlier.only_new(scenes)

        def write(scene: Scene) -> None:
            self._write(scene)
            log_scene(info.name, scene, self._watch)
            if progress is not None:
                progress(outcome.frames, info.frame_count)

        try:
            with closing(scenes), BackgroundWriter(write, run.pipeline.settings.runtime.ahead, name="write") as writer:
                for scene in scenes:
                    writer.put(scene)
        except TruncatedInput as error:
            if not outcome.frames:
                raise
            outcome.message = str(error)

    def _write(self, scene: Scene) -> None:
        self._sinks.group.write(scene)
        self._watch.call("write ReportSink", self._sinks.report.write, scene)
        self._outcome.frames += 1
        self._outcome.people.update(scene.bodies.track_id.tolist())
        if time.monotonic() - self._checkpoint_s >= self._run.settings.output.checkpoint_s:
            self._checkpoint()

    def _checkpoint(self) -> None:
        """Save what was written for a later run, in case this one is killed."""
        self._watch.call("keep", self._sinks.bodies.checkpoint)
        self._checkpoint_s = time.monotonic()

    def _second_pass(self, measured: MeasuredFile) -> None:
        """Replace the bodies in STEM.npz and in the report. The overlay keeps those of the first pass."""
        run = self._run
        self._checkpoint()
        again = fitted_again(measured, run.pipeline.settings, self._body, run.intrinsics)
        bodies = again if run.earlier is None else run.earlier.only_new_bodies(again)
        self._watch.call("fit again", self._sinks.bodies.replace_rows, self._sinks.report.replacing(bodies), self._body)

    def _ground(self, motion: Motion) -> Motion | None:
        """Add world coordinates, estimated from all people of the file; None, with a warning, if that is not possible."""
        try:
            grounded = self._watch.call("ground", ground, motion, self._body)
        except InputError as error:
            self._outcome.warnings.append(f"no world coordinates: {error}")
            return None
        assert grounded.world is not None
        self._outcome.world = in_a_line(grounded.world)
        self._outcome.warnings += grounded.world.info["warnings"]
        return grounded

    @contextmanager
    def _publishing(self) -> Iterator[None]:
        """Publish the files at the end, also after an error. An error before the first frame publishes the report only."""
        try:
            yield
        except BaseException as error:
            if self._outcome.frames:
                self._publish_after(error)
            else:
                if isinstance(error, Exception) and self._run.may_report:
                    self._publish_failure(error)
                self._discard()
            raise
        self._publish(None)

    def _publish_after(self, error: BaseException) -> None:
        """Publish after an error. A further MchmrError is logged: the first one is raised, because it is the cause."""
        try:
            self._publish(error)
        except MchmrError as later:
            if str(later) != str(error):
                log.error("%s", later)

    def _publish(self, error: BaseException | None) -> None:
        """Close every file, also if others fail; the report last."""
        if self._measured is not None:
            self._measured.close()
        failures = [] if error is None else [error]
        try:
            self._sinks.group.close()
        except BaseException as later:
            self._close_report([*failures, later])
            raise
        self._close_report(failures)

    def _close_report(self, failures: Sequence[BaseException]) -> None:
        outcome = self._outcome
        reasons = [*([outcome.message] if outcome.message is not None else []), *map(_in_words, failures)]
        warnings = [*self._warnings(), *dict.fromkeys(reasons)]  # a full disk fails twice with the same reason
        first = reasons[0] if reasons else None
        complete = outcome.complete and not failures
        self._sinks.report.finish(complete=complete, error=first, warnings=warnings, seconds=self._watch.seconds)
        self._sinks.report.close()

    def _publish_failure(self, error: Exception) -> None:
        report = self._sinks.report
        try:
            report.finish(complete=False, error=_in_words(error), warnings=self._warnings(), seconds=self._watch.seconds)
            report.close()
        except MchmrError as later:
            log.error("%s", later)

    def _discard(self) -> None:
        if self._measured is not None:
            self._measured.close()
        self._sinks.group.discard()
        self._sinks.report.discard()

    def _warnings(self) -> list[str]:
        outcome = self._outcome
        of_source = [text for text in self._run.source.warnings if outcome.message is None or text not in outcome.message]
        no_people = ["no people were found; the arrays are empty"] if outcome.frames and not outcome.people else []
        return [*of_source, *no_people, *outcome.warnings]

    def _result(self) -> VideoResult:
        paths, outcome = self._run.paths, self._outcome
        has_overlay = self._run.settings.output.overlay and outcome.frames > 0 and paths.overlay.exists()
        return VideoResult(
            stem=paths.stem,
            npz=paths.bodies,
            overlay=paths.overlay if has_overlay else None,
            report=paths.report,
            frames=outcome.frames,
            people=len(outcome.people),
            complete=outcome.complete,
            message=outcome.message,
            warnings=self._warnings(),
            world=outcome.world,
        )


def _has_second_pass(run: VideoRun) -> bool:
    fit = run.settings.fit
    return fit.kind != "none" and fit.passes > 1 and not run.info.still


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
