"""What a run measured, on disk, so that it can be fitted again when everybody's shape is known.

An hour of two people takes some 700 MB. Rows are fixed-size records, appended while the run goes on and read back in blocks of frames.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.fitting.body_fitter import Measured
from mchmr_stream.fitting.shapes import SettledShapes, settled_shapes
from mchmr_stream.outputs import hidden_mark
from mchmr_stream.records import Bodies
from mchmr_stream.sinks.publishing import write_errors

_OF_BODIES = tuple(one.name for one in fields(Bodies) if one.name not in ("frame", "time_s"))
_OF_ROWS = ("keypoint_covariance_px2", "landmarks_px", "base_px", "roll_rad")
_FRAME = np.dtype([("frame", "<i8"), ("time_s", "<f8"), ("rows", "<i8"), ("width", "<i8"), ("height", "<i8"), ("up_rad", "<f8")])
_FRAMES_AT_ONCE = 16
"""Of several frames one fit costs less than half of what each alone does."""


class MeasuredFile:
    """The measurements of one run, in a hidden folder that `close` removes.

    Args:
        beside: the output that the hidden folder lies beside: on its disk there is room for results.

    Raises:
        MchmrError: when the disk refuses; `append` likewise.
    """

    def __init__(self, beside: Path) -> None:
        self._beside = beside
        with write_errors(beside):
            self._folder = tempfile.TemporaryDirectory(prefix=hidden_mark(beside), dir=beside.parent)
            self._rows_file: IO[bytes] = (Path(self._folder.name) / "rows").open("w+b")
            self._frames_file: IO[bytes] = (Path(self._folder.name) / "frames").open("w+b")
        self._row: np.dtype | None = None
        """As the first row has it"""

    def append(self, frames: Sequence[Measured], fitted: Sequence[Bodies]) -> None:
        """Measurements of frames that follow each other, and the bodies that were fitted to them with what was known then."""
        for measured, bodies in zip(frames, fitted, strict=True):
            width, height = measured.picture_wh
            head = (measured.bodies.frame, measured.bodies.time_s, len(bodies), width, height, measured.up_rad)
            with write_errors(self._beside):
                self._frames_file.write(np.array(head, _FRAME).tobytes())
                if len(bodies):
                    self._rows_file.write(self._records(measured, bodies).tobytes())

    def shapes(self) -> SettledShapes:
        """Everybody's shape, of all frames."""
        if self._row is None:
            return SettledShapes({})
        rows = self._read(self._rows_file, self._row)
        frames = self._read(self._frames_file, _FRAME)
        times_s = np.repeat(frames["time_s"], frames["rows"])
        return settled_shapes(rows["track_id"], times_s, rows["fitted_betas"], rows["fitted_confidence"])

    def blocks(self) -> Iterator[list[Measured]]:
        """Some frames at a time, in order."""
        frames = self._read(self._frames_file, _FRAME)
        rows = self._read(self._rows_file, self._row) if self._row is not None else None
        ends = np.cumsum(frames["rows"])
        for start in range(0, len(frames), _FRAMES_AT_ONCE):
            numbers = range(start, min(start + _FRAMES_AT_ONCE, len(frames)))
            yield [self._measured(frames[n], None if rows is None else rows[ends[n] - frames["rows"][n] : ends[n]]) for n in numbers]

    def close(self) -> None:
        """Remove everything."""
        self._rows_file.close()
        self._frames_file.close()
        self._folder.cleanup()

    def _records(self, measured: Measured, fitted: Bodies) -> NDArray:
        columns = {name: getattr(measured.bodies, name) for name in _OF_BODIES}
        columns |= {name: getattr(measured, name) for name in _OF_ROWS}
        columns |= {"fitted_betas": fitted.betas_frame, "fitted_confidence": fitted.confidence}
        if self._row is None:
            self._row = np.dtype([(name, values.dtype, values.shape[1:]) for name, values in columns.items()])
        records = np.zeros(len(fitted), self._row)
        for name, values in columns.items():
            records[name] = values
        return records

    def _read(self, file: IO[bytes], record: np.dtype) -> NDArray:
        file.flush()
        size = Path(file.name).stat().st_size
        return np.memmap(file.name, record, "r") if size else np.zeros(0, record)

    def _measured(self, frame: np.void, rows: NDArray | None) -> Measured:
        if rows is None or not len(rows):
            rows = np.zeros(0, self._row or _empty_row())
        bodies = Bodies(int(frame["frame"]), float(frame["time_s"]), **{name: np.array(rows[name]) for name in _OF_BODIES})
        own = {name: np.array(rows[name]) for name in _OF_ROWS}
        return Measured(bodies, picture_wh=(int(frame["width"]), int(frame["height"])), up_rad=float(frame["up_rad"]), **own)


def _empty_row() -> np.dtype:
    """Of a run in which nobody was seen."""
    bodies = Bodies.empty(0, 0.0, 1)
    own = {"keypoint_covariance_px2": (17, 2, 2), "landmarks_px": (27, 3), "base_px": (3,), "roll_rad": ()}
    columns = [(name, getattr(bodies, name).dtype, getattr(bodies, name).shape[1:]) for name in _OF_BODIES]
    return np.dtype([*columns, *((name, np.float32, shape) for name, shape in own.items())])
