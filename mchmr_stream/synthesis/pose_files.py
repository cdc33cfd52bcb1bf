"""The user's own poses: AMASS npz, SMPL npz and BVH files, converted to the format of the pose library.

| file | recognised by | axes | read |
|---|---|---|---|
| AMASS (SMPL-H, SMPL-X, SMPL) | `poses` (T, 156), (T, 165) or (T, 72) axis-angle | z up | the first 66 numbers: root and 21 body joints |
| SMPL | `global_orient` and `body_pose`, axis-angle or matrices, 21 or 23 joints | y up | root and 21 body joints |
| BVH | the name | those of its skeleton | see `bvh_retarget` |

Hands (SMPL's joints 22 and 23) stay straight. Translations, shapes and sexes are not read. Output files of `mchmr video` are refused:
a network's estimates are no ground truth.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.files.safe_npz import read_npz
from mchmr_stream.geometry.rotation import axis_angle_from_matrix, matrix_from_axis_angle, project_to_so3
from mchmr_stream.synthesis.bvh_reader import read_bvh
from mchmr_stream.synthesis.bvh_retarget import smpl_poses

log = logging.getLogger(__name__)

SOURCE = "user"
"""Clips are named `user/NAME`."""
_SUFFIXES = (".npz", ".bvh")
_AMASS_WIDTHS = {72: "SMPL", 156: "SMPL-H", 165: "SMPL-X"}
_FPS_NAMES = ("mocap_framerate", "mocap_frame_rate", "fps")
_ASSUMED_FPS = 30.0
_MOTION_FPS = 30.0
"""Denser clips are reduced by an integer factor to this rate or a little more."""
_BODY_JOINTS = 22
_LARGEST_RAD = 4 * np.pi
_NOT_A_ROTATION = 0.02
_Y_UP_FROM_Z_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
_EXPECTED = "expected AMASS (poses) or SMPL (global_orient, body_pose) motion"


@dataclass(frozen=True, eq=False)
class PoseClip:
    """Motion of one file."""

    name: str
    """user/NAME; NAME is the path within the given folder, without the suffix"""
    axis_angle: NDArray[np.float32]
    """(T, 24, 3) local rotations, root included, y up"""
    fps: float


def read_pose_files(paths: Sequence[Path], rest_joints_m: NDArray[np.floating]) -> list[PoseClip]:
    """Read all files of `paths` (files and folders, searched recursively).

    Args:
        paths: files and folders.
        rest_joints_m: (24, 3) T-pose of the SMPL body.

    Raises:
        UsageError: there is no file, or two clips would have one name.
        InputError: a file cannot be used.
    """
    found: dict[str, Path] = {}
    for name, path in _files(paths):
        if name in found:
            raise UsageError(f"{found[name]} and {path} would both be called {name}; rename one, or give the folder that holds both")
        found[name] = path
    return [read_pose_file(path, name, rest_joints_m) for name, path in found.items()]


def read_pose_file(path: Path, name: str, rest_joints_m: NDArray[np.floating]) -> PoseClip:
    """Read one file.

    Raises:
        InputError: it cannot be used.
    """
    if path.suffix.lower() == ".bvh":
        bvh = read_bvh(path)
        step = _step(1 / bvh.frame_time_s)
        bvh = replace(bvh, motion=bvh.motion[::step])
        clip = PoseClip(name, smpl_poses(bvh, path, np.asarray(rest_joints_m, np.float64)), 1 / bvh.frame_time_s / step)
    else:
        clip = _read_npz(path, name)
    _warn_of_other_axes(clip, path)
    return clip


def _files(paths: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    for path in paths:
        if path.is_dir():
            inside = sorted(each for each in path.rglob("*") if _is_motion(each))
            if not inside:
                raise UsageError(f"{path} holds no {' or '.join(_SUFFIXES)} file; expected motion in AMASS, SMPL or BVH files")
            for each in inside:
                yield f"{SOURCE}/{each.relative_to(path).with_suffix('').as_posix()}", each
        elif not path.is_file():
            raise UsageError(f"poses {path} are not there; give .npz or .bvh files, or folders of them")
        elif path.suffix.lower() not in _SUFFIXES:
            raise UsageError(f"poses {path} are of an unknown kind; expected {' or '.join(_SUFFIXES)}")
        else:
            yield f"{SOURCE}/{path.stem}", path


def _is_motion(path: Path) -> bool:
    """False for AMASS's files of a subject's shape, which lie next to the motion."""
    of_shape = path.name == "shape.npz" or path.name.endswith("_stagei.npz")
    return path.suffix.lower() in _SUFFIXES and path.is_file() and not of_shape


def _read_npz(path: Path, name: str) -> PoseClip:
    names = _names(path)
    if "schema" in names and "track_id" in names:
        raise InputError(f"{path} was written by `mchmr video`: what a network said is no pose to train on; {_EXPECTED}")
    if "poses" not in names and not {"global_orient", "body_pose"} <= names:
        raise InputError(f"{path} holds {', '.join(sorted(names))[:100] or 'nothing'}; {_EXPECTED}")
    fps = _fps(path, names)
    step = _step(fps)
    if "poses" in names:
        poses = _numbers(path, "poses")
        if poses.ndim != 2 or poses.shape[1] not in _AMASS_WIDTHS:
            widths = ", ".join(f"(T, {width}) {kind}" for width, kind in _AMASS_WIDTHS.items())
            raise InputError(f"{path}: poses has shape {poses.shape}, expected one of {widths}")
        body = _as_matrices(path, "poses", poses[::step, : _BODY_JOINTS * 3].reshape(-1, _BODY_JOINTS, 3))
        body[:, 0] = _Y_UP_FROM_Z_UP @ body[:, 0]
    else:
        orient, pose = (_numbers(path, array)[::step] for array in ("global_orient", "body_pose"))
        if len(orient) != len(pose):
            raise InputError(f"{path}: global_orient has {len(orient)} frames, body_pose {len(pose)}; expected as many of both")
        root = _joints(path, "global_orient", orient, (1,))
        body = np.concatenate([root, _joints(path, "body_pose", pose, (21, 23))[:, : _BODY_JOINTS - 1]], 1)
    if not len(body):
        raise InputError(f"{path} has no frames; {_EXPECTED}")
    axis_angle = np.zeros((len(body), 24, 3), np.float32)
    axis_angle[:, :_BODY_JOINTS] = axis_angle_from_matrix(body)
    return PoseClip(name, axis_angle, fps / step)


def _names(path: Path) -> set[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {info.filename.removesuffix(".npy") for info in archive.infolist()}
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"cannot read {path}: {' '.join(str(error).split())}; {_EXPECTED}") from error


def _numbers(path: Path, name: str) -> NDArray[np.float64]:
    values = read_npz(path, [name], what="motion in an npz")[name]
    if values.dtype.kind not in "fiu" or not values.ndim:
        raise InputError(f"{path}: {name} is {values.dtype} of shape {values.shape}, expected numbers, a row per frame")
    if not np.isfinite(values).all():
        raise InputError(f"{path}: some numbers of {name} are not finite")
    return values.astype(np.float64)


def _fps(path: Path, names: set[str]) -> float:
    name = next((name for name in _FPS_NAMES if name in names), None)
    if name is None:
        log.warning("%s does not say its frame rate (%s); %.0f is taken", path, ", ".join(_FPS_NAMES), _ASSUMED_FPS)
        return _ASSUMED_FPS
    value = read_npz(path, [name], what="motion in an npz")[name]
    fps = float(value.reshape(-1)[0]) if value.size == 1 and value.dtype.kind in "fiu" else np.nan
    if not 0.1 <= fps <= 10_000:
        raise InputError(f"{path}: {name} is {str(value)[:40]}, expected one number from 0.1 to 10000 frames per second")
    return fps


def _joints(path: Path, name: str, values: NDArray[np.float64], counts: tuple[int, ...]) -> NDArray[np.float64]:
    """(T, joints, 3, 3) of axis-angle (T, 3 joints) or (T, joints, 3), or matrices (T, joints, 3, 3) or, for one joint, (T, 3, 3)."""
    if values.shape[1:] == (3, 3) and counts == (1,):
        values = values[:, None]
    if values.ndim == 2 and values.shape[1] in [3 * count for count in counts]:
        values = values.reshape(len(values), -1, 3)
    of = [count for count in counts if values.shape[1:] in ((count, 3), (count, 3, 3))]
    if not of:
        joints = " or ".join(map(str, counts))
        raise InputError(f"{path}: {name} has shape {values.shape}, expected axis-angle or matrices of {joints} joints in each frame")
    if values.ndim == 3:
        return _as_matrices(path, name, values)
    nearest = project_to_so3(values)
    if np.abs(nearest - values).max(initial=0) > _NOT_A_ROTATION:
        raise InputError(f"{path}: {name} holds matrices that are no rotations")
    return np.asarray(nearest, np.float64)


def _as_matrices(path: Path, name: str, axis_angle: NDArray[np.float64]) -> NDArray[np.float64]:
    largest = float(np.linalg.norm(axis_angle, axis=-1).max(initial=0))
    if largest > _LARGEST_RAD:
        raise InputError(f"{path}: {name} turns a joint by {largest:.0f} rad, expected axis-angle in radians, at most {_LARGEST_RAD:.1f}")
    return np.asarray(matrix_from_axis_angle(axis_angle), np.float64)


def _step(fps: float) -> int:
    return max(1, int(fps / _MOTION_FPS + 1e-3))


def _warn_of_other_axes(clip: PoseClip, path: Path) -> None:
    """Warn about people who are upside down most of the time: the file probably has other axes than expected."""
    upwards = matrix_from_axis_angle(clip.axis_angle[:, 0].astype(np.float64))[:, 1, 1]
    if np.median(upwards) < -0.5:
        log.warning("%s: the body is upside down most of the time; expected z up in AMASS files, y up in SMPL files", path)
