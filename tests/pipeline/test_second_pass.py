"""The second pass of files: shapes of whole tracks, measurements kept on disk, and the rows that it replaces."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from fitted_people import BODY, CALIBRATION, WH, K, bodies_of, joints_of, measured, seen, standing

from mchmr_stream.config import settings_from
from mchmr_stream.datatypes import Bodies
from mchmr_stream.errors import UsageError
from mchmr_stream.fitting.body_fitter import BodyFitter, Measured
from mchmr_stream.fitting.measurements_file import MeasuredFile
from mchmr_stream.fitting.point_kinematics import SIZE, stepped
from mchmr_stream.fitting.track_shapes import settled_shapes
from mchmr_stream.motion.row_matching import rows_of
from mchmr_stream.pipeline.second_pass import fitted_again

FRAMES = 40
ALONE = settings_from({"smoother": {"kind": "none"}})


def frames_of_a_track(noise: float = 1.0) -> tuple[np.ndarray, list[Measured]]:
    """One person in many frames, whose shape the network gets wrong anew in each: joints (24, 3) and what was measured."""
    person, rng = standing(), np.random.default_rng(4)
    frames = []
    for number in range(FRAMES):
        off = np.zeros((1, SIZE))
        off[:, 60:70] = rng.normal(size=(1, 10)) * noise
        one = measured(stepped(person, off), seen(person), time_s=number * 0.2)
        frames.append(replace(one, bodies=replace(one.bodies, frame=number)))
    return joints_of(person)[0], frames


def first_pass(frames: list[Measured], path: Path) -> tuple[list[Bodies], MeasuredFile]:
    fitter, kept = BodyFitter(BODY, K, CALIBRATION), MeasuredFile(path, 1)
    fitted = [fitter.fit([frame])[0] for frame in frames]
    kept.append(frames, fitted)
    return fitted, kept


def test_the_first_frames_get_the_bone_lengths_that_only_later_frames_show(tmp_path: Path):
    _, frames = frames_of_a_track()
    once, kept = first_pass(frames, tmp_path / "clip.npz")
    again = list(fitted_again(kept, ALONE, BODY, K))
    kept.close()
    assert [bodies.frame for bodies in again] == list(range(FRAMES))
    spread = lambda bodies: np.ptp([one.betas_frame[0] for one in bodies[:10]], axis=0).mean()
    assert spread(again) < 0.35 * spread(once)
    assert np.abs(again[0].betas_frame[0] - again[-1].betas_frame[0]).max() < 0.25


def test_what_was_measured_comes_back_as_it_was(tmp_path: Path):
    _, frames = frames_of_a_track()
    nobody = replace(frames[1].bodies.rows(np.zeros(0, np.int64)), frame=FRAMES)
    empty = Measured(nobody, *(np.zeros((0, *shape), np.float32) for shape in ((17, 2, 2), (27, 3), (3,), ())), WH, 0.5)
    two = measured(standing(2, 0.2), seen(standing(2, 0.2)))
    given = [empty, *frames[:20], replace(empty, bodies=replace(nobody, frame=98)), replace(two, bodies=replace(two.bodies, frame=99))]
    kept = MeasuredFile(tmp_path / "clip.npz", 1)
    kept.append(given, [frame.bodies for frame in given])
    back = [frame for block in kept.blocks() for frame in block]
    assert len(back) == len(given)
    for one, other in zip(back, given, strict=True):
        assert one.picture_wh == other.picture_wh
        assert one.up_rad == other.up_rad
        for column in fields(Bodies):
            np.testing.assert_array_equal(getattr(one.bodies, column.name), getattr(other.bodies, column.name))
        for name in ("keypoint_covariance_px2", "landmarks_px", "base_px", "roll_rad"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    kept.close()
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_a_run_without_people_has_nothing_to_fit_again(tmp_path: Path):
    kept = MeasuredFile(tmp_path / "clip.npz", 1)
    empty = Measured(Bodies.empty(0, 0.0, 1), *(np.zeros((0, *shape), np.float32) for shape in ((17, 2, 2), (27, 3), (3,), ())), WH)
    kept.append([empty], [empty.bodies])
    assert [len(bodies) for bodies in fitted_again(kept, ALONE, BODY, K)] == [0]
    kept.close()


def test_a_settled_shape_is_that_of_most_frames_and_is_trusted_the_more_the_longer_it_was_seen():
    rng = np.random.default_rng(0)
    truth = {1: rng.normal(size=10), 2: rng.normal(size=10)}
    track = np.array([1, 2] * 100 + [3])
    betas = np.array([truth.get(one, np.full(10, np.nan)) for one in track.tolist()])
    betas[10:40:2] += 5  # a stretch in which somebody else hid them
    time_s = np.where(track == 1, 0.01, 1.0) * np.arange(len(track))
    shapes = settled_shapes(track, time_s, betas, np.ones(len(track)))
    for one in (1, 2):
        np.testing.assert_allclose(shapes.known(one, 0)[0], truth[one], atol=0.05)
    assert 0 < shapes.known(1, 0)[1] < shapes.known(2, 0)[1]
    assert shapes.known(3, 0)[1] == shapes.known(4, 0)[1] == 0, "nothing is known of somebody without a usable row"


def test_rows_are_those_of_the_same_frame_and_person():
    person = standing(3, 0.2)
    bodies = replace(bodies_of(person, seen(person)), frame=7)
    known, rows = rows_of(bodies, np.repeat([6, 7, 8], 3), np.tile([5, 3, 1], 3))
    assert dict(zip(known.track_id.tolist(), rows.tolist(), strict=True)) == {1: 5, 3: 4}
    np.testing.assert_array_equal(known.body_pose, bodies.body_pose[[0, 2]])
    assert len(rows_of(replace(bodies, frame=9), np.repeat([6, 7, 8], 3), np.tile([5, 3, 1], 3))[1]) == 0


def test_more_than_two_passes_are_refused():
    with pytest.raises(UsageError, match=r"fit\.passes"):
        settings_from({"fit": {"passes": 3}})
