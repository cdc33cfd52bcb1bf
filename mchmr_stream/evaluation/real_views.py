"""One filmed person with known 3D joints in each view: the single-person layout of docs/evaluation.md.

These views must not be used for training. `real_clips` reads both layouts, with any number of people.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.errors import InputError
from mchmr_stream.files.safe_npz import read_npz
from mchmr_stream.geometry.camera import Intrinsics, project
from mchmr_stream.geometry.distortion import distort_points
from mchmr_stream.metrics.joint_errors import LIMBS_IN_COCO

_JOINTS = "_joints_cam_m"
_FACE_COUNT = 5
"""Nose, eyes and ears come first in COCO."""


@dataclass(frozen=True, eq=False)
class RealView:
    """Video of one camera and its ground truth."""

    name: str
    video: Path
    limbs_m: NDArray[np.float64]
    """(T, 12, 3) camera axes"""
    K: NDArray[np.float64]
    """(3, 3) intrinsics, pixels"""
    distortion: NDArray[np.float64]
    """(4,): k1, k2, p1, p2"""
    face_m: NDArray[np.float64] | None = None
    """(T, 5, 3) nose, eyes, ears; None where they are not known"""

    def limbs_px(self, *, undistorted: bool) -> NDArray[np.float64]:
        """Project the true limbs to pixels, (T, 12, 2), with the lens distortion or with it undone."""
        camera = Intrinsics.from_matrix(self.K)
        pixels = project(self.limbs_m, camera)
        return pixels if undistorted else distort_points(pixels, camera, self.distortion)


def load_views(folder: Path) -> list[RealView]:
    """Load all cameras of the folder.

    Raises:
        InputError: the folder has no camera, or a video is missing.
    """
    truths = sorted(folder.glob("gt_*.npz"))
    if not truths:
        raise InputError(f"no gt_*.npz in {folder}; expected a folder of real views as described in docs/evaluation.md")
    return [view for truth in truths for view in read_views(truth)]


def read_views(truth: Path) -> list[RealView]:
    """Read all cameras of one gt_*.npz of the single-person layout; the videos are in its folder.

    Raises:
        InputError: as for `load_views`.
    """
    cameras = [name.removesuffix(_JOINTS) for name in names_in(truth) if name.endswith(_JOINTS)]
    if not cameras:
        raise InputError(f"{truth} holds no CAM{_JOINTS}; expected a file as described in docs/evaluation.md")
    keys = [f"{camera}{part}" for camera in cameras for part in (_JOINTS, "_K", "_dist_k1k2p1p2")]
    arrays = read_npz(truth, keys, what="3D joints of real views")
    views = []
    for camera in cameras:
        video = truth.parent / f"{camera}.mp4"
        if not video.is_file():
            raise InputError(f"{truth.name} speaks of {camera}, but {video} is not there")
        joints, K, distortion = (arrays[f"{camera}{part}"] for part in (_JOINTS, "_K", "_dist_k1k2p1p2"))
        if joints.ndim != 3 or joints.shape[1] < 17 or joints.shape[2] != 3 or K.shape != (3, 3) or distortion.shape != (4,):
            raise InputError(
                f"{truth.name}: {camera} has joints {joints.shape}, K {K.shape}, distortion {distortion.shape}; "
                "expected (frames, at least 17, 3), (3, 3), (4,)"
            )
        joints = joints.astype(np.float64)
        views.append(RealView(camera, video, joints[:, list(LIMBS_IN_COCO)], K, distortion, joints[:, :_FACE_COUNT]))
    return views


def names_in(path: Path) -> list[str]:
    """List the keys of an npz in order.

    Raises:
        InputError: the file is not an npz.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return sorted(archive.files)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {' '.join(str(error).split())}; expected 3D joints of real views") from error
