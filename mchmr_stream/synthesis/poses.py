"""Poses from motion capture: a library with train and test clips, random single poses, and full clips.

Files (under `poses/` of the data folder): npz of `source/clip` -> (T, 24, 3) float16 axis-angle, root included, y up, real gravity.
`procedural/*` keys hold independent poses, not motion. SOURCES.md in that folder describes each source. The user's own files
(`pose_files`) are added, or replace them if that folder does not exist.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.geometry.rotation import matrix_from_axis_angle
from mchmr_stream.synthesis.pose_files import SOURCE as USER
from mchmr_stream.synthesis.pose_files import read_pose_files
from mchmr_stream.synthesis.rig import RenderBody, forward_kinematics

log = logging.getLogger(__name__)

Split = Literal["train", "test"]
FAMILIES = ("upright", "overhead", "legs_apart", "seated", "kneeling", "bent", "lying", "inverted")
MIRROR = (0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22)
"""Index of the joint on the other side."""
LEGS = (1, 2, 4, 5, 7, 8, 10, 11)
ARMS = (13, 14, 16, 17, 18, 19, 20, 21)
_ARMS_FREE = {"upright", "overhead", "legs_apart", "seated"}
"""families whose arms may be exchanged, because the body does not rest on them"""
_HINGES = (4, 5, 18, 19)
_TEST_SHARE = 8
"""one in this many clips is for testing"""
_STRIDE = {"cmu_smpl24": 3, "extra_smpl24": 1, "idle_smpl24": 8}
"""every n-th frame of the dense files is used for single poses"""
_OPTIONAL = {"cmu_smpl24": "no person moves as in the CMU captures", "idle_smpl24": "no person stands idle"}
"""Optional files, and the warning when they are missing."""
_SINGLE_FPS = 12.0
"""the same for the user's files, frames per second"""
_SOURCE_FPS = {"iclone": 60.0, "papagina": 60.0, "bvh11": 60.0, "reactidle": 24.0}
"""The other stored sources have 30. Inferred from the stride of walking clips, which lasts about a second."""
_GROUP_SHARE = {"cmu": 0.38, "extra": 0.23, "procedural": 0.22, "idle": 0.17}
_SOURCE_WEIGHT = {"kaykit": 0.5, "cmu_fbx": 0.5}
"""kaykit's arms are stylised, cmu_fbx's heads look up: see SOURCES.md"""


@dataclass(frozen=True)
class PoseSettings:
    """Settings of single poses and their variation."""

    split: Split = "train"
    mirror_probability: float = 0.5
    swap_legs_probability: float = 0.15
    swap_arms_probability: float = 0.2
    noise_rad: tuple[float, ...] = (0.0, 0.04, 0.1, 0.18)
    noise_probability: tuple[float, ...] = (0.35, 0.35, 0.2, 0.1)
    files: tuple[Path, ...] = ()
    """the user's own files and folders, see `pose_files`"""
    files_share: float = 0.3
    """share of all poses that comes from them, if there are others"""


@dataclass(frozen=True, eq=False)
class Pose:
    """One pose."""

    axis_angle: np.ndarray
    """(24, 3) float32, local; the root in a world with y up"""
    clip: str
    family: str
    mirrored: bool = False

    @property
    def source(self) -> str:
        return self.clip.split("/")[0]


def mirrored(axis_angle: np.ndarray) -> np.ndarray:
    """Mirror poses (..., 24, 3): left and right exchanged, x reversed."""
    return axis_angle[..., MIRROR, :] * np.array([1, -1, -1], axis_angle.dtype)


def clip_split(clip: str) -> Split:
    """Return the split of a clip, by a hash of its name, so that it never changes."""
    return "test" if zlib.crc32(clip.encode()) % _TEST_SHARE == 0 else "train"


@dataclass(frozen=True, eq=False)
class _Clip:
    """Poses of one key of a file, or of one of the user's files, in one split."""

    name: str
    group: str
    poses: np.ndarray
    """(T, 24, 3)"""
    stride: int
    """every n-th frame is used for single poses"""
    fps: float


class PoseLibrary:
    """All poses of one split, with weights.

    Raises UsageError for invalid settings or an empty split, InputError for files that cannot be used.
    """

    def __init__(self, data: Path, body: RenderBody, settings: PoseSettings | None = None) -> None:
        self.settings = settings or PoseSettings()
        if self.settings.split not in ("train", "test"):
            raise UsageError(f"pose split is {self.settings.split!r}, expected 'train' or 'test'")
        if not 0 < self.settings.files_share < 1:
            raise UsageError(f"the share of the user's poses is {self.settings.files_share}, expected more than 0 and less than 1")
        clips = [*_stored(data, self.settings), *_own(self.settings, body)]
        if not clips:
            raise UsageError(
                f"no clip is in the {self.settings.split} split: one in {_TEST_SHARE} is for testing, by its name; give more files"
            )
        self._clips = {clip.name: clip for clip in clips if clip.group != "procedural"}
        self._names = [clip.name for clip in clips]
        singles = [clip.poses[:: clip.stride] for clip in clips]
        self._poses = np.concatenate(singles)
        self._clip_of = np.repeat(np.arange(len(clips)), [len(poses) for poses in singles])
        self._family_of = _families(self._poses, body)
        share = {group: share * (1 - self.settings.files_share) for group, share in _GROUP_SHARE.items()} | {
            USER: self.settings.files_share
        }
        weights = _weights(self._names, [clip.group for clip in clips], share, self._clip_of, self._family_of)
        self._cumulative = np.cumsum(weights)
        self._low, self._high = _limits(self._poses)

    def __len__(self) -> int:
        return len(self._poses)

    @property
    def clip_names(self) -> list[str]:
        """Names of motion clips, without procedural poses."""
        return list(self._clips)

    def clip(self, name: str) -> np.ndarray:
        """Return all frames of a motion clip, (T, 24, 3) float32."""
        return self._clips[name].poses.astype(np.float32)

    def clip_frames(self, name: str) -> int:
        """Return the number of frames of a motion clip."""
        return len(self._clips[name].poses)

    def clip_fps(self, name: str) -> float:
        """Return the frame rate of a motion clip."""
        return self._clips[name].fps

    def clip_weights(self, names: Sequence[str]) -> np.ndarray:
        """Return sampling weights (n,) of motion clips: the square root of their length, the user's clips with their share."""
        weights = np.array([np.sqrt(self.clip_frames(name) / self.clip_fps(name)) for name in names])
        own = np.array([self._clips[name].group == USER for name in names], np.bool_)
        if own.any() and not own.all():
            for rows, share in ((own, self.settings.files_share), (~own, 1 - self.settings.files_share)):
                weights[rows] *= share / weights[rows].sum()
        return weights

    def draw(self, rng: np.random.Generator) -> Pose:
        """Draw a random pose: weighted, possibly with limbs of another pose, mirrored, with a little noise, inside the joints' limits."""
        set_ = self.settings
        pose = self._pick(rng)
        angles = pose.axis_angle.copy()
        for joints, probability in ((LEGS, set_.swap_legs_probability), (ARMS, set_.swap_arms_probability)):
            if rng.random() < probability:
                donor = self._pick(rng)
                if donor.family == pose.family or (joints is ARMS and {donor.family, pose.family} <= _ARMS_FREE):
                    angles[list(joints)] = donor.axis_angle[list(joints)]
        scale = np.full((24, 1), rng.choice(set_.noise_rad, p=set_.noise_probability))
        scale[0] *= 0.5
        scale[list(_HINGES)] *= 0.5
        noisy = angles + scale * rng.normal(size=angles.shape)
        angles[1:] = np.clip(noisy[1:], np.minimum(self._low, angles[1:]), np.maximum(self._high, angles[1:]))
        angles[0] = noisy[0]
        angles[22:] = 0
        flip = bool(rng.random() < set_.mirror_probability)
        return replace(pose, axis_angle=(mirrored(angles) if flip else angles).astype(np.float32), mirrored=flip)

    def _pick(self, rng: np.random.Generator) -> Pose:
        row = int(np.searchsorted(self._cumulative, rng.random() * self._cumulative[-1], side="right"))
        row = min(row, len(self._poses) - 1)
        return Pose(self._poses[row].astype(np.float32), self._names[self._clip_of[row]], FAMILIES[self._family_of[row]])


def _stored(data: Path, settings: PoseSettings) -> Iterator[_Clip]:
    """Clips of the data folder; none if it does not exist and the user's files replace it."""
    folder = data / "poses"
    if settings.files and not folder.is_dir():
        log.info("%s is not there: only the poses of %s are used", folder, ", ".join(map(str, settings.files)))
        return
    for file, stride in _STRIDE.items():
        if file in _OPTIONAL and not (folder / f"{file}.npz").is_file():
            log.info("%s is not there: %s", folder / f"{file}.npz", _OPTIONAL[file])
            continue
        for name, poses in _read(folder / f"{file}.npz"):
            source = name.split("/")[0]
            procedural = source == "procedural"
            poses = _part_of_split(name, poses, settings.split)
            if len(poses):
                group = source if procedural else file.split("_")[0]
                yield _Clip(name, group, poses, 1 if procedural else stride, _SOURCE_FPS.get(source, 30.0))


def _own(settings: PoseSettings, body: RenderBody) -> Iterator[_Clip]:
    """Clips of the user's files."""
    for clip in read_pose_files(settings.files, body.joints_m.numpy()):
        if clip_split(clip.name) == settings.split:
            stride = max(1, round(clip.fps / _SINGLE_FPS))
            yield _Clip(clip.name, USER, clip.axis_angle.astype(np.float16), stride, clip.fps)


def _read(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                poses = archive[name]
                if poses.ndim != 3 or poses.shape[1:] != (24, 3):
                    raise InputError(f"{path}: {name} has shape {poses.shape}, expected (frames, 24, 3) axis-angle")
                yield name, poses
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read poses {path}: {error}; expected an npz of (frames, 24, 3) arrays") from error


def _part_of_split(name: str, poses: np.ndarray, split: Split) -> np.ndarray:
    """Motion clips belong to one split as a whole; the last eighth of a procedural family, whose poses are independent, is for testing.

    Families ending in `_real` are variations of key poses that other clips also hold: they are for training only.
    """
    if not name.startswith("procedural/"):
        return poses if clip_split(name) == split else poses[:0]
    if name.endswith("_real"):
        return poses if split == "train" else poses[:0]
    cut = len(poses) - len(poses) // _TEST_SHARE
    return poses[:cut] if split == "train" else poses[cut:]


def _families(poses: np.ndarray, body: RenderBody) -> np.ndarray:
    """(n, 24, 3) -> (n,) index into FAMILIES: a rough geometric rule on the posed skeleton (y up)."""
    out = np.empty(len(poses), np.int64)
    for begin in range(0, len(poses), 8192):
        angles = torch.as_tensor(poses[begin : begin + 8192].astype(np.float32))
        joints, _ = forward_kinematics(matrix_from_axis_angle(angles), body.joints_m.expand(len(angles), 24, 3))
        out[begin : begin + 8192] = _family(joints.numpy())
    return out


def _family(joints: np.ndarray) -> np.ndarray:
    height = joints[..., 1]
    up = lambda a, b: (height[:, b] - height[:, a]) / np.linalg.norm(joints[:, b] - joints[:, a], axis=-1)
    trunk = up(0, 12)
    pelvis_height = height[:, 0] - height.min(1)
    thighs_level = (up(1, 4) > -0.55) & (up(2, 5) > -0.55)
    rules = [
        ("inverted", (trunk < -0.3) & (pelvis_height > 0.45)),
        ("lying", (trunk < 0.4) & (pelvis_height < 0.6)),
        ("seated", (trunk > 0.3) & thighs_level),
        ("kneeling", (trunk > 0.3) & (pelvis_height < 0.6)),
        ("bent", trunk < 0.75),
        ("overhead", np.maximum(height[:, 20], height[:, 21]) > height[:, 15]),
        ("legs_apart", np.abs(height[:, 7] - height[:, 8]) > 0.22),
    ]
    return np.select([hit for _, hit in rules], [FAMILIES.index(name) for name, _ in rules], FAMILIES.index("upright"))


def _weights(
    names: Sequence[str], groups: Sequence[str], shares: Mapping[str, float], clip_of: np.ndarray, family_of: np.ndarray
) -> np.ndarray:
    """(n,) sampling weights: each group has its share.

    Within a group long clips count by the square root of their length (procedural families equally), and families by one over the square
    root of their frequency.
    """
    length = np.bincount(clip_of, minlength=len(names)).astype(np.float64)
    group_of_clip = np.array(groups)
    per_clip = np.where(group_of_clip == "procedural", 1 / length, 1 / np.sqrt(length))
    per_clip *= [_SOURCE_WEIGHT.get(name.split("/")[0], 1.0) for name in names]
    weights = per_clip[clip_of]
    group_of = group_of_clip[clip_of]
    for group, share in shares.items():
        rows = group_of == group
        if not rows.any():
            continue
        if group != "procedural":
            frequency = np.bincount(family_of[rows], weights[rows], minlength=len(FAMILIES)) / weights[rows].sum()
            weights[rows] /= np.sqrt(np.maximum(frequency, 0.004))[family_of[rows]]
        weights[rows] *= share / weights[rows].sum()
    return weights


def _limits(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(23, 3) least and largest component of each joint's axis-angle vector in the library, mirror images included."""
    some = poses[:: max(1, len(poses) // 20000)].astype(np.float32)
    some = np.concatenate([some, mirrored(some)])[:, 1:]
    low, high = np.quantile(some, [0.001, 0.999], axis=0)
    return low, high
