"""STEM.json: what was run, on what, how long it took, who was seen, and what was odd."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from mchmr_stream.motion import Motion
from mchmr_stream.outputs import temporary_beside
from mchmr_stream.records import Scene, SourceInfo
from mchmr_stream.sinks.publishing import check_folder, publish, write_errors

REPORT_SCHEMA = 1
_PACKAGES = ("mchmr-stream", "torch", "numpy", "av", "kornia", "scipy")


@dataclass
class _Person:
    """What is counted of one identity while the video runs."""

    first_time_s: float
    last_time_s: float
    rows: int = 0
    interpolated_rows: int = 0


class ReportSink:
    """Writes STEM.json. Call `finish` at the end of a run; without it the report says that the run is not complete.

    `names` says what made the numbers (body model, weights, their hashes), `made_of` of what (`content.MadeOf.plain`, and its `path`).
    Raises UsageError when the folder of `path` is not there, MchmrError when the disk refuses.
    """

    def __init__(
        self,
        path: str | Path,
        info: SourceInfo,
        *,
        settings: Mapping[str, Any],
        names: Mapping[str, str],
        made_of: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        check_folder(self.path)
        self._made_of = dict(made_of or {})
        self._info, self._settings, self._names = info, settings, names
        self._frames = 0
        self._frames_with_people = 0
        self._span_s: tuple[float, float] | None = None
        self._people: dict[int, _Person] = {}
        self._timings: dict[str, dict[str, float]] = {}
        self._warnings: list[str] = []
        self._complete = False
        self._closed = False

    def extend(self, motion: Motion) -> None:
        """Count what an earlier run did, too. To be called before the first `write`. Times per stage stay those of this run."""
        if not len(motion.frames):
            return
        self._span_s = (float(motion.frames_time_s[0]), float(motion.frames_time_s[-1]))
        self._frames = len(motion.frames)
        self._frames_with_people = len({frame for track in motion.tracks.values() for frame in track.frame.tolist()})
        for identity, track in motion.tracks.items():
            self._people[identity] = _Person(float(track.time_s[0]), float(track.time_s[-1]), len(track), int(track.interpolated.sum()))

    def write(self, scene: Scene) -> None:
        time_s = float(scene.bodies.time_s)
        self._span_s = (self._span_s[0] if self._span_s else time_s, time_s)
        self._frames += 1
        self._frames_with_people += len(scene) > 0
        for identity, interpolated in zip(scene.bodies.track_id.tolist(), scene.bodies.interpolated.tolist(), strict=True):
            person = self._people.setdefault(identity, _Person(time_s, time_s))
            person.last_time_s = time_s
            person.rows += 1
            person.interpolated_rows += interpolated

    def finish(self, *, complete: bool, warnings: Sequence[str] = (), seconds: Mapping[str, Sequence[float]] | None = None) -> None:
        """How the run ended: whether the whole input was used, what was odd, and the seconds of every call of each stage."""
        self._complete = complete
        self._warnings = list(warnings)
        self._timings = {stage: _percentiles_ms(values) for stage, values in (seconds or {}).items() if len(values)}

    def close(self) -> None:
        """Publish the report."""
        if self._closed:
            return
        self._closed = True
        temporary = temporary_beside(self.path)
        try:
            with write_errors(self.path):
                temporary.write_text(json.dumps(self._content(), indent=2, default=str) + "\n")
                publish(temporary, self.path)
        finally:
            temporary.unlink(missing_ok=True)

    def discard(self) -> None:
        """Give up: nothing is published."""
        self._closed = True

    def _content(self) -> dict[str, Any]:
        return {
            "schema": REPORT_SCHEMA,
            "complete": self._complete,
            "source": {
                **{name: value for name, value in self._made_of.items() if name != "setting_files"},
                "name": self._info.name,
                "width": self._info.width,
                "height": self._info.height,
                "fps": self._info.fps,
                "expected_frames": self._info.frame_count,
                "still": self._info.still,
            },
            "frames": self._frames,
            "frames_with_people": self._frames_with_people,
            "first_time_s": self._span_s[0] if self._span_s else None,
            "last_time_s": self._span_s[1] if self._span_s else None,
            "people": [{"track_id": identity, **vars(person)} for identity, person in sorted(self._people.items())],
            "warnings": self._warnings,
            "timings_ms": self._timings,
            "names": dict(self._names),
            "settings": dict(self._settings),
            "setting_files": self._made_of.get("setting_files", {}),
            "versions": _versions(),
        }


def _percentiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(np.asarray(seconds, np.float64) * 1000, [50, 95, 99])
    return {"p50": round(p50, 3), "p95": round(p95, 3), "p99": round(p99, 3), "calls": len(seconds)}


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions
