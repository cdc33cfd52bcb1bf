"""Figures of a report as PNG bytes. Within evaluation only this module imports matplotlib."""

from __future__ import annotations

import importlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.errors import MissingPart
from mchmr_stream.evaluation.real_predictions import RealPredictions
from mchmr_stream.evaluation.results import Table
from mchmr_stream.metrics.joint_errors import LIMB_BONES, errors_by_frame

if TYPE_CHECKING:
    from mchmr_stream.evaluation.worst_cases import Case

_PREDICTED, _TARGET = "#d55e00", "#0072b2"
_COLOURS = ("#d55e00", "#e69f00", "#009e73", "#0072b2", "#56b4e9", "#cc79a7", "#000000")
"""Colours of Okabe and Ito, which are distinct under most colour blindness."""
_CROP_MARGIN = 0.2
_COUNTS = ("people", "rows", "keypoints")


def require_matplotlib() -> None:
    """Raise MissingPart if matplotlib is not installed, before a long evaluation starts."""
    try:
        importlib.import_module("matplotlib")
    except ModuleNotFoundError as error:
        raise MissingPart("a report needs matplotlib: python -m pip install matplotlib (or leave --report out)") from error


def draw_table(table: Table, title: str) -> bytes:
    """Draw a table as a picture."""
    columns = list(dict.fromkeys(metric for row in table.values() for metric in row))
    cells = [[format_value(row.get(metric), metric) for metric in columns] for row in table.values()]
    widths = [max(len(name) for name in table), *(max(len(column), 8) for column in columns)]
    total = sum(widths)
    figure = _figure(max(6.0, total * 0.095), 0.5 + 0.27 * (len(table) + 1))
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    axes.set_axis_off()
    axes.text(0, 1, title, fontsize=10, va="top")
    drawn = axes.table(
        [[name, *row] for name, row in zip(table, cells, strict=True)],
        colLabels=["", *columns],
        colWidths=[width / total for width in widths],
        bbox=(0, 0, 1, 1 - 0.3 / figure.get_figheight()),
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8)
    for (row, column), cell in drawn.get_celld().items():
        cell.set_edgecolor("#cccccc")
        cell.get_text().set_ha("left" if column == 0 else "right")
        if row == 0:
            cell.set_facecolor("#eeeeee")
    return _png(figure)


def draw_bars(table: Table, columns: Sequence[str], label: str) -> bytes:
    """Draw a group of bars per row of the table, one colour per column."""
    names = list(table)
    figure = _figure(9, 1.2 + (0.14 * len(columns) + 0.1) * len(names))
    axes = figure.subplots()
    height = 0.8 / max(1, len(columns))
    for number, column in enumerate(columns):
        values = [table[name].get(column, np.nan) for name in names]
        axes.barh(np.arange(len(names)) + (number - (len(columns) - 1) / 2) * height, values, height, label=column, color=_colour(number))
    axes.set_yticks(np.arange(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(label)
    axes.grid(axis="x", alpha=0.3)
    if len(columns) > 1:
        axes.legend(fontsize=8)
    figure.tight_layout()
    return _png(figure)


def draw_over_time(predictions: RealPredictions) -> bytes:
    """Draw PA-MPJPE and MPJPE over the frames, one row of axes per view and person; frames without a prediction are gaps."""
    views = list(dict.fromkeys(one.label for one in predictions.predicted))
    figure = _figure(11, 2.6 * len(views) + 0.5)
    grid = figure.subplots(len(views), 2, squeeze=False, sharex="row")
    for row, view in enumerate(views):
        for number, method in enumerate(predictions.methods()):
            for clip in (one for one in predictions.of(method) if one.label == view):
                for axes, values in zip(grid[row], errors_by_frame(clip.limbs_m, clip.target_m, clip.valid), strict=True):
                    axes.plot(clip.frame, values, color=_colour(number), linewidth=1, label=method)
        for axes, name in zip(grid[row], ("MPJPE", "PA-MPJPE"), strict=True):
            axes.set_title(f"{view}: {name}, mm", fontsize=9)
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
        grid[row][0].set_xlabel("frame")
    lines, names = grid[0][0].get_legend_handles_labels()
    figure.tight_layout(rect=(0, 0.4 / figure.get_figheight(), 1, 1))
    figure.legend(lines, names, loc="lower center", ncols=3, fontsize=8)
    return _png(figure)


def draw_cases(cases: Sequence[Case], columns: int = 2) -> bytes:
    """Draw each case: the picture with both skeletons, and both in 3D from the front and the side."""
    rows = -(-len(cases) // columns)
    figure = _figure(6.6 * columns, 2.7 * rows + 0.3)
    grid = figure.subplots(rows, 3 * columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, case in enumerate(cases):
        picture, front, side = grid[number // columns][3 * (number % columns) :][:3]
        crop, corner = _crop(case)
        picture.imshow(crop)
        for points, colour in ((case.target_px, _TARGET), (case.predicted_px, _PREDICTED)):
            _skeleton(picture, points - corner, colour)
        picture.set_xlim(-0.5, crop.shape[1] - 0.5)
        picture.set_ylim(crop.shape[0] - 0.5, -0.5)
        picture.set_title(case.title, fontsize=8)
        for axes, horizontal, name in ((front, 0, "front"), (side, 2, "side (away from the camera: right)")):
            for points, colour in ((case.target_m, _TARGET), (case.predicted_m, _PREDICTED)):
                _skeleton(axes, points[:, [horizontal, 1]] * [1, -1], colour)
            axes.set_aspect("equal")
            axes.margins(0.15)
            axes.set_title(name, fontsize=7)
    figure.tight_layout()
    return _png(figure)


def format_value(value: float | None, metric: str = "") -> str:
    """Format a value for tables: empty without a value, counts without decimals."""
    if value is None or not np.isfinite(value):
        return ""
    decimals = 0 if metric in _COUNTS or abs(value) >= 1000 else 1 if abs(value) >= 10 else 2
    return f"{value:.{decimals}f}"


def _crop(case: Case) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A square around the true person and the predicted one where it is near; black outside of the picture."""
    low, high = np.nanmin(case.target_px, 0), np.nanmax(case.target_px, 0)
    reach = (high - low).max()
    near = np.clip(case.predicted_px, low - reach / 2, high + reach / 2)
    low, high = np.minimum(low, near.min(0)), np.maximum(high, near.max(0))
    side = int(np.clip((high - low).max() * (1 + 2 * _CROP_MARGIN), 32, 4096))
    left, top = np.round((low + high) / 2 - side / 2).astype(int)
    crop = np.zeros((side, side, 3), np.uint8)
    height, width = case.rgb.shape[:2]
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    if x0 < x1 and y0 < y1:
        crop[y0 - top : y1 - top, x0 - left : x1 - left] = case.rgb[y0:y1, x0:x1]
    return crop, np.array([left, top], np.float64)


def _skeleton(axes: Any, points: NDArray[np.float64], colour: str) -> None:
    for start, end in LIMB_BONES:
        axes.plot(*points[[start, end]].T, color=colour, linewidth=1.8, solid_capstyle="round")
    # Dots mark the person's left side: exchanged sides are a common failure.
    axes.plot(*points[0::2].T, linestyle="", marker="o", markersize=3, color=colour)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=110, facecolor="white")


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]
