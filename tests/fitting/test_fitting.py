"""The fit: kinematics against the body model, derivatives against differences, and what a user would notice of the result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fitted_people import BODY, CALIBRATION, POINTS, K, bodies_of, fitted_state, joints_of, measured, seen, standing

from mchmr_stream.body.model import skin
from mchmr_stream.fitting.alignment import KeypointAlignment
from mchmr_stream.fitting.body_fitter import BodyFitter, Measured
from mchmr_stream.fitting.body_points import nominal_points
from mchmr_stream.fitting.evidence import Evidence
from mchmr_stream.fitting.joint_limits import JointLimits
from mchmr_stream.fitting.levenberg_marquardt import minimise
from mchmr_stream.fitting.noise_constants import FitCalibration
from mchmr_stream.fitting.objective import Objective, Prior
from mchmr_stream.fitting.point_kinematics import SIZE, Kinematics, State, global_from_relative, relative_from_global, stepped
from mchmr_stream.geometry.camera import Intrinsics, project, roll_matrix
from mchmr_stream.geometry.rotation import exp_so3


def knee_flexion_deg(joints: np.ndarray) -> np.ndarray:
    """(n, 2) 180 degrees minus the angle at the knee."""
    thigh, shank = joints[:, [1, 2]] - joints[:, [4, 5]], joints[:, [7, 8]] - joints[:, [4, 5]]
    cosine = (thigh * shank).sum(-1) / np.linalg.norm(thigh, axis=-1) / np.linalg.norm(shank, axis=-1)
    return 180 - np.rad2deg(np.arccos(cosine.clip(-1, 1)))


# --- kinematics and derivatives ---------------------------------------------------------------------------------------


def test_kinematics_are_those_of_the_body_model():
    state = standing(3, spread=0.4)
    relative, betas = relative_from_global(state.rotations), state.betas
    vertices, joints = skin(BODY, *(torch.from_numpy(values).float() for values in (relative, betas)))
    around = lambda points: (points - joints[:, :1].numpy() + state.pelvis[:, None]) if isinstance(points, np.ndarray) else points
    kinematics = Kinematics(BODY, nominal_points(BODY))
    np.testing.assert_allclose(kinematics.joints(state), around(joints.numpy()), atol=2e-6)
    np.testing.assert_allclose(kinematics.place(state)[:, :5], around(vertices[:, [332, 2800, 6260, 583, 4071]].numpy()), atol=2e-6)


def random_objective(n: int = 3) -> tuple[Objective, State]:
    rng = np.random.default_rng(1)
    truth, network = standing(n, 0.3), standing(n, 0.3)
    network = stepped(network, rng.normal(size=(n, SIZE)) * 0.1)
    keypoints = project(Kinematics(BODY, POINTS).place(truth), K) + rng.normal(size=(n, 27, 2)) * 4
    precision = np.tile(np.linalg.inv(np.array([[30.0, 9.0], [9.0, 20.0]])), (n, 27, 1, 1))
    precision[:, 3] = 0
    evidence = Evidence(keypoints, precision, np.tile([K.fx, K.fy], (n, 1)), np.tile([K.cx, K.cy], (n, 1)))
    information = np.tile(np.linalg.inv(CALIBRATION.prior_covariance), (n, 1, 1))
    prior = Prior(network, information, roll_matrix(np.array([0.3, -1.0, 2.0])[:n]), rng.normal(size=(n, 10)), np.full(n, 3.0))
    return Objective(Kinematics(BODY, POINTS), evidence, prior, JointLimits(BODY), 5.0), network


def test_the_gradient_is_that_of_the_cost():
    objective, network = random_objective()
    state = stepped(network, np.random.default_rng(2).normal(size=(3, SIZE)) * 0.03)
    gradient = objective.quadratic(state).gradient
    step = 1e-5
    numeric = np.zeros_like(gradient)
    for index in range(SIZE):
        move = np.zeros((3, SIZE))
        move[:, index] = step
        numeric[:, index] = (objective.cost(stepped(state, move)) - objective.cost(stepped(state, -move))) / (4 * step)
    assert (np.abs(gradient - numeric) < 2e-3 * np.abs(numeric).max(1, keepdims=True)).all()
    np.testing.assert_allclose(objective.quadratic(state).cost, objective.cost(state), rtol=1e-9)


def test_joint_slopes_are_differences_of_joints():
    state = standing(2, 0.3)
    kinematics = Kinematics(BODY, POINTS)
    slopes = kinematics.joint_slopes(state)
    for index in (0, 4, 17, 33, 61, 70):
        move = np.zeros((2, SIZE))
        move[:, index] = 1e-6
        about = lambda one: kinematics.joints(one) - kinematics.joints(one)[:, :1]
        difference = (about(stepped(state, move)) - about(stepped(state, -move))) / 2e-6
        np.testing.assert_allclose(slopes[..., index], difference, atol=1e-5)


@pytest.mark.parametrize("iterations", [1, 2, 5, 20])
def test_nobody_ends_worse_than_they_began(iterations):
    objective, network = random_objective()
    found = minimise(objective, network, iterations)
    assert (found.cost <= found.cost_at_start).all()
    np.testing.assert_allclose(found.cost, objective.cost(found.state), rtol=1e-9)


# --- what comes of it -------------------------------------------------------------------------------------------------


def test_bodies_come_to_lie_on_their_keypoints():
    truth = standing(4, spread=0.25, seed=3)
    rng = np.random.default_rng(4)
    deviation = rng.multivariate_normal(np.zeros(SIZE), CALIBRATION.prior_covariance / 2, size=4)
    deviation[:, -3:] *= 0.2
    network = stepped(truth, deviation)
    fitted = fitted_state(BodyFitter(BODY, K, CALIBRATION).fit([measured(network, seen(truth))])[0])
    off = lambda state: np.linalg.norm(seen(state)[..., :2] - seen(truth)[..., :2], axis=-1).mean()
    assert off(fitted) < 0.2 * off(network)
    error = lambda state: np.linalg.norm(
        (joints_of(state) - state.pelvis[:, None]) - (joints_of(truth) - truth.pelvis[:, None]), axis=-1
    ).mean()
    assert error(fitted) < 0.85 * error(network)


def test_what_is_not_seen_or_outside_of_the_picture_counts_for_nothing():
    state = standing(1, spread=0.2)
    keypoints = seen(state)
    elsewhere = keypoints.copy()
    elsewhere[0, [9, 15]] = [[300.0, 900.0, 0.0], [2500.0, 500.0, 0.9]]
    missing = keypoints.copy()
    missing[0, [9, 15]] = [np.nan, np.nan, 0]
    first, second = (BodyFitter(BODY, K, CALIBRATION).fit([measured(state, points)])[0] for points in (elsewhere, missing))
    for name in ("global_orient", "body_pose", "betas", "transl", "joint_sd_m"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_a_keypoint_on_somebody_else_hardly_moves_the_body():
    state = standing(1)
    keypoints = seen(state)
    other = keypoints.copy()
    other[0, 9, 0] += 500
    plain, pulled = (fitted_state(BodyFitter(BODY, K, CALIBRATION).fit([measured(state, points)])[0]) for points in (keypoints, other))
    moved = np.linalg.norm(joints_of(pulled) - joints_of(plain), axis=-1)[0]
    assert moved[20] < 0.15  # the wrist itself
    assert np.delete(moved, [18, 20, 22]).max() < 0.03


def test_a_rolled_camera_gives_the_rolled_body():
    """What is turned about the optical axis comes out turned: nothing but the roll says where up is."""
    truth, network = standing(1, 0.2, seed=5), standing(1, 0.2, seed=6)
    square = replace_focal(K)
    angle = 0.7
    turn_ = roll_matrix(np.array([angle]))[0]
    turned = lambda state: State(turn_ @ state.rotations, state.betas, state.pelvis @ turn_.T)

    def fit(shown: State, start: State, roll: float) -> State:
        places = project(Kinematics(BODY, POINTS).place(shown), square)[:, :17]
        keypoints = np.concatenate([places, np.full((1, 17, 1), 0.9)], -1)
        frame = measured(start, keypoints, roll)
        return fitted_state(BodyFitter(BODY, square, CALIBRATION).fit([replace(frame, picture_wh=(4000, 4000), up_rad=roll)])[0])

    upright, rolled = fit(truth, network, 0.0), fit(turned(truth), turned(network), angle)
    np.testing.assert_allclose(joints_of(rolled), joints_of(turned(upright)), atol=2e-3)


def replace_focal(camera: Intrinsics) -> Intrinsics:
    return Intrinsics(camera.fx, camera.fx, 2000.0, 2000.0)


def test_a_leg_that_stands_is_straight_though_the_network_bends_it():
    truth = standing(1)
    relative = relative_from_global(truth.rotations)
    bent = relative.copy()
    bent[:, 1:3] = bent[:, 1:3] @ exp_so3(np.array([-0.3, 0, 0]))
    bent[:, 4:6] = bent[:, 4:6] @ exp_so3(np.array([0.6, 0, 0]))
    network = State(global_from_relative(bent), truth.betas, truth.pelvis)
    assert knee_flexion_deg(joints_of(network)).min() > 30
    fitted = fitted_state(BodyFitter(BODY, K, CALIBRATION).fit([measured(network, seen(truth))])[0])
    assert knee_flexion_deg(joints_of(fitted)).max() < 0.6 * knee_flexion_deg(joints_of(network)).min()


def test_a_leg_that_is_plainly_bent_stays_bent():
    relative = relative_from_global(standing(1).rotations)
    relative[:, 1:3] = relative[:, 1:3] @ exp_so3(np.array([-1.4, 0, 0]))  # seated, seen from the front
    relative[:, 4:6] = relative[:, 4:6] @ exp_so3(np.array([1.4, 0, 0]))
    truth = State(global_from_relative(relative), np.zeros((1, 10)), np.array([[0.1, 0.0, 4.0]]))
    fitted = fitted_state(BodyFitter(BODY, K, CALIBRATION).fit([measured(truth, seen(truth))])[0])
    assert abs(knee_flexion_deg(joints_of(fitted)) - knee_flexion_deg(joints_of(truth))).max() < 8


def test_knees_do_not_bend_forward():
    relative = relative_from_global(standing(1).rotations)
    relative[:, 4:6] = relative[:, 4:6] @ exp_so3(np.array([-0.5, 0, 0]))
    network = State(global_from_relative(relative), np.zeros((1, 10)), np.array([[0.1, 0.0, 4.0]]))
    fitted = fitted_state(BodyFitter(BODY, K, CALIBRATION).fit([measured(network, seen(network))])[0])
    rotations = relative_from_global(fitted.rotations)[0]
    shank = rotations[4] @ (BODY.joints_float64[0][7] - BODY.joints_float64[0][4])
    assert shank[2] / np.linalg.norm(shank) < 0.15  # forward of the thigh


def test_deviations_grow_where_keypoints_disappear():
    state = standing(1)
    whole, legless = seen(state), seen(state)
    legless[0, 13:] = [np.nan, np.nan, 0]
    first, second = (BodyFitter(BODY, K, CALIBRATION).fit([measured(state, points)])[0] for points in (whole, legless))
    assert second.joint_sd_m[0, 7] > 1.5 * first.joint_sd_m[0, 7]  # an ankle
    assert second.joint_sd_rad[0, 4] > 1.5 * first.joint_sd_rad[0, 4]
    assert second.joint_sd_m[0, 20] < 1.2 * first.joint_sd_m[0, 20]  # a wrist
    assert second.confidence[0] < first.confidence[0]


def test_two_thirds_of_joints_lie_within_one_deviation():
    """People and networks drawn from what the fit believes: its own deviations must then be true."""
    rng = np.random.default_rng(7)
    plain = FitCalibration(**{**vars(CALIBRATION), "joint_sd_scale": np.array(1.0)})
    inside = []
    for seed in range(12):
        truth = standing(1, 0.1, seed=seed)
        off = rng.multivariate_normal(np.zeros(SIZE), CALIBRATION.prior_covariance / 2, size=1)
        off[:, -3:] = 0
        keypoints = seen(truth)
        keypoints[..., :2] += rng.normal(size=(1, 17, 2)) * 4
        fitted = BodyFitter(BODY, K, plain).fit([measured(stepped(truth, off), keypoints)])[0]
        state = fitted_state(fitted)
        error = np.linalg.norm((joints_of(state) - state.pelvis[:, None]) - (joints_of(truth) - truth.pelvis[:, None]), axis=-1)
        inside.append((error < fitted.joint_sd_m)[0, 1:])
    assert 0.5 < np.mean(inside) < 0.85


def test_bone_lengths_settle_over_a_track():
    """Each frame shows the same person under other noise; late frames have one shape."""
    rng = np.random.default_rng(8)
    truth = standing(1, 0.1)
    fitter = BodyFitter(BODY, K, CALIBRATION)
    betas = []
    for frame in range(40):
        network = State(truth.rotations, truth.betas + rng.normal(size=(1, 10)), truth.pelvis)
        keypoints = seen(truth)
        keypoints[..., :2] += rng.normal(size=(1, 17, 2)) * 4
        betas.append(fitter.fit([with_frame(measured(network, keypoints, time_s=frame / 10), frame)])[0].betas[0])
    late = np.std(betas[20:], axis=0).mean()
    assert late < 0.5 * np.std(betas[:8], axis=0).mean()


def test_rows_that_cannot_be_fitted_stay_as_they_are():
    state = standing(2)
    frame = measured(state, seen(state))
    frame.bodies.transl[1] = np.nan
    fitted = BodyFitter(BODY, K, CALIBRATION).fit([frame])[0]
    np.testing.assert_array_equal(fitted.body_pose[1], frame.bodies.body_pose[1])
    assert np.isnan(fitted.joint_sd_m[1]).all()
    assert np.isfinite(fitted.joint_sd_m[0]).all()


def test_together_is_as_alone():
    """People and frames do not disturb each other in one batch."""
    states = [standing(1, 0.2, seed=seed) for seed in range(3)]
    alone = [BodyFitter(BODY, K, CALIBRATION).fit([measured(state, seen(state))])[0] for state in states]
    both = BodyFitter(BODY, K, CALIBRATION).fit([measured(state, seen(state), time_s=0.0) for state in states])
    for one, other in zip(alone, both, strict=True):
        np.testing.assert_allclose(one.transl, other.transl, atol=2e-3)


# --- smoothed bodies back on their keypoints --------------------------------------------------------------------------


def alignment_of(frames: list[Measured]) -> KeypointAlignment:
    alignment = KeypointAlignment(BODY, K, CALIBRATION)
    alignment.remember(frames)
    return alignment


def with_frame(measurement: Measured, frame: int) -> Measured:
    return replace(measurement, bodies=replace(measurement.bodies, frame=frame))


def test_a_smoothed_body_beside_its_keypoints_is_put_back_on_them():
    truth = standing(1, 0.2, seed=11)
    frames = [with_frame(measured(truth, seen(truth), time_s=index / 30), index) for index in range(5)]
    beside = State(truth.rotations, truth.betas, truth.pelvis + np.array([0.12, 0.05, 0.0]))
    smoothed = [replace(bodies_of(beside, seen(truth), index / 30), frame=index) for index in range(5)]
    aligned = alignment_of(frames).align(smoothed)
    off = lambda bodies: np.linalg.norm(seen(fitted_state(bodies))[..., :2] - seen(truth)[..., :2], axis=-1).mean()
    assert off(smoothed[2]) > 30
    assert all(off(bodies) < 3 for bodies in aligned)
    np.testing.assert_allclose(aligned[2].betas, smoothed[2].betas, atol=1e-6)


def test_alignment_does_not_bring_the_noise_of_keypoints_back():
    rng = np.random.default_rng(12)
    truth = standing(1, 0.2, seed=11)
    noisy = []
    for index in range(12):
        keypoints = seen(truth)
        keypoints[..., :2] += rng.normal(size=(1, 17, 2)) * 6
        noisy.append(with_frame(measured(truth, keypoints, time_s=index / 60), index))
    smoothed = [replace(bodies_of(truth, one.bodies.keypoints_px, index / 60), frame=index) for index, one in enumerate(noisy)]
    fitter = BodyFitter(BODY, K, CALIBRATION)
    alone = np.stack([joints_of(fitted_state(bodies))[0] for bodies in fitter.fit(noisy)])
    aligned = np.stack([joints_of(fitted_state(bodies))[0] for bodies in alignment_of(noisy).align(smoothed)])
    shake = lambda joints: np.linalg.norm(np.diff(joints - joints[:, :1], 2, axis=0), axis=-1).mean()
    assert shake(aligned) < 0.35 * shake(alone)


def test_rows_without_a_measurement_stay_as_the_smoother_gave_them():
    truth = standing(2, 0.2, seed=13)
    frames = [with_frame(measured(truth, seen(truth)), 7)]
    bodies = replace(bodies_of(truth, seen(truth)), frame=7)
    strangers = replace(bodies, track_id=np.array([1, 99]))
    filled = replace(bodies, interpolated=np.array([False, True]))
    elsewhere = replace(bodies, frame=8)
    alignment = alignment_of(frames)
    for one, untouched in ((strangers, [1]), (filled, [1]), (elsewhere, [0, 1])):
        aligned = alignment.align([one])[0]
        np.testing.assert_array_equal(aligned.body_pose[untouched], one.body_pose[untouched])
        np.testing.assert_array_equal(aligned.transl[untouched], one.transl[untouched])


def test_a_network_that_looked_at_somebody_else_is_hardly_believed():
    """Its landmarks are plainly elsewhere: the body then stands as people usually do, on its own keypoints."""
    truth, other = standing(1, 0.0), standing(1, 0.6, seed=14)
    network = State(other.rotations, truth.betas, truth.pelvis)
    frame = measured(network, seen(truth))
    elsewhere = seen(truth)
    elsewhere[..., 0] += 400
    landmarks = np.concatenate([elsewhere, np.zeros((1, 10, 3))], 1).astype(np.float32)
    believed = fitted_state(BodyFitter(BODY, K, CALIBRATION).fit([frame])[0])
    doubted = fitted_state(BodyFitter(BODY, K, CALIBRATION).fit([replace(frame, landmarks_px=landmarks)])[0])
    error = lambda state: np.linalg.norm(seen(state)[..., :2] - seen(truth)[..., :2], axis=-1).mean()
    assert error(doubted) < error(believed)


@pytest.mark.parametrize("together", [2, 3, 7])
def test_frames_fitted_together_are_as_one_by_one(together):
    """Also the shapes that settle on the way: how many frames come at once depends on the machine."""
    rng = np.random.default_rng(15)
    frames = []
    for index in range(40):
        truth = standing(2, 0.3, seed=index)
        network = stepped(truth, rng.normal(size=(2, SIZE)) * 0.05)
        frames.append(with_frame(measured(network, seen(truth), time_s=index / 30), index))
    alone, grouped = BodyFitter(BODY, K, CALIBRATION), BodyFitter(BODY, K, CALIBRATION)
    one_by_one = [alone.fit([frame])[0] for frame in frames]
    at_once = [bodies for start in range(0, 40, together) for bodies in grouped.fit(frames[start : start + together])]
    for one, other in zip(one_by_one, at_once, strict=True):
        np.testing.assert_allclose(one.body_pose, other.body_pose, atol=1e-5)
        np.testing.assert_allclose(one.betas, other.betas, atol=1e-4)
        np.testing.assert_allclose(one.transl, other.transl, atol=1e-5)


def test_measurements_of_sparse_frames_are_not_forgotten():
    """One frame in five seconds, held back by a smoother until the third one after it has come."""
    truth = standing(1, 0.2, seed=16)
    frames = [with_frame(measured(truth, seen(truth), time_s=5.0 * index), index) for index in range(8)]
    beside = State(truth.rotations, truth.betas, truth.pelvis + np.array([0.12, 0.05, 0.0]))
    alignment = KeypointAlignment(BODY, K, CALIBRATION)
    for index, frame in enumerate(frames):
        alignment.remember([frame])
        if index >= 3:
            late = replace(bodies_of(beside, seen(truth), 5.0 * (index - 3)), frame=index - 3)
            aligned = alignment.align([late])[0]
            assert np.linalg.norm(seen(fitted_state(aligned))[..., :2] - seen(truth)[..., :2], axis=-1).mean() < 3
