"""Scenes as Rerun entities: pictures, boxes, skeletons, meshes, timings. docs/live.md lists them."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mchmr_stream.body.model import PARENTS
from mchmr_stream.datatypes import JOINT_NAMES, Scene
from mchmr_stream.errors import MissingPart
from mchmr_stream.motion.output_paths import plain_name
from mchmr_stream.rendering.colours import identity_colour
from mchmr_stream.rendering.shading import vertex_normals

if TYPE_CHECKING:
    import rerun

APPLICATION = "mchmr"
TIME, FRAME, CLOCK = "time", "frame", "clock"
"""Timelines: seconds of the source, frame number, and for live sources the clock at the picture's arrival."""
JPEG_QUALITY = 80
JOINT_RADIUS_M, JOINT_RADIUS_PX = 0.015, 2.0


def sdk() -> Any:
    """Rerun's package. Raises MissingPart if it is not installed."""
    try:
        import rerun
    except ImportError as error:
        raise MissingPart("--rerun needs rerun-sdk; install it: python -m pip install rerun-sdk") from error
    return rerun


def layout(names: Sequence[str]) -> Any:
    """The viewer's initial layout: for each source the 3D view, the picture and the timings."""
    import rerun.blueprint as rrb

    rows = [
        rrb.Horizontal(
            rrb.Spatial3DView(origin=root, name=name),
            rrb.Vertical(
                rrb.Spatial2DView(origin=f"{root}/camera", name="picture"),
                rrb.TimeSeriesView(origin=f"{root}/timings", name="ms"),
                row_shares=[3, 1],
            ),
        )
        for name, root in ((name, root_of(name)) for name in names)
    ]
    return rrb.Blueprint(rrb.Vertical(*rows), collapse_panels=True)


def save_to(path: Path, recording: Any, views: Any) -> None:
    """Direct the recording to a file.

    Args:
        path: The file.
        recording: Rerun's recording.
        views: The initial layout.

    Raises:
        OSError: The file cannot be opened.
    """
    try:
        recording.save(path, default_blueprint=views)
    except RuntimeError as error:
        with suppress(RuntimeError):
            recording.disconnect()
        path.unlink(missing_ok=True)
        raise OSError(errno.EIO, f"{error}") from error


def finish(recording: Any, timeout_sec: float = 3600.0) -> None:
    """Flush and disconnect.

    Args:
        recording: Rerun's recording.
        timeout_sec: Time limit, seconds.

    Raises:
        OSError: The rest cannot be delivered, as on a full disk.
    """
    try:
        recording.flush(timeout_sec=timeout_sec)
    except RuntimeError as error:
        raise OSError(errno.EIO, f"{error}") from error
    finally:
        with suppress(RuntimeError):
            recording.disconnect()


def root_of(source: str) -> str:
    """Root entity of a source."""
    return f"/{plain_name(source)}"


class RerunScenes:
    """Log the scenes of one source to a recording. Metres; camera axes (x right, y down, z forward).

    Args:
        recording: Rerun's recording.
        source: Name of the source.
    """

    def __init__(self, recording: rerun.RecordingStream, source: str) -> None:
        self._recording, self._root = recording, root_of(source)
        self._present: set[int] = set()
        self._begun: set[str] = set()
        rr = sdk()
        skeleton = rr.ClassDescription(
            info=rr.AnnotationInfo(id=0, label="person", color=(255, 255, 255)),
            keypoint_annotations=[rr.AnnotationInfo(id=joint, label=name) for joint, name in enumerate(JOINT_NAMES)],
            keypoint_connections=[(parent, joint) for joint, parent in enumerate(PARENTS) if parent >= 0],
        )
        recording.log(self._root, rr.ViewCoordinates.RDF, rr.AnnotationContext([skeleton]), static=True)

    def log(self, scene: Scene, milliseconds: Mapping[str, float], clock_s: float | None = None) -> None:
        """Log one scene.

        Args:
            scene: The scene.
            milliseconds: Time curves by name.
            clock_s: Clock at the picture's arrival, of a live source.
        """
        rr = sdk()
        recording, bodies = self._recording, scene.bodies
        recording.reset_time()
        recording.set_time(TIME, duration=bodies.time_s)
        recording.set_time(FRAME, sequence=bodies.frame)
        if clock_s is not None:
            recording.set_time(CLOCK, timestamp=clock_s)
        self._camera(scene)
        self._people(scene)
        for name, value in milliseconds.items():
            recording.log(f"{self._root}/timings/{plain_name(name)}", rr.Scalars(value))

    def _camera(self, scene: Scene) -> None:
        rr = sdk()
        recording, camera, frame, bodies = self._recording, f"{self._root}/camera", scene.frame, scene.bodies
        if camera not in self._begun:
            self._begun.add(camera)
            size, axes = [frame.width, frame.height], rr.ViewCoordinates.RDF
            recording.log(camera, rr.Pinhole(image_from_camera=scene.intrinsics.matrix, resolution=size, camera_xyz=axes), static=True)
        recording.log(f"{camera}/picture", rr.Image(frame.rgb).compress(jpeg_quality=JPEG_QUALITY))
        colours = self._colours(scene)
        labels = [f"{identity}: {confidence:.2f}" for identity, confidence in zip(bodies.track_id, bodies.confidence, strict=True)]
        boxes = rr.Boxes2D(array=bodies.boxes_xyxy_px, array_format=rr.Box2DFormat.XYXY, labels=labels, colors=colours)
        recording.log(f"{camera}/boxes", boxes)

    def _people(self, scene: Scene) -> None:
        rr = sdk()
        recording, present = self._recording, set(scene.bodies.track_id.tolist())
        for identity in self._present - present:
            for place in (f"people/{identity}", f"camera/skeletons/{identity}"):
                recording.log(f"{self._root}/{place}", rr.Clear(recursive=True))
        self._present = present
        if not present:
            return
        keypoints = list(range(len(JOINT_NAMES)))
        vertices_m = scene.vertices_m()
        normals = vertex_normals(torch.from_numpy(vertices_m), torch.from_numpy(scene.faces)).numpy()
        for row, (identity, colour) in enumerate(zip(scene.bodies.track_id.tolist(), self._colours(scene), strict=True)):
            person, skeleton = f"{self._root}/people/{identity}", f"{self._root}/camera/skeletons/{identity}"
            if person not in self._begun:
                self._begun.add(person)
                # The triangles are the same in all frames and are logged once, with the albedo.
                recording.log(
                    f"{person}/mesh", rr.Mesh3D.from_fields(triangle_indices=scene.faces, albedo_factor=[*colour, 255]), static=True
                )
            recording.log(f"{person}/mesh", rr.Mesh3D.from_fields(vertex_positions=vertices_m[row], vertex_normals=normals[row]))
            marks = {"class_ids": 0, "keypoint_ids": keypoints, "colors": colour, "show_labels": False}
            recording.log(f"{person}/joints", rr.Points3D(scene.joints_m[row], radii=JOINT_RADIUS_M, **marks))
            recording.log(skeleton, rr.Points2D(scene.joints_px[row], radii=rr.Radius.ui_points(JOINT_RADIUS_PX), **marks))

    @staticmethod
    def _colours(scene: Scene) -> Any:
        """(n, 3) uint8."""
        colours = [identity_colour(identity) for identity in scene.bodies.track_id.tolist()]
        return np.round(255 * np.reshape(colours, (-1, 3))).astype(np.uint8)
