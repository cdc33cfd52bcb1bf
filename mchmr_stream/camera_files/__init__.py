"""Calibrated cameras as other programs write them: OpenCV, ROS, COLMAP, Kalibr, Pose2Sim, and plain JSON, YAML, TOML and npz."""

from __future__ import annotations

from pathlib import Path

from mchmr_stream.camera_files.calibration import CameraCalibration
from mchmr_stream.camera_files.fields import calibrations_in
from mchmr_stream.camera_files.file_syntax import read_fields
from mchmr_stream.errors import InputError, UsageError

__all__ = ["CameraCalibration", "load_camera"]


def load_camera(path: str | Path, name: str | None = None) -> CameraCalibration:
    """The camera in a file, or the one called `name` in a file of several.

    Raises:
        InputError: the file cannot be read, holds no camera, or one that is not a pinhole camera with a lens that can be undone.
        UsageError: it holds several cameras and no `name` was given, or none of that name.
    """
    path = Path(path)
    cameras = calibrations_in(read_fields(path), str(path))
    if not cameras:
        raise InputError(
            f"{path} holds no camera matrix; expected a calibration of OpenCV, ROS, COLMAP (cameras.txt), Kalibr or Pose2Sim, or "
            'JSON {"K": [[fx,0,cx],[0,fy,cy],[0,0,1]], "distortion": [k1,k2,p1,p2]}'
        )
    if name is None and len(cameras) > 1:
        raise UsageError(f"{path} holds the cameras {', '.join(cameras)}; choose one with --set camera.name={next(iter(cameras))}")
    if name is not None and name not in cameras:
        there = ", ".join(filter(None, cameras)) or "one camera without a name"
        raise UsageError(f"camera.name is {name!r}, but {path} holds {there}")
    return cameras[name if name is not None else next(iter(cameras))]()
