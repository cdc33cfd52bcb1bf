"""The world from a standing camera: laws on people whose world is known, and what a user sees of it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from components import import_or_skip
from scipy.spatial.transform import Rotation
from walking import CAMERA, Way, camera_pose, farther, track_of, walking

from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import BodyModel
from mchmr_stream.cli import main
from mchmr_stream.errors import InputError
from mchmr_stream.export.formats import export_motion
from mchmr_stream.geometry.camera import project
from mchmr_stream.motion.editing import merge, select, split
from mchmr_stream.motion.motion import WORLD_COLUMNS, Motion, load
from mchmr_stream.world.doubts import WorldEvidence, warnings_of
from mchmr_stream.world.world_motion import ground

ALONG = Way((-1.8, -5.0), 75)
"""Walks mostly across the picture."""
TOWARDS = Way((1.0, -7.0), -10)
"""Walks mostly towards the camera."""
STANDS = Way((0.5, -4.5), 30, swing_rad=0.0)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("free")


def up_error_deg(motion: Motion, pose: np.ndarray) -> float:
    assert motion.world is not None
    return float(np.degrees(np.arccos(np.clip(motion.world.world_from_camera[1, :3] @ pose[1, :3], -1, 1))))


def world_joints(motion: Motion, number: int = 1) -> np.ndarray:
    world = motion.tracks[number].world
    assert world is not None
    return world.world_joints_m.astype(np.float64)


def rigid_error_m(path: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance after the best turn about the vertical and the best move: a world has no north and no origin."""
    a, b = path - path.mean(0), truth - truth.mean(0)
    angle = np.arctan2((a[:, 2] * b[:, 0] - a[:, 0] * b[:, 2]).sum(), (a[:, 0] * b[:, 0] + a[:, 2] * b[:, 2]).sum())
    return float(np.linalg.norm(a @ Rotation.from_euler("y", angle).as_matrix().T - b, axis=1).mean())


def skating(motion: Motion) -> tuple[float, float]:
    assert motion.world is not None
    return tuple(motion.world.info["skating_mm_per_contact_frame"].values())  # type: ignore[return-value]


def test_up_floor_and_paths_are_found(body: BodyModel) -> None:
    pose = camera_pose()
    seen, truth = walking([ALONG, TOWARDS], pose)
    found = ground(seen, body)
    assert found.world is not None
    assert up_error_deg(found, pose) < 1
    assert found.world.world_from_camera[1, 3] == pytest.approx(pose[1, 3], abs=0.05)
    for number in (1, 2):
        joints = world_joints(found, number)
        assert rigid_error_m(joints[:, 0], truth[number - 1][:, 0]) < 0.05
        standing = found.tracks[number].world.foot_contact[:, 0]
        assert np.abs(joints[standing, 7, 1] - 0.075).max() < 0.02
    assert found.world.info["moved_in_picture"]["p95_share_of_box"] < 0.02
    assert found.world.info["warnings"] == []


def test_who_stands_still_stays_as_they_are(body: BodyModel) -> None:
    pose = camera_pose()
    seen, truth = walking([STANDS], pose, seconds=3)
    found = ground(seen, body)
    assert max(skating(found)) < 0.01
    assert up_error_deg(found, pose) < 4
    joints = world_joints(found)
    assert np.ptp(joints, axis=0).max() < 1e-4
    assert joints[0, 7, 1] == pytest.approx(truth[0][0, 7, 1], abs=0.02)


def test_wrong_depths_are_put_right_by_the_feet(body: BodyModel) -> None:
    """The distance drifts by centimetres within a step; standing feet say by how much."""
    pose = camera_pose()
    seen, truth = walking([ALONG, TOWARDS], pose)
    times = seen.frames_time_s
    wavy = farther(seen, 2, 1 + 0.02 * np.sin(2 * np.pi * times / 1.7))
    found = ground(wavy, body)
    before, after = skating(found)
    assert before > 3
    assert after < 0.1
    raw = (wavy.tracks[2].joints_m[:, 0] @ pose[:3, :3].T).astype(np.float64)
    corrected = rigid_error_m(world_joints(found, 2)[:, 0], truth[1][:, 0])
    assert corrected < 0.25 * rigid_error_m(raw, truth[1][:, 0])


@pytest.mark.parametrize("turn", [Rotation.from_euler("xyz", [6, 5, 0], degrees=True), Rotation.from_euler("z", 25, degrees=True)])
def test_turning_the_camera_turns_only_the_camera(body: BodyModel, turn: Rotation) -> None:
    pose = camera_pose()
    seen, _ = walking([ALONG, TOWARDS], pose)
    there = np.full((len(seen.frames), 24, 2), 300, np.float32)  # in the picture, whatever the turn
    tracks = {number: dataclasses.replace(track, joints_px=there) for number, track in seen.tracks.items()}
    turned = {}
    for number, track in tracks.items():
        rotations = np.concatenate([turn.as_matrix() @ track.global_orient[:, None], track.body_pose], 1)
        moved = track_of(number, track.time_s, rotations, track.joints_m[:, 0] @ turn.as_matrix().T, body)
        turned[number] = dataclasses.replace(moved, joints_px=there)
    first, second = ground(dataclasses.replace(seen, tracks=tracks), body), ground(dataclasses.replace(seen, tracks=turned), body)
    a, b = (np.concatenate([world_joints(each, 1), world_joints(each, 2)]).reshape(-1, 3) for each in (first, second))
    np.testing.assert_allclose(a[:, 1], b[:, 1], atol=2e-3)
    assert rigid_error_m(a, b) < 2e-3


def test_frame_rates_agree(body: BodyModel) -> None:
    pose = camera_pose()
    seen, truth = walking([ALONG, TOWARDS], pose, fps=60)
    drifts = farther(seen, 2, 1 + 0.02 * np.sin(2 * np.pi * seen.frames_time_s / 1.7))
    for every in (1, 2, 5):
        rows = np.arange(0, len(seen.frames), every)
        tracks = {number: track.only(rows) for number, track in drifts.tracks.items()}
        sparse = dataclasses.replace(seen, frames=rows, frames_time_s=seen.frames_time_s[rows], tracks=tracks)
        found = ground(sparse, body)
        assert up_error_deg(found, pose) < 0.5
        assert skating(found)[1] < 0.1
        for number in (1, 2):
            assert rigid_error_m(world_joints(found, number)[:, 0], truth[number - 1][rows, 0]) < 0.02


def test_everybody_stands_on_one_floor(body: BodyModel) -> None:
    """One person is thought 6% too far away; the file's camera would have them 10 cm below the other's floor."""
    pose = camera_pose()
    seen, _ = walking([ALONG, TOWARDS], pose)
    found = ground(farther(seen, 1, np.full(len(seen.frames), 1.06)), body)
    for number in (1, 2):
        contact = found.tracks[number].world.foot_contact
        ankles = world_joints(found, number)[:, [7, 8], 1]
        assert np.abs(ankles[contact[:, [1, 3]]] - 0.075).max() < 0.02


def test_the_file_is_read_back_and_edited_with_its_world(body: BodyModel, tmp_path: Path) -> None:
    seen, _ = walking([ALONG, TOWARDS], camera_pose(), seconds=2)
    seen.save(tmp_path / "seen.npz")
    assert (
        main(["smooth", str(tmp_path / "seen.npz"), "-o", str(tmp_path / "w.npz"), "--static-camera", "--set", "smoother.kind=none", "-q"])
        == 0
    )
    motion = load(tmp_path / "w.npz")
    assert motion.world is not None
    assert motion.world.info["what"].startswith("an estimate")
    for number, track in motion.tracks.items():
        np.testing.assert_allclose(track.joints_m, seen.tracks[number].joints_m, atol=1e-6)
        seen_again = (track.world.world_joints_m - motion.world.world_from_camera[:3, 3]) @ motion.world.world_from_camera[:3, :3]
        pixels = seen_again @ motion.K.T
        off = np.linalg.norm(pixels[..., :2] / pixels[..., 2:] - track.joints_px, axis=-1)
        assert np.quantile(off, 0.95) <= 1.05 * motion.world.info["moved_in_picture"]["p95_px"] + 1
    parts, new = split(motion, 1, 1.0)
    merge(select(parts, [1, new]), 1, new).save(tmp_path / "again.npz")
    back = load(tmp_path / "again.npz").tracks[1].world
    for name in WORLD_COLUMNS:
        np.testing.assert_array_equal(getattr(back, name), getattr(motion.tracks[1].world, name))


def test_a_half_world_is_refused(body: BodyModel, tmp_path: Path) -> None:
    seen, _ = walking([ALONG], camera_pose(), seconds=1)
    ground(seen, body).save(tmp_path / "w.npz")
    arrays = dict(np.load(tmp_path / "w.npz", allow_pickle=False))
    np.savez(tmp_path / "half.npz", **{name: value for name, value in arrays.items() if name != "world_transl"})
    with pytest.raises(InputError, match="lacks world_transl"):
        load(tmp_path / "half.npz")
    np.savez(tmp_path / "short.npz", **(arrays | {"foot_contact": arrays["foot_contact"][1:]}))
    with pytest.raises(InputError, match="foot_contact"):
        load(tmp_path / "short.npz")
    np.savez(tmp_path / "bent.npz", **(arrays | {"world_from_camera": 2 * arrays["world_from_camera"]}))
    with pytest.raises(InputError, match="world_from_camera"):
        load(tmp_path / "bent.npz")


def test_smoothing_again_says_that_the_world_is_gone(body: BodyModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen, _ = walking([ALONG], camera_pose(), seconds=1)
    ground(seen, body).save(tmp_path / "w.npz")
    assert main(["smooth", str(tmp_path / "w.npz"), "-o", str(tmp_path / "s.npz")]) == 0
    assert "--static-camera estimates it anew" in capsys.readouterr().err
    assert load(tmp_path / "s.npz").world is None


def test_without_feet_in_the_picture_nothing_is_claimed(body: BodyModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen, _ = walking([Way((0.0, -1.6), 0, 0.0)], camera_pose(pitch_deg=-10), seconds=1)
    assert (seen.tracks[1].joints_px[:, [7, 8], 1] > CAMERA.cy * 2).all()
    seen.save(tmp_path / "seen.npz")
    assert main(["smooth", str(tmp_path / "seen.npz"), "-o", str(tmp_path / "w.npz"), "--static-camera"]) == 1
    said = capsys.readouterr().err
    assert "no foot is seen standing" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "w.npz").exists()


def test_a_moving_camera_is_noticed(body: BodyModel) -> None:
    seen, _ = walking([ALONG, TOWARDS], camera_pose())
    pans = Rotation.from_euler("y", 8 * seen.frames_time_s[:, None], degrees=True).as_matrix()
    tracks = {}
    for number, track in seen.tracks.items():
        rotations = np.concatenate([pans[:, None] @ track.global_orient[:, None], track.body_pose], 1)
        pelvis = np.einsum("fij,fj->fi", pans, track.joints_m[:, 0].astype(np.float64))
        tracks[number] = track_of(number, track.time_s, rotations, pelvis, body)
    with pytest.raises(InputError, match="does the camera move"):
        ground(dataclasses.replace(seen, tracks=tracks), body)


def on_a_box(motion: Motion, number: int, height_m: float, pose: np.ndarray, body: BodyModel) -> Motion:
    track = motion.tracks[number]
    rotations = track.rotations
    lifted = track_of(number, track.time_s, rotations, track.joints_m[:, 0] + height_m * pose[1, :3], body)
    return dataclasses.replace(motion, tracks=motion.tracks | {number: lifted})


@pytest.mark.parametrize(
    ("height_m", "reason"),
    [
        (2.2, r"people stand at different heights \(person 1 1\.7 m under .*, person 3 0\.6 m over the camera\): several floors \(a box"),
        (1.2, r"person 3 0\.4 m under the camera\): several floors, or somebody at a wrong distance"),
        (0.5, r"the floor that fits all steps is tilted by [12]\d degrees against the trunks of the people: they stand on several floors"),
    ],
)
def test_people_on_two_floors_are_the_reason_that_is_given(
    body: BodyModel, tmp_path: Path, capsys: pytest.CaptureFixture[str], height_m: float, reason: str
) -> None:
    """Neither the camera nor those who walk are blamed; the file keeps the warning, and exports that use its world repeat it."""
    pose = camera_pose()
    seen, _ = walking([ALONG, TOWARDS, Way((1.5, -5.0), 90)], pose)
    on_a_box(seen, 3, height_m, pose, body).save(tmp_path / "seen.npz")
    world = tmp_path / "w.npz"
    assert main(["smooth", str(tmp_path / "seen.npz"), "-o", str(world), "--static-camera", "--set", "smoother.kind=none"]) == 0
    said = capsys.readouterr().err
    assert re.search(reason, said)
    assert "camera seems to move" not in said
    info = load(world).world.info
    assert {one["track_id"] for one in info["people"]} == {1, 2, 3}
    assert len(info["warnings"]) >= 1

    def warned_at_export(to: str) -> list[bool]:
        assert main(["export", str(world), "--to", to, "-o", str(tmp_path / to)]) == 0
        said = capsys.readouterr().err
        return [text in said for text in info["warnings"]]

    assert all(warned_at_export("bvh"))
    assert not any(warned_at_export("csv"))  # in the camera's axes


def test_small_errors_of_distance_are_no_floors(body: BodyModel) -> None:
    pose = camera_pose(height_m=2.5)
    seen, _ = walking([ALONG, TOWARDS], pose)
    assert ground(farther(seen, 2, np.full(len(seen.frames), 1.1)), body).world.info["warnings"] == []


def test_one_persons_steady_feet_show_that_the_camera_stands() -> None:
    walks = WorldEvidence(1, 8, -1.6, (0.0, 0.5, 5.0), 5.0, 0.1, 0.01, 0.02, 3.0)
    jumps = dataclasses.replace(walks, track_id=2, sole_m_s=0.5)
    assert warnings_of([jumps, walks], 2.0, 1.0) == []
    (said,) = warnings_of([jumps, dataclasses.replace(walks, seen_s=0.2)], 2.0, 1.0)  # too short a sight of feet
    assert "everybody's feet" in said
    assert "0.50 m/s" in said


def test_bodies_that_left_their_place_in_the_picture_are_named() -> None:
    fine = WorldEvidence(1, 8, -1.6, (0.0, 0.5, 5.0), 5.0, 0.1, 0.01, 0.02, 3.0)
    (said,) = warnings_of([fine, dataclasses.replace(fine, track_id=7, off_share=0.25, often_off_share=0.83, off_px=98.0)], 2.0, 1.0)
    assert "person 7 by 98 px (25 % of the box, at times 83 %)" in said
    assert "person 1" not in said


def test_exports_are_in_the_world(body: BodyModel, tmp_path: Path) -> None:
    """The camera of the GLB, put where its node says, sees the bodies of the GLB where the clip has them."""
    gltf = import_or_skip("pygltflib")
    seen, _ = walking([ALONG], camera_pose(), seconds=1)
    found = ground(seen, body)
    export_motion(found, "clip", "glb", tmp_path, body=body)
    document = gltf.GLTF2().load(str(tmp_path / "clip.glb"))
    camera = next(node for node in document.nodes if node.name == "camera")
    turn, place = Rotation.from_quat(camera.rotation).as_matrix(), np.array(camera.translation)
    np.testing.assert_allclose(place, found.world.world_from_camera[:3, 3], atol=1e-6)
    pelvis = next(index for index, node in enumerate(document.nodes) if node.name == "pelvis")
    channel = next(one for one in document.animations[0].channels if one.target.node == pelvis and one.target.path == "translation")
    accessor = document.accessors[document.animations[0].samplers[channel.sampler].output]
    start = document.bufferViews[accessor.bufferView].byteOffset
    path = np.frombuffer(document.binary_blob()[start : start + 12 * accessor.count], np.float32).reshape(-1, 3)
    np.testing.assert_allclose(path, world_joints(found)[:, 0], atol=1e-5)
    in_camera = (path - place) @ turn * [1, -1, -1]
    np.testing.assert_allclose(project(in_camera, CAMERA), seen.tracks[1].joints_px[:, 0], atol=1)


@pytest.mark.parametrize(("to", "up"), [("amass", 2), ("trc", 1), ("bvh", 1)])
def test_one_persons_formats_have_the_floor_at_nothing(body: BodyModel, tmp_path: Path, to: str, up: int) -> None:
    seen, _ = walking([ALONG], camera_pose(), seconds=1)
    found = ground(seen, body)
    [written] = export_motion(found, "clip", to, tmp_path, body=body)
    if to == "amass":
        data = np.load(written.path)
        pelvis = data["trans"] + [-0.0018, -0.2233, 0.0282]
    else:
        lines = written.path.read_text().splitlines()
        rows = [line.split() for line in (lines[6:] if to == "trc" else lines[-len(seen.frames) :])]
        pelvis = np.array(rows, float)[:, 2:5] if to == "trc" else np.array(rows, float)[:, :3]
    np.testing.assert_allclose(pelvis[:, up], world_joints(found)[:, 0, 1], atol=1e-4)
