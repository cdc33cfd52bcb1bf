"""Writer of STEM.npz. The columns are `motion.COLUMNS`; docs/output.md explains them.

Rows are appended to one file per column in a folder beside the output and joined at the end, so that memory stays small for any length
of video.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mchmr_stream.body.kinematics import camera_joints
from mchmr_stream.body.model import BodyModel
from mchmr_stream.body.shape import transl_to_mean_shape
from mchmr_stream.datatypes import JOINT_NAMES, KEYPOINT_NAMES, Bodies, Scene, SourceInfo
from mchmr_stream.errors import UsageError
from mchmr_stream.files.atomic import atomic_file, check_folder, hidden_mark, write_errors
from mchmr_stream.geometry.camera import Intrinsics, project
from mchmr_stream.motion import checkpoint
from mchmr_stream.motion.column_spool import ColumnSpool
from mchmr_stream.motion.final_shape import apply_final_shape
from mchmr_stream.motion.motion import (
    BODIES_FIELDS,
    COLUMNS,
    FRAME_COLUMNS,
    MADE_OF,
    SCHEMA,
    WORLD_COLUMNS,
    Column,
    Motion,
    World,
    motion_of,
)
from mchmr_stream.motion.row_matching import rows_of

MADE_WITH = ("body_model", "body_model_sha256", "weights", "weights_sha256")
"""Names in the header of what made the numbers."""
_COPY_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class NpzHeader:
    """Everything in a STEM.npz but its rows and frames: what the numbers were made of and with."""

    intrinsics: Intrinsics
    """The camera."""
    info: SourceInfo
    """The source: picture size and frame rate."""
    views: int
    """V, crops per person."""
    names: Mapping[str, str]
    """`body_model`, `body_model_sha256`, `weights` and `weights_sha256`, as `Pipeline.names` returns them."""
    settings: Mapping[str, Any]
    """All settings of the run."""
    made_of: Mapping[str, Any] | None = None
    """Input and files of settings (`content_hash.MadeOf.plain`); None: not recorded."""

    @classmethod
    def of(cls, motion: Motion, name: str) -> Self:
        """Return the header of a finished motion."""
        views = {track.views_cam.shape[1] for track in motion.tracks.values()}
        return cls(
            intrinsics=Intrinsics.from_matrix(motion.K),
            info=SourceInfo(name, motion.width, motion.height, motion.fps),
            views=views.pop() if views else 1,
            names={name: getattr(motion, name) for name in MADE_WITH},
            settings=motion.settings,
            made_of=motion.made_of,
        )

    def arrays(self) -> dict[str, NDArray]:
        """Return the header as arrays of the file."""
        arrays: dict[str, NDArray] = {
            "schema": np.array(SCHEMA),
            "fps": np.array(self.info.fps, np.float64),
            "width": np.array(self.info.width),
            "height": np.array(self.info.height),
            "K": self.intrinsics.matrix,
            "joint_names": np.array(JOINT_NAMES),
            "keypoint_names": np.array(KEYPOINT_NAMES),
            **{name: np.array(self.names[name]) for name in MADE_WITH},
            "settings": np.array(json.dumps(self.settings, default=str)),
        }
        return arrays | {MADE_OF: np.array(json.dumps(self.made_of))} if self.made_of else arrays


class NpzSink:
    """Write STEM.npz of schema 1, readable with ``np.load(path, allow_pickle=False)`` and `mchmr_stream.motion.motion.load`.

    The file is published once, complete.

    Args:
        path: The file; its folder exists.
        header: What is known before the first frame.
        one_shape_of: Body model of the scenes: each person gets one shape on closing. None: rows keep the shape they were written with.
        grounded: Called on closing with the finished motion; returns it with world coordinates, or None if they cannot be estimated.

    Raises:
        UsageError: The folder does not exist.
        MchmrError: The disk is full or not writable.
    """

    def __init__(
        self,
        path: str | Path,
        header: NpzHeader,
        *,
        one_shape_of: BodyModel | None = None,
        grounded: Callable[[Motion], Motion | None] | None = None,
    ) -> None:
        self.path = Path(path)
        check_folder(self.path)
        self._views, self._intrinsics = header.views, header.intrinsics
        self._grounded = grounded
        self._body = one_shape_of
        self._header = header.arrays()
        self._columns = COLUMNS
        self._rows = 0
        self._frames = 0
        self._closed = False
        with write_errors(self.path):
            self._folder = tempfile.TemporaryDirectory(prefix=hidden_mark(self.path), dir=self.path.parent)
            self._spool = ColumnSpool(Path(self._folder.name), COLUMNS | FRAME_COLUMNS, header.views)

    def note_rate(self, fps: float) -> None:
        """Set the source's frame rate, where it is known more exactly than at the beginning."""
        self._header["fps"] = np.array(fps, np.float64)

    def add_world(self, world: World) -> None:
        """Add the world's columns, before `extend` is called with a motion that has a world."""
        self._header["world_from_camera"] = np.asarray(world.world_from_camera, np.float64)
        self._header["world_info"] = np.array(json.dumps(world.info))
        self._columns = COLUMNS | WORLD_COLUMNS
        with write_errors(self.path):
            self._spool.add(WORLD_COLUMNS)

    def extend(self, motion: Motion) -> None:
        """Continue an earlier run: add its rows and frames, before the first `write`.

        Args:
            motion: The earlier run's content.

        Raises:
            UsageError: It was made with another picture size, camera, number of crops, body model or weights.
        """
        self._refuse_other(motion)
        tracks = list(motion.tracks.values())
        with write_errors(self.path):
            if tracks:
                identities = np.repeat([track.track_id for track in tracks], [len(track) for track in tracks])
                order = np.lexsort((identities, np.concatenate([track.frame for track in tracks])))
                for name in self._columns:  # one at a time: all of them together may be large
                    holders = [track.world if name in WORLD_COLUMNS else track for track in tracks]
                    values = identities if name == "track_id" else np.concatenate([getattr(holder, name) for holder in holders])
                    self._spool.append(name, values[order])
                self._rows += len(order)
            for name in FRAME_COLUMNS:
                self._spool.append(name, getattr(motion, name))
        self._frames += len(motion.frames)

    def write(self, scene: Scene) -> None:
        """Append the rows of one frame."""
        if self._columns is not COLUMNS:
            raise ValueError("scenes have no world; a file with one is written from motion that has one")
        bodies = scene.bodies
        if bodies.views_cam.shape[1] != self._views:
            raise ValueError(f"a scene has {bodies.views_cam.shape[1]} views, this file was begun with {self._views}")
        with write_errors(self.path):
            for name, values in self._columns_of(bodies, scene.joints_m, scene.joints_px).items():
                self._spool.append(name, values)
            self._spool.append("frames", np.array([bodies.frame]))
            self._spool.append("frames_time_s", np.array([bodies.time_s]))
        self._rows += len(scene)
        self._frames += 1

    def checkpoint(self) -> None:
        """Make the rows so far safe for a later run, in case this one is killed; `jobs/killed_run.py` finds them."""
        with write_errors(self.path):
            self._spool.sync()
            checkpoint.save(Path(self._folder.name), self._header, rows=self._rows, frames=self._frames, views=self._views)

    def replace_rows(self, frames: Iterable[Bodies], body: BodyModel) -> None:
        """Replace rows by the bodies of a second pass, after the last `write`.

        Args:
            frames: Bodies by frame. People without a row are ignored.
            body: The body model.
        """
        with write_errors(self.path):
            table = self._table(COLUMNS)
            for bodies in frames:
                known, rows = rows_of(bodies, table["frame"], table["track_id"])
                rotations = known.rotations
                joints_m = camera_joints(body, rotations, known.betas, known.transl)
                for name, values in self._columns_of(known, joints_m, project(joints_m, self._intrinsics)).items():
                    table[name][rows] = values

    def close(self) -> None:
        """Join the columns and publish the file, also when it has no rows."""
        if self._closed:
            return
        self._closed = True
        try:
            with write_errors(self.path):
                if self._body is not None and self._rows:
                    apply_final_shape(self._table(COLUMNS), self._body, self._intrinsics)
                failure = self._add_grounded()
                self._spool.close()
                with atomic_file(self.path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
                    self._join(archive)
        finally:
            self._folder.cleanup()
        if failure is not None:
            raise failure

    def discard(self) -> None:
        """Stop without publishing anything and remove the temporary folder."""
        if self._closed:
            return
        self._closed = True
        self._spool.close()
        self._folder.cleanup()

    def _refuse_other(self, motion: Motion) -> None:
        views = {track.views_cam.shape[1] for track in motion.tracks.values()}
        camera = self._header["K"]
        is_other = {
            "pictures of another size": (motion.width, motion.height) != (self._header["width"], self._header["height"]),
            "another camera": not np.allclose(motion.K, camera, rtol=1e-6, atol=1e-6),
            "another number of crops": bool(views - {self._views}),
            "another body model": motion.body_model_sha256 != str(self._header["body_model_sha256"]),
            "other weights": motion.weights_sha256 != str(self._header["weights_sha256"]),
        }
        for what, differs in is_other.items():
            if differs:
                raise UsageError(f"{self.path} was begun with {what}; resume with what it was begun with, or use --overwrite")

    def _columns_of(self, bodies: Bodies, joints_m: NDArray, joints_px: NDArray) -> dict[str, NDArray]:
        """`motion.COLUMNS` of the people of one frame."""
        return {
            "frame": np.full(len(bodies), bodies.frame),
            "time_s": np.full(len(bodies), bodies.time_s),
            "track_id": bodies.track_id,
            "joints_m": joints_m,
            "joints_px": joints_px,
            "transl_mean_body": self._transl_mean_body(bodies),
            **{name: getattr(bodies, field) for name, field in BODIES_FIELDS.items()},
        }

    def _transl_mean_body(self, bodies: Bodies) -> NDArray:
        if self._body is None:
            return np.full((len(bodies), 3), np.nan, np.float32)
        return transl_to_mean_shape(self._body, bodies.rotations, bodies.betas, bodies.transl)

    def _table(self, columns: Mapping[str, Column]) -> dict[str, NDArray]:
        """Whole columns, memory-mapped."""
        return {name: self._spool.column(name, self._frames if name in FRAME_COLUMNS else self._rows) for name in columns}

    def _add_grounded(self) -> Exception | None:
        """Add the world columns of all rows. An error is returned, not raised, so that the file is published without a world."""
        if self._grounded is None or not self._rows:
            return None
        try:
            motion = self._grounded(motion_of(self._header | self._table(COLUMNS | FRAME_COLUMNS), self.path))
        except Exception as error:  # noqa: BLE001 - raised once the rest is safe
            return error
        if motion is None or motion.world is None:
            return None
        self.add_world(motion.world)
        owner = self._spool.column("track_id", self._rows)
        for name, column in WORLD_COLUMNS.items():
            values = np.zeros(self._spool.shape(name, self._rows), column.dtype)
            for identity, track in motion.tracks.items():
                values[owner == identity] = getattr(track.world, name)
            self._spool.append(name, values)
        return None

    def _join(self, archive: zipfile.ZipFile) -> None:
        for name, value in self._header.items():
            content = BytesIO()
            npy.write_array(content, value, allow_pickle=False)
            archive.writestr(f"{name}.npy", content.getvalue())
        for name, column in (self._columns | FRAME_COLUMNS).items():
            shape = self._spool.shape(name, self._frames if name in FRAME_COLUMNS else self._rows)
            # A column of hours may exceed 2 GiB, and the zip header is written before its size is known.
            with archive.open(f"{name}.npy", "w", force_zip64=True) as target, self._spool.path(name).open("rb") as spooled:
                descr = npy.dtype_to_descr(np.dtype(column.dtype))
                npy.write_array_header_1_0(target, {"descr": descr, "fortran_order": False, "shape": shape})
                shutil.copyfileobj(spooled, target, _COPY_BYTES)


def write_motion(path: Path, motion: Motion) -> None:
    """Write a STEM.npz like one from a run; see `Motion.save`."""
    sink = NpzSink(path, NpzHeader.of(motion, path.stem))
    try:
        if motion.world is not None:
            sink.add_world(motion.world)
        sink.extend(motion)
        sink.close()
    finally:
        sink.discard()
