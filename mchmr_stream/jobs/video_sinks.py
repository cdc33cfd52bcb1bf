"""The output files of one run over one input: STEM.npz, STEM.mp4 (or a picture), STEM.rrd and STEM.json."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mchmr_stream.config import Settings
from mchmr_stream.datatypes import SourceInfo
from mchmr_stream.files.content_hash import MadeOf
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.jobs.sink_group import SinkGroup
from mchmr_stream.motion.motion import Motion
from mchmr_stream.motion.npz_writer import NpzHeader, NpzSink
from mchmr_stream.motion.output_paths import OutputPaths
from mchmr_stream.motion.resume import EarlierRun
from mchmr_stream.pipeline.pipeline import Pipeline
from mchmr_stream.protocols import FileSink, Source
from mchmr_stream.runtime.concurrency import Stopwatch
from mchmr_stream.sinks.overlay import OverlaySink
from mchmr_stream.sinks.rerun_file import RerunFileSink
from mchmr_stream.sinks.run_report import ReportSink
from mchmr_stream.sinks.still_overlay import StillOverlaySink


@dataclass(frozen=True, eq=False)
class VideoRun:
    """Inputs of one run."""

    settings: Settings
    paths: OutputPaths
    made: MadeOf
    began: datetime
    source: Source
    intrinsics: Intrinsics
    pipeline: Pipeline
    earlier: EarlierRun | None
    """The run that this one continues."""
    may_report: bool
    """Whether a failure before the first frame may write the report."""

    @property
    def info(self) -> SourceInfo:
        """The source; after resuming, with the number of frames that both runs have together."""
        return self.source.info if self.earlier is None else self.earlier.with_total_frames(self.source.info)


@dataclass(frozen=True, eq=False)
class VideoSinks:
    """Open output files. The report is not part of the group: it is closed last, because it says how closing the others went."""

    group: SinkGroup
    """All but the report."""
    bodies: NpzSink
    report: ReportSink


def build_sinks(run: VideoRun, watch: Stopwatch, *, ground: Callable[[Motion], Motion | None], warn: Callable[[str], None]) -> VideoSinks:
    """Open the files that the settings name.

    Args:
        run: What runs on what.
        watch: Durations of the stages, for the Rerun file.
        ground: With `camera.static`: adds world coordinates to the finished bodies; None if there are none.
        warn: Called with the reason when an overlay is lost.

    Raises:
        MchmrError: A folder is missing or the disk refuses.
    """
    settings, components = run.settings, run.pipeline.components
    plain, made, names = settings.model_dump(mode="json"), run.made.plain(), run.pipeline.names()
    report = ReportSink(
        run.paths.report, run.info, settings=plain, names=names,
        made_of={"path": str(run.made.path), **made}, device=components.device, began=run.began,
    )  # fmt: skip
    bodies = NpzSink(
        run.paths.bodies,
        NpzHeader(run.intrinsics, run.info, components.cropper.layout.count, names, settings=plain, made_of=made),
        one_shape_of=components.body if settings.smoother.kind != "none" else None,
        grounded=ground if settings.camera.static else None,
    )
    # The bodies come last: if writing the pictures fails, the numbers never have a frame that the pictures lack.
    sinks: list[FileSink] = [bodies]
    if settings.output.overlay:
        sinks.insert(0, _overlay(run.paths.overlay, run.info, settings))
    if settings.output.rerun:
        sinks.insert(0, RerunFileSink(run.paths.rerun, run.info, lambda: watch.latest))
    return VideoSinks(SinkGroup(sinks, watch, warn), bodies, report)


def _overlay(path: Path, info: SourceInfo, settings: Settings) -> OverlaySink | StillOverlaySink:
    if info.still:
        return StillOverlaySink(path)
    return OverlaySink(path, info, audio_from=info.path if settings.output.audio else None, video_stream=settings.source.stream)
