"""STEM.npz: its columns and reading. docs/output.md explains each column; `motion.npz_writer` writes them.

The file is a table with one row per person and frame, in order of frames. `load` splits it by person.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mchmr_stream._repr import Described, how_many, listed
from mchmr_stream.datatypes import Bodies, Bool, Float, Int
from mchmr_stream.errors import InputError
from mchmr_stream.files.safe_npz import read_npz

log = logging.getLogger(__name__)

SCHEMA = 1
_ONE_DOUBT_S = 1.0


@dataclass(frozen=True)
class Column:
    """One value per row: its type, and its shape without the leading N; None means any length."""

    dtype: DTypeLike
    shape: tuple[int | None, ...] = ()


COLUMNS: dict[str, Column] = {
    "frame": Column(np.int64),
    "time_s": Column(np.float64),
    "track_id": Column(np.int64),
    "box_xyxy_px": Column(np.float32, (4,)),
    "score": Column(np.float32),
    "global_orient": Column(np.float32, (3, 3)),
    "body_pose": Column(np.float32, (23, 3, 3)),
    "betas": Column(np.float32, (10,)),
    "transl": Column(np.float32, (3,)),
    "joints_m": Column(np.float32, (24, 3)),
    "joints_px": Column(np.float32, (24, 2)),
    "keypoints_px": Column(np.float32, (17, 3)),
    "confidence": Column(np.float32),
    "views_cam": Column(np.float32, (None, 3)),
    "interpolated": Column(np.bool_),
    "betas_frame": Column(np.float32, (10,)),
    "transl_mean_body": Column(np.float32, (3,)),
    "joint_sd_m": Column(np.float32, (24,)),
    "identity_doubt": Column(np.bool_),
}
"""One row per person and frame."""

_NAMES_IN_BODIES = {"box_xyxy_px": "boxes_xyxy_px", "score": "scores"}
BODIES_FIELDS = {
    name: _NAMES_IN_BODIES.get(name, name)
    for name in COLUMNS
    if name not in ("frame", "time_s", "track_id") and _NAMES_IN_BODIES.get(name, name) in {field.name for field in fields(Bodies)}
}
"""Columns that are taken from `Bodies` row by row, and the field of each."""

_LATER_COLUMNS = ("joint_sd_m", "identity_doubt")
"""Columns that files of earlier versions lack: they are read as NaN or False."""

WORLD_COLUMNS: dict[str, Column] = {
    "world_global_orient": Column(np.float32, (3, 3)),
    "world_body_pose": Column(np.float32, (23, 3, 3)),
    "world_betas": Column(np.float32, (10,)),
    "world_transl": Column(np.float32, (3,)),
    "world_joints_m": Column(np.float32, (24, 3)),
    "foot_contact": Column(np.bool_, (4,)),
}
"""One row per person and frame, only in files made with `--static-camera`; with `WORLD_HEADER`."""

FRAME_COLUMNS: dict[str, Column] = {"frames": Column(np.int64), "frames_time_s": Column(np.float64)}
"""One row per frame that was processed, with people or without."""

HEADER = (
    "schema", "fps", "width", "height", "K", "joint_names", "keypoint_names", "body_model", "body_model_sha256", "weights",
    "weights_sha256", "settings",
)  # fmt: skip
"""Once per file."""

MADE_OF = "made_of"
"""Once per file, as JSON (`content.MadeOf.plain`): the input and the files that settings name. Files of earlier versions lack it."""

WORLD_HEADER = ("world_from_camera", "world_info")
"""Once per file that has `WORLD_COLUMNS`."""


@dataclass(frozen=True, eq=False)
class WorldTrack:
    """One person in world coordinates (y up, floor at 0), an estimate; rows are those of the `Track`. See docs/world.md."""

    world_global_orient: Float
    """(F, 3, 3)"""
    world_body_pose: Float
    """(F, 23, 3, 3): as `body_pose` except for legs and feet, which are locked to the floor during contact"""
    world_betas: Float
    """(F, 10): the same in every row"""
    world_transl: Float
    """(F, 3) m"""
    world_joints_m: Float
    """(F, 24, 3)"""
    foot_contact: Bool
    """(F, 4): left heel, left ball, right heel, right ball"""

    def only(self, rows: NDArray) -> WorldTrack:
        """The same with some of the rows: indices or a mask (F,)."""
        return WorldTrack(**{name: getattr(self, name)[rows] for name in WORLD_COLUMNS})

    def followed_by(self, other: WorldTrack) -> WorldTrack:
        """Rows of this track, then those of `other`."""
        return WorldTrack(**{name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in WORLD_COLUMNS})


@dataclass(frozen=True, eq=False)
class World:
    """Estimated pose of the standing camera."""

    world_from_camera: NDArray[np.float64]
    """(4, 4) rigid; world: metres, y up, floor at 0"""
    info: dict[str, Any]
    """Evidence and quality of the estimate: docs/world.md"""


@dataclass(frozen=True, eq=False, repr=False)
class Track(Described):
    """One person over the F frames with a row of theirs. Columns as in the file (docs/output.md)."""

    track_id: int
    """Identity, from 1."""
    frame: Int
    """(F,): index of the frame in the source"""
    time_s: NDArray[np.float64]
    """(F,): seconds from the first frame of the source"""
    box_xyxy_px: Float
    """(F, 4): left, top, right, bottom"""
    score: Float
    """(F,) of the detector, in [0, 1]"""
    global_orient: Float
    """(F, 3, 3): rotation of the root, camera axes from body axes"""
    body_pose: Float
    """(F, 23, 3, 3): rotation of joints 1 to 23, each relative to its parent"""
    betas: Float
    """(F, 10): shape coefficients"""
    transl: Float
    """(F, 3) m, as in SMPL: posed pelvis = rest pelvis(betas) + transl"""
    joints_m: Float
    """(F, 24, 3): SMPL's joints, camera axes (x right, y down, z forward), metres"""
    joints_px: Float
    """(F, 24, 2): the same in the picture"""
    keypoints_px: Float
    """(F, 17, 3): x, y, score as detected, COCO's order"""
    confidence: Float
    """(F,) in [0, 1]"""
    views_cam: Float
    """(F, V, 3): scale, tx, ty of every crop's camera, as the network returned them"""
    interpolated: Bool
    """(F,) True where the row is not based on the picture"""
    betas_frame: Float
    """(F, 10): betas that the network returned for this frame alone; NaN in interpolated rows"""
    transl_mean_body: Float
    """(F, 3) m: `transl` of a body with betas 0 of the same appearance; NaN in files without one shape per person"""
    joint_sd_m: Float = field(default_factory=lambda: np.zeros((0, 24), np.float32))
    """(F, 24) m: standard deviation of each joint's position relative to the pelvis; NaN where unknown. Default: unknown."""
    identity_doubt: Bool = field(default_factory=lambda: np.zeros(0, np.bool_))
    """(F,) True where the track may have changed over to another person. Default: False."""
    world: WorldTrack | None = None
    """The same person in the world (docs/world.md); None unless the file was made with `--static-camera`."""

    def __post_init__(self) -> None:
        for name in _LATER_COLUMNS:
            if len(getattr(self, name)) != len(self.frame):
                object.__setattr__(self, name, _unknown(name, len(self.frame)))

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def rotations(self) -> Float:
        """(F, 24, 3, 3): the root's, then each joint's relative to its parent."""
        return np.concatenate([self.global_orient[:, None], self.body_pose], 1)

    def _lines(self) -> tuple[str, str, str]:
        if not len(self):
            return f"{self.track_id} without rows", "", ""
        away_m = np.median(np.linalg.norm(self.joints_m[:, 0], axis=-1))
        columns = [f"{name} {getattr(self, name).shape}" for name in ("global_orient", "body_pose", "betas", "transl", "joints_m")]
        return (
            f"{self.track_id}: {how_many(len(self), 'frame', 'frames')}, {self.time_s[0]:.3f} to {self.time_s[-1]:.3f} s",
            f"confidence {self.confidence.mean():.2f} on average, {away_m:.2f} m from the camera, "
            f"{int(self.interpolated.sum())} rows interpolated, {'with' if self.world is not None else 'without'} a world",
            f"columns: {', '.join(columns)}, and {len(COLUMNS) - len(columns)} more (docs/output.md)",
        )

    def only(self, rows: NDArray) -> Track:
        """The same person with some of the rows.

        Args:
            rows: Indices, which also set the order, or a mask (F,).
        """
        columns = {name: getattr(self, name)[rows] for name in COLUMNS if name != "track_id"}
        return Track(self.track_id, **columns, world=self.world.only(rows) if self.world is not None else None)

    def followed_by(self, other: Track) -> Track:
        """The rows of this track, then those of another, under the identity of this one.

        Args:
            other: A later track of the same person. Both have a world, or neither has.
        """
        columns = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in COLUMNS if name != "track_id"}
        world = self.world.followed_by(other.world) if self.world is not None and other.world is not None else None
        return Track(self.track_id, **columns, world=world)


@dataclass(frozen=True, eq=False, repr=False)
class Motion(Described):
    """The content of a STEM.npz, person by person."""

    fps: float
    """Nominal frames per second of the source."""
    width: int
    """Of the upright picture, pixels."""
    height: int
    """Of the upright picture, pixels."""
    K: NDArray[np.float64]
    """(3, 3): camera matrix of the upright picture, pixels"""
    frames: Int
    """(F,): index of every frame that was processed, with people or without"""
    frames_time_s: NDArray[np.float64]
    """(F,): seconds from the first frame of the source"""
    tracks: dict[int, Track]
    """People by track_id, in order of first appearance."""
    joint_names: tuple[str, ...]
    """The 24 names of `joints_m`, SMPL's order."""
    keypoint_names: tuple[str, ...]
    """The 17 names of `keypoints_px`, COCO's order."""
    body_model: str
    """Name of the body model."""
    body_model_sha256: str
    """Hash of its file."""
    weights: str
    """Name of the network's weights."""
    weights_sha256: str
    """Hash of the weights."""
    settings: dict[str, Any]
    """All settings of the run, by section and name."""
    world: World | None = None
    """Pose of the standing camera; None unless the file was made with `--static-camera`. With it every track has its `world` too."""
    made_of: dict[str, Any] = field(default_factory=dict)
    """Name, size and hash of the input and of files that settings name; empty in files of earlier versions."""

    def _lines(self) -> tuple[str, str, str]:
        span = f", {self.frames_time_s[0]:.3f} to {self.frames_time_s[-1]:.3f} s" if len(self.frames) else ""
        people = (f"{track.track_id} ({how_many(len(track), 'frame', 'frames')})" for track in self.tracks.values())
        return (
            f"of {how_many(len(self.tracks), 'person', 'people')} in {how_many(len(self.frames), 'frame', 'frames')}{span}, "
            f"{self.width}x{self.height} px, {self.fps:g} fps",
            f"tracks: {listed(people, len(self.tracks)) or 'none'}",
            f"body {self.body_model}, weights {self.weights}, focal length {self.K[0, 0]:.0f} px, "
            f"{'with' if self.world is not None else 'without'} world coordinates",
        )

    def save(self, path: str | Path) -> None:
        """Write a STEM.npz like one from a run, as `load` reads it. The file appears whole or not at all.

        Args:
            path: The file; its folder exists.

        Raises:
            UsageError: The folder does not exist.
            MchmrError: The disk is full or not writable.
        """
        from mchmr_stream.motion.npz_writer import write_motion

        write_motion(Path(path), self)

    def reproject(self, track: Track) -> Float:
        """Project the joints of a person by `K`.

        Args:
            track: One of `tracks`.

        Returns:
            (F, 24, 2), pixels; equal to `track.joints_px`.
        """
        homogeneous = track.joints_m @ self.K.T
        return (homogeneous[..., :2] / homogeneous[..., 2:]).astype(np.float32)


def doubts_s(doubtful_s: Iterable[float]) -> list[float]:
    """Find the times of doubts about an identity.

    Args:
        doubtful_s: Times of doubtful rows, rising. Those less than a second apart count as one doubt.

    Returns:
        The first time of each doubt.
    """
    begins: list[float] = []
    last_s = -math.inf
    for time_s in doubtful_s:
        if time_s - last_s >= _ONE_DOUBT_S:
            begins.append(float(time_s))
        last_s = time_s
    return begins


def load(path: str | Path) -> Motion:
    """Read a STEM.npz written by this package. Nothing in the file is executed, and sizes are checked before memory is allocated.

    Args:
        path: The file.

    Returns:
        Its content, person by person.

    Raises:
        InputError: The file is missing, damaged, something else, or of another schema.
    """
    what = "a STEM.npz written by mchmr"
    schema = read_npz(path, ["schema"], what=what)["schema"]
    if schema.shape != () or schema.dtype.kind not in "iu" or int(schema) != SCHEMA:
        raise InputError(f"{path} has schema {schema}, this version reads schema {SCHEMA}; use the mchmr-stream that wrote it")
    world = [*WORLD_HEADER, *WORLD_COLUMNS]
    columns_then = [name for name in COLUMNS if name not in _LATER_COLUMNS]
    arrays = read_npz(path, [*HEADER, *columns_then, *FRAME_COLUMNS], optional=[*world, *_LATER_COLUMNS, MADE_OF], what=what)
    for name in _LATER_COLUMNS:
        arrays.setdefault(name, _unknown(name, len(np.atleast_1d(arrays["frame"]))))
    has_world = any(name in arrays for name in world)
    if has_world and not all(name in arrays for name in world):
        lacking = ", ".join(name for name in world if name not in arrays)
        raise InputError(f"{path} holds a part of the world only, it lacks {lacking}; estimate it anew from the file it was made of")
    motion = motion_of(arrays, path)
    log.info("%s: motion %s", path, motion._lines()[0])
    return motion


def motion_of(arrays: dict[str, NDArray], path: str | Path) -> Motion:
    """Build a `Motion` from the arrays of a STEM.npz.

    Args:
        arrays: `HEADER`, `COLUMNS`, `FRAME_COLUMNS`, and all or none of the world's.
        path: File named in errors.

    Returns:
        The content, person by person.

    Raises:
        InputError: The arrays do not fit together.
    """
    has_world = WORLD_HEADER[0] in arrays
    for columns, first in ((COLUMNS | (WORLD_COLUMNS if has_world else {}), "frame"), (FRAME_COLUMNS, "frames")):
        rows = arrays[first].shape[0] if arrays[first].ndim else -1
        for name, column in columns.items():
            _check(path, name, arrays[name], column, rows)
    return Motion(
        fps=_number(path, "fps", arrays),
        width=int(_number(path, "width", arrays)),
        height=int(_number(path, "height", arrays)),
        K=_camera(path, arrays["K"]),
        frames=arrays["frames"],
        frames_time_s=arrays["frames_time_s"],
        tracks=_tracks(arrays, has_world),
        joint_names=_names(path, "joint_names", arrays, 24),
        keypoint_names=_names(path, "keypoint_names", arrays, 17),
        body_model=str(arrays["body_model"]),
        body_model_sha256=str(arrays["body_model_sha256"]),
        weights=str(arrays["weights"]),
        weights_sha256=str(arrays["weights_sha256"]),
        settings=_json(path, "settings", arrays["settings"]),
        world=World(_pose(path, arrays["world_from_camera"]), _json(path, "world_info", arrays["world_info"])) if has_world else None,
        made_of=_json(path, MADE_OF, arrays[MADE_OF]) if MADE_OF in arrays else {},
    )


def _unknown(name: str, rows: int) -> NDArray:
    """Default values of a column that earlier files lack: NaN, or False."""
    column = COLUMNS[name]
    dtype = np.dtype(column.dtype)
    return np.full((rows, *(length or 0 for length in column.shape)), np.nan if dtype.kind == "f" else False, dtype)


def _tracks(arrays: dict[str, NDArray], has_world: bool) -> dict[int, Track]:
    # A stable sort by identity keeps each person's rows in order of frames and takes one pass for any number of people.
    order = np.argsort(arrays["track_id"], kind="stable")
    identities, starts = np.unique(arrays["track_id"][order], return_index=True)
    rows_of = dict(zip(identities.tolist(), np.split(order, starts[1:]), strict=True)) if len(order) else {}
    by_appearance = sorted(rows_of.items(), key=lambda item: item[1][0])
    columns = [name for name in COLUMNS if name != "track_id"]
    world = lambda rows: WorldTrack(**{name: arrays[name][rows] for name in WORLD_COLUMNS}) if has_world else None
    return {
        identity: Track(identity, **{name: arrays[name][rows] for name in columns}, world=world(rows)) for identity, rows in by_appearance
    }


def _check(path: str | Path, name: str, array: NDArray, column: Column, rows: int) -> None:
    expected = (rows, *column.shape)
    matches = array.ndim == len(expected) and all(expects in (None, got) for got, expects in zip(array.shape, expected, strict=True))
    if not matches or array.dtype != np.dtype(column.dtype):
        wanted = ", ".join("any" if expects is None else str(expects) for expects in expected)
        raise InputError(f"{path}: {name} is {array.dtype} of shape {array.shape}, expected {np.dtype(column.dtype)} of shape ({wanted})")


def _number(path: str | Path, name: str, arrays: dict[str, NDArray]) -> float:
    value = arrays[name]
    if value.shape != () or value.dtype.kind not in "fiu" or not value > 0:
        raise InputError(f"{path}: {name} is {value.dtype} of shape {value.shape}, expected one positive number")
    return float(value)


def _camera(path: str | Path, K: NDArray) -> NDArray[np.float64]:
    if K.shape != (3, 3) or K.dtype.kind != "f" or not np.isfinite(K).all():
        raise InputError(f"{path}: K is {K.dtype} of shape {K.shape}, expected a finite (3, 3)")
    return K


def _names(path: str | Path, name: str, arrays: dict[str, NDArray], count: int) -> tuple[str, ...]:
    value = arrays[name]
    if value.shape != (count,) or value.dtype.kind != "U":
        raise InputError(f"{path}: {name} is {value.dtype} of shape {value.shape}, expected {count} names")
    return tuple(value.tolist())


def _pose(path: str | Path, pose: NDArray) -> NDArray[np.float64]:
    fine = pose.shape == (4, 4) and pose.dtype == np.float64 and np.isfinite(pose).all()
    if not fine or not np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-6) or not np.array_equal(pose[3], [0, 0, 0, 1]):
        raise InputError(f"{path}: world_from_camera is {pose.dtype} of shape {pose.shape}, expected float64 (4, 4) that turns and moves")
    return pose


def _json(path: str | Path, name: str, value: NDArray) -> dict[str, Any]:
    try:
        content = json.loads(str(value))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: {name} is no JSON ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: {name} is {type(content).__name__}, expected a JSON object")
    return content
