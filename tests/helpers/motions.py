"""Motion of people whose bodies are known exactly, as a STEM.npz: for tests of what is made of such files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import BodyModel, forward_kinematics
from mchmr_stream.datatypes import Bodies, Frame, Scene, SourceInfo
from mchmr_stream.geometry.camera import Intrinsics, project
from mchmr_stream.motion.npz_writer import NpzHeader, NpzSink

WIDTH, HEIGHT, VIEWS = 640, 360, 2
CAMERA = Intrinsics.assumed(WIDTH, HEIGHT)


def write_motion(
    path: Path,
    there: Mapping[int, Sequence[int]],
    times_s: Sequence[float],
    *,
    fps: float = 25.0,
    frames: Sequence[int] | None = None,
    body: BodyModel | None = None,
    body_path: str = "free",
    camera: Intrinsics = CAMERA,
) -> Path:
    """Person -> the numbers of the frames they are in. Everyone turns, swings arms and legs and walks, in one shape of their own."""
    body = body or load_body("free")
    frames = range(len(times_s)) if frames is None else frames
    names = {"body_model": body.name, "body_model_sha256": body.sha256, "weights": "none", "weights_sha256": "00"}
    sink = NpzSink(path, NpzHeader(camera, SourceInfo("clip", WIDTH, HEIGHT, fps), VIEWS, names, settings={"body": {"model": body_path}}))
    blank = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for number, (frame, time_s) in enumerate(zip(frames, times_s, strict=True)):
        identities = [identity for identity, numbers in there.items() if number in numbers]
        sink.write(_scene(Frame(frame, time_s, blank), identities, body, camera))
    sink.close()
    return path


def _scene(frame: Frame, identities: Sequence[int], body: BodyModel, camera: Intrinsics) -> Scene:
    n = len(identities)
    poses = np.stack([_pose(identity, frame.time_s) for identity in identities]) if n else np.zeros((0, 24, 3, 3), np.float32)
    betas = np.stack([np.random.default_rng(identity).normal(size=10) * 0.6 for identity in identities]) if n else np.zeros((0, 10))
    transl = np.array([[0.8 * identity - 1.5 + 0.3 * frame.time_s, 0.2, 4 + 0.5 * identity] for identity in identities]).reshape(n, 3)
    rotations, shapes, places = (torch.from_numpy(np.asarray(values, np.float32)) for values in (poses, betas, transl))
    joints_m = forward_kinematics(body, rotations, shapes, places)[0].numpy()
    zeros = lambda *shape: np.zeros((n, *shape), np.float32)
    bodies = Bodies(
        frame=frame.index, time_s=frame.time_s, track_id=np.array(identities, np.int64),
        boxes_xyxy_px=np.tile(np.array([10, 20, 60, 200], np.float32), (n, 1)), scores=zeros() + 0.9, keypoints_px=zeros(17, 3),
        global_orient=poses[:, 0], body_pose=poses[:, 1:], betas=shapes.numpy(), transl=places.numpy(), views_cam=zeros(VIEWS, 3),
        confidence=zeros() + 0.8, joint_sd_m=np.array([_sd_m(identity, frame.index) for identity in identities]).reshape(n, 24),
    )  # fmt: skip
    return Scene(frame, bodies, camera, joints_m, project(joints_m, camera).astype(np.float32), body.faces, lambda: zeros(1, 3))


def _sd_m(identity: int, frame: int) -> np.ndarray:
    """(24,): unlike in any two rows."""
    return (0.02 + 0.001 * identity + 1e-5 * frame + 0.0001 * np.arange(24)).astype(np.float32)


def _pose(identity: int, time_s: float) -> np.ndarray:
    """(24, 3, 3): upright in a camera whose y points down, turning twice a second through the half turn where signs jump."""
    vectors = np.random.default_rng(identity).normal(size=(24, 3)) * 0.25 * np.sin(5 * time_s + identity)
    matrices = Rotation.from_rotvec(vectors).as_matrix()
    matrices[0] = Rotation.from_euler("xy", [180, 150 + 720 * time_s + 40 * identity], degrees=True).as_matrix() @ matrices[0]
    return matrices.astype(np.float32)
