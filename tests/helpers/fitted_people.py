"""People who stand before a camera, and what is measured of them: for the tests of the fit."""

from __future__ import annotations

import numpy as np

from mchmr_stream.body.files import load_body
from mchmr_stream.body.kinematics import posed_joints, rest_joints
from mchmr_stream.datatypes import Bodies
from mchmr_stream.fitting.body_fitter import Measured
from mchmr_stream.fitting.body_points import nominal_points
from mchmr_stream.fitting.noise_constants import load_calibration
from mchmr_stream.fitting.point_kinematics import Kinematics, State, global_from_relative, relative_from_global
from mchmr_stream.geometry.camera import Intrinsics, project
from mchmr_stream.geometry.rotation import exp_so3

K = Intrinsics(1500.0, 1480.0, 960.0, 540.0)
WH = (1920, 1080)
BODY = load_body("free")
CALIBRATION = load_calibration()
POINTS = nominal_points(BODY).moved(CALIBRATION.point_offsets_m)
HALF_TURN = np.diag([1.0, -1.0, -1.0])
"""Upright, facing the camera."""


def standing(n: int = 1, spread: float = 0.0, seed: int = 0, distance_m: float = 4.0) -> State:
    """People who stand before the camera with arms hanging, joints turned at random by `spread` radians."""
    rng = np.random.default_rng(seed)
    relative = np.tile(np.eye(3), (n, 24, 1, 1))
    relative[:, 16], relative[:, 17] = exp_so3(np.array([0, 0, -1.3])), exp_so3(np.array([0, 0, 1.3]))
    relative = relative @ exp_so3(rng.normal(size=(n, 24, 3)) * spread)
    relative[:, 0] = HALF_TURN @ relative[:, 0]
    pelvis = np.tile([0.1, 0.0, distance_m], (n, 1))
    return State(global_from_relative(relative), rng.normal(size=(n, 10)) * 0.5, pelvis)


def bodies_of(state: State, keypoints: np.ndarray, time_s: float = 0.0) -> Bodies:
    n = len(state.betas)
    relative = relative_from_global(state.rotations).astype(np.float32)
    transl = (state.pelvis - rest_joints(BODY, state.betas)[:, 0]).astype(np.float32)
    joints = project(joints_of(state), K)
    boxes = np.concatenate([joints.min(1), joints.max(1)], 1).astype(np.float32)
    return Bodies(
        0, time_s, np.arange(1, n + 1), boxes, np.ones(n, np.float32), keypoints.astype(np.float32), relative[:, 0], relative[:, 1:],
        state.betas.astype(np.float32), transl, np.ones((n, 1, 3), np.float32), np.full(n, 0.6, np.float32),
    )  # fmt: skip


def joints_of(state: State) -> np.ndarray:
    around = posed_joints(BODY, relative_from_global(state.rotations), state.betas)[1]
    return around + state.pelvis[:, None]


def measured(state: State, keypoints: np.ndarray, roll: float = 0.0, time_s: float = 0.0) -> Measured:
    n = len(state.betas)
    side = 1500 * 1.7 / state.pelvis[:, 2:]
    covariance = np.tile(np.eye(2) * 9, (n, 17, 1, 1)).astype(np.float32)
    base = np.concatenate([np.zeros((n, 2)), side], 1).astype(np.float32)
    unseen = np.zeros((n, 27, 3), np.float32)
    return Measured(bodies_of(state, keypoints, time_s), covariance, unseen, base, np.full(n, roll, np.float32), WH)


def seen(state: State, score: float = 0.9) -> np.ndarray:
    """(n, 17, 3) keypoints of bodies, without noise."""
    places = project(Kinematics(BODY, POINTS).place(state), K)[:, :17]
    return np.concatenate([places, np.full((*places.shape[:2], 1), score)], -1)


def fitted_state(bodies: Bodies) -> State:
    relative = bodies.rotations.astype(np.float64)
    betas = bodies.betas.astype(np.float64)
    return State(global_from_relative(relative), betas, bodies.transl + rest_joints(BODY, betas)[:, 0])
