"""Motion for synthetic clips: a stretch of a captured clip at any frame rate, and where it leads over the ground.

The pose data hold rotations only, no translation. Where a person goes is derived: whatever touches the ground does not
slide on it, so the pelvis moves by the opposite of how the lowest joints move relative to it. Walking clips thereby walk
at the speed of their own legs. What this cannot give is flight: jumps and runs stay in touch with the ground.
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
"""Clips (by parts of their names) that need the air, or things that are not there; and kaykit, whose arms are stylised."""
_SUPPORTS = (
    ((7, 0.08), (10, 0.02)), ((8, 0.08), (11, 0.02)), ((0, 0.10),), ((4, 0.05),), ((5, 0.05),), ((15, 0.10),), ((20, 0.03),), ((21, 0.03),),
)  # fmt: skip
"""What a body rests on: feet (ankle and toes), pelvis, knees, head, hands; joints, and how high each is above the ground then, m."""
_JOINT_OF = [joint for support in _SUPPORTS for joint, _ in support]
_HEIGHT_OF = np.array([height for support in _SUPPORTS for _, height in support])
_SUPPORT_OF = np.repeat(np.arange(len(_SUPPORTS)), [len(support) for support in _SUPPORTS])
_CONTACT_M = 0.005
"""A support higher than the lowest by this much counts for a third; likewise the ankle or the toes within a foot."""
_FINE_FPS = 60.0
"""Ways are derived at least at this rate, so that they do not depend on the clip's."""
_SMOOTHED_S = 0.06
_FASTEST_M_S = 7.0
"""A joint that moves faster is a fault of the capture, or too rare a motion to bother: a sprinter's foot does 20, a walker's 4."""


@dataclass(frozen=True, eq=False)
class CapturedMotion:
    """One person's poses over a clip, and the way over the ground before anybody turns or places it."""

    axis_angle: np.ndarray
    """(frames, 24, 3) float32, root in a world with y up"""
    path_m: np.ndarray
    """(frames, 2) x and z of the pelvis"""
    joints_m: np.ndarray
    """(frames, 24, 3) on that way, resting on the ground but for a centimetre or two"""
    clip: str
    mirrored: bool

    @property
    def length_m(self) -> float:
        """From start to end, straight."""
        return float(np.linalg.norm(self.path_m[-1] - self.path_m[0]))


def resampled(axis_angle: np.ndarray, fps: float, times_s: np.ndarray) -> np.ndarray:
    """(T, 24, 3) at `fps` -> (n, 24, 3) at `times_s`, on the shortest rotation between the two frames around each time.

    Raises UsageError for times outside of the clip.
    """
    last = len(axis_angle) - 1
    place = np.asarray(times_s, np.float64) * fps
    if last < 1 or place.min() < 0 or place.max() > last + 1e-6:
        raise UsageError(f"times {place.min() / fps:.3f} to {place.max() / fps:.3f} s were asked of a clip of {max(last, 0) / fps:.3f} s")
    before = np.minimum(place.astype(int), last - 1)
    start = matrix_from_axis_angle(axis_angle[before].astype(np.float64))
    end = matrix_from_axis_angle(axis_angle[before + 1].astype(np.float64))
    between = axis_angle_from_matrix(np.swapaxes(start, -1, -2) @ end)
    share = (place - before)[:, None, None]
    return axis_angle_from_matrix(start @ matrix_from_axis_angle(between * share)).astype(np.float32)


def ground_path(joints_m: np.ndarray, fps: float) -> np.ndarray:
    """(frames, 24, 3) joints around a pelvis that stays at one place, y up -> (frames, 2) x and z of the pelvis, from 0."""
    if len(joints_m) < 2:
        return np.zeros((len(joints_m), 2))
    points = joints_m[:, _JOINT_OF]
    height = points[..., 1] - _HEIGHT_OF
    supports = range(len(_SUPPORTS))
    mean = np.stack([height[:, support == _SUPPORT_OF].mean(1) for support in supports], 1)
    low = np.stack([height[:, support == _SUPPORT_OF].min(1) for support in supports], 1)
    # A swinging foot's toes pass close over the ground, its ankle does not: the mean of both tells which foot stands.
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
    """A random stretch of a random clip, perhaps mirrored, that `fits`.

    `course_s` (frames,): which time of the stretch each frame shows; plain ``arange(frames) / fps`` plays it as it was captured.
    Raises UsageError when no clip is long enough, or none of `tries` stretches will do.
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
        motion = _on_the_ground(mirrored(angles) if flip else angles, rest_joints_m, fps, finer, name, flip)
        fastest = np.linalg.norm(np.diff(motion.joints_m, axis=0), axis=-1).max() * fps
        if fastest <= _FASTEST_M_S * pace and fits(motion):
            return motion
    raise UsageError(
        f"none of {tries} stretches of {seconds:.1f} s moves as was asked without a joint faster than {_FASTEST_M_S * pace:g} m/s; "
        "make shorter clips"
    )


def gets_on(motion: CapturedMotion, seconds: float) -> bool:
    """By at least half a metre per second, as the crow flies."""
    return motion.length_m >= 0.5 * seconds


def _on_the_ground(angles: np.ndarray, rest_joints_m: Tensor, fps: float, finer: int, clip: str, flip: bool) -> CapturedMotion:
    """`angles` come `finer` times denser than the frames."""
    rotations = torch.as_tensor(matrix_from_axis_angle(angles.astype(np.float64)), dtype=torch.float32)
    joints = forward_kinematics(rotations, rest_joints_m.expand(len(angles), 24, 3))[0].double().numpy()
    joints = joints - joints[:, :1]
    path = ground_path(joints, fps * finer)
    # Smoothed, for the lowest point changes from one foot to the other at once.
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
