"""Live scenes as .npz files of a set length: finished files are safe, whatever happens later."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mchmr_stream.datatypes import Moment, Scene
from mchmr_stream.files.output_lock import claimed, remove_abandoned
from mchmr_stream.files.same_file import colliding
from mchmr_stream.motion import checkpoint
from mchmr_stream.motion.npz_writer import NpzHeader, NpzSink
from mchmr_stream.motion.output_paths import plain_name


@dataclass
class _Segment:
    sink: NpzSink
    claim: ExitStack
    """holds the lock of the output"""
    begun_s: float
    views: int
    size: tuple[int, int]
    fps: float
    """the source's latest rate: some are measured during the run"""


class NpzSegments:
    """Write consecutive files for each source, as described in docs/output.md; implements `protocols.LiveSink`.

    Files are named SOURCE_TIME.npz, after the time (UTC) of their first picture. Where load shedding reduces the views, `views_cam` is
    NaN for the missing ones. More views than a file was begun with start the next file.
    """

    def __init__(self, folder: Path, seconds: float, *, names: Mapping[str, str], settings: Mapping[str, Any]) -> None:
        """Set up without opening a file.

        Args:
            folder: Folder of the files; it is created.
            seconds: Length of each file.
            names: `body_model`, `weights` and the hashes of both, as for NpzSink.
            settings: All settings of the run.
        """
        self._folder, self._seconds, self._names, self._settings = folder, seconds, names, settings
        self._open: dict[str, _Segment] = {}
        self._is_clear = False
        self.written: list[Path] = []
        """Finished files."""

    def write(self, moment: Moment) -> None:
        name, scene = moment.source.name, moment.scene
        segment = self._open.get(name)
        views, size = scene.bodies.views_cam.shape[1], (scene.frame.width, scene.frame.height)
        if segment is not None and (
            scene.bodies.time_s - segment.begun_s >= self._seconds or views > segment.views or size != segment.size
        ):
            self._finish(name)
            segment = None
        if segment is None:
            segment = self._open[name] = self._begin(moment, views, size)
        segment.fps = moment.source.fps
        segment.sink.write(_with_views(scene, segment.views))

    def close(self) -> None:
        """Publish the files that are open."""
        for name in list(self._open):
            self._finish(name)

    def _begin(self, moment: Moment, views: int, size: tuple[int, int]) -> _Segment:
        self._folder.mkdir(parents=True, exist_ok=True)
        begun = time.strftime("%Y%m%dT%H%M%S", time.gmtime(moment.clock_s)) + f"{moment.clock_s % 1:.3f}"[1:].replace(".", "-")
        info = replace(moment.source, width=size[0], height=size[1])
        path = _unused(self._folder / f"{plain_name(moment.source.name)}_{begun}.npz", [one.sink.path for one in self._open.values()])
        if not self._is_clear:
            remove_abandoned(self._folder, path.suffix, unless=checkpoint.NAME)
            self._is_clear = True
        claim = ExitStack()
        claim.enter_context(claimed([path]))
        sink = NpzSink(path, NpzHeader(moment.scene.intrinsics, info, views, self._names, self._settings))
        return _Segment(sink, claim, moment.scene.bodies.time_s, views, size, info.fps)

    def _finish(self, name: str) -> None:
        segment = self._open.pop(name)
        sink = segment.sink
        sink.note_rate(segment.fps)
        with segment.claim:
            sink.close()
        self.written.append(sink.path)


def _unused(path: Path, begun: Sequence[Path]) -> Path:
    """`path`, numbered if it exists or is among `begun`: two sources' names may differ in special characters only."""
    numbered = (path if number == 1 else path.with_stem(f"{path.stem}_{number}") for number in itertools.count(1))
    return next(one for one in numbered if not one.exists() and colliding([*begun, one]) is None)


def _with_views(scene: Scene, views: int) -> Scene:
    bodies = scene.bodies
    missing = views - bodies.views_cam.shape[1]
    if missing == 0:
        return scene
    views_cam = np.pad(bodies.views_cam, ((0, 0), (0, missing), (0, 0)), constant_values=np.nan)
    return replace(scene, bodies=replace(bodies, views_cam=views_cam))
