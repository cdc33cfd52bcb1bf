"""Live scenes to the Rerun viewer, or to a .rrd file that it opens later."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from mchmr_stream.datatypes import Moment
from mchmr_stream.errors import MissingPart, UsageError
from mchmr_stream.files.atomic import check_folder, write_errors
from mchmr_stream.sinks.rerun_scenes import APPLICATION, RerunScenes, finish, layout, save_to, sdk

log = logging.getLogger(__name__)

VIEWER = "viewer"
SCHEMES = ("rerun+http://", "rerun+https://", "rerun://")
FLUSH_S = 10.0
CONNECT_S = 3.0
PORT = 9876


class RerunLiveSink:
    """Log each result; implements `protocols.LiveSink`. Use it behind a `BackgroundSink`.

    `where` is `viewer`, which starts one on this machine; FILE.rrd, which writes a file; or rerun+http://HOST:PORT/proxy, a running
    viewer. A viewer that is closed loses later results; the run does not wait for it.
    """

    def __init__(self, where: str, sources: Sequence[str]) -> None:
        """Start the viewer, connect to it, or open the file.

        Args:
            where: See the class.
            sources: Names of the sources.

        Raises:
            UsageError: The target does not exist or is not allowed.
            MissingPart: rerun-sdk or its viewer is not installed.
        """
        self.name = f"rerun {where}"
        self._recording = sdk().RecordingStream(APPLICATION)
        self._scenes: dict[str, RerunScenes] = {}
        views = layout(sources)
        if where == VIEWER:
            try:
                self._recording.spawn(default_blueprint=views, hide_welcome_screen=True)
            except RuntimeError as error:
                raise MissingPart(f"the Rerun viewer does not start ({error}); --rerun FILE.rrd writes a file instead") from error
        elif where.startswith(SCHEMES):
            _check_viewer(where)
            self._recording.connect_grpc(where, default_blueprint=views)
        elif where.endswith(".rrd"):
            path = Path(where)
            check_folder(path)
            if path.exists():
                raise UsageError(f"--rerun: {path} exists; choose another name")
            with write_errors(path):
                save_to(path, self._recording, views)
        else:
            raise UsageError(
                f"--rerun got {where}, expected FILE.rrd, rerun+http://HOST:PORT/proxy, or nothing for a viewer (then write it last)"
            )

    def write(self, moment: Moment) -> None:
        scenes = self._scenes.get(moment.source.name)
        if scenes is None:
            scenes = self._scenes[moment.source.name] = RerunScenes(self._recording, moment.source.name)
        work_ms = {stage: 1000 * seconds for stage, seconds in moment.work_s.items()}
        scenes.log(moment.scene, {"age": 1000 * moment.age_s, "late": 1000 * moment.late_s, **work_ms}, moment.clock_s)

    def close(self) -> None:
        try:
            finish(self._recording, FLUSH_S)
        except OSError as error:
            log.warning("%s: the last results did not arrive there (%s)", self.name, error.strerror)


def _check_viewer(where: str) -> None:
    """Raise UsageError if no viewer listens: Rerun would queue everything for a viewer that may never start."""
    parts = urlsplit(where)
    try:
        socket.create_connection((parts.hostname or "", parts.port or PORT), CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise UsageError(f"--rerun: no viewer listens at {where} ({error}); start one there first") from error
