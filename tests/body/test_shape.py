"""One shape per person: a body that changes its shape goes on looking as it did, and a file ends with one shape however it came about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import forward_kinematics
from mchmr_stream.body.shape import transl_to_look_alike
from mchmr_stream.datatypes import Bodies, Frame, Scene, SourceInfo
from mchmr_stream.geometry.camera import Intrinsics, project
from mchmr_stream.motion.motion import load
from mchmr_stream.motion.npz_writer import NpzHeader, NpzSink
from mchmr_stream.smoothing import KalmanSmoother

BODY = load_body("free")
CAMERA = Intrinsics.assumed(640, 360)
FPS = 25.0
TALL, SHORT = np.eye(10)[0] * 2.0, np.eye(10)[0] * -2.0
"""The first beta is mostly stature."""


def poses(count: int, seed: int = 0) -> np.ndarray:
    """(count, 24, 3, 3) turned to a camera whose y points down."""
    matrices = Rotation.from_rotvec(np.random.default_rng(seed).normal(size=(count * 24, 3)) * 0.3).as_matrix().reshape(count, 24, 3, 3)
    matrices[:, 0] = Rotation.from_euler("x", 180, degrees=True).as_matrix() @ matrices[:, 0]
    return matrices


def joints_m(rotations: np.ndarray, betas: np.ndarray, transl: np.ndarray) -> np.ndarray:
    values = (torch.from_numpy(np.ascontiguousarray(array, np.float64)) for array in (rotations, betas, transl))
    return forward_kinematics(BODY.to(dtype=torch.float64), *values)[0].numpy()


def pixels(joints: np.ndarray) -> np.ndarray:
    return project(joints, CAMERA)


def test_a_taller_body_stands_farther_away_and_looks_the_same() -> None:
    rotations, transl = poses(8), np.random.default_rng(1).uniform([-1, -0.5, 3], [1, 0.5, 7], (8, 3))
    short, tall = np.tile(SHORT, (8, 1)), np.tile(TALL, (8, 1))
    moved = transl_to_look_alike(BODY, rotations, short, transl, tall)
    assert (moved[:, 2] > 1.05 * transl[:, 2]).all()
    seen = pixels(joints_m(rotations, short, transl))
    off = lambda place: np.linalg.norm(pixels(joints_m(rotations, tall, place)) - seen, axis=-1).mean(1)
    assert (off(moved) < 0.25 * off(transl)).all()
    # Nowhere near it would look more alike, as the rays have it.
    residual = lambda place: _off_the_rays(rotations, short, transl, tall, place)
    for step in (0.03 * np.eye(3)).repeat(2, 0) * np.array([1, -1, 1, -1, 1, -1])[:, None]:
        assert (residual(moved + step) > residual(moved)).all()


def _off_the_rays(rotations: np.ndarray, betas: np.ndarray, transl: np.ndarray, others: np.ndarray, place: np.ndarray) -> np.ndarray:
    seen, found = joints_m(rotations, betas, transl), joints_m(rotations, others, place)
    rays = seen[..., :2] / seen[..., 2:]
    return (((found[..., :2] - rays * found[..., 2:]) / seen[..., 2:]) ** 2).sum((-1, -2))


def test_back_to_the_shape_it_had_is_back_to_the_place_it_had() -> None:
    rotations, transl = poses(5), np.array([[0.4, 0.1, 4.0]] * 5)
    mean, tall = np.zeros((5, 10)), np.tile(TALL, (5, 1))
    np.testing.assert_allclose(transl_to_look_alike(BODY, rotations, tall, transl, tall), transl, atol=1e-9)
    there = transl_to_look_alike(BODY, rotations, mean, transl, tall)
    np.testing.assert_allclose(transl_to_look_alike(BODY, rotations, tall, there, mean), transl, atol=0.01)


def test_a_body_at_the_camera_keeps_its_pelvis() -> None:
    transl = np.array([[0.0, 0.0, -3.0]])
    moved = transl_to_look_alike(BODY, poses(1), SHORT[None], transl, TALL[None])
    before, after = joints_m(poses(1), SHORT[None], transl)[0, 0], joints_m(poses(1), TALL[None], moved)[0, 0]
    np.testing.assert_allclose(after, before, atol=1e-6)


def looks(count: int) -> list[Scene]:
    """Scenes of person 1, and of person 2 from the middle on.

    The network's betas scatter; the pictures are always those of a body of mean shape at 4 m.
    """
    rng = np.random.default_rng(5)
    scenes = []
    for frame in range(count):
        identities = [1] if frame < count // 2 else [1, 2]
        n = len(identities)
        rotations, mean = poses(n, seed=7), np.zeros((n, 10))
        betas = mean + rng.normal(size=(n, 1)) * TALL + 0.4 * TALL
        transl = transl_to_look_alike(BODY, rotations, mean, np.array([[-0.5, 0.0, 4.0], [0.6, 0.0, 4.0]])[:n], betas)
        scenes.append(scene(frame, identities, rotations, betas, transl))
    return scenes


def scene(frame: int, identities: Sequence[int], rotations: np.ndarray, betas: np.ndarray, transl: np.ndarray) -> Scene:
    n = len(identities)
    zeros = lambda *shape: np.zeros((n, *shape), np.float32)
    narrow = lambda array: np.asarray(array, np.float32)
    bodies = Bodies(
        frame=frame, time_s=frame / FPS, track_id=np.array(identities, np.int64), boxes_xyxy_px=np.tile(narrow([10, 20, 60, 200]), (n, 1)),
        scores=zeros() + 0.9, keypoints_px=zeros(17, 3), global_orient=narrow(rotations[:, 0]), body_pose=narrow(rotations[:, 1:]),
        betas=narrow(betas), transl=narrow(transl), views_cam=zeros(2, 3), confidence=zeros() + 0.8,
    )  # fmt: skip
    joints = joints_m(rotations, betas, transl).astype(np.float32)
    picture = Frame(frame, frame / FPS, np.zeros((360, 640, 3), np.uint8))
    return Scene(picture, bodies, CAMERA, joints, pixels(joints).astype(np.float32), BODY.faces, lambda: zeros(1, 3))


def write(path: Path, scenes: list[Scene], earlier: Path | None = None) -> Path:
    names = {"body_model": BODY.name, "body_model_sha256": BODY.sha256, "weights": "none", "weights_sha256": "00"}
    sink = NpzSink(path, NpzHeader(CAMERA, SourceInfo("clip", 640, 360, FPS), 2, names, settings={}), one_shape_of=BODY)
    if earlier is not None:
        sink.extend(load(earlier))
    for one in scenes:
        sink.write(one)
    sink.close()
    return path


def test_everybody_in_a_file_has_one_shape_and_stands_where_they_were_seen(tmp_path: Path) -> None:
    scenes = looks(30)
    motion = load(write(tmp_path / "clip.npz", scenes))
    seen = {identity: [one.joints_px[one.bodies.track_id.tolist().index(identity)] for one in scenes[-15:]] for identity in (1, 2)}
    for identity, track in motion.tracks.items():
        assert np.ptp(track.betas, axis=0).max() == 0
        assert np.ptp(track.betas_frame, axis=0).max() > 3, "what was seen in each frame is kept"
        assert track.betas[0, 0] == pytest.approx(np.median(track.betas_frame[:, 0]), abs=0.4)
        rotations = track.rotations
        np.testing.assert_allclose(track.joints_m, joints_m(rotations, track.betas, track.transl), atol=1e-5)
        np.testing.assert_allclose(track.joints_px, motion.reproject(track), atol=1e-3)
        # The network said 2.6 m to 5.4 m; somebody of one size who looks the same in every picture stands still.
        assert np.ptp(track.transl, axis=0).max() < 0.02
        assert np.abs(track.joints_px[-15:] - seen[identity]).mean() < 1.5
    assert not np.array_equal(motion.tracks[1].betas[0], motion.tracks[2].betas[0])


@pytest.mark.parametrize("seams", [(1,), (10, 17), (29,)])
def test_a_stopped_and_resumed_file_is_the_same_to_the_last_bit(tmp_path: Path, seams: tuple[int, ...]) -> None:
    scenes = looks(30)
    whole, parts = write(tmp_path / "whole.npz", scenes), tmp_path / "parts.npz"
    for start, end in zip((0, *seams), (*seams, 30), strict=True):
        write(parts, scenes[start:end], earlier=parts if start else None)
    with np.load(whole) as expected, np.load(parts) as got:
        assert got.files == expected.files
        for name in expected.files:
            assert got[name].tobytes() == expected[name].tobytes(), name


def test_the_smoother_keeps_people_where_they_look_right_while_their_shape_is_still_guessed() -> None:
    """The network sees somebody once taller and farther, once smaller and nearer: it is one and the same picture."""
    scenes = looks(50)
    smoother = KalmanSmoother(0.3, body=BODY)
    smooth = [ready for one in scenes for ready in smoother.push(one.bodies)] + smoother.flush()
    for before, after in zip(scenes, smooth, strict=True):
        rotations = after.rotations
        seen = pixels(joints_m(rotations, after.betas, after.transl))
        assert np.abs(seen - before.joints_px).mean() < 1.5, after.frame
        np.testing.assert_array_equal(after.betas_frame, before.bodies.betas)
