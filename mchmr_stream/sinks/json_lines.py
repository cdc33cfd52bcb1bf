"""Scenes as JSON, one line each, for programs that read while the run goes on. docs/output.md lists the fields."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datatypes import Moment, Scene
from mchmr_stream.errors import UsageError
from mchmr_stream.files.atomic import check_folder, write_errors
from mchmr_stream.geometry.rotation import axis_angle_from_matrix

SCHEMA = 1


def scene_line(scene: Scene, **more: Any) -> str:
    """Encode a scene as one line of JSON without line end.

    Args:
        scene: The scene.
        **more: Further fields of the sender, such as a clock time; they come first.

    Returns:
        The line.
    """
    return json.dumps({"schema": SCHEMA, **more, **scene_record(scene)}, separators=(",", ":"), allow_nan=False)


def scene_record(scene: Scene) -> dict[str, Any]:
    """Values of a scene in plain types: rotations as axis-angle, unknown values as None."""
    bodies, camera = scene.bodies, scene.intrinsics
    rotations = axis_angle_from_matrix(bodies.rotations)
    people = [
        {
            "id": int(bodies.track_id[row]),
            "box_xyxy_px": _rounded(bodies.boxes_xyxy_px[row], 1),
            "score": _rounded(bodies.scores[row], 3),
            "confidence": _rounded(bodies.confidence[row], 3),
            "interpolated": bool(bodies.interpolated[row]),
            "global_orient": _rounded(rotations[row, 0], 4),
            "body_pose": _rounded(rotations[row, 1:], 4),
            "betas": _rounded(bodies.betas[row], 3),
            "transl": _rounded(bodies.transl[row], 4),
            "joints_m": _rounded(scene.joints_m[row], 4),
            "joints_px": _rounded(scene.joints_px[row], 1),
            "keypoints_px": _rounded(bodies.keypoints_px[row], 2),
        }
        for row in range(len(scene))
    ]
    return {
        "frame": bodies.frame,
        "time_s": round(bodies.time_s, 6),
        "width": scene.frame.width,
        "height": scene.frame.height,
        "camera": {name: round(getattr(camera, name), 3) for name in ("fx", "fy", "cx", "cy")},
        "people": people,
    }


def _rounded(values: NDArray[np.floating] | np.floating, digits: int) -> Any:
    """Nested lists, or one number. NaN and infinity, which JSON lacks, become None."""
    array = np.asarray(values, np.float64).round(digits)
    known = np.isfinite(array)
    if known.all():
        return array.tolist()
    plain = array.astype(object)
    plain[~known] = None
    return plain.tolist()


def moment_line(moment: Moment) -> str:
    """Encode a live scene as one line of JSON without line end."""
    return scene_line(
        moment.scene,
        source=moment.source.name,
        clock_s=round(moment.clock_s, 3),
        age_s=round(moment.age_s, 4),
        late_s=round(moment.late_s, 4),
        dropped=moment.dropped,
        reconnects=moment.reconnects,
    )


def _check_lines(path: Path) -> None:
    if not path.is_file():  # missing, or a pipe
        return
    with write_errors(path), path.open("rb") as file:
        first = file.read(1)
    if first not in (b"", b"{"):
        raise UsageError(f"--json: {path} is there already and holds no JSON lines; choose another name")


class JsonLinesSink:
    """Write live scenes as lines to standard output (`-`) or append them to a file, each at once; implements `protocols.LiveSink`."""

    def __init__(self, where: str) -> None:
        """Check the file.

        Args:
            where: `-` or a file.

        Raises:
            UsageError: The file's folder does not exist, or the file holds something other than JSON lines.
        """
        self._path = None if where == "-" else Path(where)
        if self._path is not None:
            check_folder(self._path)
            _check_lines(self._path)
        self._file: IO[str] | None = None

    def write(self, moment: Moment) -> None:
        line = moment_line(moment) + "\n"
        if self._path is None:
            sys.stdout.write(line)
            sys.stdout.flush()
            return
        with write_errors(self._path):
            if self._file is None:
                self._file = self._path.open("a", encoding="utf-8")
            self._file.write(line)
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            with write_errors(Path(self._file.name)):
                self._file.close()  # writes again what a full disk refused
