"""Smoothers: nothing lost, nothing mixed up, jitter gone, motion kept, the same at every frame rate."""

from __future__ import annotations

import dataclasses
import tracemalloc
import weakref
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mchmr_stream.datatypes import Bodies
from mchmr_stream.geometry.robust_mean import mean_rotation, median, median_rotation
from mchmr_stream.geometry.rotation import exp_so3, geodesic_rad, log_so3
from mchmr_stream.protocols import Smoother
from mchmr_stream.smoothing import KalmanSmoother, NoSmoother, rotation_filter, sliding_window, translation_filter


def TwoSided(lookahead_s: float = 0.5, strength: float = 1.0) -> KalmanSmoother:
    return KalmanSmoother(lookahead_s, strength)


def Causal(strength: float = 1.0) -> KalmanSmoother:
    return KalmanSmoother(0.0, strength)


ALL: list[Callable[[], Smoother]] = [NoSmoother, Causal, TwoSided, lambda: TwoSided(0.03), lambda: TwoSided(1.0, 4.0)]
REAL: list[Callable[[], Smoother]] = [Causal, TwoSided]


def frame(
    index: int, time_s: float, ids: Sequence[int], rotations: np.ndarray, transl: np.ndarray, confidence: float = 1.0, betas: float = 0.0
) -> Bodies:
    n = len(ids)
    return Bodies(
        frame=index,
        time_s=time_s,
        track_id=np.array(ids, np.int64),
        boxes_xyxy_px=np.full((n, 4), index, np.float32),
        scores=np.full(n, 0.5, np.float32),
        keypoints_px=np.full((n, 17, 3), index, np.float32),
        global_orient=rotations[:, 0].astype(np.float32),
        body_pose=rotations[:, 1:].astype(np.float32),
        betas=np.full((n, 10), betas, np.float32),
        transl=transl.astype(np.float32),
        views_cam=np.zeros((n, 5, 3), np.float32),
        confidence=np.full(n, confidence, np.float32),
    )


def swinging(t: np.ndarray | float, phase: float = 0.0) -> np.ndarray:
    """(..., 24, 3, 3): every joint swings about its own axis at 0.5 to 1.2 Hz."""
    rng = np.random.default_rng(7)
    axis, hz, rest = rng.normal(size=(24, 3)), rng.uniform(0.5, 1.2, 24), exp_so3(rng.normal(size=(24, 3)))
    axis *= 0.5 / np.linalg.norm(axis, axis=-1, keepdims=True)
    return rest @ exp_so3(np.sin(2 * np.pi * hz * np.asarray(t)[..., None] + phase)[..., None] * axis)


def walking(t: np.ndarray | float) -> np.ndarray:
    t = np.asarray(t)
    return np.stack([-0.5 + 0.6 * t, 0.1 * np.sin(4 * t), 4 + 0.3 * t], -1)


def rotations_of(bodies: Bodies) -> np.ndarray:
    return bodies.rotations.astype(np.float64)


def run(smoother: Smoother, frames: Sequence[Bodies]) -> list[Bodies]:
    return [ready for one in frames for ready in smoother.push(one)] + smoother.flush()


def clip(times_s: np.ndarray, motion: Callable = swinging, noise_rad: float = 0.0, noise_m: float = 0.0, seed: int = 0) -> list[Bodies]:
    rng = np.random.default_rng(seed)
    shake = exp_so3(noise_rad * rng.normal(size=(len(times_s), 24, 3)))
    place = walking(times_s) + noise_m * rng.normal(size=(len(times_s), 3)) * [0.1, 0.1, 1]
    return [frame(i, float(t), [1], (motion(t) @ shake[i])[None], place[i][None]) for i, t in enumerate(times_s)]


def times(fps: float, seconds: float) -> np.ndarray:
    return np.arange(round(fps * seconds) + 1) / fps


# ---- nothing is lost --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", ALL)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=6, deadline=None)
def test_each_frame_once_in_order_and_everything_else_untouched(make: Callable[[], Smoother], seed: int) -> None:
    rng = np.random.default_rng(seed)
    t, frames = 0.0, []
    for i in range(40):
        t += float(rng.choice([0, 0.005, 0.03, 0.1, 0.5, -1], p=[0.1, 0.2, 0.4, 0.15, 0.1, 0.05]))
        ids = rng.choice(6, size=rng.integers(0, 4), replace=False) + 1
        frames.append(frame(3 * i, t, ids, exp_so3(rng.normal(size=(len(ids), 24, 3))), rng.uniform(1, 5, (len(ids), 3)), rng.random()))
    out = run(make(), frames)
    assert [one.frame for one in out] == [one.frame for one in frames]
    for before, after in zip(frames, out, strict=True):
        assert before.time_s == after.time_s
        was_there = np.isin(after.track_id, before.track_id)
        assert after.interpolated[~was_there].all()
        old, new = np.argsort(before.track_id), np.argsort(after.track_id)[was_there[np.argsort(after.track_id)]]
        for name in ("track_id", "boxes_xyxy_px", "scores", "keypoints_px", "views_cam", "confidence"):
            np.testing.assert_array_equal(getattr(before, name)[old], getattr(after, name)[new])
        assert after.transl.dtype == after.global_orient.dtype == after.betas.dtype == np.float32
        rotations = rotations_of(after)
        np.testing.assert_allclose(rotations @ np.swapaxes(rotations, -1, -2), np.broadcast_to(np.eye(3), rotations.shape), atol=1e-5)
        np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-5)
        assert np.isfinite(after.transl).all()


@pytest.mark.parametrize("make", ALL)
def test_no_frames_and_only_empty_frames(make: Callable[[], Smoother]) -> None:
    assert run(make(), []) == []
    out = run(make(), [Bodies.empty(i, i / 30, 5) for i in range(20)])
    assert [one.frame for one in out] == list(range(20))
    assert all(len(one) == 0 for one in out)


@pytest.mark.parametrize("make", ALL)
def test_people_seen_in_one_frame_only_come_out_as_they_are(make: Callable[[], Smoother]) -> None:
    frames = [frame(i, i / 30, [i + 1], swinging(i)[None], walking(i)[None]) for i in range(10)]
    for before, after in zip(frames, run(make(), frames), strict=True):
        np.testing.assert_allclose(rotations_of(after), rotations_of(before), atol=1e-6)
        np.testing.assert_allclose(after.transl, before.transl, rtol=1e-6)


@pytest.mark.parametrize("make", ALL)
def test_a_person_who_keeps_still_keeps_still(make: Callable[[], Smoother]) -> None:
    rng = np.random.default_rng(0)
    still, t = swinging(0.3)[None], np.cumsum(rng.uniform(0.005, 0.09, 60))
    frames = [frame(i, float(at), [1], still, walking(1.0)[None], betas=0.7) for i, at in enumerate(t)]
    for after in run(make(), frames):
        np.testing.assert_allclose(rotations_of(after), still, atol=2e-6)
        np.testing.assert_allclose(after.transl, walking(1.0)[None], rtol=1e-6)
        np.testing.assert_allclose(after.betas, 0.7, rtol=1e-6)


def test_two_sided_holds_back_no_more_than_its_look_ahead() -> None:
    smoother, given_out = TwoSided(lookahead_s=0.5), 0
    frames = clip(times(60, 4))
    pushed: list[weakref.ref[Bodies]] = []
    for i in range(len(frames)):
        pushed.append(weakref.ref(frames[i]))
        given_out += len(smoother.push(frames[i]))
        assert i + 1 - given_out <= 0.5 * 60 + 3
        frames[i] = frames[-1]
        assert sum(one() is not None for one in pushed) <= 0.5 * 60 + 4 + 1, "frames in memory, the last one of the clip among them"
    assert given_out >= len(frames) - 0.5 * 60 - 3


@pytest.mark.parametrize("make", REAL)
def test_memory_does_not_grow_with_the_number_of_people_ever_seen(make: Callable[[], Smoother]) -> None:
    smoother, kept_bytes = make(), []
    tracemalloc.start()
    for i in range(800):
        smoother.push(frame(i, i * 0.1, [i + 1], swinging(0.0)[None], walking(0.0)[None]))
        if i in (399, 799):
            kept_bytes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert kept_bytes[1] < 1.2 * kept_bytes[0]


# ---- jitter goes, motion stays ----------------------------------------------------------------------------------------


def errors(out: Sequence[Bodies], times_s: np.ndarray) -> tuple[float, float]:
    """Mean rotation error and mean change of the turning from frame to frame (jitter), radians."""
    got = np.concatenate([rotations_of(one) for one in out])
    off = geodesic_rad(swinging(times_s), got).mean()
    turning = np.swapaxes(got[:-1], -1, -2) @ got[1:]
    return float(off), float(geodesic_rad(turning[:-1], turning[1:]).mean())


@pytest.mark.parametrize(("make", "jitter_left", "error_left"), [(TwoSided, 0.1, 0.5), (Causal, 0.55, 1.0)])
def test_jitter_is_removed_without_losing_the_motion(make: Callable[[], Smoother], jitter_left: float, error_left: float) -> None:
    t = times(60, 4)
    frames = clip(t, noise_rad=0.08)
    raw, smooth = errors(frames, t), errors(run(make(), frames), t)
    assert smooth[0] < error_left * raw[0]
    assert smooth[1] < jitter_left * raw[1]


def test_strength_smooths_more() -> None:
    t = times(60, 3)
    frames = clip(t, noise_rad=0.08)
    for make in (lambda s: TwoSided(1.0, s), lambda s: Causal(s)):
        jitter = [errors(run(make(strength), frames), t)[1] for strength in (0.3, 1.0, 3.0)]
        assert jitter[0] > 1.2 * jitter[1] > 1.44 * jitter[2]


@pytest.mark.parametrize("fps", [12, 30, 60])
def test_a_flip_of_one_frame_is_removed(fps: float) -> None:
    t = times(fps, 2)
    frames = clip(t)
    at = len(t) // 2
    flip = np.diag([1.0, -1, -1]).astype(np.float32)
    one = frames[at]
    frames[at] = dataclasses.replace(
        one, global_orient=one.global_orient @ flip, body_pose=one.body_pose @ flip, transl=one.transl * np.float32(1.5)
    )
    clean, out = run(TwoSided(), clip(t)), run(TwoSided(), frames)
    one_frame_of_motion = 0.5 * 2 * np.pi * 1.2 / fps
    for one, expected in zip(out, clean, strict=True):
        assert geodesic_rad(rotations_of(one), rotations_of(expected)).max() < 0.05 + 0.5 * one_frame_of_motion
        np.testing.assert_allclose(one.transl, expected.transl, atol=0.06)


def test_frame_rates_agree() -> None:
    """The same motion sampled at 60, 30 and 12 frames per second is the same motion afterwards."""
    outs = {fps: {round(one.time_s, 6): one for one in run(TwoSided(), clip(times(fps, 3)))} for fps in (60, 30, 12)}
    common = [t for t in sorted(set(outs[60]) & set(outs[30]) & set(outs[12])) if 0.2 < t < 2.8]
    assert len(common) > 10
    for t in common:
        for fps in (30, 12):
            assert geodesic_rad(rotations_of(outs[fps][t]), rotations_of(outs[60][t])).max() < 0.05
            np.testing.assert_allclose(outs[fps][t].transl, outs[60][t].transl, atol=0.02)


def test_varying_frame_rate_does_not_pull_to_where_frames_are_dense() -> None:
    """Time counts, not frames: the average of a steady motion is its middle, however the frames lie."""
    steady = lambda t: exp_so3(np.asarray(t)[..., None, None] * np.ones((24, 3)))
    dense_before = np.concatenate([np.arange(0, 1, 0.004), np.arange(1, 2, 0.04)])
    out = run(TwoSided(), clip(dense_before, motion=steady))
    worst = max(float(geodesic_rad(rotations_of(one)[0], steady(one.time_s)).max()) for one in out[30:-8])
    assert worst < 0.02 * 3**0.5


def test_causal_is_barely_late() -> None:
    t = times(30, 4)
    got = np.concatenate([rotations_of(one) for one in run(Causal(), clip(t))])
    late = [geodesic_rad(swinging(t - lag), got)[20:].mean() for lag in np.arange(0, 0.3, 0.01)]
    assert np.argmin(late) * 0.01 <= 0.12


@pytest.mark.parametrize("make", REAL)
def test_depth_is_smoothed_and_the_place_in_the_picture_kept(make: Callable[[], Smoother]) -> None:
    t = times(60, 4)
    frames = clip(t, noise_m=0.1)
    out = np.concatenate([one.transl for one in run(make(), frames)])
    raw = np.concatenate([one.transl for one in frames])
    left = 0.1 if make is TwoSided else 0.2
    assert np.abs(np.diff(out[:, 2], n=2)).mean() < left * np.abs(np.diff(raw[:, 2], n=2)).mean()
    bearing, true = out[30:-10, 0] / out[30:-10, 2], (walking(t)[:, 0] / walking(t)[:, 2])[30:-10]
    assert np.abs(bearing - true).mean() < 0.006  # 6 px at a focal length of 1000


# ---- laws -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", REAL)
def test_turning_the_input_turns_the_output(make: Callable[[], Smoother]) -> None:
    frames = clip(times(30, 1.5), noise_rad=0.3)
    left, right = exp_so3(np.array([0.4, -1.0, 2.0])), exp_so3(np.array([-1.3, 0.2, 0.5]))
    turn = lambda r: (left @ r.astype(np.float64) @ right).astype(np.float32)
    turned = [dataclasses.replace(one, global_orient=turn(one.global_orient), body_pose=turn(one.body_pose)) for one in frames]
    for one, other in zip(run(make(), frames), run(make(), turned), strict=True):
        np.testing.assert_allclose(left @ rotations_of(one) @ right, rotations_of(other), atol=2e-5)


def test_averages_against_slow_ones() -> None:
    rng = np.random.default_rng(0)
    points, weights = rng.normal(size=(9, 1, 3)), rng.uniform(0.1, 1, (9, 1))
    cost = lambda c: (weights[:, 0] * np.linalg.norm(points[:, 0] - c, axis=-1)).sum()
    best = median(points, weights, 1e-6)[0]
    assert all(cost(best) <= cost(best + d) + 1e-3 for d in rng.normal(size=(200, 3)) * 0.05)

    near = swinging(0.0)[None, None] @ exp_so3(0.1 * rng.normal(size=(9, 1, 24, 3)))
    got = mean_rotation(near, weights)
    geodesic = got
    for _ in range(20):  # Karcher mean: the step to the average of the logarithms
        step = (weights[:, :, None, None] * log_so3(np.swapaxes(geodesic, -1, -2) @ near)).sum(0) / weights.sum()
        geodesic = geodesic @ exp_so3(step)
    assert geodesic_rad(got, geodesic).max() < 1e-3
    spoiled = near.copy()
    spoiled[:3] = swinging(0.0) @ exp_so3(np.array([1.2, 0, 0]))
    assert geodesic_rad(median_rotation(spoiled, np.ones((9, 1))), swinging(0.0)).max() < 0.2
    assert geodesic_rad(mean_rotation(spoiled, np.ones((9, 1))), swinging(0.0)).min() > 0.25


@pytest.mark.parametrize("make", REAL)
def test_people_do_not_mix(make: Callable[[], Smoother]) -> None:
    t = times(30, 2)
    together, alone = [], []
    for i, at in enumerate(t):
        one, other = swinging(at), swinging(at, phase=2.0)
        order = [0, 1] if i % 2 else [1, 0]
        both = np.stack([one, other])[order], np.stack([walking(at), walking(at) + 1])[order]
        together.append(frame(i, float(at), [[5, 9][k] for k in order], *both))
        alone.append(frame(i, float(at), [5], one[None], walking(at)[None]))
    for pair, single in zip(run(make(), together), run(make(), alone), strict=True):
        row = int(np.flatnonzero(pair.track_id == 5)[0])
        np.testing.assert_allclose(rotations_of(pair)[row], rotations_of(single)[0], atol=1e-6)
        np.testing.assert_allclose(pair.transl[row], single.transl[0], atol=1e-6)


@pytest.mark.parametrize("make", REAL)
def test_the_two_sides_of_a_long_gap_do_not_touch(make: Callable[[], Smoother]) -> None:
    before, after = times(30, 1), times(30, 1) + 1.4
    frames = clip(np.concatenate([before, after]), noise_rad=0.1)
    whole = run(make(), frames)
    parts = run(make(), frames[: len(before)]) + run(make(), frames[len(before) :])
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(rotations_of(one), rotations_of(other), atol=1e-6)


@pytest.mark.parametrize("make", REAL)
def test_a_short_gap_is_smoothed_over(make: Callable[[], Smoother]) -> None:
    frames = clip(times(30, 2), noise_rad=0.1)
    gone = [one if not 26 <= i < 28 else Bodies.empty(one.frame, one.time_s, 5) for i, one in enumerate(frames)]
    split = [dataclasses.replace(one, track_id=one.track_id + (1 if one.frame >= 28 else 0)) for one in gone]
    bridged, cut = run(make(), gone)[28], run(make(), split)[28]
    assert geodesic_rad(rotations_of(bridged), rotations_of(cut)).max() > 0.003


@pytest.mark.parametrize("make", REAL)
def test_doubtful_rows_count_less(make: Callable[[], Smoother]) -> None:
    t = times(30, 2)
    off = exp_so3(np.array([0.5, 0, 0]))

    def shape_and_pose(confidence: float) -> Bodies:
        frames = []
        for i, at in enumerate(t):
            wrong = i % 3 == 0
            rotation = swinging(0.0) @ (off if wrong else np.eye(3))
            frames.append(frame(i, float(at), [1], rotation[None], walking(0)[None], confidence if wrong else 1.0, 1.0 if wrong else 0.0))
        return run(make(), frames)[45]

    sure, doubtful = shape_and_pose(1.0), shape_and_pose(0.1)
    assert doubtful.betas[0, 0] < 0.5 * sure.betas[0, 0]
    if make is TwoSided:
        far = [geodesic_rad(rotations_of(one), swinging(0.0)).mean() for one in (sure, doubtful)]
        assert far[1] < 0.6 * far[0]


@pytest.mark.parametrize("make", REAL)
def test_rows_that_are_not_finite_pass_and_harm_nobody(make: Callable[[], Smoother]) -> None:
    frames = clip(times(30, 1))
    clean = run(make(), frames)
    broken = dataclasses.replace(frames[15], body_pose=np.full_like(frames[15].body_pose, np.nan))
    out = run(make(), [*frames[:15], broken, *frames[16:]])
    assert np.isnan(out[15].body_pose).all()
    for i in (13, 14, 16, 17):
        assert geodesic_rad(rotations_of(out[i]), rotations_of(clean[i])).max() < 0.1


@pytest.mark.parametrize("make", REAL)
def test_a_clock_set_back_starts_anew(make: Callable[[], Smoother]) -> None:
    frames = clip(times(30, 1), noise_rad=0.1)
    again = [dataclasses.replace(one, frame=one.frame + 100) for one in frames]
    out = run(make(), [*frames, *again])
    assert [one.frame for one in out] == [one.frame for one in [*frames, *again]]
    for one, other in zip(out[: len(frames)], out[len(frames) :], strict=True):
        np.testing.assert_allclose(rotations_of(one), rotations_of(other), atol=1e-6)


def test_a_clock_set_back_does_not_keep_frames_waiting() -> None:
    smoother, frames = TwoSided(), clip(times(30, 1) + 1000)
    held = len(frames) - sum(len(smoother.push(one)) for one in frames)
    assert held > 3
    assert len(smoother.push(dataclasses.replace(frames[0], time_s=0.0))) == held


def test_ends_of_a_track_are_not_pulled_inwards() -> None:
    """A window that sees one side only would show the first frame of a steady turn where the person is later."""
    steady = lambda t: exp_so3(np.asarray(t)[..., None, None] * np.array([3.0, 0, 0]) * np.ones((24, 1)))
    out = run(TwoSided(), clip(times(60, 1), motion=steady))
    for one in (out[0], out[-1]):
        assert geodesic_rad(rotations_of(one)[0], steady(one.time_s)).max() < 3 * 0.03


# ---- gaps and filters -------------------------------------------------------------------------------------------------


def test_a_short_gap_gets_rows_marked_interpolated_on_the_way_between() -> None:
    t = times(30, 3)
    gone = [one if not 40 <= one.frame < 48 else Bodies.empty(one.frame, one.time_s, 5) for one in clip(t)]
    out = run(TwoSided(), gone)
    assert [len(one) for one in out] == [1] * len(t)
    assert [one.frame for one in out if one.interpolated.any()] == list(range(40, 48))
    for one in out[40:48]:
        assert geodesic_rad(rotations_of(one)[0], swinging(one.time_s)).max() < 0.2
        np.testing.assert_allclose(one.transl[0], walking(one.time_s), atol=0.05)
        assert one.scores[0] == 0
        assert np.isnan(one.views_cam).all()
        assert (one.keypoints_px[..., 2] == 0).all()


def test_rows_of_a_gap_have_no_deviations_of_their_own() -> None:
    """Somebody else, who is seen in the gap, keeps theirs."""
    t = times(30, 2)
    there = [(1, 2) if not 30 <= i < 34 else (2,) for i in range(len(t))]
    sd = np.tile(np.array([0.0, 0.1, 0.2], np.float32)[:, None], 24)
    frames = [
        dataclasses.replace(
            frame(i, float(t[i]), ids, np.repeat(swinging(t[i])[None], len(ids), 0), np.repeat(walking(t[i])[None], len(ids), 0)),
            joint_sd_rad=sd[list(ids)],
            joint_sd_m=10 * sd[list(ids)],
        )
        for i, ids in enumerate(there)
    ]
    out = run(TwoSided(), frames)
    for bodies in out:
        assert bodies.track_id.tolist() == [1, 2]
        for row, one in enumerate(bodies.track_id):
            if bodies.interpolated[row]:
                assert np.isnan(bodies.joint_sd_rad[row]).all()
                assert np.isnan(bodies.joint_sd_m[row]).all()
            else:
                np.testing.assert_array_equal(bodies.joint_sd_rad[row], sd[one])
                np.testing.assert_array_equal(bodies.joint_sd_m[row], 10 * sd[one])
    assert sum(bodies.interpolated.sum() for bodies in out) == 4


def test_a_longer_gap_stays_one_and_the_identity_comes_back() -> None:
    gone = [one if not 30 <= one.frame < 60 else Bodies.empty(one.frame, one.time_s, 5) for one in clip(times(30, 3))]
    out = run(TwoSided(), gone)
    assert [one.frame for one in out if not len(one)] == list(range(30, 60))
    assert {int(one.track_id[0]) for one in out if len(one)} == {1}


def test_the_filters_give_what_filterpy_gives_about_one_axis() -> None:
    """Turning about a fixed axis is a straight line: filterpy's filter and smoother must agree."""
    from filterpy.kalman import KalmanFilter

    rng, axis, drive = np.random.default_rng(0), np.array([0.0, 0.6, 0.8]), 40.0
    steps_s, angles = rng.uniform(0.01, 0.08, 30), np.cumsum(rng.normal(0.02, 0.05, 31))
    plain = KalmanFilter(dim_x=2, dim_z=1)
    plain.H = np.array([[1.0, 0.0]])
    matrix = lambda angle: exp_so3(angle * axis)[None]
    steps = [rotation_filter.start(matrix(angles[0]), 1 / 30, np.ones(1))]
    plain.x, plain.P = np.array([[angles[0]], [0.0]]), steps[0].covariance[0].copy()
    means, covariances, ways, noises = [plain.x], [plain.P], [np.eye(2)], [np.zeros((2, 2))]
    for dt_s, angle in zip(steps_s, angles[1:], strict=True):
        predicted = rotation_filter.predict(steps[-1], dt_s, np.full(1, drive))
        steps.append(rotation_filter.update(predicted, matrix(angle), dt_s, np.full(1, 2.0)))
        ways.append(np.array([[1, dt_s], [0, 1]]))
        noises.append(drive * np.array([[dt_s**3 / 3, dt_s**2 / 2], [dt_s**2 / 2, dt_s]]))
        plain.predict(F=ways[-1], Q=noises[-1])
        plain.update(angle, R=2 * rotation_filter.RHO / dt_s)
        means.append(plain.x)
        covariances.append(plain.P)
    expected = plain.rts_smoother(np.stack(means), np.stack(covariances), Fs=ways, Qs=noises)[0][:, 0, 0]
    for rotations, angle in zip(rotation_filter.smoothed(steps, len(steps)), expected, strict=True):
        assert geodesic_rad(rotations, matrix(angle)).max() < 1e-6


def test_places_are_filtered_as_filterpy_does() -> None:
    from filterpy.kalman import KalmanFilter

    rng, drive = np.random.default_rng(0), 8.0
    steps_s, places = rng.uniform(0.01, 0.08, 30), np.array([0.5, -0.2, 4.0]) + np.cumsum(rng.normal(0, 0.05, (31, 3)), 0)
    noises = rng.choice([1.0, 5.0, np.inf], 30)
    steps = [translation_filter.start(places[0], 1 / 30, 1.0)]
    plain = KalmanFilter(dim_x=6, dim_z=3)
    plain.H = np.eye(3, 6)
    plain.x, plain.P = steps[0].mean[:, None], steps[0].covariance
    means, covariances, ways, added = [plain.x], [plain.P], [], []
    for dt_s, place, noise in zip(steps_s, places[1:], noises, strict=True):
        predicted = translation_filter.predict(steps[-1], dt_s, drive)
        steps.append(translation_filter.update(predicted, place, dt_s, noise))
        ways.append(np.block([[np.eye(3), dt_s * np.eye(3)], [np.zeros((3, 3)), np.eye(3)]]))
        added.append(drive * np.kron([[dt_s**3 / 3, dt_s**2 / 2], [dt_s**2 / 2, dt_s]], np.eye(3)))
        plain.predict(F=ways[-1], Q=added[-1])
        # Along the line of sight ten times less exact than across it; the factor for a place that is left out is as good as infinite.
        distance = np.linalg.norm(place)
        along = np.outer(place, place) / distance**2
        measured = distance**2 * min(noise, 1e9) / (30 * dt_s) * (0.004**2 * (np.eye(3) - along) + 0.04**2 * along)
        plain.update(place[:, None], R=measured)
        means.append(plain.x)
        covariances.append(plain.P)
        np.testing.assert_allclose(steps[-1].mean, plain.x[:, 0], atol=1e-9)
        np.testing.assert_allclose(steps[-1].covariance, plain.P, rtol=1e-6, atol=1e-9)
    expected = plain.rts_smoother(np.stack(means), np.stack(covariances), Fs=[np.eye(6), *ways], Qs=[np.zeros((6, 6)), *added])[0]
    for count in (31, 7, 1):
        np.testing.assert_allclose(translation_filter.smoothed(steps, count), expected[:count, :3, 0], atol=1e-9)


def test_a_sample_stands_for_half_the_time_to_its_neighbours() -> None:
    rng = np.random.default_rng(0)
    offsets, there = np.sort(rng.uniform(-1, 1, 12)), rng.random((12, 40)) < 0.4
    offsets[5] = offsets[4]
    found = sliding_window.sample_durations(offsets, there)
    for frame, person in zip(*np.nonzero(there), strict=True):
        others = np.flatnonzero(there[:, person])
        place = int(np.searchsorted(others, frame))
        last = offsets[frame] - offsets[others[place - 1]] if place > 0 else None
        after = offsets[others[place + 1]] - offsets[frame] if place + 1 < len(others) else None
        sides = [one for one in (last if last is not None else after, after if after is not None else last) if one is not None]
        assert found[frame, person] == pytest.approx(sum(min(one, 0.3) for one in sides) / 2)


def test_a_flip_does_not_get_through_without_a_look_ahead() -> None:
    frames, flip = clip(times(30, 2)), np.diag([1.0, -1, -1]).astype(np.float32)
    clean = run(Causal(), frames)
    frames[30] = dataclasses.replace(frames[30], global_orient=frames[30].global_orient @ flip)
    out = run(Causal(), frames)
    assert geodesic_rad(rotations_of(out[30]), rotations_of(clean[30])).max() < 0.2
    assert out[30].interpolated.all()
    assert not out[31].interpolated.any()


def test_one_wrong_shape_does_not_move_the_betas() -> None:
    frames = [dataclasses.replace(one, betas=one.betas + (4 if one.frame % 10 == 5 else 0)) for one in clip(times(30, 2))]
    assert np.abs(run(TwoSided(), frames)[-1].betas).max() < 0.2
