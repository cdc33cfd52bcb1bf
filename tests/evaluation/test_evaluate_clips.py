"""Real clips of several people with truths that have gaps: what is zero, what a known change costs, who is whom, what does not count."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import io
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from mchmr_stream.body.coco_points import coco_points
from mchmr_stream.body.face_points import FACE_VERTICES, face_points
from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import BodyModel, forward_kinematics, skin
from mchmr_stream.datatypes import JOINT_NAMES, KEYPOINT_NAMES
from mchmr_stream.evaluation import real3d, real_predictions, reprojection
from mchmr_stream.evaluation.html_report import real_report
from mchmr_stream.evaluation.real_clips import RealClip, load_clips
from mchmr_stream.evaluation.real_predictions import Predicted, RealPredictions, matched_people
from mchmr_stream.evaluation.seen_people import seen_in_motion, smoothed_alone
from mchmr_stream.geometry.rotation import matrix_from_axis_angle
from mchmr_stream.metrics.joint_angles import flexion_deg
from mchmr_stream.metrics.joint_errors import LIMBS_IN_SMPL
from mchmr_stream.metrics.matching import match_people
from mchmr_stream.motion.motion import load

RNG = np.random.default_rng(3)
K = np.array([[900.0, 0, 640], [0, 900, 360], [0, 0, 1]])
UPRIGHT = np.diag([1.0, -1, -1])
FRAMES = 8


# --- made-up people


@functools.cache
def free_body() -> BodyModel:
    return load_body()


@dataclasses.dataclass
class People:
    """Bodies of n rows and all that a file holds of them."""

    rotations: np.ndarray
    betas: np.ndarray
    transl: np.ndarray
    joints_m: np.ndarray
    coco_m: np.ndarray
    """(n, 17, 3)"""


def people(place_m: np.ndarray, bend: float = 0.25, root: np.ndarray = UPRIGHT) -> People:
    """Free bodies, one at each place (n, 3), bent a little in every joint."""
    body, n = free_body(), len(place_m)
    rotations = matrix_from_axis_angle(RNG.normal(size=(n, 24, 3)) * bend).astype(np.float32)
    rotations[:, 0] = root @ rotations[:, 0]
    betas = RNG.normal(size=(n, 10)).astype(np.float32) * 0.5
    transl = place_m.astype(np.float32)
    joints, _ = forward_kinematics(body, *(torch.from_numpy(array) for array in (rotations, betas, transl)))
    face, limbs = face_points(body), coco_points(body)
    assert face is not None
    assert limbs is not None
    coco = np.concatenate([face.place(rotations, betas, transl), limbs.place(joints.numpy(), rotations)], 1)
    return People(rotations, betas, transl, joints.numpy(), coco)


def two_people(frames: int = FRAMES) -> list[People]:
    return [people(np.tile([x, 0, 4.0], (frames, 1)) + RNG.normal(size=(frames, 3)) * 0.02) for x in (-0.7, 0.7)]


def pixels(points_m: np.ndarray) -> np.ndarray:
    return points_m[..., :2] / points_m[..., 2:] * K[[0, 1], [0, 1]] + K[:2, 2]


def write_motion(path: Path, rows: People, frame: np.ndarray, track_id: np.ndarray, keypoints: np.ndarray | None = None) -> Path:
    """A file as `mchmr video` writes it; boxes reach around COCO's points."""
    n = len(frame)
    order = np.argsort(frame, kind="stable")
    in_order = lambda array: np.ascontiguousarray(array[order], np.float32)
    seen = pixels(rows.coco_m)
    boxes = np.concatenate([seen.min(1), seen.max(1)], 1)
    keypoints = np.concatenate([seen, np.full((n, 17, 1), 0.9)], -1) if keypoints is None else keypoints
    zero = lambda *shape: np.zeros((n, *shape), np.float32)
    np.savez(
        path, schema=1, fps=25.0, width=1280, height=720, K=K, joint_names=np.array(JOINT_NAMES), keypoint_names=np.array(KEYPOINT_NAMES),
        body_model="free", body_model_sha256=free_body().sha256, weights="some", weights_sha256="1", settings="{}",
        frame=frame[order].astype(np.int64), time_s=frame[order] / 25, track_id=track_id[order].astype(np.int64),
        box_xyxy_px=in_order(boxes), score=zero(), global_orient=in_order(rows.rotations[:, 0]), body_pose=in_order(rows.rotations[:, 1:]),
        betas=in_order(rows.betas), transl=in_order(rows.transl), joints_m=in_order(rows.joints_m),
        joints_px=in_order(pixels(rows.joints_m)), keypoints_px=in_order(keypoints), confidence=zero(), views_cam=zero(1, 3),
        interpolated=np.zeros(n, bool), betas_frame=zero(10), transl_mean_body=zero(3), frames=np.unique(frame).astype(np.int64),
        frames_time_s=np.unique(frame) / 25,
    )  # fmt: skip
    return path


def write_truth(folder: Path, coco_m: np.ndarray, valid: np.ndarray | None = None, session: str = "yard", **changes: object) -> Path:
    """(people, frames, 17, 3) as a clip of one camera; the video is there by name only."""
    persons, count = coco_m.shape[:2]
    (folder / session).mkdir(parents=True, exist_ok=True)
    (folder / session / "cam_0.mp4").touch()
    arrays: dict[str, object] = {
        "joints3d_cam_m": coco_m[:, None], "valid": np.ones((persons, count, 17), bool) if valid is None else valid, "K": K[None],
        "dist": np.zeros((1, 5)), "cam_names": np.array(["cam_0"]), "frames": np.arange(count),
    }  # fmt: skip
    np.savez(folder / f"gt_{session}.npz", **(arrays | changes))  # type: ignore[arg-type]
    return folder


def joined(parts: list[People]) -> People:
    return People(*(np.concatenate([getattr(one, field.name) for one in parts]) for field in dataclasses.fields(People)))


def errors(clips: list[Predicted]) -> tuple[dict[str, float], dict[str, float]]:
    tables = real3d.evaluate(RealPredictions({}, tuple(clips))).tables
    return tables["errors"]["mean: ours"], tables[real3d.ANGLES]["mean: ours"]


def flawless(found: dict[str, float], angles: dict[str, float]) -> None:
    assert found["found %"] == found["PCK@0.05 %"] == 100
    for name in ("MPJPE mm", "PA-MPJPE mm", "accel mm/frame^2", "2D face, % of box", "2D limbs, % of box"):
        assert found[name] == pytest.approx(0, abs=2e-3), name
    for name, value in angles.items():
        assert value == pytest.approx(0, abs=1e-2), name


# --- the whole way


def test_the_face_is_five_vertices_of_the_whole_skin():
    one = people(np.array([[0.1, 0.2, 3.0], [1.0, 0, 5.0]]))
    vertices, _ = skin(free_body(), *(torch.from_numpy(array) for array in (one.rotations, one.betas, one.transl)))
    assert one.coco_m[:, :5] == pytest.approx(vertices[:, list(FACE_VERTICES)].numpy(), abs=1e-5)
    standing = people(np.zeros((1, 3)), bend=0).coco_m[0]  # facing the camera: its left is on our right
    assert standing[1, 0] > standing[0, 0] > standing[2, 0], "left eye, nose, right eye"
    assert standing[3, 0] > standing[1, 0], "the ear is farther out"
    assert standing[0, 2] < standing[3:5, 2].min(), "the nose is in front of the ears"


def test_truth_fed_back_has_no_error_whoever_comes_first(tmp_path):
    """Two people whose rows and track numbers change places from frame to frame."""
    both = two_people()
    (clip,) = load_clips([write_truth(tmp_path, np.stack([one.coco_m for one in both]), person_names=np.array(["Ada", "Ben"]))])
    track_id = np.concatenate([np.arange(FRAMES) % 2 + 1, (np.arange(FRAMES) + 1) % 2 + 1])
    file = write_motion(tmp_path / "m.npz", joined(both), np.tile(np.arange(FRAMES), 2), track_id)
    clips = matched_people(clip, "ours", seen_in_motion(load(file)), undistorted=True)
    assert [one.label for one in clips] == ["yard/cam_0, Ada", "yard/cam_0, Ben"]
    for one in clips:
        flawless(*errors([one]))


def test_rows_of_somebody_else_are_nobody(tmp_path):
    ada, ben = two_people()
    (clip,) = load_clips([write_truth(tmp_path, ada.coco_m[None])])
    file = write_motion(tmp_path / "m.npz", ben, np.arange(FRAMES), np.ones(FRAMES))
    found, angles = errors(matched_people(clip, "ours", seen_in_motion(load(file)), undistorted=True))
    assert found["found %"] == found["PCK@0.1 %"] == 0
    assert all(np.isnan([*angles.values(), found["MPJPE mm"], found["2D limbs, % of box"]]))


def test_each_frame_with_enough_of_a_person_counts_as_found_or_not(tmp_path):
    ada = two_people()[0]
    valid = np.ones((1, FRAMES, 17), bool)
    valid[0, 0, 8:] = False  # three limb joints are left: the frame does not count
    valid[0, 1, 9:] = False  # four
    (clip,) = load_clips([write_truth(tmp_path, ada.coco_m[None], valid)])
    kept = np.array([0, 1, 2, 3])
    some = People(*(getattr(ada, field.name)[kept] for field in dataclasses.fields(People)))
    file = write_motion(tmp_path / "m.npz", some, kept, np.ones(4))
    found, _ = errors(matched_people(clip, "ours", seen_in_motion(load(file)), undistorted=True))
    assert found["found %"] == pytest.approx(3 / 7 * 100)
    assert found["MPJPE mm"] == pytest.approx(0, abs=2e-3)


def test_numbers_of_frames_are_those_of_the_video(tmp_path):
    ada = two_people()[0]
    frames = np.arange(FRAMES) * 3 + 5
    (clip,) = load_clips([write_truth(tmp_path, ada.coco_m[None], frames=frames)])
    file = write_motion(tmp_path / "m.npz", ada, frames, np.ones(FRAMES))
    flawless(*errors(matched_people(clip, "ours", seen_in_motion(load(file)), undistorted=True)))


def test_people_are_matched_so_that_all_distances_together_are_least():
    target = np.zeros((2, 12, 2))
    target[1] += [20, 0]
    rows = np.zeros((2, 12, 2))
    rows[0] += [10, 0]  # between the two, and nearer to the second than the other row is
    rows[1] += [-10, 0]
    assert match_people(rows, np.full(2, 100.0), target).tolist() == [1, 0]
    assert match_people(rows, np.full(2, 20.0), target).tolist() == [-1, -1], "half of a box is too far"
    target[0, :9] = np.nan
    assert match_people(rows, np.full(2, 100.0), target)[0] == -1, "three joints tell nobody"


# --- metrics


def predicted(target_m: np.ndarray, limbs_m: np.ndarray, frame: np.ndarray | None = None) -> Predicted:
    """Limbs (T, 12, 3) beside a truth with NaN where it is not valid."""
    count = len(target_m)
    unknown = lambda *shape: np.full((count, *shape), np.nan)
    return Predicted(
        "yard", "cam_0", "", "ours", np.arange(count) if frame is None else frame, limbs_m, pixels(limbs_m), unknown(24, 3), unknown(24, 2),
        unknown(5, 2), np.full(count, 500.0), unknown(), target_m, pixels(target_m), unknown(5, 2),
    )  # fmt: skip


def limbs(count: int = FRAMES) -> np.ndarray:
    """A straight person, arms down, with depth so that nothing is degenerate: (count, 12, 3)."""
    left = np.array([[0.2, -0.5, 4], [0.2, -0.2, 4.1], [0.2, 0.1, 4.2], [0.1, 0, 4], [0.1, 0.45, 4], [0.1, 0.9, 4]])
    right = left * [-1, 1, 1]
    return np.tile(np.stack([left, right], 1).reshape(1, 12, 3), (count, 1, 1))


def turned_about(points: np.ndarray, joint: int, moved: list[int], degrees: float) -> np.ndarray:
    """The limbs `moved` turned about a limb, around the x axis."""
    turn = matrix_from_axis_angle(np.array([np.radians(degrees), 0, 0]))
    result = points.copy()
    result[:, moved] = (points[:, moved] - points[:, [joint]]) @ turn.T + points[:, [joint]]
    return result


def test_flexion_of_known_poses():
    straight = limbs(1)
    assert flexion_deg(straight)["knee"] == pytest.approx(np.zeros((1, 2)), abs=1e-9)
    assert flexion_deg(turned_about(straight, 8, [10], 35))["knee"] == pytest.approx(np.array([[35.0, 0]]))
    assert flexion_deg(turned_about(straight, 9, [11], -35))["knee"] == pytest.approx(np.array([[0.0, 35]]))
    assert flexion_deg(turned_about(straight, 6, [8, 10], -90))["hip"] == pytest.approx(np.array([[90.0, 0]]), abs=1e-9)
    assert flexion_deg(turned_about(straight, 2, [4], 60))["elbow"] == pytest.approx(np.array([[60.0, 0]]), abs=1e-9)


def test_a_knee_bent_too_far_is_the_bias_and_opposite_errors_are_none():
    target = turned_about(turned_about(limbs(), 8, [10], 30), 9, [11], 30)
    farther = turned_about(turned_about(limbs(), 8, [10], 50), 9, [11], 50)
    row = real3d.angles_row([predicted(target, farther)])
    assert (row["knee bias"], row["knee error"]) == pytest.approx((20, 20))
    assert [row[name] for name in ("elbow bias", "elbow error", "hip bias", "hip error")] == pytest.approx([0] * 4, abs=1e-9)
    opposite = turned_about(turned_about(limbs(), 8, [10], 40), 9, [11], 20)
    row = real3d.angles_row([predicted(target, opposite)])
    assert (row["knee bias"], row["knee error"]) == pytest.approx((0, 10), abs=1e-9)


@pytest.mark.parametrize(("joint", "angle"), [(5, "elbow"), (10, "knee"), (8, "hip"), (8, "knee")])
def test_a_joint_that_is_not_valid_does_not_count(joint, angle):
    target = limbs()
    off = target.copy()
    off[:, joint, 2] += 1
    assert real3d.errors_row([predicted(target, off)])["MPJPE mm"] == pytest.approx(1000 / 12)
    assert real3d.angles_row([predicted(target, off)])[f"{angle} error"] > 5
    target[:, joint] = np.nan
    clip = predicted(target, off)
    row = real3d.errors_row([clip])
    assert row["found %"] == row["PCK@0.05 %"] == 100
    assert [row[name] for name in ("MPJPE mm", "PA-MPJPE mm", "accel mm/frame^2", "2D limbs, % of box")] == pytest.approx([0] * 4, abs=1e-9)
    assert real3d.angles_row([clip])[f"{angle} error"] == pytest.approx(0, abs=1e-9), "of the other side"
    joints = real3d.evaluate(RealPredictions({}, (clip,))).tables["per joint, mm"]
    assert sum(np.isnan(one["ours"]) for one in joints.values()) == 1


def test_without_both_hips_shoulders_are_the_anchor():
    target = limbs()
    off = target.copy()
    off[:, 6:8] += [0, 0, 1]
    target[:, 7] = np.nan  # the left hip stays valid, and its error counts
    row = real3d.errors_row([predicted(target, off)])
    assert row["MPJPE mm"] == pytest.approx(1000 / 11)
    assert np.isnan(real3d.angles_row([predicted(target, off)])["hip error"]), "a trunk needs both"


def test_a_similarity_does_not_see_points_that_are_not_valid():
    target = limbs() + RNG.normal(size=(FRAMES, 12, 3)) * 0.1
    turn = matrix_from_axis_angle(np.array([0.3, -1.2, 0.4]))
    other = 1.7 * target @ turn.T + np.array([3, 2, 1])
    target[:, 10] = np.nan
    other[:, 10] = 7
    assert real3d.errors_row([predicted(target, other)])["PA-MPJPE mm"] == pytest.approx(0, abs=1e-6)
    target[:, [0, 2, 3, 4, 5, 8, 9]] = np.nan
    assert np.isnan(real3d.errors_row([predicted(target, other)])["PA-MPJPE mm"]), "four points fit almost anything"


def test_acceleration_is_of_frames_in_a_row_only():
    target = limbs(6)
    off = target.copy()
    off[3:, 4, 0] += 0.5
    steady = predicted(target, off, np.array([0, 1, 2, 40, 41, 42]))
    assert real3d.errors_row([steady])["accel mm/frame^2"] == pytest.approx(0, abs=1e-9)
    jump = predicted(target, off)
    assert real3d.errors_row([jump])["accel mm/frame^2"] == pytest.approx(500 / 12 * 2 / 4)  # two of four triples, one joint of twelve


def test_two_dimensional_errors_are_of_the_boxs_height_and_of_its_width_where_the_camera_lies_on_its_side(tmp_path):
    ada = two_people()[0]
    moved = ada.coco_m.copy()
    moved[:, :5, 0] += 0.05
    rows = {}
    for session, turns in (("upright", 0), ("lying", -1)):
        folder = write_truth(tmp_path / session, moved[None], session=session, rotation_count=np.array([turns]))
        (clip,) = load_clips([folder])
        file = write_motion(tmp_path / f"{session}.npz", ada, np.arange(FRAMES), np.ones(FRAMES))
        rows[session], _ = errors(matched_people(clip, "ours", seen_in_motion(load(file)), undistorted=True))
    seen = pixels(ada.coco_m)
    size = np.median(seen.max(1) - seen.min(1), axis=0)
    distance = np.linalg.norm(pixels(moved[:, :5]) - seen[:, :5], axis=-1).mean()
    assert rows["lying"]["2D face, % of box"] == pytest.approx(distance / size[0] * 100, rel=1e-4)
    assert rows["upright"]["2D face, % of box"] == pytest.approx(distance / size[1] * 100, rel=1e-4)
    assert rows["upright"]["2D limbs, % of box"] == pytest.approx(0, abs=1e-3)


def test_means_are_over_cameras_and_leave_out_what_has_no_value():
    exact, off = limbs(), limbs()
    off[:, 4, 2] += 0.12
    legless = limbs()
    legless[:, 6:] = np.nan
    clips = (
        predicted(limbs(), exact),
        dataclasses.replace(predicted(limbs(), off), view="cam_1"),
        dataclasses.replace(predicted(legless, exact), session="desk", view="cam_2"),
    )
    tables = real3d.evaluate(RealPredictions({}, clips)).tables
    assert tables["errors"]["mean of yard: ours"]["MPJPE mm"] == pytest.approx(5)
    assert tables["errors"]["mean: ours"]["MPJPE mm"] == pytest.approx(10 / 3)
    assert np.isnan(tables[real3d.ANGLES]["mean of desk: ours"]["knee error"])
    assert tables[real3d.ANGLES]["mean: ours"]["knee error"] == pytest.approx(0, abs=1e-9)
    assert set(tables["errors"]) == set(tables[real3d.ANGLES])
    assert sum(name.startswith("mean") for name in tables["errors"]) == 3


def test_a_smoothed_reference_keeps_its_frames_and_what_does_not_move(tmp_path):
    ada = two_people()[0]
    still = People(*(np.repeat(getattr(ada, field.name)[:1], FRAMES, 0) for field in dataclasses.fields(People)))
    frames = np.array([0, 1, 2, 5, 6, 7, 8, 20])
    seen = seen_in_motion(load(write_motion(tmp_path / "m.npz", still, frames, np.ones(FRAMES))))
    smooth = smoothed_alone(seen, 3.0)
    assert list(smooth) == frames.tolist()
    assert smooth[5].limbs_m == pytest.approx(seen[5].limbs_m)
    moving = seen_in_motion(load(write_motion(tmp_path / "n.npz", ada, frames, np.ones(FRAMES))))
    steps = lambda people: np.abs(np.diff([one.limbs_m for one in people.values()], axis=0)).mean()
    assert steps(smoothed_alone(moving, 3.0)) < steps(moving) / 2


# --- files


def test_folders_are_searched_and_both_layouts_are_read(tmp_path):
    coco = np.stack([one.coco_m for one in two_people()])
    write_truth(tmp_path / "new" / "deep", coco)
    (tmp_path / "new" / "deep" / "yard" / "cam_0.json").write_text(
        json.dumps({"K": (K * [[2], [2], [1]]).tolist(), "distortion": [0.1, 0, 0, 0]})
    )
    old = tmp_path / "walk"
    old.mkdir()
    (old / "side.mp4").touch()
    np.savez(old / "gt_a.npz", side_joints_cam_m=coco[0], side_K=K, side_dist_k1k2p1p2=np.zeros(4))
    clips = load_clips([tmp_path / "new", old, tmp_path / "new" / "deep"])  # the last one lies in the first: read once
    assert [(clip.session, clip.name, clip.people) for clip in clips] == [
        ("yard", "yard/cam_0", ("person 0", "person 1")), ("walk", "side", ("",)),
    ]  # fmt: skip
    assert clips[0].K[0, 0] == 2 * K[0, 0]
    assert clips[0].distortion.tolist() == [0.1, *[0] * 11], "what the pipeline is told"
    assert clips[0].pixels(undistorted=False)[0, 0, 5] != pytest.approx(clips[0].pixels(undistorted=True)[0, 0, 5], abs=0.01)
    assert clips[1].joints_m == pytest.approx(coco[:1])


def test_clips_of_one_name_are_told_apart_by_their_folders(tmp_path):
    coco = two_people()[0].coco_m[None]
    for folder in ("monday", "tuesday"):
        write_truth(tmp_path / folder, coco)
    clips = load_clips([tmp_path])
    assert [clip.name for clip in clips] == ["monday/yard/cam_0", "tuesday/yard/cam_0"]
    assert len({clip.session for clip in clips}) == 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cam_names": np.array(["cam_1"])}, "cam_1.mp4 is not there"),
        ({"dist": np.zeros((1, 6))}, "dist has 6 coefficients"),
        ({"valid": np.ones((1, FRAMES, 16), bool)}, "valid has shape"),
        ({"valid": np.ones((1, FRAMES, 17))}, "valid is float64"),
        ({"frames": np.zeros(FRAMES, int)}, "growing"),
        ({"joints3d_cam_m": np.zeros((1, FRAMES, 17, 3))}, "joints3d_cam_m has shape"),
    ],
)
def test_a_truth_that_cannot_be_used_is_one_line(tmp_path, capsys, changes, expected):
    from mchmr_stream.cli import main

    write_truth(tmp_path, two_people()[0].coco_m[None], **changes)
    assert main(["evaluate", "real3d", "--data", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert expected in err


def test_a_folder_without_truth_is_named(tmp_path, capsys):
    from mchmr_stream.cli import main

    write_truth(tmp_path / "clips", two_people()[0].coco_m[None])
    (tmp_path / "empty").mkdir()
    assert main(["evaluate", "real3d", "--data", str(tmp_path / "clips"), str(tmp_path / "empty")]) == 1
    assert f"no gt_*.npz in {tmp_path / 'empty'}" in capsys.readouterr().err


def test_predictions_with_gaps_survive_their_file_and_the_report(tmp_path, capsys):
    from mchmr_stream.cli import main

    target = limbs()
    target[:, 6:] = np.nan
    off = limbs() + 0.01
    off[2] = np.nan
    predictions = RealPredictions(
        {"views": 5}, (predicted(target, off), dataclasses.replace(predicted(limbs(), off), person="Ben", session="desk"))
    )
    predictions.save(tmp_path / "p.npz")
    again = real_predictions.load_predictions(tmp_path / "p.npz")
    assert real3d.evaluate(again).to_json() == real3d.evaluate(predictions).to_json()
    assert main(["evaluate", "real3d", "--from", str(tmp_path / "p.npz")]) == 0
    out = capsys.readouterr().out
    assert "mean of desk: ours" in out
    assert "nan" not in out
    page = real_report(tmp_path, real3d.evaluate(again), again, []).read_text()
    assert "cam_0, Ben: ours" in page


# --- the developers' own scores, where they are


def script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made_up_rows(clip: RealClip, path: Path) -> Path:
    """Bodies near the true shoulders in most frames, bent at random, and a second one half a metre beside each."""
    frame = clip.frame[np.isfinite(clip.joints_m[0, :, 5:7]).all((1, 2)) & (clip.frame % 9 != 4)]
    truth = clip.joints_m[0, frame]
    y, x = np.nanmean(truth[:, :5], 1) - truth[:, 5:7].mean(1), truth[:, 5] - truth[:, 6]
    z = np.cross(x, y)
    y, z = (axis / np.linalg.norm(axis, axis=-1, keepdims=True) for axis in (y, z))
    roots = np.stack([np.cross(y, z), y, z], -1)
    bodies = joined([people(place[None], 0.2, root) for place, root in zip(truth[:, 5], roots, strict=True)])
    shift = (truth[:, 5:7].mean(1) - bodies.joints_m[:, 16:18].mean(1) + RNG.normal(size=(len(frame), 3)) * 0.03).astype(np.float32)
    moved = lambda by: dataclasses.replace(
        bodies, transl=bodies.transl + by, joints_m=bodies.joints_m + by[:, None], coco_m=bodies.coco_m + by[:, None]
    )
    file = write_motion(path, joined([moved(shift), moved(shift + np.float32(0.5))]), np.tile(frame, 2), np.repeat([1, 2], len(frame)))
    arrays = dict(np.load(file))
    seen = arrays["joints_m"] @ clip.K.T
    arrays["K"], arrays["joints_px"] = clip.K, (seen[..., :2] / seen[..., 2:]).astype(np.float32)
    arrays["box_xyxy_px"] = np.concatenate([arrays["joints_px"].min(1), arrays["joints_px"].max(1)], 1)
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("name", ["post_optimization/cam_0", "4_cam_recording/cam_1"])
def test_figures_are_those_of_the_script_for_several_people(shared, tmp_path, name):
    folder = shared / "data" / "validation"
    clip = next(clip for clip in load_clips([folder / "desk"]) if clip.name == name)
    file = made_up_rows(clip, tmp_path / "rows.npz")
    session, camera = name.split("/")
    (expected,) = script(folder / "score_people.py").score(session, camera, np.load(file), verbose=False)
    (one,) = matched_people(clip, "ours", seen_in_motion(load(file)), undistorted=True)
    tables = real3d.evaluate(RealPredictions({}, (one,))).tables
    points, joints = tables["errors"]["mean: ours"], tables[real3d.SMPL_JOINTS]["mean: ours"]
    assert 50 < expected["found"] < 100
    pairs = [(points, {"found %": "found", "MPJPE mm": "mpjpe_c", "PA-MPJPE mm": "pa_c", "2D face, % of box": "face2d",
                       "2D limbs, % of box": "limb2d_c"}),
             (joints, {"MPJPE mm": "mpjpe", "PA-MPJPE mm": "pa", "accel mm/frame^2": "accel", "2D limbs, % of box": "limb2d"})]  # fmt: skip
    for row, names in pairs:
        for ours, theirs in names.items():
            assert row[ours] == pytest.approx(expected[theirs], rel=1e-3), ours


def test_figures_are_those_of_the_script_for_one_person(shared):
    folder = shared / "data" / "validation"
    clips = load_clips([folder / "pose2sim"])
    rows, given = [], {}
    for clip in clips:
        found = clip.limbs_m[0] + RNG.normal(size=clip.limbs_m[0].shape) * 0.05
        found[[3, 50, 51, 99]] = np.nan
        given[clip.name] = found
        rows.append(predicted(clip.limbs_m[0], found))
    with contextlib.redirect_stdout(io.StringIO()):
        expected = script(folder / "score_pose2sim.py").score(given)
    row = real3d.errors_row(rows, pixels=False)
    assert list(row.values()) == pytest.approx(expected.tolist(), rel=1e-6)


# --- bodies against keypoints


def test_parts_are_measured_apart_and_only_where_they_are_seen(tmp_path):
    ada = two_people()[0]
    seen = pixels(ada.coco_m)
    side = (seen.max(1) - seen.min(1)).max(1)
    keypoints = np.concatenate([seen, np.full((FRAMES, 17, 1), 0.9)], -1)
    keypoints[:, :5, 0] += side[:, None] * 0.1
    keypoints[:, 9] = [300, 300, 0.2]  # a wrist that the detector does not trust
    keypoints[:, 15] = [600, 725, 0.9]  # an ankle below the picture's last row
    file = write_motion(tmp_path / "m.npz", ada, np.arange(FRAMES), np.ones(FRAMES), keypoints)
    row = reprojection.evaluate([file]).tables[reprojection.VISIBLE_POINTS][f"{file}: everyone"]
    assert row["face %"] == pytest.approx(10, rel=1e-3)
    assert (row["arms %"], row["legs %"]) == pytest.approx((0, 0), abs=1e-2)
    assert [row[f"{part} points"] for part in ("face", "arms", "legs")] == [5 * FRAMES, 5 * FRAMES, 5 * FRAMES]


def test_people_are_grouped_by_what_is_seen_of_them(tmp_path):
    ada = two_people(6)[0]
    keypoints = np.concatenate([pixels(ada.coco_m), np.full((6, 17, 1), 0.9)], -1)
    keypoints[0, :5, 2] = 0  # without the face somebody is whole
    keypoints[1, 13:, 2] = 0  # knees and ankles
    keypoints[2, 11:, 2] = 0  # and hips
    keypoints[3, 14:, 2] = 0  # one knee is left
    keypoints[4, 5, 2] = 0  # a shoulder
    keypoints[5, :, 2] = 0
    file = write_motion(tmp_path / "m.npz", ada, np.arange(6), np.ones(6), keypoints)
    table = reprojection.evaluate([file, file]).tables[reprojection.VISIBLE_POINTS]
    rows = {name: [table[f"{where}: {name}"]["rows"] for where in (file, "all files")] for name in (*reprojection.GROUPS, "everyone")}
    assert rows == {"whole body": [1, 1 * 2], "upper body": [2, 2 * 2], "half hidden": [2, 2 * 2], "everyone": [5, 5 * 2]}
    assert table[f"{file}: upper body"]["legs points"] == 2
    assert np.isnan(table[f"{file}: whole body"]["face %"])


def test_bodies_of_another_version_of_the_free_body_are_refused(tmp_path):
    ada = two_people()[0]
    file = write_motion(tmp_path / "m.npz", ada, np.arange(FRAMES), np.ones(FRAMES))
    np.savez(file, **(dict(np.load(file)) | {"body_model_sha256": "0"}))
    with pytest.raises(Exception, match="another version of the free body"):
        reprojection.evaluate([file])
    np.savez(file, **(dict(np.load(file)) | {"body_model": "SMPL_NEUTRAL"}))
    row = reprojection.evaluate([file]).tables[reprojection.VISIBLE_POINTS][f"{file}: everyone"]
    assert row["face points"] == 0, "nobody has measured its face"
    joints, keypoints = pixels(ada.joints_m[:, list(LIMBS_IN_SMPL)]), pixels(ada.coco_m)
    side = (keypoints.max(1) - keypoints.min(1)).max(1)
    expected = np.linalg.norm(joints[:, 6:] - keypoints[:, 11:], axis=-1) / side[:, None] * 100
    assert row["legs %"] == pytest.approx(expected.mean(), rel=1e-3)
