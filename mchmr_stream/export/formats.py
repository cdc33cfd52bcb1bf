"""The formats, and the export of a whole STEM.npz to one of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mchmr_stream.body.builds import with_build
from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import BodyModel
from mchmr_stream.config import checked_build
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.export.amass import write_amass
from mchmr_stream.export.bvh_writer import write_bvh
from mchmr_stream.export.csv_table import write_csv
from mchmr_stream.export.even_segments import Timeline, evenly, timeline_of
from mchmr_stream.export.glb import left_out_m, write_glb
from mchmr_stream.export.hmr_pickle import write_pkl
from mchmr_stream.export.meshcapade import write_smpl
from mchmr_stream.export.person_motion import (
    Y_UP_FROM_CAMERA,
    Z_UP_FROM_Y_UP,
    Array,
    ExportedPerson,
    in_world,
    joint_differences_m,
    person_of,
    usable_rows,
)
from mchmr_stream.export.trc import write_trc
from mchmr_stream.export.usd import write_usd
from mchmr_stream.files.atomic import atomic_file, check_folder, write_errors
from mchmr_stream.files.output_lock import claimed
from mchmr_stream.files.same_file import refuse_to_replace
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.motion.motion import Motion, Track

log = logging.getLogger(__name__)

SUFFIXES = {
    "glb": ".glb", "usd": ".usd", "bvh": ".bvh", "amass": "_amass.npz", "smpl": ".smpl", "trc": ".trc", "csv": ".csv", "pkl": ".pkl",
}  # fmt: skip
"""Format -> suffix of its files."""
SCENES = ("glb", "usd")
"""All people in one file, or one file each."""
PER_SEGMENT = ("bvh", "amass", "smpl", "trc")
"""One file per person and segment, at an even rate."""
_WARN_ABOVE_M = 0.002
"""Larger deviations of joints from the file's are logged."""


@dataclass(frozen=True)
class Written:
    """One written file."""

    path: Path
    people: tuple[int, ...]
    first_s: float
    last_s: float
    frames: int
    rate: float | None
    """Frames per second of a format with an even rate"""


def export_motion(
    motion: Motion,
    stem: str,
    to: str,
    folder: Path,
    *,
    people: Sequence[int] | None = None,
    per_person: bool = False,
    rate: float | None = None,
    longest_gap_s: float = 0.5,
    body: BodyModel | None = None,
    overwrite: bool = False,
    keep: Sequence[Path] = (),
) -> list[Written]:
    """Write a motion in the format of other programs. Each file appears whole or not at all.

    Args:
        motion: Read with `load`.
        stem: Beginning of the files' names.
        to: "glb", "usd", "bvh", "amass", "smpl", "trc", "csv" or "pkl" (docs/export.md).
        folder: An existing folder.
        people: Identities to write; None: all.
        per_person: "glb", "usd": one file per person instead of one scene.
        rate: Frames per second of formats with an even rate; None: that of the motion.
        longest_gap_s: Gaps in a person's rows up to this many seconds are filled; longer ones end a file.
        body: Body model of the motion; None: the one that the motion names is loaded.
        overwrite: Replace existing files.
        keep: Files that are never replaced, such as the one that `motion` was read from.

    Returns:
        The written files, with the people and times in each.

    Raises:
        UsageError: Arguments that do not go together, or a file that exists.
        InputError: The body model is another one, or the file holds no bodies.
        MissingPart: The library of the format is not installed.
    """
    if to not in SUFFIXES:
        raise UsageError(f"format is {to}, expected one of {', '.join(SUFFIXES)}")
    if per_person and to not in (*SCENES, *PER_SEGMENT):
        raise UsageError(f"{to} is one table of everybody; choose people instead of asking for one file per person")
    if rate is not None and not (np.isfinite(rate) and 0 < rate <= 1000):
        raise UsageError(f"rate is {rate} frames per second, expected more than 0 and at most 1000")
    if not (np.isfinite(longest_gap_s) and longest_gap_s >= 0):
        raise UsageError(f"longest gap is {longest_gap_s} s, expected 0 or more")
    tracks = _chosen(motion, people)
    job = _Export(motion, stem, to, folder, timeline_of(motion, longest_gap_s, rate), body or body_of(motion), overwrite, tuple(keep))
    if to == "csv":
        return job.table(tracks)
    if to == "pkl":
        return job.pickle(tracks)
    for doubt in _doubts(motion):
        log.warning("%s: %s", stem, doubt)
    if to in SCENES:
        groups = [[track] for track in tracks] if per_person else [tracks]
        return job.scenes(groups, named=per_person)
    return job.segments(tracks)


def _doubts(motion: Motion) -> list[str]:
    """Warnings of the world's estimate; the other formats stay in camera axes."""
    found = motion.world.info.get("warnings") if motion.world is not None else None
    return [" ".join(text.split()) for text in found if isinstance(text, str)] if isinstance(found, list) else []


def body_of(motion: Motion, path: str | Path | None = None, build: str | Sequence[float] | None = None) -> BodyModel:
    """Load the body model that a motion was made with.

    Args:
        motion: The motion.
        path: Its file; None: the one that ships, or the file that the settings name.
        build: Replaces the setting `body.build`.

    Returns:
        The body model.

    Raises:
        InputError: The body model is missing or another one.
    """
    body = _body_file_of(motion, path)
    setting = motion.settings.get("body")
    if build is None and isinstance(setting, dict):
        try:
            build = checked_build(setting.get("build", "neutral"))
        except ValueError as error:
            raise InputError(f"the file's settings say body.build {setting['build']!r}; {error}") from error
    return with_build(body, "neutral" if build is None else build)


def _body_file_of(motion: Motion, path: str | Path | None) -> BodyModel:
    setting = motion.settings.get("body")
    named = setting.get("model") if isinstance(setting, dict) else None
    which = path or (named if isinstance(named, str) else motion.body_model)
    body = load_body(which)
    if body.sha256 != motion.body_model_sha256:
        raise InputError(
            f"body {which} is not the one this motion was made with ({motion.body_model}, SHA-256 {motion.body_model_sha256[:12]}...); "
            "give its file with --body"
        )
    return body


def _chosen(motion: Motion, people: Sequence[int] | None) -> list[Track]:
    there = ", ".join(str(identity) for identity in motion.tracks) or "nobody"
    unknown = [identity for identity in people or () if identity not in motion.tracks]
    if unknown:
        raise UsageError(f"person {unknown[0]} is not in the file; there: {there}")
    tracks = [usable_rows(track) for identity, track in motion.tracks.items() if people is None or identity in people]
    tracks = [track for track in tracks if len(track)]
    if not tracks:
        raise InputError("there is nobody to write: the file holds no bodies")
    return tracks


@dataclass(frozen=True, eq=False)
class _Export:
    motion: Motion
    stem: str
    to: str
    folder: Path
    timeline: Timeline
    body: BodyModel
    overwrite: bool
    keep: tuple[Path, ...]

    def scenes(self, groups: list[list[Track]], named: bool) -> list[Written]:
        K = self.motion.K
        camera = Intrinsics.from_matrix(K)
        size = self.motion.width, self.motion.height
        if self.to == "glb":
            off_px = np.abs([camera.cx - (size[0] - 1) / 2, camera.cy - (size[1] - 1) / 2]).max()
            if off_px > 0.5:
                log.warning(
                    "glTF cameras look through the picture's middle, this one %.1f px beside it: bodies appear that far off", off_px
                )
        write = write_glb if self.to == "glb" else write_usd
        names = {id(group): self._name(f"_person{group[0].track_id}" if named else "") for group in groups}
        self._refuse_existing(list(names.values()))
        written = []
        for group in groups:
            people = [in_world(track, self.body, np.eye(3)) for track in group]
            self._warn_differences(people)
            with self._published(names[id(group)]) as temporary:
                write(temporary, people, self.timeline, camera, size, self.body, self._camera_pose())
            first, last = min(person.time_s[0] for person in people), max(person.time_s[-1] for person in people)
            frames = int(((self.timeline.times_s >= first) & (self.timeline.times_s <= last)).sum())
            written.append(Written(names[id(group)], tuple(track.track_id for track in group), float(first), float(last), frames, None))
        return written

    def segments(self, tracks: list[Track]) -> list[Written]:
        """Write one file per segment. The names contain the index of its first frame."""
        axes = Z_UP_FROM_Y_UP if self.to == "amass" else np.eye(3)
        jobs = [
            (track, rows, self._name(f"_person{track.track_id}_frame{track.frame[rows.start]}"))
            for track in tracks
            for rows in self.timeline.segments(track.time_s)
        ]
        self._refuse_existing([path for _, _, path in jobs])
        people = {track.track_id: in_world(track, self.body, axes) for track in tracks}
        if self.to == "bvh":
            self._warn_differences(list(people.values()))
        written = []
        for track, rows, path in jobs:
            person = evenly(people[track.track_id], rows, self.timeline.rate)
            with self._published(path) as temporary:
                self._write_segment(temporary, person, path.name)
            first, last = float(person.time_s[0]), float(person.time_s[-1])
            written.append(Written(path, (track.track_id,), first, last, len(person), self.timeline.rate))
        return written

    def _write_segment(self, temporary: Path, person: ExportedPerson, name: str) -> None:
        if self.to == "trc":
            write_trc(temporary, person, self.timeline.rate, name)
            return
        writers: dict[str, Callable[[Path, ExportedPerson, float, BodyModel], None]] = {
            "bvh": write_bvh,
            "amass": write_amass,
            "smpl": write_smpl,
        }
        writers[self.to](temporary, person, self.timeline.rate, self.body)

    def _camera_pose(self) -> Array:
        """(4, 4): pose of a camera that looks along -z with y up, as in glTF and USD; at the origin without a world."""
        pose = np.eye(4)
        if self.motion.world is not None:
            pose = self.motion.world.world_from_camera.copy()
            pose[:3, :3] = pose[:3, :3] @ Y_UP_FROM_CAMERA.T
        return pose

    def table(self, tracks: list[Track]) -> list[Written]:
        path = self._name("")
        self._refuse_existing([path])
        with self._published(path) as temporary:
            write_csv(temporary, tracks)
        return [self._all_rows(path, tracks)]

    def pickle(self, tracks: list[Track]) -> list[Written]:
        path = self._name("")
        self._refuse_existing([path])
        pairs = [(track, person_of(track, self.body, np.eye(3))) for track in tracks]
        with self._published(path) as temporary:
            write_pkl(temporary, self.stem, self.motion, pairs, self.body)
        return [self._all_rows(path, tracks)]

    def _all_rows(self, path: Path, tracks: list[Track]) -> Written:
        first, last = min(track.time_s[0] for track in tracks), max(track.time_s[-1] for track in tracks)
        frames = len(np.unique(np.concatenate([track.frame for track in tracks])))
        return Written(path, tuple(track.track_id for track in tracks), float(first), float(last), frames, None)

    def _warn_differences(self, people: list[ExportedPerson]) -> None:
        for person in people:
            off = joint_differences_m(person, self.body)
            if off.max() > _WARN_ABOVE_M:
                log.warning(
                    "person %d: the shape varies from frame to frame in the file and is fixed here; joints lie %.1f mm off on average, "
                    "%.1f mm at most",
                    person.track_id, 1000 * off.mean(), 1000 * off.max(),
                )  # fmt: skip
            if self.body.posedirs is not None and self.to in SCENES:
                off = left_out_m(person, self.body)
                log.warning(
                    "person %d: skin without the body's pose-dependent corrections; it lies %.1f mm off on average, %.1f mm at most",
                    person.track_id, 1000 * off.mean(), 1000 * off.max(),
                )  # fmt: skip

    def _name(self, part: str) -> Path:
        return self.folder / f"{self.stem}{part}{SUFFIXES[self.to]}"

    def _refuse_existing(self, paths: list[Path]) -> None:
        for path in paths:
            check_folder(path)
        refuse_to_replace(self.keep, paths, "choose another folder with -o")
        there = [path for path in paths if os.path.exists(path)]
        if there and not self.overwrite:
            raise UsageError(f"{there[0]} is there already; use --overwrite, or another folder with -o")

    @contextmanager
    def _published(self, path: Path) -> Iterator[Path]:
        # Libraries choose the encoding by the suffix, so the temporary name keeps it.
        with claimed([path]), write_errors(path), atomic_file(path, f".part{path.suffix}") as temporary:
            yield temporary
