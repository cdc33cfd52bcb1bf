"""The web page of a live run.

Messages are made once for all watchers, off the pipeline's threads, and only while there are watchers.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from mchmr_stream import __version__
from mchmr_stream.config import Settings
from mchmr_stream.cropping.crop_layouts import MAX_VIEWS
from mchmr_stream.datatypes import Moment
from mchmr_stream.live.run import LiveRun
from mchmr_stream.pipeline.live_settings import ADJUSTABLE
from mchmr_stream.runtime.concurrency import Channel, RaisingThread
from mchmr_stream.sinks.json_lines import moment_line
from mchmr_stream.sinks.recording_session import RecordingSession
from mchmr_stream.web.access import PageAccess
from mchmr_stream.web.page_pictures import PagePictures, body_message
from mchmr_stream.web.page_server import Change, PageServer, Record, StopRecording

log = logging.getLogger(__name__)

HISTORY_S = 60.0
"""Length of the page's chart."""
RECENT_S = 3.0
"""Part of it that each status repeats, so that no result is missed."""
REMEMBERED_PEOPLE = 200
MOST_INTERVAL = 8
STRENGTHS = (0.1, 10.0)


class LivePage:
    """Serve a run at `url`; implements `protocols.LiveSink`.

    `write` only queues. A separate thread draws the newest moment of each watched source, at most `live.page_fps` times a second, and
    the server sends it to each watcher that is ready. Recordings are written by `recorder`.
    """

    def __init__(self, run: LiveRun, access: PageAccess) -> None:
        """Start the server.

        Args:
            run: The live run.
            access: Address and token.

        Raises:
            UsageError: The address is not available.
        """
        settings = run.settings.live
        self._run = run
        self._names = [status.name for status in run.status()]
        self.recorder = RecordingSession(
            settings.record_to, len(self._names), names=run.pipeline.names(), settings=run.settings.model_dump(mode="json")
        )
        self._ages: dict[str, deque[tuple[float, float]]] = {name: deque(maxlen=6000) for name in self._names}
        self._noting = threading.Lock()
        self._first_seen_s: dict[str, dict[int, float]] = {name: {} for name in self._names}
        self._pace = {name: _PagePace(1 / settings.page_fps) for name in self._names}
        self._pictures = {name: PagePictures(settings.page_px) for name in self._names}
        self._to_draw: Channel[tuple[Moment, dict[int, float]]] = Channel(len(self._names), drop_oldest=True)
        self.server = PageServer(access, self._names, greeting=self._greeting, status=partial(self._status, RECENT_S), do=self._do)
        """The server that sends the page and its pictures."""
        self.url = self.server.url
        self._drawing = RaisingThread(self._draw, name="page pictures")

    def write(self, moment: Moment) -> None:
        name, now_s = moment.source.name, time.monotonic()
        in_view_s = self._in_view_s(moment)
        with self._noting:
            self._ages[name].append((moment.clock_s + moment.age_s, moment.age_s))
        if self.server.has_readers:
            self.server.send_line(moment_line(moment))
        if name in self.server.ready_sources and self._pace[name].is_due(now_s) and not self._to_draw.put((moment, in_view_s)):
            self._drawing.join()  # the thread has failed: raises its exception
        self.recorder.write(moment)

    def close(self) -> None:
        try:
            self.recorder.close()
        finally:
            self._to_draw.end()
            try:
                self._drawing.join()
            finally:
                self.server.close()

    def _draw(self) -> None:
        try:
            for moment, in_view_s in self._to_draw:
                name = moment.source.name
                self.server.show(name, self._pictures[name].message(moment, in_view_s))
        finally:
            self._to_draw.close()

    def _in_view_s(self, moment: Moment) -> dict[int, float]:
        first, time_s, here = self._first_seen_s[moment.source.name], moment.scene.bodies.time_s, moment.scene.bodies.track_id.tolist()
        if len(first) > REMEMBERED_PEOPLE:
            for identity in first.keys() - set(here):
                del first[identity]
        return {identity: time_s - first.setdefault(identity, time_s) for identity in here}

    def _do(self, request: Change | Record | StopRecording) -> None:
        if isinstance(request, Change):
            self._run.adjust.change(request.name, request.value)
        elif isinstance(request, Record):
            self.recorder.start(npz=request.npz, overlay=request.overlay)
        else:
            self.recorder.stop()

    def _greeting(self) -> list[str | bytes]:
        body, settings = self._run.pipeline.components.body, self._run.settings
        most_views = MAX_VIEWS if settings.crops.custom is None else len(settings.crops.custom)
        fixed = self._run.pipeline.components.estimator.info.fixed_views
        hello = {
            "kind": "hello",
            "version": __version__,
            "sources": self._names,
            "weights": self._run.pipeline.names()["weights"],
            "ranges": {
                "crops.views": [1, most_views] if fixed is None else [fixed, fixed],
                "detector.interval": [1, MOST_INTERVAL],
                "smoother.strength": list(STRENGTHS),
            },
            "smooths": settings.smoother.kind != "none",
            "record_to": str(self.recorder.folder),
            "history_s": HISTORY_S,
            "target_age_s": settings.live.target_age_s,
        }
        surface = body_message(body.faces, body.parents, len(body.v_template))
        return [json.dumps(hello), surface, self._status(HISTORY_S)]

    def _status(self, back_s: float) -> str:
        adjust, recording = self._run.adjust, self.recorder.status()
        since_s = time.time() - back_s
        with self._noting:
            ages = {name: [entry for entry in kept if entry[0] >= since_s] for name, kept in self._ages.items()}
        return json.dumps(
            {
                "kind": "status",
                "sources": [asdict(status) for status in self._run.status()],
                "ages": {name: [[round(at_s, 3), round(age_s, 4)] for at_s, age_s in entries] for name, entries in ages.items()},
                "chosen": _adjustable(adjust.chosen),
                "now": _adjustable(adjust.now),
                "recording": {**asdict(recording), "files": [path.name for path in recording.files]},
            }
        )


class _PagePace:
    """Limit to at most one per interval, and on average as many as that allows."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._due_s = 0.0

    def is_due(self, now_s: float) -> bool:
        if now_s < self._due_s:
            return False
        self._due_s = max(self._due_s, now_s - self._interval_s) + self._interval_s
        return True


def _adjustable(settings: Settings) -> Mapping[str, Any]:
    sections = settings.model_dump()
    return {name: sections[name.partition(".")[0]][name.partition(".")[2]] for name in ADJUSTABLE}
