"""Boxes from a file of the user, in place of a detector.

Three formats are read; the file's ending and its first characters decide which one.

MOTChallenge text (any ending but .json), one box per line, frames from 1; further columns are ignored, and so is the id, since identities
are the tracker's task. A conf of -1, the format's code for unknown, counts as 1::

    frame, id, left, top, width, height, conf

JSON by frame, frames from 0; score (1) and keypoints may be missing, and a keypoint may be null::

    {"frames": {"0": [{"box_xyxy_px": [10, 20, 110, 320], "score": 0.9, "keypoints_px": [[60, 40, 0.8], ...17]}], "1": []}}

JSON list as COCO's results, `image_id` or `frame` being the frame's number from 0; score and keypoints may be missing::

    [{"image_id": 0, "bbox": [left, top, width, height], "score": 0.9, "keypoints": [x, y, score, ...51 numbers]}]

Pixels are of the upright picture. `box_xyxy_px` and all keypoints follow this package's convention (the top left pixel's centre is (0, 0));
left and top of the other two are measured from the picture's corner, as their formats define.
"""

from __future__ import annotations

import json
import logging
import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from mchmr_stream.datatypes import KEYPOINT_NAMES, Detections, Float, Frame, Int
from mchmr_stream.errors import InputError, UsageError

log = logging.getLogger(__name__)

MAX_MOT_BYTES = 1 << 30
MAX_JSON_BYTES = 1 << 28
"""JSON takes about twenty times its size in memory while it is parsed."""

_KEYPOINT_VALUES = 3 * len(KEYPOINT_NAMES)
_NO_KEYPOINTS = (math.nan, math.nan, 0.0) * len(KEYPOINT_NAMES)
_MOT_COLUMNS = "frame,id,left,top,width,height[,conf,...]"


class BoxesDetector:
    """Returns the boxes of a file by `Frame.index`; a frame that is not in the file has no people.

    Boxes are returned unchanged, even where they extend beyond the picture. Boxes entirely outside are left out, with a warning.
    """

    def __init__(self, file: str | Path, min_score: float = 0.0) -> None:
        """Read the file.

        Args:
            file: A file in one of the formats above.
            min_score: Boxes with a lower score are left out, in [0, 1].

        Raises:
            InputError: The file is too large or invalid; the message names the line or entry.
            UsageError: `min_score` is out of range.
        """
        if not 0 <= min_score <= 1:
            raise UsageError(f"the least score of boxes is {min_score}, expected 0 to 1")
        self._file = Path(file)
        self._table = _read(self._file).at_least(min_score)
        self._warned = False

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return one `Detections` per frame."""
        return [self._detect(frame) for frame in frames]

    def close(self) -> None:
        """Do nothing: no resource is held."""

    def _detect(self, frame: Frame) -> Detections:
        found = self._table.of_frame(frame.index)
        x0, y0, x1, y1 = found.boxes_xyxy_px.T
        inside = (x1 > -0.5) & (y1 > -0.5) & (x0 < frame.width - 0.5) & (y0 < frame.height - 0.5)
        if not inside.all() and not self._warned:
            self._warned = True
            log.warning(
                "%s: frame %d has a box outside the %d x %d picture; boxes should be in pixels of the upright picture",
                self._file, frame.index, frame.width, frame.height,
            )  # fmt: skip
        return Detections(found.boxes_xyxy_px[inside], found.scores[inside], found.keypoints_px[inside])


@dataclass(frozen=True, eq=False)
class _BoxTable:
    """All boxes of a file, ordered by frame."""

    frame: Int
    boxes_xyxy_px: Float
    scores: Float
    keypoints_px: Float | None
    """None if no box of the file has keypoints."""

    @staticmethod
    def of_rows(rows: array[float], keypoints_of_row: dict[int, tuple[float, ...]]) -> _BoxTable:
        """Build a table from concatenated rows of frame, x0, y0, x1, y1, score, and 51 numbers per row with keypoints."""
        table = np.frombuffer(rows, np.float64).reshape(-1, 6)
        order = np.argsort(table[:, 0], kind="stable")
        keypoints = None
        if keypoints_of_row:
            flat = np.tile(np.array(_NO_KEYPOINTS, np.float32), (len(table), 1))
            flat[list(keypoints_of_row)] = list(keypoints_of_row.values())
            keypoints = flat[order].reshape(-1, len(KEYPOINT_NAMES), 3)
        table = table[order]
        return _BoxTable(table[:, 0].astype(np.int64), table[:, 1:5].astype(np.float32), table[:, 5].astype(np.float32), keypoints)

    def at_least(self, min_score: float) -> _BoxTable:
        keep = self.scores >= np.float32(min_score)
        keypoints = self.keypoints_px[keep] if self.keypoints_px is not None else None
        return _BoxTable(self.frame[keep], self.boxes_xyxy_px[keep], self.scores[keep], keypoints)

    def of_frame(self, frame: int) -> Detections:
        start, end = np.searchsorted(self.frame, [frame, frame + 1])
        rows = slice(int(start), int(end))
        if self.keypoints_px is None:
            return Detections.from_boxes(self.boxes_xyxy_px[rows], self.scores[rows])
        return Detections(self.boxes_xyxy_px[rows], self.scores[rows], self.keypoints_px[rows])


def _read(file: Path) -> _BoxTable:
    try:
        is_json = file.suffix.lower() == ".json"
        size, most = file.stat().st_size, MAX_JSON_BYTES if is_json else MAX_MOT_BYTES
        if size > most:
            raise InputError(f"boxes {file} have {size} bytes, expected at most {most}; split the video and its boxes")
        return _read_json(file) if is_json else _read_mot(file)
    except OSError as error:
        raise InputError(f"cannot read boxes {file}: {error.strerror or error}; expected MOTChallenge text or JSON") from error
    except UnicodeDecodeError as error:
        raise InputError(f"boxes {file} are no text (byte {error.start}); expected MOTChallenge text or JSON") from error


def _read_mot(file: Path) -> _BoxTable:
    rows: array[float] = array("d")
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                rows.extend(_mot_row(line, f"{file} line {number}"))
    return _BoxTable.of_rows(rows, {})


def _mot_row(line: str, where: str) -> tuple[float, ...]:
    cells = line.split(",", 7)
    if len(cells) < 6:
        _refuse(where, f"{len(cells)} columns", _MOT_COLUMNS)
    frame, left, top, width, height, conf = (_parse(cell, where) for cell in (cells[0], *cells[2:6], cells[6] if len(cells) > 6 else "1"))
    if frame != int(frame) or frame < 1:
        _refuse(where, f"frame {_short(cells[0])}", "a whole number from 1")
    score = 1.0 if conf == -1 else _score(conf, where)
    return (frame - 1, *_from_corner_and_size([left, top, width, height], where), score)


def _parse(cell: str, where: str) -> float:
    try:
        return _number(float(cell), where)
    except ValueError:
        _refuse(where, _short(cell), f"a number in each of the columns {_MOT_COLUMNS}")


def _read_json(file: Path) -> _BoxTable:
    def no_constant(name: str) -> NoReturn:
        raise InputError(f"boxes {file} hold {name}, expected finite numbers")

    try:
        data = json.loads(file.read_text(encoding="utf-8-sig"), parse_constant=no_constant)
    except json.JSONDecodeError as error:
        raise InputError(f"boxes {file} line {error.lineno}: {error.msg}; expected JSON") from error
    except RecursionError as error:
        raise InputError(f"boxes {file} are nested too deep; expected frames holding lists of boxes") from error
    rows: array[float] = array("d")
    keypoints_of_row: dict[int, tuple[float, ...]] = {}
    for row, (frame, box, score, keypoints) in enumerate(_entries(data, file)):
        rows.extend((frame, *box, score))
        if keypoints is not None:
            keypoints_of_row[row] = keypoints
    return _BoxTable.of_rows(rows, keypoints_of_row)


_Entry = tuple[int, tuple[float, ...], float, tuple[float, ...] | None]


def _entries(data: Any, file: Path) -> Iterator[_Entry]:
    """Frame, box (x0, y0, x1, y1), score and keypoints of every box of either JSON form."""
    if isinstance(data, list):
        for position, entry in enumerate(data):
            yield _coco_entry(entry, f"{file} entry {position}")
        return
    if not isinstance(data, dict) or not isinstance(data.get("frames"), dict):
        _refuse(str(file), _kind(data), '{"frames": {"0": [...]}} or a list of COCO results')
    for key, people in data["frames"].items():
        if not (key.isascii() and key.isdecimal() and len(key) < 16):
            _refuse(f"{file} frames", f"key {_short(key)}", "a frame's number from 0")
        if not isinstance(people, list):
            _refuse(f"{file} frame {key}", _kind(people), "a list of boxes")
        for position, entry in enumerate(people):
            yield _frame_entry(int(key), entry, f"{file} frame {key} box {position}")


def _frame_entry(frame: int, entry: Any, where: str) -> _Entry:
    if not isinstance(entry, dict) or "box_xyxy_px" not in entry:
        _refuse(where, _kind(entry), '{"box_xyxy_px": [x0, y0, x1, y1], "score": s, "keypoints_px": [[x, y, s], ...]}')
    x0, y0, x1, y1 = _numbers(entry["box_xyxy_px"], 4, f"{where} box_xyxy_px")
    if not (x1 > x0 and y1 > y0):
        _refuse(f"{where} box_xyxy_px", f"{[x0, y0, x1, y1]}", "x1 larger than x0 and y1 larger than y0")
    score = _score(_number(entry.get("score", 1.0), f"{where} score"), f"{where} score")
    keypoints = entry.get("keypoints_px")
    if keypoints is None:
        return frame, (x0, y0, x1, y1), score, None
    if not isinstance(keypoints, list) or len(keypoints) != len(KEYPOINT_NAMES):
        _refuse(f"{where} keypoints_px", _kind(keypoints), f"{len(KEYPOINT_NAMES)} of [x, y, score] or null")
    flat: list[float] = []
    for keypoint in keypoints:
        flat += (
            _NO_KEYPOINTS[:3] if keypoint is None else _keypoint(_numbers(keypoint, 3, f"{where} keypoints_px"), f"{where} keypoints_px")
        )
    return frame, (x0, y0, x1, y1), score, tuple(flat)


def _coco_entry(entry: Any, where: str) -> _Entry:
    if not isinstance(entry, dict) or "bbox" not in entry or not ({"image_id", "frame"} & entry.keys()):
        _refuse(where, _kind(entry), '{"image_id": frame, "bbox": [left, top, width, height], "score": s}')
    frame = entry["frame"] if "frame" in entry else entry["image_id"]
    if not isinstance(frame, int) or isinstance(frame, bool) or not 0 <= frame < 1 << 50:
        _refuse(where, f"frame {_short(frame)}", "a frame's number from 0")
    box = _from_corner_and_size(_numbers(entry["bbox"], 4, f"{where} bbox"), f"{where} bbox")
    score = _score(_number(entry.get("score", 1.0), f"{where} score"), f"{where} score")
    if entry.get("keypoints") is None:
        return frame, box, score, None
    flat = _numbers(entry["keypoints"], _KEYPOINT_VALUES, f"{where} keypoints")
    triples = (_keypoint(flat[start : start + 3], f"{where} keypoints") for start in range(0, _KEYPOINT_VALUES, 3))
    return frame, box, score, tuple(value for triple in triples for value in triple)


def _keypoint(xys: Sequence[float], where: str) -> tuple[float, ...]:
    """Score 0 marks an unknown keypoint at any position: COCO writes 0, 0, 0."""
    return tuple(xys) if _score(xys[2], where) > 0 else _NO_KEYPOINTS[:3]


def _from_corner_and_size(box: Sequence[float], where: str) -> tuple[float, ...]:
    """Left, top, width, height measured from the picture's corner -> x0, y0, x1, y1 measured from the first pixel's centre."""
    left, top, width, height = box
    if not (width > 0 and height > 0):
        _refuse(where, f"width {width:g} and height {height:g}", "both larger than 0")
    return left - 0.5, top - 0.5, left - 0.5 + width, top - 0.5 + height


def _numbers(values: Any, count: int, where: str) -> list[float]:
    if not isinstance(values, list) or len(values) != count:
        _refuse(where, _kind(values), f"{count} numbers")
    return [_number(value, where) for value in values]


_LARGEST = 1e7
"""Pixels; larger than any picture, and exact to half a pixel in 32 bits."""


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        _refuse(where, _short(value), f"a number between -{_LARGEST:.0e} and {_LARGEST:.0e}")
    return float(value)


def _score(value: float, where: str) -> float:
    if not 0 <= value <= 1:
        _refuse(where, f"score {value:g}", "0 to 1")
    return value


def _kind(value: Any) -> str:
    """Describe a JSON value briefly."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object with {_short(', '.join(list(value)[:5])) if value else 'nothing'}"
    return _short(value)


def _short(value: Any) -> str:
    """Format a value for a message: one short line."""
    text = repr(value.strip() if isinstance(value, str) else value)
    return text if len(text) <= 40 else text[:37] + "..."


def _refuse(where: str, got: str, expected: str) -> NoReturn:
    raise InputError(f"boxes {where}: got {got}, expected {expected}")
