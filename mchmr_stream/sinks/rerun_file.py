"""STEM.rrd: a run on a file, for the Rerun viewer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from mchmr_stream.datatypes import Scene, SourceInfo
from mchmr_stream.errors import InputError
from mchmr_stream.files.atomic import check_folder, publish, temporary_beside, write_errors
from mchmr_stream.motion.motion import Motion
from mchmr_stream.sinks.rerun_scenes import APPLICATION, RerunScenes, finish, layout, save_to, sdk

log = logging.getLogger(__name__)


class RerunFileSink:
    """Write STEM.rrd: all entities of each scene.

    Args:
        path: The file; its folder exists.
        info: The source.
        work_s: Returns the seconds of each stage's last call.

    Raises:
        UsageError: The folder does not exist.
        MissingPart: rerun-sdk is not installed.
    """

    def __init__(self, path: Path, info: SourceInfo, work_s: Callable[[], Mapping[str, float]]) -> None:
        self.path = path
        check_folder(path)
        self._temporary, self._work_s = temporary_beside(path), work_s
        self._recording = sdk().RecordingStream(APPLICATION)
        with write_errors(path):
            save_to(self._temporary, self._recording, layout([info.name]))
        self._scenes = RerunScenes(self._recording, info.name)
        self._open = True

    def extend(self, motion: Motion) -> None:
        """Continue the recording of an earlier run at `path`, before the first `write`.

        Args:
            motion: The earlier run's content.

        Raises:
            InputError: The file is no Rerun recording.
        """
        if not len(motion.frames):
            return
        if not self.path.exists():
            log.warning("%s is not there; it will begin where this run goes on, after %.3f s", self.path, motion.frames_time_s[-1])
            return
        from rerun.chunk import RrdReader

        try:
            self._recording.send_chunks(RrdReader(self.path).stream())
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"{self.path} cannot be read as a recording of Rerun's ({error}); use --overwrite to begin anew") from error

    def write(self, scene: Scene) -> None:
        with write_errors(self.path):
            self._scenes.log(scene, {stage: 1000 * seconds for stage, seconds in self._work_s().items()})

    def close(self) -> None:
        """Finish and publish the file; after an early stop it holds the frames so far."""
        if not self._open:
            return
        try:
            with write_errors(self.path):
                self._end()
                publish(self._temporary, self.path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def discard(self) -> None:
        """Stop without publishing anything and remove the temporary file."""
        if not self._open:
            return
        try:
            self._end()
        except OSError as error:
            log.debug("%s: %s", self.path, error)  # the file is discarded anyway
        finally:
            self._temporary.unlink(missing_ok=True)

    def _end(self) -> None:
        self._open = False
        finish(self._recording)
