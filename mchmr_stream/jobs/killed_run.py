"""Recover the results of a killed run: publish them as if the run had been stopped.

During a run, the table of its bodies and the overlay grow in hidden files beside the outputs. A killed run leaves them behind. The next
run that locks the outputs makes STEM.npz, STEM.mp4 and STEM.json of them, complete up to some frame, and `--resume` continues there.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datatypes import SourceInfo
from mchmr_stream.errors import InputError
from mchmr_stream.files.output_lock import left_over
from mchmr_stream.motion import checkpoint
from mchmr_stream.motion.motion import FRAME_COLUMNS, HEADER, MADE_OF, Motion, load, motion_of
from mchmr_stream.motion.npz_writer import MADE_WITH
from mchmr_stream.motion.output_paths import OutputPaths
from mchmr_stream.sinks.run_report import ReportSink, is_report
from mchmr_stream.video_encoding.overlay_resume import EarlierOverlay

log = logging.getLogger(__name__)

_CLOCK_S = 1e-3
"""Resolution of times in an overlay: that of its clock."""


def publish_what_was_kept(paths: OutputPaths, *, overlay: bool) -> None:
    """Publish the checkpoint of a killed run. The caller holds the lock of the outputs.

    Does nothing if there is no checkpoint, or if STEM.npz is newer.

    Args:
        paths: The outputs.
        overlay: Whether the new run has an overlay.

    Raises:
        InputError: A file that no run wrote would be replaced.
    """
    folders = [entry for entry in left_over(paths.bodies) if (entry / checkpoint.NAME).is_file()]
    if not folders:
        return
    folder = max(folders, key=_saved_s)
    if paths.bodies.exists() and paths.bodies.stat().st_mtime >= _saved_s(folder):
        return
    part = _overlay_part(paths.overlay) if overlay else None
    _refuse_foreign(paths, overlay=part is not None)
    try:
        kept = _cut(checkpoint.read(folder), part)
        motion = motion_of(kept, folder / checkpoint.NAME)
    except InputError as error:
        log.warning("what a killed run kept cannot be used: %s", error)
        return
    if not len(motion.frames):
        return
    motion.save(paths.bodies)
    if part is not None:
        part.path.replace(paths.overlay)
    _write_report(motion, paths)
    last_s = motion.frames_time_s[-1]
    log.warning("%s: a run was killed; the %d frames that it kept, up to %.1f s, are published", paths.bodies, len(motion.frames), last_s)


def _saved_s(folder: Path) -> float:
    return (folder / checkpoint.NAME).stat().st_mtime


def _refuse_foreign(paths: OutputPaths, *, overlay: bool) -> None:
    """Raise InputError if a file that would be replaced was not written by a run."""
    if paths.bodies.exists():
        load(paths.bodies)
    if paths.report.exists() and not is_report(paths.report):
        raise InputError(f"{paths.report} is not a report that mchmr wrote; move it away, or use --overwrite")
    if overlay and paths.overlay.exists():
        EarlierOverlay(paths.overlay)


def _overlay_part(overlay: Path) -> EarlierOverlay | None:
    """Return the newest unfinished overlay; None if the run had none, or nothing of it was written."""
    parts = [entry for entry in left_over(overlay) if entry.suffix == ".part" and entry.is_file()]
    if not parts:
        return None
    try:
        return EarlierOverlay(max(parts, key=lambda entry: entry.stat().st_mtime))
    except InputError as error:
        log.warning("the overlay of a killed run is lost: %s", error)
        return None


def _cut(arrays: dict[str, NDArray], part: EarlierOverlay | None) -> dict[str, NDArray]:
    """Cut the table to the frames of the overlay. The encoder holds some back, and the table never has a frame that the overlay lacks."""
    times_s = arrays["frames_time_s"]
    frames = len(times_s)
    if part is not None:
        last_s = max((shown_s for shown_s, _ in part.packets()), default=-1.0)
        frames = int(np.searchsorted(times_s, part.first_s + last_s + _CLOCK_S))
    end = arrays["frames"][frames] if frames < len(times_s) else np.inf
    rows = int(np.searchsorted(arrays["frame"], end))
    once = (*HEADER, MADE_OF)
    return {name: values if name in once else values[: frames if name in FRAME_COLUMNS else rows] for name, values in arrays.items()}


def _write_report(motion: Motion, paths: OutputPaths) -> None:
    info = SourceInfo(str(motion.made_of.get("name", paths.stem)), motion.width, motion.height, motion.fps, frame_count=None)
    names = {name: getattr(motion, name) for name in MADE_WITH}
    report = ReportSink(paths.report, info, settings=motion.settings, names=names, made_of=motion.made_of)
    report.extend(motion)
    report.finish(complete=False, error="the run was killed")
    report.close()
