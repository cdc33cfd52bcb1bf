"""Live overlays to a file or a streaming server (RTMP, RTSP), at the times at which the pictures were taken."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import torch
from av.video.frame import PictureType
from numpy.typing import NDArray

from mchmr_stream.datatypes import Moment
from mchmr_stream.errors import ServerError, UsageError
from mchmr_stream.files.atomic import check_folder, write_errors
from mchmr_stream.motion.output_paths import plain_name
from mchmr_stream.runtime.backoff import Backoff, LossLog
from mchmr_stream.runtime.url_secrets import scheme_and_host
from mchmr_stream.sinks.overlay import draw_scene
from mchmr_stream.video_encoding.h264 import CLOCK, YuvPictures, h264_stream
from mchmr_stream.video_encoding.push import Push
from mchmr_stream.video_encoding.relay import FORMATS, PIPE_FORMAT

log = logging.getLogger(__name__)

KEY_EVERY_S = 1.0
"""Interval of keyframes: a new viewer waits this long, and a killed run loses this much of its file."""
FRAGMENTED = {"movflags": "+frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
ENCODER = {"preset": "superfast", "tune": "zerolatency", "crf": "23", "forced-idr": "1", "threads": "1"}
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
STEADY_S = 5.0
"""After a connection of this length the back-off starts anew."""


class VideoRecordingSink:
    """Draw each result and record it; implements `protocols.LiveSink`. Use it behind a `BackgroundSink`.

    `where` is FILE.mp4, rtmp(s)://... or rtsp://...; `{source}` in it stands for the source's name and `{time}` for the arrival of its
    first picture (UTC). A file is written in fragments: after a crash it can be played up to about `KEY_EVERY_S` before. The connection
    to a server is retried with back-off.
    """

    def __init__(self, where: str, sources: int, *, device: torch.device | str = "cpu") -> None:
        """Check the target.

        Args:
            where: See the class.
            sources: Number of sources.
            device: Device on which bodies are drawn.

        Raises:
            UsageError: The target is not allowed, or several sources share one.
        """
        self._where, self._device = where, device
        self._tracks: dict[str, _FileTrack | _ServerTrack] = {}
        if sources > 1 and "{source}" not in where:
            raise UsageError("--record of several sources needs a name for each: put {source} into it, as in out/{source}.mp4")
        scheme = where.partition("://")[0] if "://" in where else None
        self._to_server = scheme is not None
        if scheme is not None and scheme not in FORMATS:
            raise UsageError(f"--record got {scheme}://..., expected FILE.mp4, {', '.join(f'{known}://...' for known in FORMATS)}")
        if scheme is None:
            if not where.endswith(".mp4"):
                raise UsageError(f"--record got {where}, expected FILE.mp4, {', '.join(f'{known}://...' for known in FORMATS)}")
            _new_file(where)
        self.name = scheme_and_host(where) if self._to_server else where

    def write(self, moment: Moment) -> None:
        track = self._tracks.get(moment.source.name)
        if track is None:
            began = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(moment.clock_s))
            target = self._where.replace("{source}", plain_name(moment.source.name)).replace("{time}", began)
            track = _ServerTrack(target, moment.source.fps) if self._to_server else _FileTrack(_new_file(target), moment.source.fps)
            self._tracks[moment.source.name] = track
        if track.ready():
            track.add(draw_scene(moment.scene, device=self._device), moment.scene.frame.time_s)

    def close(self) -> None:
        for track in self._tracks.values():
            track.close()


class _Encoded:
    """An open container that encodes pictures as H.264, at their times relative to the first one."""

    def __init__(self, target: Any, container: str, options: dict[str, str], size_wh: tuple[int, int], fps: float, first_s: float) -> None:
        self._output = av.open(target, "w", format=container, options=options)
        self._video = h264_stream(self._output, size_wh, fps, ENCODER)
        self._pictures = YuvPictures(size_wh)
        self._first_s, self._last_tick, self._key_tick = first_s, -1, 0

    def add(self, picture: NDArray[np.uint8], time_s: float) -> None:
        tick = max(round((time_s - self._first_s) / CLOCK), self._last_tick + 1)
        frame = self._pictures.picture(picture, tick)
        if tick >= self._key_tick:
            frame.pict_type = PictureType.I
            self._key_tick = tick + round(KEY_EVERY_S / CLOCK)
        self._output.mux(self._video.encode(frame))
        self._last_tick = tick

    def close(self) -> None:
        try:
            self._output.mux(self._video.encode(None))
        finally:
            self._output.close()


class _FileTrack:
    """The file of one source. Raises MchmrError where it cannot be written."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._encoded: _Encoded | None = None

    def ready(self) -> bool:
        return True

    def add(self, picture: NDArray[np.uint8], time_s: float) -> None:
        with write_errors(self._path):
            if self._encoded is None:
                self._encoded = _Encoded(str(self._path), "mp4", FRAGMENTED, (picture.shape[1], picture.shape[0]), self._fps, time_s)
            self._encoded.add(picture, time_s)

    def close(self) -> None:
        if self._encoded is not None:
            with write_errors(self._path):
                self._encoded.close()


class _ServerTrack:
    """The stream of one source: reopened with back-off after a failure. Nothing is drawn while the connection is lost."""

    def __init__(self, url: str, fps: float) -> None:
        self._url, self._fps = url, fps
        self._name = scheme_and_host(url)
        self._push: Push | None = None
        self._encoded: _Encoded | None = None
        self._backoff, self._losses = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S), LossLog(log)
        self._again_s, self._opened_s = 0.0, 0.0
        self._first_s: float | None = None
        self._lost = 0

    def ready(self) -> bool:
        """Whether a picture can be sent now."""
        if self._push is not None or time.monotonic() >= self._again_s:
            return True
        self._lost += 1
        return False

    def add(self, picture: NDArray[np.uint8], time_s: float) -> None:
        try:
            if self._encoded is None:
                self._push, self._opened_s = Push(self._url), time.monotonic()
                # The clock continues across connections, so that a player sees a gap and no jump back.
                self._first_s = time_s if self._first_s is None else self._first_s
                size_wh = picture.shape[1], picture.shape[0]
                self._encoded = _Encoded(self._push, PIPE_FORMAT, {"flush_packets": "1"}, size_wh, self._fps, self._first_s)
            self._encoded.add(picture, time_s)
        except (ServerError, OSError, av.error.FFmpegError) as error:
            self._lost += 1
            self._connection_lost(str(error) if isinstance(error, ServerError) else type(error).__name__)
            return
        if self._losses.is_lost and time.monotonic() - self._opened_s > STEADY_S:
            log.warning("%s: connected again", self._name)
            self._losses.recovered()
            self._backoff.reset()

    def close(self) -> None:
        if self._encoded is not None:
            try:
                self._encoded.close()
            except (ServerError, OSError, av.error.FFmpegError) as error:
                log.warning("%s: the end did not arrive (%s)", self._name, error)
        if self._push is not None:
            self._push.close()
        if self._lost:
            log.warning("%s: %d pictures were not sent", self._name, self._lost)

    def _connection_lost(self, why: str) -> None:
        self._losses.lost("%s: %s; trying again", self._name, why)
        self._encoded = None  # not closed, because that would write to the broken connection
        if self._push is not None:
            self._push.close()
            self._push = None
        self._again_s = time.monotonic() + self._backoff.next_s()


def _new_file(target: str) -> Path:
    """Check a new file; raises UsageError if it exists or its folder does not."""
    path = Path(target)
    check_folder(path)
    if path.exists():
        raise UsageError(f"--record: {path} exists; choose another name, or put {{time}} into it")
    return path
