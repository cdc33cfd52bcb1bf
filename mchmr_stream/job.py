"""One input to its files: STEM.npz, STEM.mp4 and STEM.json, whole whatever happens, and resumable."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mchmr_stream.build import open_input
from mchmr_stream.config import Settings
from mchmr_stream.errors import TruncatedInput, UsageError
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.outputs import OutputPaths, output_paths
from mchmr_stream.pipeline import Pipeline
from mchmr_stream.protocols import Sink, Source
from mchmr_stream.resuming import EarlierRun
from mchmr_stream.sinks.npz import NpzSink
from mchmr_stream.sinks.overlay import OverlaySink
from mchmr_stream.sinks.report import ReportSink
from mchmr_stream.streaming import Stopwatch, Workers

log = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class VideoResult:
    """How a run ended."""

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
    done so far has been published.
    Raises UsageError and InputError before anything is written.
    """
    settings = settings or Settings()
    paths = output_paths(path, out_dir)
    if not (resume or overwrite) and paths.bodies.exists():
        raise UsageError(f"{paths.bodies} exists; --overwrite replaces it, --resume goes on, or choose another folder")
    earlier = EarlierRun(paths.bodies) if resume and paths.bodies.exists() else None
    asked = settings
    if earlier is not None:
        if _is_complete(paths.report):
            return _already_done(paths, earlier)
        earlier.check_settings(settings.model_dump(mode="json"))
        settings = settings.model_copy(update={"source": settings.source.model_copy(update={"start_s": earlier.start_s()})})
    source, intrinsics = open_input(path, settings)
    try:
        used = pipeline or Pipeline(settings)
        try:
            paths.bodies.parent.mkdir(parents=True, exist_ok=True)
            sinks = _Sinks(paths, asked, source, intrinsics, used, earlier)
            return _run(paths, source, intrinsics, used, sinks, earlier, progress, stop)
        finally:
            if pipeline is None:
                used.close()
    finally:
        source.close()


class _Sinks:
    """Every output of one run, written together and published together."""

    def __init__(
        self, paths: OutputPaths, settings: Settings, source: Source, intrinsics: Intrinsics, pipeline: Pipeline, earlier: EarlierRun | None
    ) -> None:
        plain = settings.model_dump(mode="json")
        names = {
            "body_model": pipeline.parts.body.name,
            "body_model_sha256": pipeline.parts.body.sha256,
            "weights": pipeline.parts.estimator.name,
            "weights_sha256": pipeline.parts.estimator.weights_sha256,
        }
        views = pipeline.parts.cropper.layout.count
        self.bodies = NpzSink(paths.bodies, intrinsics, source.info, views, **names, settings=plain)
        self.report = ReportSink(paths.report, source.info, settings=plain, names=names)
        self.overlay: OverlaySink | None = None
        if settings.output.overlay:
            audio = source.info.path if settings.output.audio else None
            continues = paths.overlay if earlier is not None and paths.overlay.exists() else None
            self.overlay = OverlaySink(
                paths.overlay, source.info, audio_from=audio, video_stream=settings.source.stream, continues=continues
            )
        if earlier is not None:
            self.bodies.extend(earlier.motion)
            self.report.extend(earlier.motion)

    def all(self) -> list[Sink]:
        return [self.bodies, self.report, *([self.overlay] if self.overlay is not None else [])]


def _run(
    paths: OutputPaths,
    source: Source,
    intrinsics: Intrinsics,
    pipeline: Pipeline,
    sinks: _Sinks,
    earlier: EarlierRun | None,
    progress: Progress | None,
    stop: threading.Event | None,
) -> VideoResult:
    watch = Stopwatch()
    frames = len(earlier.motion.frames) if earlier is not None else 0
    people = set(earlier.motion.tracks) if earlier is not None else set()
    expected = source.info.frame_count
    broken: TruncatedInput | None = None
    ended = False
    try:
        with Workers() as workers:
            scenes = pipeline.scenes(source, intrinsics, stop=stop, watch=watch)
            new_scenes = earlier.only_new(scenes) if earlier is not None else scenes
            try:
                for scene in workers.ahead(new_scenes, pipeline.settings.runtime.ahead, name="scenes"):
                    for sink in sinks.all():
                        watch.call(f"write {type(sink).__name__}", sink.write, scene)
                    frames += 1
                    people.update(scene.bodies.track_id.tolist())
                    if progress is not None:
                        progress(frames, expected)
            except TruncatedInput as error:
                broken = error
        ended = True
    finally:
        stopped = stop is not None and stop.is_set()
        complete = ended and broken is None and not stopped
        warnings = _warnings(source, people, frames)
        if broken is not None:
            warnings.append(str(broken))
        sinks.report.finish(complete=complete, warnings=warnings, seconds=watch.seconds)
        for sink in sinks.all():
            sink.close()
    return VideoResult(
        stem=paths.stem,
        npz=paths.bodies,
        overlay=paths.overlay if sinks.overlay is not None and frames else None,
        report=paths.report,
        frames=frames,
        people=len(people),
        complete=complete,
        message=str(broken) if broken is not None else None,
        warnings=_warnings(source, people, frames),
    )


def _warnings(source: Source, people: set[int], frames: int) -> list[str]:
    nobody = ["no people were found; the arrays are empty"] if frames and not people else []
    return [*source.warnings, *nobody]


def _is_complete(report: Path) -> bool:
    try:
        return bool(json.loads(report.read_text())["complete"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s does not say how the earlier run ended (%s); going on after its last frame", report, error)
        return False


def _already_done(paths: OutputPaths, earlier: EarlierRun) -> VideoResult:
    return VideoResult(
        stem=paths.stem,
        npz=paths.bodies,
        overlay=paths.overlay if paths.overlay.exists() else None,
        report=paths.report,
        frames=len(earlier.motion.frames),
        people=len(earlier.motion.tracks),
        complete=True,
        message="was complete already",
    )
