"""Field names of calibration files, and construction of a camera from the fields.

Names are compared without case, underscores and dashes: cameraMatrix, Camera_Matrix and camera_matrix are equal.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.camera_files.calibration import CameraCalibration
from mchmr_stream.errors import InputError
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.geometry.distortion import COEFFICIENT_COUNTS, all_coefficients

_MATRIX = ("k", "cameramatrix", "intrinsicmatrix", "intrinsicsmatrix", "mtx", "matrix", "intrinsics", "intrinsic")
_DISTORTION = (
    "distortion", "distortioncoefficients", "distortioncoeffs", "distcoeffs", "distcoeff", "distcoefs", "dist", "distortions", "d",
)  # fmt: skip
_FOCAL_X, _FOCAL_Y = ("fx", "flx", "focalx", "focallengthx", "f"), ("fy", "fly", "focaly", "focallengthy", "f")
_WIDTH, _HEIGHT = ("imagewidth", "width", "w"), ("imageheight", "height", "h")
_SIZE = ("resolution", "imagesize", "imgsize", "size")
_SCALARS = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
_MODEL = ("cameramodel", "distortionmodel", "model", "cameratype", "lensmodel", "projection")
_FISHEYE = ("fisheye", "fisheyemodel", "isfisheye")
_PINHOLES = {
    "pinhole", "simplepinhole", "simpleradial", "radial", "opencv", "fullopencv", "perspective", "plumbbob", "rationalpolynomial",
    "rational", "radtan", "radtan8", "brown", "brownconrady", "standard", "thinprism", "none", "",
}  # fmt: skip
_DEEPEST = 3
_MOST_NUMBERS = 64


def calibrations_in(fields: Mapping[str, Any], file: str) -> dict[str, Callable[[], CameraCalibration]]:
    """Find the cameras of a file.

    Args:
        fields: Content of the file.
        file: Its name, for messages.

    Returns:
        A function that builds each camera, by its name; "" if the file is one camera.
    """
    return {name: partial(_calibration, f"{file} ({name})" if name else file, found) for name, found in _cameras(fields, "", _DEEPEST)}


def _cameras(fields: Mapping[str, Any], name: str, deepest: int) -> list[tuple[str, dict[str, Any]]]:
    """Mappings that contain a camera, with the innermost key that leads to each."""
    plain = {_plain(key): value for key, value in fields.items()}
    if _is_numeric(_get(plain, _MATRIX)) or _get(plain, _FOCAL_X) is not None or _is_modelled(plain):
        return [(name, plain)]
    if deepest == 0:
        return []
    return [found for key, value in fields.items() if isinstance(value, Mapping) for found in _cameras(value, str(key), deepest - 1)]


def _is_numeric(value: Any) -> bool:
    return value is not None and (not isinstance(value, Mapping) or "data" in value)


def _is_modelled(plain: dict[str, Any]) -> bool:
    """Whether it is a camera of a kind whose parameters are not read, such as COLMAP's fisheye models."""
    return isinstance(plain.get("cameramodel"), str)


def _calibration(where: str, plain: dict[str, Any]) -> CameraCalibration:
    """Build the camera of a mapping with normalised names. Raises InputError that describes what is wrong."""
    _check_model(where, plain)
    K = _matrix(where, plain)
    camera = Intrinsics.from_matrix(K)
    return CameraCalibration(where, camera, _distortion(where, plain), _size(where, plain))


def _check_model(where: str, plain: dict[str, Any]) -> None:
    named = [str(plain[key]) for key in _MODEL if isinstance(plain.get(key), str)]
    foreign = [name for name in named if _plain(name) not in _PINHOLES]
    if any(str(plain.get(key, 0)).lower() in ("1", "true") for key in _FISHEYE):
        foreign.append("fisheye")
    if foreign:
        raise InputError(
            f"{where}: the lens model is {foreign[0]!r}, which is not undone here; expected a pinhole camera with radial and tangential "
            "distortion: calibrate with that model, or undistort the video first and give its K"
        )


def _matrix(where: str, plain: dict[str, Any]) -> NDArray[np.float64]:
    K = _given_matrix(where, plain)
    expected = "expected 3x3 [[fx,0,cx],[0,fy,cy],[0,0,1]]"
    if not np.isfinite(K).all():
        raise InputError(f"{where}: K is {K.tolist()}, {expected} with finite numbers")
    if _is_camera_matrix(K):
        return K
    if _is_camera_matrix(K.T):
        raise InputError(f"{where}: K is transposed, the principal point ({K[2, 0]:g}, {K[2, 1]:g}) is in its last row; {expected}")
    if K[0, 0] <= 0 or K[1, 1] <= 0:
        raise InputError(f"{where}: focal lengths are {K[0, 0]:g} and {K[1, 1]:g}, expected positive ones; K is {K.tolist()}")
    if _is_camera_matrix(np.where([[0, 1, 0], [0, 0, 0], [0, 0, 0]], 0, K)):
        raise InputError(f"{where}: K has a skew of {K[0, 1]:g} px, which is not undone here; calibrate without skew")
    raise InputError(f"{where}: K is {K.tolist()}, {expected}")


def _is_camera_matrix(K: NDArray[np.float64]) -> bool:
    """Whether focal lengths are positive, zeros are in place, and the skew moves no pixel by more than a tenth."""
    zeros = K[1, 0] == K[2, 0] == K[2, 1] == 0 and K[2, 2] == 1
    return bool(zeros and K[0, 0] > 0 and K[1, 1] > 0 and abs(K[0, 1]) <= 1e-4 * K[0, 0])


def _given_matrix(where: str, plain: dict[str, Any]) -> NDArray[np.float64]:
    key = next((key for key in _MATRIX if plain.get(key) is not None), None)
    if key is None:
        focals = [_get(plain, _FOCAL_X), _get(plain, _FOCAL_Y)]
        fx, fy, cx, cy = _numbers(where, "fx, fy, cx and cy", [*focals, plain.get("cx"), plain.get("cy")])
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    values = _numbers(where, "K", plain[key])
    if values.shape == (4,) and key == "intrinsics":  # Kalibr
        fx, fy, cx, cy = values
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    if values.shape == (9,):  # Open3D stores columns, the others rows
        return values.reshape(3, 3).T if key == "intrinsicmatrix" else values.reshape(3, 3)
    if values.shape != (3, 3):
        raise InputError(f"{where}: K is of shape {values.shape}, expected 3x3 [[fx,0,cx],[0,fy,cy],[0,0,1]]")
    return values


def _distortion(where: str, plain: dict[str, Any]) -> NDArray[np.float64]:
    given = _get(plain, _DISTORTION)
    if given is None:
        given = [plain.get(key, 0) for key in _SCALARS]
    values = _numbers(where, "distortion", given).ravel()
    if not np.isfinite(values).all():
        raise InputError(f"{where}: distortion is {values.tolist()}, expected finite numbers")
    if len(values) == 14:
        if values[12:].any():
            raise InputError(f"{where}: the lens model has a tilted sensor (14 coefficients), which is not undone here; calibrate without")
        values = values[:12]
    if len(values) not in COEFFICIENT_COUNTS:
        raise InputError(
            f"{where}: distortion has {len(values)} coefficients, expected 4, 5, 8 or 12 in OpenCV's order: "
            "k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4"
        )
    return all_coefficients(values)


def _size(where: str, plain: dict[str, Any]) -> tuple[int, int] | None:
    """Width and height of the picture; None if the file contains none."""
    both = _get(plain, _SIZE)
    given = both if both is not None else [_get(plain, _WIDTH), _get(plain, _HEIGHT)]
    if given == [None, None]:
        return None
    values = _numbers(where, "the picture's width and height", given).ravel()
    if len(values) != 2 or not np.isfinite(values).all() or (values < 1).any() or (values % 1).any():
        raise InputError(f"{where}: the picture's size is {values.tolist()}, expected width and height in pixels")
    return int(values[0]), int(values[1])


def _numbers(where: str, what: str, value: Any) -> NDArray[np.float64]:
    """Numbers of a list, of a list of rows, or of OpenCV's and ROS' {rows, cols, data}. Raises InputError for anything else."""
    shape: tuple[Any, Any] | None = None
    if isinstance(value, Mapping):
        shape, value = (value.get("rows"), value.get("cols")), value.get("data")
    try:
        if not _is_small_and_flat(value):
            raise ValueError
        numbers = np.array(value, np.float64)
        return numbers if shape is None else numbers.reshape(int(shape[0]), int(shape[1]))
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: {what} should be numbers, got {reprlib.repr(value)[:80]}") from error


def _is_small_and_flat(value: Any) -> bool:
    """Check the size before copying: YAML's aliases expand short texts to huge lists."""
    if not isinstance(value, list) or len(value) > _MOST_NUMBERS:
        return False
    rows: list[list[Any]] = [row if isinstance(row, list) else [row] for row in value]
    return sum(map(len, rows)) <= _MOST_NUMBERS and not any(isinstance(number, bool | list | dict | None) for row in rows for number in row)


def _get(plain: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((plain[name] for name in names if plain.get(name) is not None), None)


def _plain(name: Any) -> str:
    return str(name).lower().replace("_", "").replace("-", "").replace(" ", "")
