"""Recordings that start and stop during a live run: .npz files, and overlays."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mchmr_stream.datatypes import Moment
from mchmr_stream.errors import MchmrError, UsageError
from mchmr_stream.files.atomic import write_errors
from mchmr_stream.sinks.background import BackgroundSink
from mchmr_stream.sinks.npz_segments import NpzSegments
from mchmr_stream.sinks.video_recording import VideoRecordingSink

log = logging.getLogger(__name__)

NPZ_SECONDS = 600.0
"""Length of each .npz file: finished files are safe."""
PICTURES_WAITING = 4
CLOSING_PATIENCE_S = 30.0


@dataclass(frozen=True)
class RecordingStatus:
    """The current recording, or the last one."""

    active: bool
    npz: bool
    overlay: bool
    seconds: float
    left_out: int
    """pictures missing in the overlay because drawing was too slow"""
    files: list[Path]
    """.npz files once they are finished, overlays from their first picture on"""
    error: str | None
    """why the recording ended by itself"""


class RecordingSession:
    """Write the results between `start` and `stop` into `folder`; implements `protocols.LiveSink`.

    Values are written by `NpzSegments`. Overlays are written by `VideoRecordingSink` behind a `BackgroundSink`: pictures are dropped if
    drawing does not keep up. A recording that fails ends, and everything else continues. All methods are thread-safe.
    """

    def __init__(self, folder: Path, sources: int, *, names: Mapping[str, str], settings: Mapping[str, Any]) -> None:
        """Set up without recording.

        Args:
            folder: Folder of the recordings; it is created.
            sources: Number of sources.
            names: `body_model`, `weights` and the hashes of both, as for NpzSink.
            settings: All settings of the run.
        """
        self.folder = folder.absolute()
        self._sources, self._names, self._settings = sources, names, settings
        self._lock = threading.Lock()
        self._current: _Recording | None = None
        self._last = RecordingStatus(active=False, npz=False, overlay=False, seconds=0.0, left_out=0, files=[], error=None)

    def start(self, *, npz: bool, overlay: bool) -> None:
        """Start a recording.

        Args:
            npz: Whether .npz files are written.
            overlay: Whether overlays are written.

        Raises:
            UsageError: Neither is chosen, or a recording is active.
            MchmrError: The folder cannot be created.
        """
        if not (npz or overlay):
            raise UsageError("nothing was chosen to record, expected .npz, .mp4 or both")
        with self._lock:
            if self._current is not None:
                raise UsageError("a recording goes on already; stop it first")
            with write_errors(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            segments = NpzSegments(self.folder, NPZ_SECONDS, names=self._names, settings=self._settings) if npz else None
            self._current = _Recording(self.folder, segments, overlay, self._sources)

    def stop(self) -> RecordingStatus:
        """Stop and publish the files; raises MchmrError where that fails. Without a recording it does nothing."""
        return self._end(None)

    def status(self) -> RecordingStatus:
        """The current recording, or the last one."""
        with self._lock:
            return self._last if self._current is None else self._current.status(active=True)

    def write(self, moment: Moment) -> None:
        with self._lock:
            if self._current is None:
                return
            try:
                self._current.write(moment)
                return
            except MchmrError as error:
                failure = error
        log.error("recording ended: %s", failure)
        self._end(failure)

    def close(self) -> None:
        self.stop()

    def _end(self, failure: MchmrError | None) -> RecordingStatus:
        with self._lock:
            recording, self._current = self._current, None
            if recording is None:
                return self._last
        # Outside of the lock, so that `write` does not wait for the disk.
        failed_on_closing = None
        try:
            recording.close()
        except MchmrError as error:
            failed_on_closing = error
        first = failure or failed_on_closing
        with self._lock:
            self._last = recording.status(active=False, error=None if first is None else str(first))
        if failure is None and failed_on_closing is not None:
            raise failed_on_closing
        return self._last


class _Recording:
    """One recording, from start to stop."""

    def __init__(self, folder: Path, segments: NpzSegments | None, overlay: bool, sources: int) -> None:
        self._folder, self._segments = folder, segments
        self._begun_s, now_s = time.monotonic(), time.time()
        self._name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now_s))}-{int(now_s % 1 * 1000):03d}.mp4"
        self._overlay: BackgroundSink | None = None
        if overlay:
            recording = VideoRecordingSink(str(folder / f"{{source}}_{self._name}"), sources)
            self._overlay = BackgroundSink(recording, "the recorded overlay", size=PICTURES_WAITING, patience_s=CLOSING_PATIENCE_S)

    def write(self, moment: Moment) -> None:
        if self._segments is not None:
            self._segments.write(moment)
        if self._overlay is not None:
            self._overlay.write(moment)

    def close(self) -> None:
        with ExitStack() as at_end:
            if self._segments is not None:
                at_end.callback(self._segments.close)
            if self._overlay is not None:
                at_end.callback(self._overlay.close)

    def status(self, *, active: bool, error: str | None = None) -> RecordingStatus:
        return RecordingStatus(
            active=active,
            npz=self._segments is not None,
            overlay=self._overlay is not None,
            seconds=time.monotonic() - self._begun_s,
            left_out=0 if self._overlay is None else self._overlay.dropped,
            files=[*([] if self._segments is None else self._segments.written), *sorted(self._folder.glob(f"*_{self._name}"))],
            error=error,
        )
