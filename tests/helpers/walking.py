"""People who walk on a known floor before a known camera, their standing foot exactly still: as a `Motion`, without pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import BodyModel, forward_kinematics, rest_joints
from mchmr_stream.datatypes import JOINT_NAMES, KEYPOINT_NAMES
from mchmr_stream.geometry.camera import Intrinsics, project
from mchmr_stream.motion.motion import Motion, Track

WIDTH, HEIGHT = 1280, 720
CAMERA = Intrinsics.from_focal(WIDTH, HEIGHT, 900.0)
_STRIDE_S = 1.1
_SOLE_BELOW_ANKLE_M = 0.075
"""Of the free body"""


@dataclass(frozen=True)
class Way:
    """Where somebody starts on the floor (x, z), where they look (0: towards +z), and how far they swing their legs (0: they stand)."""

    start_m: tuple[float, float]
    yaw_deg: float = 0.0
    swing_rad: float = 0.45


def camera_pose(height_m: float = 1.6, pitch_deg: float = 12.0, roll_deg: float = 3.0, yaw_deg: float = 0.0) -> np.ndarray:
    """(4, 4) world_from_camera: over the world's origin, looking along -z and down by the pitch."""
    pose = np.eye(4)
    flip = np.diag([1.0, -1.0, -1.0])
    pose[:3, :3] = Rotation.from_euler("yxz", [yaw_deg, -pitch_deg, roll_deg], degrees=True).as_matrix() @ flip
    pose[1, 3] = height_m
    return pose


def walking(
    ways: Sequence[Way], pose: np.ndarray, *, seconds: float = 4.0, fps: float = 30.0, body: BodyModel | None = None
) -> tuple[Motion, list[np.ndarray]]:
    """What a perfect network would say, and everybody's joints in the world (F, 24, 3)."""
    body = body or load_body("free")
    times = np.arange(round(seconds * fps) + 1) / fps
    tracks, joints_world = {}, []
    for number, way in enumerate(ways, 1):
        rotations, pelvis = _gait(way, times, body)
        turned = np.einsum("ji,fjk->fik", pose[:3, :3], rotations[:, 0])
        in_camera = np.concatenate([turned[:, None], rotations[:, 1:]], 1)
        pelvis_camera = (pelvis - pose[:3, 3]) @ pose[:3, :3]
        joints_world.append(_posed(body, rotations, pelvis))
        tracks[number] = track_of(number, times, in_camera, pelvis_camera, body)
    motion = Motion(
        fps, WIDTH, HEIGHT, CAMERA.matrix, np.arange(len(times)), times, tracks, JOINT_NAMES, KEYPOINT_NAMES, body.name, body.sha256,
        "none", "00", {"body": {"model": "free"}},
    )  # fmt: skip
    return motion, joints_world


def track_of(number: int, times: np.ndarray, rotations: np.ndarray, pelvis_m: np.ndarray, body: BodyModel) -> Track:
    count = len(times)
    joints = _posed(body, rotations, pelvis_m).astype(np.float32)
    pixels = project(joints, CAMERA).astype(np.float32)
    zeros = lambda *shape: np.zeros((count, *shape), np.float32)
    return Track(
        track_id=number, frame=np.arange(count), time_s=times, box_xyxy_px=np.concatenate([pixels.min(1) - 10, pixels.max(1) + 10], 1),
        score=zeros() + 1, global_orient=rotations[:, 0].astype(np.float32), body_pose=rotations[:, 1:].astype(np.float32),
        betas=zeros(10), transl=(pelvis_m - body.j_template[0].numpy()).astype(np.float32), joints_m=joints, joints_px=pixels,
        keypoints_px=zeros(17, 3), confidence=zeros() + 1, views_cam=zeros(1, 3), interpolated=np.zeros(count, np.bool_),
        betas_frame=zeros(10), transl_mean_body=zeros(3) + np.nan,
    )  # fmt: skip


def farther(motion: Motion, number: int, factors: np.ndarray, body: BodyModel | None = None) -> Motion:
    """Person `number` at `factors` (F,) times the distance, in the same pose: what a network says that errs about depth."""
    track = motion.tracks[number]
    rotations = track.rotations
    moved = track_of(number, track.time_s, rotations, track.joints_m[:, 0] * factors[:, None], body or load_body("free"))
    return Motion(**(vars(motion) | {"tracks": motion.tracks | {number: moved}}))


def _gait(way: Way, times: np.ndarray, body: BodyModel) -> tuple[np.ndarray, np.ndarray]:
    """Feet stay level; the lower one stays where it is, and the pelvis goes on over it."""
    phase = 2 * np.pi * times / _STRIDE_S
    angles = np.zeros((len(times), 24, 3))
    for hip, knee, ankle, shift in ((1, 4, 7, 0.0), (2, 5, 8, np.pi)):
        forward = -way.swing_rad * np.sin(phase + shift)
        bend = 1.2 * way.swing_rad * np.clip(np.cos(phase + shift), 0, None) ** 2
        angles[:, hip, 0], angles[:, knee, 0], angles[:, ankle, 0] = forward - bend / 2, bend, -forward - bend / 2
    angles[:, 16, 2], angles[:, 17, 2] = -1.2, 1.2
    rotations = Rotation.from_rotvec(angles.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)
    rotations[:, 0] = Rotation.from_euler("y", way.yaw_deg, degrees=True).as_matrix()
    joints = _posed(body, rotations, np.zeros((len(times), 3)))
    ankles = joints[:, [7, 8]]
    stands = ankles[..., 1].argmin(1)
    pelvis = np.zeros((len(times), 3))
    place = np.array([way.start_m[0], 0, way.start_m[1]])
    for row in range(1, len(times)):
        foot = stands[row]
        place = place - (ankles[row, foot] - ankles[row - 1, foot]) * [1, 0, 1]
        pelvis[row] = place
    pelvis[0] = [way.start_m[0], 0, way.start_m[1]]
    pelvis[:, 1] = _SOLE_BELOW_ANKLE_M - ankles[..., 1].min(1)
    return rotations, pelvis


def _posed(body: BodyModel, rotations: np.ndarray, pelvis_m: np.ndarray) -> np.ndarray:
    rest = rest_joints(body, torch.zeros(1, 10))[0].double().numpy()
    joints = forward_kinematics(body, torch.from_numpy(rotations), torch.zeros(len(rotations), 10))[0].double().numpy()
    return joints - rest[0] + pelvis_m[:, None]
