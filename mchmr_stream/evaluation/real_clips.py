"""Filmed people with known 3D joints, with any number of people and cameras: both layouts of docs/evaluation.md.

These clips must not be used for training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.camera_files import load_camera
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.evaluation.real_views import RealView, names_in, read_views
from mchmr_stream.files.safe_npz import read_npz
from mchmr_stream.geometry.camera import Intrinsics, project
from mchmr_stream.geometry.distortion import COEFFICIENT_COUNTS, distort_points
from mchmr_stream.metrics.joint_errors import LIMBS_IN_COCO

Array = NDArray[np.float64]

_JOINTS = "joints3d_cam_m"
_NEEDED = (_JOINTS, "valid", "K", "dist", "cam_names", "frames")
_OPTIONAL = ("person_names", "rotation_count")
_WHAT = "3D joints of real clips"
_FACE_COUNT, _COCO_COUNT = 5, 17


@dataclass(frozen=True, eq=False)
class RealClip:
    """Video of one camera and the ground truth of the P people in T of its frames."""

    session: str
    """Cameras of one session filmed the same people at the same time"""
    name: str
    """Name of the camera; unique among the clips that are loaded together"""
    video: Path
    joints_m: Array
    """(P, T, 17, 3) COCO's points, camera axes; NaN where a joint is not valid"""
    people: tuple[str, ...]
    """(P,) names"""
    frame: NDArray[np.int64]
    """(T,) numbers of the frames in the video, growing"""
    K: Array
    """(3, 3) intrinsics, pixels"""
    distortion: Array
    """coefficients as in geometry/distortion.py"""
    turned: bool = False
    """The camera lay on its side: people stand along x"""

    @property
    def limbs_m(self) -> Array:
        """True limbs, (P, T, 12, 3)."""
        return self.joints_m[:, :, list(LIMBS_IN_COCO)]

    def pixels(self, *, undistorted: bool) -> Array:
        """Project the ground truth to pixels, (P, T, 17, 2), with the lens distortion or with it undone."""
        camera = Intrinsics.from_matrix(self.K)
        pixels: Array = project(self.joints_m, camera)
        return pixels if undistorted else distort_points(pixels, camera, self.distortion)


def clip_of(view: RealView, session: str = "") -> RealClip:
    """Convert a single-person view to a clip."""
    face = np.full((len(view.limbs_m), _FACE_COUNT, 3), np.nan) if view.face_m is None else view.face_m
    joints = np.concatenate([face, view.limbs_m], 1, dtype=np.float64)[None]
    return RealClip(session, view.name, view.video, joints, ("",), np.arange(len(view.limbs_m)), view.K, view.distortion)


def load_clips(folders: Sequence[Path]) -> list[RealClip]:
    """Load all cameras of all gt_*.npz in the folders and their subfolders.

    Raises:
        InputError: a folder has no gt_*.npz, a video is missing, or a file is not as docs/evaluation.md describes.
        UsageError: two clips of the same name lie in folders of the same name.
    """
    truths: dict[Path, None] = {}
    for folder in folders:
        found = sorted(folder.rglob("gt_*.npz"))
        if not found:
            raise InputError(f"no gt_*.npz in {folder} or below it; expected a folder of real views as described in docs/evaluation.md")
        truths |= dict.fromkeys(path.resolve() for path in found)
    clips = [(truth.parent.name, clip) for truth in truths for clip in _read_clips(truth)]
    names = Counter(clip.name for _, clip in clips)
    named = [_with_folder_name(clip, folder) if names[clip.name] > 1 else clip for folder, clip in clips]
    twice = [name for name, count in Counter(clip.name for clip in named).items() if count > 1]
    if twice:
        raise UsageError(f"two clips are called {twice[0]}, expected names that tell them apart; rename one of their folders")
    return named


def _with_folder_name(clip: RealClip, folder: str) -> RealClip:
    """The clip with the folder's name added to its own."""
    session = clip.session if clip.session == folder else f"{folder}/{clip.session}"
    return replace(clip, name=f"{folder}/{clip.name}", session=session)


def _read_clips(truth: Path) -> list[RealClip]:
    if _JOINTS not in names_in(truth):
        return [clip_of(view, truth.parent.name) for view in read_views(truth)]
    arrays = read_npz(truth, _NEEDED, optional=_OPTIONAL, what=_WHAT)
    _check(truth, arrays)
    session = truth.stem.removeprefix("gt_")
    joints = np.where(arrays["valid"][:, None, ..., None], arrays[_JOINTS], np.nan).astype(np.float64)
    people = arrays.get("person_names", np.array([f"person {number}" for number in range(len(joints))])).tolist()
    quarter_turns = arrays.get("rotation_count", np.zeros(len(arrays["K"]), np.int64))
    clips = []
    for number, camera in enumerate(arrays["cam_names"].tolist()):
        video = truth.parent / session / f"{camera}.mp4"
        if not video.is_file():
            raise InputError(f"{truth.name} speaks of {camera}, but {video} is not there")
        K, distortion = _camera(video.with_suffix(".json"), arrays["K"][number], arrays["dist"][number])
        clips.append(RealClip(
            session, f"{session}/{camera}", video, joints[:, number], tuple(people), arrays["frames"].astype(np.int64), K, distortion,
            turned=bool(quarter_turns[number] % 2),
        ))  # fmt: skip
    return clips


def _camera(intrinsics: Path, K: Array, distortion: Array) -> tuple[Array, Array]:
    """K and the distortion coefficients that the source undoes: those of CAM.json where it exists, else the file's own."""
    if intrinsics.is_file():
        camera = load_camera(intrinsics)
        return camera.intrinsics.matrix, camera.distortion
    return K, distortion


def _check(truth: Path, arrays: dict[str, NDArray]) -> None:
    joints, valid, frames = arrays[_JOINTS], arrays["valid"], arrays["frames"]
    if joints.ndim != 5 or joints.shape[3:] != (_COCO_COUNT, 3):
        raise InputError(f"{truth}: {_JOINTS} has shape {joints.shape}, expected (people, cameras, frames, {_COCO_COUNT}, 3)")
    people, cameras, count = joints.shape[:3]
    shapes: dict[str, tuple[int | None, ...]] = {
        "valid": (people, count, _COCO_COUNT), "K": (cameras, 3, 3), "dist": (cameras, None), "cam_names": (cameras,), "frames": (count,),
        "person_names": (people,), "rotation_count": (cameras,),
    }  # fmt: skip
    for name, expected in shapes.items():
        if name not in arrays:
            continue
        got = arrays[name].shape
        if len(got) != len(expected) or any(want not in (None, have) for have, want in zip(got, expected, strict=True)):
            shape_text = ", ".join("any" if want is None else str(want) for want in expected)
            raise InputError(f"{truth}: {name} has shape {got}, expected ({shape_text})")
    if valid.dtype != np.bool_ or frames.dtype.kind not in "iu" or arrays["dist"].shape[1] not in COEFFICIENT_COUNTS:
        raise InputError(
            f"{truth}: valid is {valid.dtype}, frames are {frames.dtype}, dist has {arrays['dist'].shape[1]} coefficients; expected bool, "
            f"integers, {COEFFICIENT_COUNTS}"
        )
    if count == 0 or frames[0] < 0 or (np.diff(frames.astype(np.int64)) <= 0).any():
        raise InputError(f"{truth}: frames are {frames[:5].tolist()}..., expected at least one number, from 0 on, growing")
