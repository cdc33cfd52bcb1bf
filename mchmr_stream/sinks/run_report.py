"""STEM.json: command, input, duration, people and warnings of a run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from mchmr_stream.datatypes import Bodies, Scene, SourceInfo
from mchmr_stream.files.atomic import atomic_file, check_folder, write_errors
from mchmr_stream.motion.motion import Motion
from mchmr_stream.motion.output_paths import OutputPaths
from mchmr_stream.runtime.versions import system_name, versions
from mchmr_stream.sinks.people_summary import PersonSeen

REPORT_SCHEMA = 1


class ReportSink:
    """Write STEM.json. Call `finish` at the end of a run; without it the report marks the run as incomplete.

    Args:
        path: The file; its folder exists.
        info: The source; None if the input could not be opened.
        settings: All settings of the run.
        names: Body model, weights, and their hashes.
        made_of: Input (`content.MadeOf.plain`, and its `path`).
        device: Device of the network.
        began: Start of the run; by default now.

    Raises:
        UsageError: The folder does not exist.
        MchmrError: The disk is full or not writable.
    """

    def __init__(
        self,
        path: str | Path,
        info: SourceInfo | None,
        *,
        settings: Mapping[str, Any],
        names: Mapping[str, str],
        made_of: Mapping[str, Any] | None = None,
        device: str | None = None,
        began: datetime | None = None,
    ) -> None:
        self.path = Path(path)
        check_folder(self.path)
        self._made_of, self._device, self._began = dict(made_of or {}), device, began or datetime.now(UTC)
        self._info, self._settings, self._names = info, settings, names
        self._frames = 0
        self._frames_with_people = 0
        self._span_s: tuple[float, float] | None = None
        self._people: dict[int, PersonSeen] = {}
        self._timings: dict[str, dict[str, float]] = {}
        self._warnings: list[str] = []
        self._complete = False
        self._error: str | None = None
        self._closed = False

    def extend(self, motion: Motion) -> None:
        """Include the rows of an earlier run, before the first `write`. Times per stage remain those of this run."""
        if not len(motion.frames):
            return
        self._span_s = (float(motion.frames_time_s[0]), float(motion.frames_time_s[-1]))
        self._frames = len(motion.frames)
        self._frames_with_people = len({frame for track in motion.tracks.values() for frame in track.frame.tolist()})
        self._people = {identity: PersonSeen.of(track) for identity, track in motion.tracks.items()}

    def write(self, scene: Scene) -> None:
        time_s = float(scene.bodies.time_s)
        self._span_s = (self._span_s[0] if self._span_s else time_s, time_s)
        self._frames += 1
        self._frames_with_people += len(scene) > 0
        for row, identity in enumerate(scene.bodies.track_id.tolist()):
            self._people.setdefault(identity, PersonSeen()).add(scene.bodies, row)

    def replacing(self, frames: Iterable[Bodies]) -> Iterator[Bodies]:
        """Pass on the bodies of a second pass and update the rows that were written."""
        for bodies in frames:
            for row, identity in enumerate(bodies.track_id.tolist()):
                if identity in self._people:
                    self._people[identity].replace(bodies, row)
            yield bodies

    def finish(
        self,
        *,
        complete: bool,
        warnings: Sequence[str] = (),
        seconds: Mapping[str, Sequence[float]] | None = None,
        error: str | None = None,
    ) -> None:
        """Record how the run ended.

        Args:
            complete: Whether the whole input was processed.
            warnings: Warnings of the run.
            seconds: Seconds of each call, by stage.
            error: Why the run failed, if it did.
        """
        self._error = error
        self._complete = complete
        self._warnings = list(warnings)
        self._timings = {stage: _percentiles_ms(values) for stage, values in (seconds or {}).items() if len(values)}

    def close(self) -> None:
        """Publish the report."""
        if self._closed:
            return
        self._closed = True
        with write_errors(self.path), atomic_file(self.path) as temporary:
            temporary.write_text(json.dumps(self._content(), indent=2, default=str) + "\n")

    def discard(self) -> None:
        """Publish nothing."""
        self._closed = True

    def _source(self) -> dict[str, Any]:
        info = self._info
        if info is None:
            return {}
        return {
            "name": info.name,
            "width": info.width,
            "height": info.height,
            "fps": info.fps,
            "expected_frames": info.frame_count,
            "still": info.still,
        }

    def _content(self) -> dict[str, Any]:
        rows = sum(map(len, self._people.values()))
        return {
            "schema": REPORT_SCHEMA,
            "complete": self._complete,
            "error": self._error,
            "date": self._began.isoformat(timespec="seconds"),
            "wall_s": round((datetime.now(UTC) - self._began).total_seconds(), 3),
            "device": self._device,
            "source": {name: value for name, value in self._made_of.items() if name != "setting_files"} | self._source(),
            "frames": self._frames,
            "frames_with_people": self._frames_with_people,
            "first_time_s": self._span_s[0] if self._span_s else None,
            "last_time_s": self._span_s[1] if self._span_s else None,
            "mean_confidence": round(sum(one.confidence_sum for one in self._people.values()) / rows, 4) if rows else None,
            "people": [{"track_id": identity, **person.summary()} for identity, person in sorted(self._people.items())],
            "warnings": self._warnings,
            "timings_ms": self._timings,
            "names": dict(self._names),
            "settings": dict(self._settings),
            "setting_files": self._made_of.get("setting_files", {}),
            "versions": versions() | {"system": f"{system_name()}, {os.cpu_count()} cores"},
        }


def is_worth_keeping(output: Path, paths: OutputPaths) -> bool:
    """Whether a file exists and is more than the report of a run that failed before its first frame.

    Args:
        output: The file.
        paths: The outputs of its run.

    Returns:
        False for a missing file and for such a report.
    """
    return os.path.exists(output) and not (output == paths.report and not os.path.exists(paths.bodies) and _is_of_a_failure(output))


def is_report(path: Path) -> bool:
    """Whether a file is a report, of this version or an earlier one."""
    return "complete" in _read(path)


def _is_of_a_failure(report: Path) -> bool:
    content = _read(report)
    return content.get("complete") is False and content.get("frames") == 0 and content.get("error") is not None


def _read(report: Path) -> dict[str, Any]:
    """The report's content; empty if it is something else."""
    try:
        content = json.loads(report.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _percentiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(np.asarray(seconds, np.float64) * 1000, [50, 95, 99])
    return {"p50": round(p50, 3), "p95": round(p95, 3), "p99": round(p99, 3), "calls": len(seconds)}
