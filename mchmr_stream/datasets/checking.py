"""Check of a data set for completeness and plausibility, also run before each training.

All label files are read, the existence of all pictures is checked in the file system, and a sample of pictures is opened and compared
with its labels. Findings are faults (labels and pictures do not belong together) or remarks for the user.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datasets.known import KNOWN
from mchmr_stream.datasets.label_columns import ColumnReader, JoinedReader
from mchmr_stream.datasets.opening import Split, label_files, open_file, parts_of, sets_in
from mchmr_stream.errors import InputError, MchmrError

SAMPLED = 200
"""Number of pictures opened per data set, and of people whose positions are projected."""

_FOCAL_RANGE = (0.2, 20.0)
"""Valid focal length over the longer side of the picture: fields of view of 136 degrees and of 3."""
_MIDDLE_OFF = 0.25
"""Largest distance of the principal point from the middle of the picture, in its width (height)."""
_PELVIS_OFF = 0.75
"""Largest distance of a person's projected pelvis from the middle of the box, in its sides; 0.5 is its edge."""
_SOME = 0.02
"""Share of people up to which a fault of single labels is a remark."""
_NAMED = 3


@dataclass(frozen=True)
class SetFinding:
    """A fault or remark about one data set."""

    fault: bool
    text: str


@dataclass(frozen=True, eq=False)
class SetReport:
    """Contents and findings of one data set."""

    name: str
    files: int
    reader: JoinedReader | ColumnReader | None
    """None where no label file could be read"""
    counts: dict[str, int] = field(default_factory=dict)
    """numbers of people, of pictures, and of people with each kind of label"""
    findings: tuple[SetFinding, ...] = ()

    @property
    def sound(self) -> bool:
        return self.reader is not None and not any(finding.fault for finding in self.findings)


def check_folder(root: Path, split: Split = "all") -> list[SetReport]:
    """Check all data sets in the folder.

    Raises:
        InputError: `root` is no folder.
    """
    return [check_set(root, name, split) for name in sets_in(root)]


def missing_sets(root: Path) -> list[str]:
    """List the known data sets without labels in the folder: description, expected place and source."""
    present = sets_in(root)
    return [
        f"{name} ({known.title}): labels {known.labels} in {root / name / ('' if name == '3dpw' else 'labels')}; {known.obtained}"
        for name, known in KNOWN.items()
        if name not in present
    ]


def check_set(root: Path, name: str, split: Split = "all") -> SetReport:
    """Read all label files of DIR/NAME and check its pictures. Unreadable files are faults, and the others are used."""
    folder = root / name
    files = label_files(folder, split)
    findings, parts = [], []
    for file in files:
        try:
            parts.append(open_file(file, name, folder))
        except InputError as error:
            findings.append(SetFinding(True, str(error)))
    if not parts:
        findings.append(SetFinding(True, f"no label file ({split}) that could be read in {folder}"))
        return SetReport(name, len(files), None, {}, tuple(findings))
    reader = parts[0] if len(parts) == 1 else JoinedReader(name, parts)
    for part in parts:
        findings += [SetFinding(False, note) for note in part.columns.notes]
        findings += _of_labels(part)
    pictures, of_pictures = _of_pictures(reader)
    counts = _counts(parts) | {"pictures": pictures}
    return SetReport(name, len(files), reader, counts, (*findings, *of_pictures))


def require_sound(reports: Iterable[SetReport], *, force: bool) -> None:
    """Refuse data sets with faults, unless `force`.

    Raises:
        MchmrError: a set has faults; the message shows the first ones.
    """
    bad = [report for report in reports if not report.sound]
    if bad and not force:
        first = "; ".join(f"{report.name}: {next(finding.text for finding in report.findings if finding.fault)}" for report in bad)
        raise MchmrError(
            f"{len(bad)} data sets fail the check: {first}; see `mchmr data check`, or say --unchecked to use them all the same"
        )


def _counts(parts: Iterable[ColumnReader]) -> dict[str, int]:
    counts: dict[str, int] = {"people": 0, "with body": 0, "with 2D points": 0, "with 3D points": 0, "with camera": 0}
    for part in parts:
        c = part.columns
        n = len(c)
        counts["people"] += n
        counts["with body"] += 0 if c.pose is None else n if c.has_pose is None else int(c.has_pose.sum())
        for name, points in (("with 2D points", c.points_px), ("with 3D points", c.points_m)):
            counts[name] += 0 if points is None else int((points[..., -1] > 0).any(1).sum())
        counts["with camera"] += n if c.K is not None or c.focal_px is not None else 0
    return counts


def _of_labels(part: ColumnReader) -> list[SetFinding]:
    """Findings from labels alone: invalid cameras, people far from their boxes."""
    c = part.columns
    findings = []
    if c.K is not None:
        wrong = (c.K[:, 0, 0] <= 0) | (c.K[:, 1, 1] <= 0) | (abs(c.K[:, 2] - [0, 0, 1]) > 1e-6).any(1) | (abs(c.K[:, 1, 0]) > 1e-6)
        findings += _some(part, wrong, "have a K that is no camera matrix [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]")
        if wrong.any():
            return findings
    if c.focal_px is not None:
        findings += _some(part, c.focal_px <= 0, "have a focal length that is not positive")
    pelvis = _pelvis_m(part)
    if pelvis is not None and c.K is not None:
        behind_camera = pelvis[:, 2] <= 0
        findings += _some(part, behind_camera, "are behind their camera")
        projected = np.einsum("nij,nj->ni", c.K, pelvis)[:, :2] / np.where(behind_camera, 1, pelvis[:, 2])[:, None]
        off = (abs(projected - c.centre_px) > _PELVIS_OFF * c.side_px[:, None]).any(1) & ~behind_camera
        findings += _some(
            part, off, "are not where K projects them: the pelvis falls outside of the box; K or boxes are of another size of picture"
        )
    if c.points_px is not None:
        seen = c.points_px[..., 2] > 0
        far = (abs(c.points_px[..., :2] - c.centre_px[:, None]) > 1.5 * c.side_px[:, None, None]).any(-1) & seen
        mostly = far.sum(1) > 0.5 * seen.sum(1)
        findings += _some(part, mostly & seen.any(1), "have most of their 2D points far outside of their box")
    return findings


def _pelvis_m(part: ColumnReader) -> NDArray[np.floating] | None:
    """Positions of people in the camera, accurate to some 0.3 m (transl is that of the body's origin)."""
    c = part.columns
    if c.placed and c.points_m is not None and c.points_m_at is not None and 0 in c.points_m_at:
        place: NDArray[np.floating] = c.points_m[:, int(np.flatnonzero(c.points_m_at == 0)[0]), :3]
        return place
    return c.transl_m


def missing_pictures(reader: ColumnReader | JoinedReader) -> dict[str, int]:
    """Find missing pictures, with the number of people in each."""
    missing: dict[str, int] = {}
    listed: dict[str, set[str]] = {}
    for part in parts_of(reader):
        images, people = np.unique(part.columns.images, return_counts=True)
        for image, count in zip(images.tolist(), people.tolist(), strict=True):
            below, _, name = image.rpartition("/")
            folder = os.path.join(part.pictures, below)
            if folder not in listed:  # list full folders at once: checking hundreds of thousands of files one by one is slow
                listed[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
            if name not in listed[folder]:
                missing[os.path.join(folder, name)] = count
    return missing


def _of_pictures(reader: ColumnReader | JoinedReader) -> tuple[int, list[SetFinding]]:
    """Number of pictures that the labels name, findings on missing ones and on a sample of the others."""
    total = sum(len(np.unique(part.columns.images)) for part in parts_of(reader))
    missing = missing_pictures(reader)
    findings = []
    if missing:
        named = f"{', '.join(list(missing)[:_NAMED])}{_more(list(missing))}"
        findings.append(SetFinding(True, f"{len(missing)} of {total} pictures are not there ({sum(missing.values())} people): {named}"))
    return total, findings + _of_sample(reader, set(missing))


def _of_sample(reader: ColumnReader | JoinedReader, missing: set[str]) -> list[SetFinding]:
    """Open pictures spread evenly over the set and compare them with their labels."""
    unreadable: list[str] = []
    other_camera: list[str] = []
    outside: list[str] = []
    looked = 0
    for index in np.unique(np.linspace(0, len(reader) - 1, SAMPLED).astype(int)).tolist():
        label = reader.label(index)
        if picture_of(reader, index) in missing:
            continue
        looked += 1
        try:
            height, width = reader.image(index).shape[:2]
        except InputError as error:
            unreadable.append(str(error))
            continue
        camera = label.camera(width, height)
        long_side = max(width, height)
        off_middle = abs(camera.cx - (width - 1) / 2) > _MIDDLE_OFF * width or abs(camera.cy - (height - 1) / 2) > _MIDDLE_OFF * height
        if off_middle or not all(_FOCAL_RANGE[0] * long_side < focal < _FOCAL_RANGE[1] * long_side for focal in (camera.fx, camera.fy)):
            other_camera.append(
                f"{label.image} of {width} x {height} with focal length {camera.fx:.0f}, middle {camera.cx:.0f}, {camera.cy:.0f}"
            )
        x, y = label.centre_px.tolist()
        if not (0 <= x < width and 0 <= y < height):
            outside.append(f"{label.image} of {width} x {height}, box around {x:.0f}, {y:.0f}")
    texts = []
    for what, examples in (
        ("pictures cannot be read", unreadable),
        ("pictures do not fit their camera (another size, or turned)", other_camera),
        ("people's boxes lie outside of the picture", outside),
    ):
        if examples:
            fault = len(examples) > _SOME * looked
            texts.append(SetFinding(fault, f"{len(examples)} of {looked} sampled {what}: {'; '.join(examples[:_NAMED])}{_more(examples)}"))
    return texts


def picture_of(reader: ColumnReader | JoinedReader, index: int) -> str:
    """Path of a person's picture."""
    if isinstance(reader, ColumnReader):
        return str(reader.picture(index))
    part, row = reader.place(index)
    return str(part.picture(row))


def _some(part: ColumnReader, wrong: NDArray[np.bool_], what: str) -> list[SetFinding]:
    """A fault if more than a few people are affected, otherwise a remark."""
    if not wrong.any():
        return []
    examples = part.columns.images[wrong][:_NAMED].tolist()
    return [SetFinding(bool(wrong.mean() > _SOME), f"{int(wrong.sum())} of {len(wrong)} people {what} (first: {', '.join(examples)})")]


def _more(names: list[str]) -> str:
    return f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
