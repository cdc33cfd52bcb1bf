"""The measurements of a run on disk, about 2 KB per person and frame, for a second fit when the shapes are final."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datatypes import Bodies
from mchmr_stream.files.atomic import hidden_mark, write_errors
from mchmr_stream.fitting.body_fitter import Measured
from mchmr_stream.fitting.track_shapes import SettledShapes, settled_shapes
from mchmr_stream.motion.column_spool import ColumnSpool
from mchmr_stream.motion.motion import Column

_OF_BODIES = {
    "track_id": Column(np.int64),
    "boxes_xyxy_px": Column(np.float32, (4,)),
    "scores": Column(np.float32),
    "keypoints_px": Column(np.float32, (17, 3)),
    "global_orient": Column(np.float32, (3, 3)),
    "body_pose": Column(np.float32, (23, 3, 3)),
    "betas": Column(np.float32, (10,)),
    "transl": Column(np.float32, (3,)),
    "views_cam": Column(np.float32, (None, 3)),
    "confidence": Column(np.float32),
    "interpolated": Column(np.bool_),
    "betas_frame": Column(np.float32, (10,)),
    "joint_sd_rad": Column(np.float32, (24,)),
    "joint_sd_m": Column(np.float32, (24,)),
    "identity_doubt": Column(np.bool_),
}
_OF_MEASURED = {
    "keypoint_covariance_px2": Column(np.float32, (17, 2, 2)),
    "landmarks_px": Column(np.float32, (27, 3)),
    "base_px": Column(np.float32, (3,)),
    "roll_rad": Column(np.float32),
}
_OF_FITTED = {"fitted_betas": Column(np.float32, (10,)), "fitted_confidence": Column(np.float32)}
_ROWS = _OF_BODIES | _OF_MEASURED | _OF_FITTED
_FRAMES = {
    "frame": Column(np.int64),
    "time_s": Column(np.float64),
    "people": Column(np.int64),
    "picture_wh": Column(np.int64, (2,)),
    "up_rad": Column(np.float64),
}
_FRAMES_AT_ONCE = 16
"""Fitting several frames at once costs less than half of fitting each alone."""


class MeasuredFile:
    """The measurements of one run, in a hidden folder that `close` removes.

    Args:
        beside: The output next to which the hidden folder is created, on the disk with room for results.
        views: V, the crops per person.

    Raises:
        MchmrError: The disk is full or not writable; `append` raises it likewise.
    """

    def __init__(self, beside: Path, views: int) -> None:
        self._beside = beside
        self._rows = self._frames = 0
        with write_errors(beside):
            self._folder = tempfile.TemporaryDirectory(prefix=hidden_mark(beside), dir=beside.parent)
            self._spool = ColumnSpool(Path(self._folder.name), _ROWS | _FRAMES, views)

    def append(self, frames: Sequence[Measured], fitted: Sequence[Bodies]) -> None:
        """Append consecutive frames.

        Args:
            frames: Their measurements.
            fitted: The bodies of the first pass.
        """
        for measured, bodies in zip(frames, fitted, strict=True):
            columns: dict[str, Any] = {name: getattr(measured.bodies, name) for name in _OF_BODIES}
            columns |= {name: getattr(measured, name) for name in _OF_MEASURED}
            columns |= {"fitted_betas": bodies.betas_frame, "fitted_confidence": bodies.confidence}
            columns |= {"frame": bodies.frame, "time_s": bodies.time_s, "people": len(bodies)}
            columns |= {"picture_wh": measured.picture_wh, "up_rad": measured.up_rad}
            with write_errors(self._beside):
                for name, value in columns.items():
                    self._spool.append(name, np.asarray(value))
            self._rows += len(bodies)
            self._frames += 1

    def shapes(self) -> SettledShapes:
        """Final shapes of all tracks, from all frames."""
        times_s = np.repeat(self._spool.column("time_s", self._frames), self._spool.column("people", self._frames))
        return settled_shapes(self._row("track_id"), times_s, self._row("fitted_betas"), self._row("fitted_confidence"))

    def blocks(self) -> Iterator[list[Measured]]:
        """The measurements in order, a few frames at a time."""
        frames = {name: self._spool.column(name, self._frames) for name in _FRAMES}
        rows = {name: self._row(name) for name in _OF_BODIES | _OF_MEASURED}
        ends = np.cumsum(frames["people"])

        def measured(number: int) -> Measured:
            own = slice(ends[number] - frames["people"][number], ends[number])
            of_rows = {name: np.array(column[own]) for name, column in rows.items()}
            head = {name: column[number].tolist() for name, column in frames.items()}
            bodies = Bodies(head["frame"], head["time_s"], **{name: of_rows[name] for name in _OF_BODIES})
            others = {name: of_rows[name] for name in _OF_MEASURED}
            return Measured(bodies, picture_wh=tuple(head["picture_wh"]), up_rad=head["up_rad"], **others)

        for start in range(0, self._frames, _FRAMES_AT_ONCE):
            yield [measured(number) for number in range(start, min(start + _FRAMES_AT_ONCE, self._frames))]

    def close(self) -> None:
        """Remove the folder."""
        self._spool.close()
        self._folder.cleanup()

    def _row(self, name: str) -> NDArray:
        return self._spool.column(name, self._rows)
