"""A self-contained HTML page of an evaluation, with its figures also as PNG files."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mchmr_stream.evaluation import figures
from mchmr_stream.evaluation.figures import format_value
from mchmr_stream.evaluation.real_predictions import RealPredictions
from mchmr_stream.evaluation.results import Results, Table
from mchmr_stream.evaluation.worst_cases import Case
from mchmr_stream.files.atomic import atomic_file
from mchmr_stream.files.output_lock import claimed

_STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1200px; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 } td, th { border: 1px solid #ddd; padding: .25em .6em; text-align: right }
td:first-child, th:first-child { text-align: left } th { background: #f3f3f3; font-weight: 600 } img { max-width: 100% }
"""
_CASES = (
    "Blue: truth; orange: prediction; dots: the person's left side. In the picture as projected, in 3D with the middle of the hips "
    "together. Numbers: MPJPE / PA-MPJPE."
)


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure of the report."""

    name: str
    caption: str
    png: bytes


def real_report(folder: Path, results: Results, predictions: RealPredictions, cases: Sequence[Case]) -> Path:
    """Write a report on real views.

    Args:
        folder: output folder.
        results: tables.
        predictions: stored predictions, for the plots over time.
        cases: worst cases; may be empty where the videos are not available.

    Returns:
        The HTML file.
    """
    pictures = [
        Picture("tables", "Errors.", figures.draw_table(results.tables["errors"], "real views")),
        Picture("joints", "Mean error of each joint.", figures.draw_bars(results.tables["per joint, mm"], predictions.methods(), "mm")),
        Picture("time", "Error of each frame.", figures.draw_over_time(predictions)),
    ]
    if cases:
        pictures.append(Picture("worst", f"The worst frames, known camera, no smoothing. {_CASES}", figures.draw_cases(cases)))
    return write_report(folder, "Real views", results, pictures)


def synthetic_report(folder: Path, results: Results, cases: Sequence[Case]) -> Path:
    """Write a report on rendered people.

    Args:
        folder: output folder.
        results: tables.
        cases: worst cases; may be empty where the pictures are not available.

    Returns:
        The HTML file.
    """
    groups = next(table for name, table in results.tables.items() if name.startswith("groups"))
    joints = results.tables["per joint, mm"]
    columns = list(next(iter(joints.values())))
    pictures = [
        Picture("tables", "Errors.", figures.draw_table(results.tables["errors"], "rendered people")),
        Picture(
            "groups",
            "Errors by group, people whom the detector found, known focal length.",
            figures.draw_bars(groups, ["MPJPE mm", "PA-MPJPE mm"], "mm"),
        ),
        Picture("joints", "Mean error of each joint, pelvis at the same place.", figures.draw_bars(joints, columns, "mm")),
    ]
    if cases:
        pictures.append(Picture("worst", f"The worst people, known focal length. {_CASES}", figures.draw_cases(cases)))
    return write_report(folder, "Rendered people", results, pictures)


def write_report(folder: Path, title: str, results: Results, pictures: Sequence[Picture]) -> Path:
    """Write `report.html` with all figures embedded, and NAME.png for each figure."""
    folder.mkdir(parents=True, exist_ok=True)
    with claimed([folder]):
        about = "".join(f"<tr><td>{html.escape(str(k))}</td><td>{html.escape(str(v))}</td></tr>" for k, v in results.about.items())
        parts = [f"<h1>{html.escape(title)}</h1><table>{about}</table>"]
        for name, table in results.tables.items():
            parts.append(f"<h2>{html.escape(name)}</h2>{_html_table(table)}")
        for picture in pictures:
            with atomic_file(folder / f"{picture.name}.png") as part:
                part.write_bytes(picture.png)
            data = base64.b64encode(picture.png).decode()
            caption = html.escape(picture.caption)
            parts.append(f'<h2>{html.escape(picture.name)}</h2><p>{caption}</p><img alt="{caption}" src="data:image/png;base64,{data}">')
        page = folder / "report.html"
        with atomic_file(page) as part:
            part.write_text(
                f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
                f"<body>{''.join(parts)}</body></html>\n"
            )
    return page


def _html_table(table: Table) -> str:
    columns = list(dict.fromkeys(metric for row in table.values() for metric in row))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("", *columns))
    rows = (
        f"<tr><td>{html.escape(name)}</td>{''.join(f'<td>{format_value(row.get(metric), metric)}</td>' for metric in columns)}</tr>"
        for name, row in table.items()
    )
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"
