"""One input to its files: STEM.npz, STEM.mp4 and STEM.json, whole whatever happens, and resumable."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from mchmr_stream.build import open_input
from mchmr_stream.config import Settings, alone, files_named
from mchmr_stream.content import MadeOf
from mchmr_stream.errors import EncodingError, InputError, MchmrError, TruncatedInput, UsageError
from mchmr_stream.fitting.measured_file import MeasuredFile
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.grounding.estimate import ground, in_a_line
from mchmr_stream.motion import Motion
from mchmr_stream.outputs import OutputPaths, output_paths
from mchmr_stream.pipeline import Pipeline, log_scene
from mchmr_stream.protocols import Source
from mchmr_stream.records import Bodies, Scene, SourceInfo
from mchmr_stream.resuming import EarlierRun
from mchmr_stream.same_file import refuse_to_replace
from mchmr_stream.second_fit import fitted_again
from mchmr_stream.sinks.npz import NpzSink
from mchmr_stream.sinks.overlay import OverlaySink
from mchmr_stream.sinks.report import ReportSink
from mchmr_stream.sinks.rerun_file import RerunFileSink
from mchmr_stream.sinks.still_overlay import StillOverlaySink
from mchmr_stream.sources.made_of import made_of
from mchmr_stream.sources.playlists import files_listed
from mchmr_stream.sources.stills import stills_in
from mchmr_stream.streaming import Behind, Stopwatch

log = logging.getLogger(__name__)

_Sink = OverlaySink | StillOverlaySink | NpzSink | ReportSink | RerunFileSink
Progress = Callable[[int, int | None], None]
"""Told how many frames are done and how many are expected, None where that is unknown."""


@dataclass(frozen=True)
class VideoResult:
    """How a run ended. On resuming, frames and people are those of all runs together."""

    stem: str
    npz: Path
    overlay: Path | None
    report: Path
    frames: int
    people: int
    complete: bool
    """whether the whole input was used"""
    message: str | None = None
    """why not, or what is worth knowing"""
    warnings: list[str] = field(default_factory=list)
    world: str | None = None
    """with `camera.static`: how well gravity, floor and standing feet were found, in a line"""


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
    """Run one input and write its files.

    `resume` goes on after what an earlier, stopped run left; a complete one is left alone. Setting `stop` ends the run with
    whole files. `pipeline`: loaded networks to use again; it must have been made with the same settings.
    An input that breaks off gives `complete=False` and a message, not an error; any other error is raised after what was
    done so far has been published. Without a single frame nothing is written.
    Raises UsageError and InputError before anything is written, UsageError also for a folder of pictures that are no clip
    (`source.pictures`): each of those is an input of its own.
    """
    settings = settings or Settings()
    is_still = _is_still(path, settings)
    if is_still:
        settings = alone(settings)
    paths = output_paths(path, out_dir, still=is_still)
    made = made_of(Path(path), settings)
    earlier = EarlierRun(paths.bodies, paths.report, settings, made) if resume and os.path.exists(paths.bodies) else None
    _refuse_to_replace(Path(path), paths, settings, may_exist=overwrite or earlier is not None)
    if earlier is not None and earlier.complete:
        return _already_done(paths, earlier.motion)
    with ExitStack() as opened:
        source, intrinsics = open_input(path, earlier.settings_to_resume(settings) if earlier is not None else settings)
        opened.callback(source.close)
        if pipeline is None:
            pipeline = opened.enter_context(closing(Pipeline(settings)))
        paths.bodies.parent.mkdir(parents=True, exist_ok=True)
        outputs = _Outputs(paths, settings, made, source, intrinsics, pipeline, earlier)
        return _run(outputs, pipeline, intrinsics, earlier, progress, stop)


def _run(
    outputs: _Outputs,
    pipeline: Pipeline,
    intrinsics: Intrinsics,
    earlier: EarlierRun | None,
    progress: Progress | None,
    stop: threading.Event | None,
) -> VideoResult:
    with outputs:
        scenes = pipeline.scenes(outputs.source, intrinsics, stop=stop, watch=outputs.watch, say=outputs.note, keep=outputs.measured)
        if earlier is not None:
            scenes = earlier.only_new(scenes)

        def write(scene: Scene) -> None:
            outputs.write(scene)
            if progress is not None:
                progress(outputs.frames, outputs.info.frame_count)

        try:
            with closing(scenes), Behind(write, pipeline.settings.runtime.ahead, name="write") as writer:
                for scene in scenes:
                    writer.put(scene)
        except TruncatedInput as error:
            if not outputs.frames:
                raise
            outputs.message = str(error)
        outputs.complete = outputs.message is None and not (stop is not None and stop.is_set())
        if outputs.measured is not None and not (stop is not None and stop.is_set()):
            again = fitted_again(outputs.measured, pipeline.settings, pipeline.parts.body, intrinsics)
            outputs.replace_bodies(again if earlier is None else earlier.only_new_bodies(again))
        for line in outputs.watch.lines():
            log.info("%s: %s", outputs.info.name, line)
    return outputs.result()


class _Outputs:
    """Every file of one run: written together, and published together when the `with` block is left, for whatever reason."""

    def __init__(
        self,
        paths: OutputPaths,
        settings: Settings,
        made: MadeOf,
        source: Source,
        intrinsics: Intrinsics,
        pipeline: Pipeline,
        earlier: EarlierRun | None,
    ) -> None:
        self.source, self.watch = source, Stopwatch()
        self.info: SourceInfo = earlier.whole(source.info) if earlier is not None else source.info
        self.frames = 0
        self.complete = False
        self.message: str | None = None
        self.world: str | None = None
        self._paths = paths
        self._body = pipeline.parts.body
        self._odd: list[str] = []
        self._people: set[int] = set()
        plain = settings.model_dump(mode="json")
        names = pipeline.names()
        self._report = ReportSink(paths.report, self.info, settings=plain, names=names, made_of={"path": str(made.path), **made.plain()})
        body = pipeline.parts.body if settings.smoother.kind != "none" else None
        views = pipeline.parts.cropper.layout.count
        grounded = self._grounded if settings.camera.static else None
        self._bodies = bodies = NpzSink(
            paths.bodies, intrinsics, self.info, views, **names,
            settings=plain, made_of=made.plain(), one_shape_of=body, grounded=grounded,
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
        self.watch.call("fit again", self._bodies.replace_rows, frames, self._body)

    def note(self, text: str) -> None:
        """Something to warn of. May be called from any thread."""
        self._odd.append(text)

    def write(self, scene: Scene) -> None:
        for sink in list(self._sinks):
            with self._spared(sink):
                self.watch.call(f"write {type(sink).__name__}", sink.write, scene)
        self.frames += 1
        self._people.update(scene.bodies.track_id.tolist())
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
            failures = [str(failure) or type(failure).__name__ for failure in (error, closing_error) if failure is not None]
            why = [*([self.message] if self.message is not None else []), *failures]
            warnings = [*self._warnings(), *dict.fromkeys(why)]  # a full disk says the same twice
            self._report.finish(complete=self.complete and not failures, warnings=warnings, seconds=self.watch.seconds)
            self._report.close()

        with ExitStack() as at_end:
            at_end.push(close_report)
            for sink in self._sinks:
                if sink is not self._report:
                    at_end.callback(self._close, sink)

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
        odd = [text for text in self.source.warnings if self.message is None or text not in self.message]
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


def _refuse_to_replace(path: Path, paths: OutputPaths, settings: Settings, *, may_exist: bool) -> None:
    wanted = paths.wanted(overlay=settings.output.overlay, rerun=settings.output.rerun)
    refuse_to_replace([path, *files_listed(path), *files_named(settings)], wanted, "choose another folder")
    existing = [output for output in wanted if os.path.exists(output)]
    if existing and not may_exist:
        go_on = "--resume goes on after it" if paths.bodies.exists() else f"there is no {paths.bodies} to resume"
        raise UsageError(f"{existing[0]} exists; --overwrite replaces it, {go_on}, or choose another folder")


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
