"""Camera calibrations written by other programs: OpenCV, ROS, COLMAP, Kalibr, Pose2Sim, and plain JSON, YAML, TOML and npz."""

from __future__ import annotations

from pathlib import Path

from mchmr_stream.camera_files.calibration import CameraCalibration
from mchmr_stream.camera_files.fields import calibrations_in
from mchmr_stream.camera_files.file_syntax import read_fields
from mchmr_stream.errors import InputError, UsageError

__all__ = ["CameraCalibration", "load_camera"]


def load_camera(path: str | Path, name: str | None = None) -> CameraCalibration:
    """Load a camera calibration.

    Args:
        path: The file.
        name: Name of the camera in a file of several; None: its only one.

    Returns:
        The calibration.

    Raises:
        InputError: The file cannot be read, contains no camera, or none that is a pinhole camera with supported distortion.
        UsageError: It contains several cameras and no `name` is given, or none of that name.
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
        available = ", ".join(filter(None, cameras)) or "one camera without a name"
        raise UsageError(f"camera.name is {name!r}, but {path} holds {available}")
    return cameras[name if name is not None else next(iter(cameras))]()
