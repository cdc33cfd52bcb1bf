"""Motion for synthetic clips: a section of a captured clip at any frame rate, with its path over the ground.

The pose data hold rotations only, no translation. The path is derived: a body part that touches the ground does not slide on it, so the
pelvis moves by the opposite of the motion of the lowest joints relative to it. The speed of walking clips thereby follows from the legs.
Flight cannot be derived: jumps and runs stay in contact with the ground.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mchmr_stream.errors import UsageError
from mchmr_stream.geometry.rotation import axis_angle_from_matrix, matrix_from_axis_angle
from mchmr_stream.synthesis.poses import PoseLibrary, mirrored
from mchmr_stream.synthesis.rig import forward_kinematics

_NOT_ON_THE_GROUND = (
    "cmu_amc/01_",
    "kaykit/",
    "flip",
    "cartwheel",
    "roll",
    "jump",
    "hang",
    "climb",
    "swim",
    "fly",
    "spin_kick",
    "spinkick",
)
"""Clips (by parts of their names) with flight or with objects that are not rendered; and kaykit, whose arms are stylised."""
_SUPPORTS = (
    ((7, 0.08), (10, 0.02)), ((8, 0.08), (11, 0.02)), ((0, 0.10),), ((4, 0.05),), ((5, 0.05),), ((15, 0.10),), ((20, 0.03),), ((21, 0.03),),
)  # fmt: skip
"""Body parts that support the body: feet (ankle and toes), pelvis, knees, head, hands; joints, and their height above the ground, m."""
_JOINT_OF = [joint for support in _SUPPORTS for joint, _ in support]
_HEIGHT_OF = np.array([height for support in _SUPPORTS for _, height in support])
_SUPPORT_OF = np.repeat(np.arange(len(_SUPPORTS)), [len(support) for support in _SUPPORTS])
_CONTACT_M = 0.005
"""A support higher than the lowest by this much has a third of its weight; likewise the ankle or the toes within a foot."""
_FINE_FPS = 60.0
"""Paths are derived at least at this rate, so that they do not depend on the clip's."""
_SMOOTHED_S = 0.06
_FASTEST_M_S = 7.0
"""A joint that moves faster is a capture error or a rare motion: a sprinter's foot reaches 20, a walker's 4."""


@dataclass(frozen=True, eq=False)
class CapturedMotion:
    """One person's poses over a clip, and the path over the ground before it is rotated and placed."""

    axis_angle: np.ndarray
    """(frames, 24, 3) float32, root in a world with y up"""
    path_m: np.ndarray
    """(frames, 2) x and z of the pelvis"""
    joints_m: np.ndarray
    """(frames, 24, 3) on that path, on the ground within a centimetre or two"""
    clip: str
    mirrored: bool

    @property
    def length_m(self) -> float:
        """Straight distance from start to end."""
        return float(np.linalg.norm(self.path_m[-1] - self.path_m[0]))


def resampled(axis_angle: np.ndarray, fps: float, times_s: np.ndarray) -> np.ndarray:
    """Interpolate (T, 24, 3) axis-angle at `fps` to (n, 24, 3) at `times_s`, on the shortest rotation between neighbouring frames.

    Raises:
        UsageError: times are outside of the clip.
    """
    last = len(axis_angle) - 1
    place = np.asarray(times_s, np.float64) * fps
    if last < 1 or place.min() < 0 or place.max() > last + 1e-6:
        raise UsageError(
            f"times {place.min() / fps:.3f} to {place.max() / fps:.3f} s were requested from a clip of {max(last, 0) / fps:.3f} s"
        )
    before = np.minimum(place.astype(int), last - 1)
    start = matrix_from_axis_angle(axis_angle[before].astype(np.float64))
    end = matrix_from_axis_angle(axis_angle[before + 1].astype(np.float64))
    between = axis_angle_from_matrix(np.swapaxes(start, -1, -2) @ end)
    share = (place - before)[:, None, None]
    return axis_angle_from_matrix(start @ matrix_from_axis_angle(between * share)).astype(np.float32)


def ground_path(joints_m: np.ndarray, fps: float) -> np.ndarray:
    """Derive the path over the ground.

    Args:
        joints_m: (frames, 24, 3) joints around a fixed pelvis, y up.
        fps: frame rate.

    Returns:
        (frames, 2) x and z of the pelvis, from 0.
    """
    if len(joints_m) < 2:
        return np.zeros((len(joints_m), 2))
    points = joints_m[:, _JOINT_OF]
    height = points[..., 1] - _HEIGHT_OF
    supports = range(len(_SUPPORTS))
    mean = np.stack([height[:, support == _SUPPORT_OF].mean(1) for support in supports], 1)
    low = np.stack([height[:, support == _SUPPORT_OF].min(1) for support in supports], 1)
    # A swinging foot's toes are close to the ground, its ankle is not: the mean of both identifies the standing foot.
    above = (mean - mean.min(1, keepdims=True))[:, _SUPPORT_OF] + height - low[:, _SUPPORT_OF]
    weight = np.exp(-above / _CONTACT_M)
    weight = np.minimum(weight[1:], weight[:-1]) + 1e-12
    step = -(np.diff(points[..., [0, 2]], axis=0) * weight[..., None]).sum(1) / weight.sum(1)[:, None]
    return np.concatenate([np.zeros((1, 2)), np.cumsum(_smoothed(step, _SMOOTHED_S * fps), 0)])


def draw_motion(
    rng: np.random.Generator,
    library: PoseLibrary,
    rest_joints_m: Tensor,
    fps: float,
    course_s: np.ndarray,
    fits: Callable[[CapturedMotion], bool],
    tries: int = 200,
) -> CapturedMotion:
    """Draw a random section of a random clip, possibly mirrored, for which `fits` is True.

    Args:
        rng: random numbers.
        library: the poses.
        rest_joints_m: (24, 3) of the T-pose.
        fps: frame rate.
        course_s: (frames,) time of the section in each frame; ``arange(frames) / fps`` plays it as captured.
        fits: condition on the motion.
        tries: number of sections that are tried.

    Raises:
        UsageError: no clip is long enough, or none of the sections fits.
    """
    seconds = float(course_s.max())
    long_enough = (name for name in library.clip_names if (library.clip_frames(name) - 1) / library.clip_fps(name) >= seconds + 0.05)
    names = [name for name in long_enough if not any(part in name.lower() for part in _NOT_ON_THE_GROUND)]
    if not names:
        raise UsageError(f"no motion clip is {seconds:.1f} s long; make shorter clips")
    weights = library.clip_weights(names)
    finer = max(1, int(np.ceil(_FINE_FPS / fps)))
    frames = np.arange(len(course_s))
    times_s = np.interp(np.arange((len(frames) - 1) * finer + 1) / finer, frames, course_s)
    pace = max(1.0, float(np.abs(np.diff(times_s)).max(initial=0.0)) * fps * finer)
    for _ in range(tries):
        name = names[rng.choice(len(names), p=weights / weights.sum())]
        poses, rate = library.clip(name), library.clip_fps(name)
        start = rng.uniform(0, (len(poses) - 1) / rate - seconds)
        flip = bool(rng.random() < 0.5)
        angles = resampled(poses, rate, start + times_s)
        motion = _grounded(mirrored(angles) if flip else angles, rest_joints_m, fps, finer, name, flip)
        fastest = np.linalg.norm(np.diff(motion.joints_m, axis=0), axis=-1).max() * fps
        if fastest <= _FASTEST_M_S * pace and fits(motion):
            return motion
    raise UsageError(
        f"none of {tries} sections of {seconds:.1f} s moves as requested without a joint faster than {_FASTEST_M_S * pace:g} m/s; "
        "make shorter clips"
    )


def gets_on(motion: CapturedMotion, seconds: float) -> bool:
    """Return whether the motion covers at least half a metre per second, in a straight line."""
    return motion.length_m >= 0.5 * seconds


def _grounded(angles: np.ndarray, rest_joints_m: Tensor, fps: float, finer: int, clip: str, flip: bool) -> CapturedMotion:
    """Motion on the ground from `angles`, which are `finer` times denser than the frames."""
    rotations = torch.as_tensor(matrix_from_axis_angle(angles.astype(np.float64)), dtype=torch.float32)
    joints = forward_kinematics(rotations, rest_joints_m.expand(len(angles), 24, 3))[0].double().numpy()
    joints = joints - joints[:, :1]
    path = ground_path(joints, fps * finer)
    # Smoothed, because the lowest point changes abruptly from one foot to the other.
    lift = _smoothed(-(joints[:, _JOINT_OF, 1] - _HEIGHT_OF).min(1)[:, None], _SMOOTHED_S * fps * finer)
    joints = joints + np.concatenate([path[:, :1], lift, path[:, 1:]], 1)[:, None]
    return CapturedMotion(angles[::finer], path[::finer], joints[::finer], clip, flip)


def _smoothed(values: np.ndarray, sigma: float) -> np.ndarray:
    """(n, k) smoothed along n by a Gaussian; the ends are repeated."""
    reach = int(np.ceil(3 * sigma))
    if reach < 1:
        return values
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    padded = np.pad(values, ((reach, reach), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, kernel / kernel.sum(), mode="valid") for column in padded.T], -1)
