"""`mchmr export`: every format read back by a reader that is not ours.

three.js and Khronos' validator read GLB where node has them: `npm install three gltf-validator` in a folder named by MCHMR_NODE_MODULES.
Blender reads GLB, BVH and USD where MCHMR_BPY names a Python that can `import bpy`.
"""

from __future__ import annotations

import csv
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from components import import_or_skip, skip_without
from media import write_video
from motions import CAMERA, HEIGHT, WIDTH, write_motion
from places import HELPERS, ROOT
from scipy.spatial.transform import Rotation

from mchmr_stream.body.builds import with_build
from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import PARENTS, skin
from mchmr_stream.cli import main
from mchmr_stream.config import settings_from
from mchmr_stream.datatypes import JOINT_NAMES
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.jobs.video_job import process_video
from mchmr_stream.motion.motion import Motion, Track, load

TOLERANCE_M = 0.002
FPS = 25.0
TIMES_S = [number / FPS for number in range(60)]
THERE = {1: [number for number in range(60) if number not in (20, 21)], 2: [*range(5, 15), *range(40, 60)]}
"""Person 1 is missing for two frames, person 2 comes late and is away for a second."""
AWAY_S, PRESENT_S = (0.0, 0.16, 0.6, 1.0, 1.56), (0.2, 0.4, 0.56, 1.6, 2.36)
"""Of person 2."""
Y_UP = np.array([1.0, -1.0, -1.0])
Z_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
READER = HELPERS / "gltf_reader.mjs"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_motion(tmp_path_factory.mktemp("motion") / "clip.npz", THERE, TIMES_S)


@pytest.fixture(scope="module")
def motion(clip: Path) -> Motion:
    return load(clip)


def export(clip: Path, to: str, folder: Path, *options: str) -> list[Path]:
    assert main(["-q", "export", str(clip), "--to", to, "-o", str(folder), *options]) == 0
    return sorted(folder.iterdir())


def five_rows(track: Track) -> list[int]:
    return np.linspace(0, len(track) - 1, 5).astype(int).tolist()


def distance_m(found: Any, expected: Any) -> float:
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    return float(np.linalg.norm(found - expected, axis=-1).max())


def true_skin_m(track: Track, row: int) -> np.ndarray:
    """(V, 3) camera axes: by the body model."""
    rotations = np.concatenate([track.global_orient[row][None], track.body_pose[row]])[None]
    values = (torch.from_numpy(array) for array in (rotations, track.betas[[row]], track.transl[[row]]))
    return skin(with_build(load_body("free"), "neutral"), *values)[0][0].numpy()


def test_an_empty_file_is_named_and_costs_itself_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    times_s = [0.0, 0.04, 0.08]
    files = [
        write_motion(tmp_path / f"{name}.npz", there, times_s) for name, there in (("a", {1: [0, 1, 2]}), ("b", {}), ("c", {1: [0, 1]}))
    ]
    (tmp_path / "d.npz").write_bytes(b"no bodies")
    assert main(["export", str(tmp_path), "--to", "csv", "-o", str(tmp_path / "csv")]) == 1
    said = capsys.readouterr()
    assert [line.partition(":")[0] for line in said.out.splitlines()] == [str(tmp_path / "csv" / f"{name}.csv") for name in "ac"]
    empty, damaged, summary = said.err.splitlines()
    assert empty.startswith(f"mchmr: {files[1]}: there is nobody to write")
    assert str(tmp_path / "d.npz") in damaged
    assert summary == "mchmr: 2 of 4 files were not exported"
    assert main(["export", str(files[1]), "--to", "csv"]) == 1
    assert str(files[1]) in capsys.readouterr().err


def test_trimesh_finds_mesh_skeleton_and_camera_in_the_glb(clip: Path, motion: Motion, tmp_path: Path) -> None:
    import trimesh

    (path,) = export(clip, "glb", tmp_path)
    scene = trimesh.load_scene(path)
    body = with_build(load_body("free"), "neutral")
    assert set(scene.geometry) == {"person_1", "person_2"}
    for identity, mesh in scene.geometry.items():
        assert len(mesh.faces) == len(body.faces)
        assert mesh.is_winding_consistent
        betas = torch.from_numpy(motion.tracks[int(identity[-1])].betas[:1])
        rest = skin(body, torch.eye(3).expand(1, 24, 3, 3), betas)[0][0].numpy()
        np.testing.assert_allclose(mesh.bounds, [rest.min(0), rest.max(0)], atol=1e-5)
    assert set(JOINT_NAMES) <= {name.split("_1")[0] for name in scene.graph.nodes}


def node_reader(path: Path, times_s: list[float]) -> dict[str, Any]:
    folder = os.environ.get("MCHMR_NODE_MODULES")
    if folder is None or shutil.which("node") is None:
        skip_without("node", "three.js is not here: npm install three gltf-validator, and name the folder in MCHMR_NODE_MODULES")
    command = ["node", str(READER), str(path), *(repr(time_s) for time_s in times_s)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_three_js_and_the_validator_agree_with_the_glb(clip: Path, motion: Motion, tmp_path: Path) -> None:
    (path,) = export(clip, "glb", tmp_path)
    first, second = motion.tracks[1], motion.tracks[2]
    rows = five_rows(first)
    seen = node_reader(path, [*first.time_s[rows].tolist(), *PRESENT_S, *AWAY_S])
    assert (seen["issues"]["numErrors"], seen["issues"]["numWarnings"]) == (0, 0), seen["issues"]["messages"]
    assert seen["duration"] == pytest.approx(TIMES_S[-1])
    tall = 2 * np.degrees(np.arctan(HEIGHT / 2 / CAMERA.fy))
    assert (seen["fov"], seen["aspect"]) == (pytest.approx(tall), pytest.approx(WIDTH / HEIGHT))

    frames = iter(seen["times"])
    for row in rows:
        person = next(frames)["person_1_skin"]
        assert distance_m(person["joints"], first.joints_m[row] * Y_UP) < TOLERANCE_M
        off = np.linalg.norm(np.array(person["vertices"]) - (true_skin_m(first, row) * Y_UP)[::50], axis=-1)
        # three.js takes four joints per vertex, the body has up to six
        assert off.max() < 0.02
        assert off.mean() < 0.0005
    for time_s in PRESENT_S:
        person = next(frames)["person_2_skin"]
        row = int(np.argmin(np.abs(second.time_s - time_s)))
        assert distance_m(person["joints"], second.joints_m[row] * Y_UP) < TOLERANCE_M
    assert [person["person_2_skin"]["size"] for person in frames] == [0.0] * len(AWAY_S)


def test_usd_core_poses_hides_and_frames_the_people(clip: Path, motion: Motion, tmp_path: Path) -> None:
    from pxr import Usd, UsdGeom, UsdSkel, UsdValidation

    (path,) = export(clip, "usd", tmp_path)
    stage = Usd.Stage.Open(str(path))
    context = UsdValidation.ValidationContext(UsdValidation.ValidationRegistry().GetOrLoadAllValidators())
    assert [error.GetMessage() for error in context.Validate(stage)] == []
    assert (UsdGeom.GetStageUpAxis(stage), UsdGeom.GetStageMetersPerUnit(stage), stage.GetTimeCodesPerSecond()) == ("Y", 1.0, FPS)
    assert (stage.GetStartTimeCode(), stage.GetEndTimeCode()) == (0.0, pytest.approx(59.0))

    for identity, track in motion.tracks.items():
        root = UsdSkel.Root(stage.GetPrimAtPath(f"/clip/person_{identity}"))
        cache = UsdSkel.Cache()
        assert cache.Populate(root, Usd.PrimDefaultPredicate)
        skeleton = cache.GetSkelQuery(UsdSkel.Skeleton(stage.GetPrimAtPath(f"/clip/person_{identity}/skeleton")))
        mesh = stage.GetPrimAtPath(f"/clip/person_{identity}/skin")
        skinning = cache.GetSkinningQuery(mesh)
        for row in five_rows(track):
            code = track.time_s[row] * FPS
            transforms = skeleton.ComputeJointSkelTransforms(code)
            found = [transform.ExtractTranslation() for transform in transforms]
            assert distance_m(found, track.joints_m[row] * Y_UP) < TOLERANCE_M
            points = UsdGeom.Mesh(mesh).GetPointsAttr().Get()
            assert skinning.ComputeSkinnedPoints(skeleton.ComputeSkinningTransforms(code), points, code)
            assert distance_m(np.array(points), true_skin_m(track, row) * Y_UP) < 5e-4  # the free body's weights sum to one within 1e-4
    visible = lambda time_s: UsdGeom.Imageable(stage.GetPrimAtPath("/clip/person_2")).ComputeVisibility(time_s * FPS) != "invisible"
    assert [visible(time_s) for time_s in AWAY_S] == [False] * 5
    assert [visible(time_s) for time_s in PRESENT_S] == [True] * 5

    track = motion.tracks[1]
    np.testing.assert_allclose(
        usd_pixels(UsdGeom.Camera(stage.GetPrimAtPath("/clip/camera")), track.joints_m[0]), track.joints_px[0], atol=0.05
    )


def usd_pixels(camera: Any, points_m: np.ndarray) -> np.ndarray:
    """(n, 3) in the camera axes of the npz -> (n, 2) px, by USD's own view and projection."""
    frustum = camera.GetCamera(0).frustum
    view, projection = (np.array(matrix) for matrix in (frustum.ComputeViewMatrix(), frustum.ComputeProjectionMatrix()))
    seen = np.append(points_m * Y_UP, np.ones((len(points_m), 1)), 1) @ view @ projection
    seen = seen[:, :2] / seen[:, 3:]
    return np.stack([(seen[:, 0] + 1) * WIDTH / 2 - 0.5, (1 - seen[:, 1]) * HEIGHT / 2 - 0.5], 1)


def bvh_joints_m(path: Path, frames: list[int]) -> list[np.ndarray]:
    """World positions of the 24 joints by bvhio's own hierarchy."""
    import bvhio

    root = bvhio.readAsHierarchy(str(path))
    found = []
    for frame in frames:
        root.loadPose(frame)
        by_name = {joint.Name: np.array(list(joint.PositionWorld)) for joint, _, _ in root.layout()}
        found.append(np.stack([by_name[name] for name in JOINT_NAMES]))
    return found


def test_bvhio_agrees_and_every_stretch_has_its_file(clip: Path, motion: Motion, tmp_path: Path) -> None:
    import bvhio

    paths = export(clip, "bvh", tmp_path)
    assert [path.name for path in paths] == ["clip_person1_frame0.bvh", "clip_person2_frame40.bvh", "clip_person2_frame5.bvh"]
    whole = bvhio.readAsBvh(str(paths[0]))
    assert (whole.FrameCount, whole.FrameTime) == (60, pytest.approx(1 / FPS, abs=1e-9))
    assert bvhio.readAsBvh(str(paths[1])).FrameCount == 20
    first, second = motion.tracks[1], motion.tracks[2]
    rows = five_rows(first)
    for row, joints in zip(rows, bvh_joints_m(paths[0], first.frame[rows].tolist()), strict=True):
        assert distance_m(joints, first.joints_m[row] * Y_UP) < TOLERANCE_M
    for row, joints in zip((10, 29), bvh_joints_m(paths[1], [0, 19]), strict=True):
        assert distance_m(joints, second.joints_m[row] * Y_UP) < TOLERANCE_M
    rest = np.stack([np.array(joint.Offset) for joint, _, _ in whole.Root.layout() if joint.Name in ("pelvis", "left_knee", "head")])
    assert rest[0].tolist() == [0, 0, 0]
    assert rest[1][1] < -0.2, "legs hang down"
    assert rest[2][1] > 0.02, "the head is up"


def test_bvh_angles_never_jump(clip: Path, tmp_path: Path) -> None:
    """The person turns twice: angles go on past 180 degrees, so that what lies between two frames is what lies between them."""
    lines = export(clip, "bvh", tmp_path)[0].read_text().splitlines()
    rows = np.array([line.split() for line in lines[lines.index("MOTION") + 3 :]], float)
    assert np.abs(np.diff(rows[:, 3:], axis=0)).max() < 60
    assert np.ptp(rows[:, 3:6], axis=0).max() > 700


def test_a_short_gap_is_filled_on_the_way_between_its_ends(clip: Path, motion: Motion, tmp_path: Path) -> None:
    path = export(clip, "bvh", tmp_path)[0]
    track = motion.tracks[1]
    before, between, after = (joints[0] for joints in bvh_joints_m(path, [19, 20, 22]))
    np.testing.assert_allclose(between, before + (after - before) / 3, atol=1e-4)
    row = track.frame.tolist().index(19)
    assert track.frame[row + 1] == 22
    paths = export(clip, "bvh", tmp_path / "open", "--fill-gaps", "0")
    assert [path.name for path in paths][:2] == ["clip_person1_frame0.bvh", "clip_person1_frame22.bvh"]


def test_uneven_times_come_out_even_and_scenes_keep_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    times_s = (np.arange(40) + rng.uniform(-0.3, 0.3, 40)) / FPS
    clip = write_motion(tmp_path / "uneven.npz", {1: range(40)}, times_s.tolist())
    track = load(clip).tracks[1]
    from pxr import Usd, UsdSkel

    (scene,) = export(clip, "usd", tmp_path / "usd")
    stage = Usd.Stage.Open(str(scene))
    animation = UsdSkel.Animation(stage.GetPrimAtPath("/clip/person_1/animation"))
    np.testing.assert_allclose(animation.GetRotationsAttr().GetTimeSamples(), track.time_s * FPS, atol=1e-9)

    (path,) = export(clip, "trc", tmp_path / "trc")
    table = read_trc(path)
    np.testing.assert_allclose(np.diff(table[:, 1]), 1 / FPS, atol=2e-6)
    assert table[0, 1] == pytest.approx(track.time_s[0], abs=1e-6)
    pelvis = np.stack([np.interp(table[:, 1], track.time_s, column) for column in (track.joints_m[:, 0] * Y_UP).T], 1)
    np.testing.assert_allclose(table[:, 2:5], pelvis, atol=1e-5)


def read_trc(path: Path) -> np.ndarray:
    lines = path.read_text().splitlines()
    head = dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=True))
    rows = np.array([line.split("\t") for line in lines[6:]], float)
    assert (int(head["NumFrames"]), int(head["NumMarkers"]), head["Units"]) == (len(rows), 24, "m")
    assert rows.shape[1] == 2 + 3 * 24
    assert [name for name in lines[3].split("\t")[2:] if name] == list(JOINT_NAMES)
    return rows


def test_trc_is_the_joints_in_metres(clip: Path, motion: Motion, tmp_path: Path) -> None:
    paths = export(clip, "trc", tmp_path, "--person", "2")
    table, track = read_trc(paths[0]), motion.tracks[2]
    assert paths[0].name == "clip_person2_frame40.trc"
    np.testing.assert_allclose(table[:, 2:].reshape(-1, 24, 3), track.joints_m[10:] * Y_UP, atol=1e-5)
    np.testing.assert_allclose(table[:, 1], track.time_s[10:], atol=1e-6)


def test_amass_and_smpl_are_read_by_smplcodec_and_put_smpls_pelvis_in_its_place(clip: Path, motion: Motion, tmp_path: Path) -> None:
    from smplcodec import SMPLCodec

    track = motion.tracks[1]
    amass = SMPLCodec.from_amass_npz(export(clip, "amass", tmp_path / "amass")[0])
    smpl = SMPLCodec.from_file(export(clip, "smpl", tmp_path / "smpl")[0])
    assert (amass.frame_count, amass.frame_rate) == (60, FPS)
    assert (smpl.frame_count, smpl.frame_rate) == (60, FPS)
    for content, axes in ((amass, Z_UP), (smpl, np.diag(Y_UP))):
        assert not content.shape_parameters.any(), "the free body's shape means nothing to SMPL"
        pelvis = content.body_translation + np.array([-0.0018, -0.2233, 0.0282])  # of SMPL's neutral body
        for row in five_rows(track):
            frame = track.frame[row]
            assert distance_m(pelvis[frame], axes @ track.joints_m[row, 0]) < TOLERANCE_M
            turned = Rotation.from_rotvec(content.body_pose[frame, 0]).as_matrix()
            np.testing.assert_allclose(turned, axes @ track.global_orient[row], atol=1e-5)
            others = Rotation.from_rotvec(content.body_pose[frame, 1:22]).as_matrix()
            np.testing.assert_allclose(others, track.body_pose[row, :21], atol=1e-5)


def test_smplx_poses_what_came_out_of_a_run_on_somebodys_smpl_file(tmp_path: Path, smpl_file: Path) -> None:
    from smplcodec import SMPLCodec

    clip = write_motion(tmp_path / "clip.npz", {1: range(20)}, TIMES_S[:20], body=load_body(smpl_file), body_path=str(smpl_file))
    track = load(clip).tracks[1]
    with np.load(export(clip, "amass", tmp_path / "amass")[0], allow_pickle=False) as amass:
        assert (amass["poses"].shape, amass["betas"].shape, float(amass["mocap_framerate"])) == ((20, 156), (16,), FPS)
        poses = np.concatenate([amass["poses"][:, :66], np.zeros((20, 6))], 1)
        joints = smplx_joints_m(smpl_file, poses, np.tile(amass["betas"][:10], (20, 1)), amass["trans"])
    # (the two hand joints turn no other joint, so that they are flat moves none)
    assert distance_m(joints, track.joints_m @ Z_UP.T) < TOLERANCE_M

    smpl = SMPLCodec.from_file(export(clip, "smpl", tmp_path / "smpl")[0])
    joints = smplx_joints_m(smpl_file, smpl.body_pose.reshape(20, 72), np.tile(smpl.shape_parameters, (20, 1)), smpl.body_translation)
    assert distance_m(joints, track.joints_m * Y_UP) < TOLERANCE_M

    pictures = list(pickle.loads(export(clip, "pkl", tmp_path / "pkl")[0].read_bytes()).values())
    people = [picture["smpl"][0] for picture in pictures]
    turned = np.stack([np.concatenate([person["global_orient"], person["body_pose"]]) for person in people])
    poses = Rotation.from_matrix(turned.reshape(-1, 3, 3)).as_rotvec().reshape(20, 72)
    joints = smplx_joints_m(smpl_file, poses, np.stack([person["betas"] for person in people]), track.transl)
    assert distance_m(joints, track.joints_m) < TOLERANCE_M


def test_amass_and_smpl_name_the_gender_of_somebodys_smpl_file(tmp_path: Path, smpl_file: Path) -> None:
    for name, gender in (("SMPL_FEMALE", "female"), ("basicModel_m_lbs_10_207_0_v1.0.0", "male"), ("SMPL_NEUTRAL", "neutral")):
        path = tmp_path / f"{name}.npz"
        shutil.copy(smpl_file, path)
        clip = write_motion(tmp_path / f"{gender}.npz", {1: range(5)}, TIMES_S[:5], body=load_body(path), body_path=str(path))
        with np.load(export(clip, "amass", tmp_path / gender)[0], allow_pickle=False) as amass:
            assert str(amass["gender"]) == gender


def test_another_build_moves_the_skin_in_the_glb_and_no_joint(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import trimesh

    found = {}
    for build in ("neutral", "female", "0,0,0,0,1.5"):
        (path,) = export(clip, "glb", tmp_path / build, "--build", build, "--person", "1")
        scene = trimesh.load_scene(path)
        joints = {name: scene.graph[name][0] for name in scene.graph.nodes if name.split("_1")[0] in JOINT_NAMES}
        found[build] = scene.geometry["person_1"].vertices, joints
    for build in ("female", "0,0,0,0,1.5"):
        assert 0.005 < distance_m(found[build][0], found["neutral"][0]) < 0.1
        assert all(np.array_equal(found[build][1][name], pose) for name, pose in found["neutral"][1].items())
    assert main(["export", str(clip), "--to", "glb", "--build", "woman"]) == 2
    assert "expected neutral, female, male, or a list" in capsys.readouterr().err


@pytest.fixture(scope="module")
def smpl_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The free body under another name stands in for somebody's SMPL file: its betas then mean something to other programs' body."""
    path = tmp_path_factory.mktemp("body") / "SMPL_NEUTRAL.npz"
    with resources.as_file(resources.files("mchmr_stream.assets") / "free_body.npz") as free:
        shutil.copy(free, path)
    return path


@pytest.fixture(scope="module")
def filmed(shared: Path, smpl_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `mchmr video` makes of somebody who walks towards a real camera: shapes, depths and poses as a network gives them."""
    settings = settings_from(
        {
            "source": {"end_s": 1.5},
            "body": {"model": str(smpl_file)},
            "output": {"overlay": False},
            "runtime": {"device": "cpu", "threads": 1},
        }
    )
    return process_video(shared / "media" / "asl-walk.mkv", tmp_path_factory.mktemp("filmed"), settings).npz


@pytest.mark.slow
@pytest.mark.parametrize("to", ["glb", "usd", "bvh", "amass", "smpl", "trc", "csv", "pkl"])
def test_joints_of_a_filmed_person_are_where_the_file_has_them(
    filmed: Path, smpl_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], to: str
) -> None:
    """At five times, by the reader of each format, after the axes that docs/export.md states."""
    paths = export(filmed, to, tmp_path)
    assert "shape varies" not in capsys.readouterr().err
    (track,) = load(filmed).tracks.values()
    assert np.ptp(track.betas_frame, axis=0).max() > 0.05, "the network did not see one shape"
    rows = five_rows(track)
    found, axes = READ_BACK[to](paths[0], track, rows, smpl_file)
    assert distance_m(found, track.joints_m[rows] @ axes.T) < TOLERANCE_M


def read_glb(path: Path, track: Track, rows: list[int], _: Path) -> tuple[Any, np.ndarray]:
    seen = node_reader(path, track.time_s[rows].tolist())
    assert seen["issues"]["numErrors"] == 0
    return [picture[f"person_{track.track_id}_skin"]["joints"] for picture in seen["times"]], np.diag(Y_UP)


def read_usd(path: Path, track: Track, rows: list[int], _: Path) -> tuple[Any, np.ndarray]:
    from pxr import Usd, UsdSkel

    stage = Usd.Stage.Open(str(path))
    cache = UsdSkel.Cache()
    person = f"{stage.GetDefaultPrim().GetPath()}/person_{track.track_id}"
    assert cache.Populate(UsdSkel.Root(stage.GetPrimAtPath(person)), Usd.PrimDefaultPredicate)
    skeleton = cache.GetSkelQuery(UsdSkel.Skeleton(stage.GetPrimAtPath(f"{person}/skeleton")))
    transforms = [skeleton.ComputeJointSkelTransforms(time_s * stage.GetTimeCodesPerSecond()) for time_s in track.time_s[rows]]
    return [[transform.ExtractTranslation() for transform in frame] for frame in transforms], np.diag(Y_UP)


def read_bvh(path: Path, track: Track, rows: list[int], _: Path) -> tuple[Any, np.ndarray]:
    return bvh_joints_m(path, (track.frame[rows] - track.frame[0]).tolist()), np.diag(Y_UP)


def read_amass(path: Path, track: Track, rows: list[int], smpl_file: Path) -> tuple[Any, np.ndarray]:
    with np.load(path, allow_pickle=False) as amass:
        numbers = track.frame[rows] - track.frame[0]
        poses = np.concatenate([amass["poses"][numbers, :66], np.zeros((len(rows), 6))], 1)
        return smplx_joints_m(smpl_file, poses, np.tile(amass["betas"][:10], (len(rows), 1)), amass["trans"][numbers]), Z_UP


def read_smpl(path: Path, track: Track, rows: list[int], smpl_file: Path) -> tuple[Any, np.ndarray]:
    from smplcodec import SMPLCodec

    content, numbers = SMPLCodec.from_file(path), track.frame[rows] - track.frame[0]
    poses, betas = content.body_pose[numbers].reshape(-1, 72), np.tile(content.shape_parameters, (len(rows), 1))
    return smplx_joints_m(smpl_file, poses, betas, content.body_translation[numbers]), np.diag(Y_UP)


def read_trc_joints(path: Path, track: Track, rows: list[int], _: Path) -> tuple[Any, np.ndarray]:
    return read_trc(path)[track.frame[rows] - track.frame[0], 2:].reshape(-1, 24, 3), np.diag(Y_UP)


def read_csv(path: Path, track: Track, rows: list[int], _: Path) -> tuple[Any, np.ndarray]:
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    joint = lambda line, name: [float(line[f"{name}_{axis}_m"]) for axis in "xyz"]
    return [[joint(lines[row], name) for name in JOINT_NAMES] for row in rows], np.eye(3)


def read_pkl(path: Path, track: Track, rows: list[int], smpl_file: Path) -> tuple[Any, np.ndarray]:
    pictures = [picture for picture in pickle.loads(path.read_bytes()).values() if len(picture["tid"])]
    people = [pictures[row]["smpl"][0] for row in rows]
    turned = np.stack([np.concatenate([person["global_orient"], person["body_pose"]]) for person in people])
    poses = Rotation.from_matrix(turned.reshape(-1, 3, 3)).as_rotvec().reshape(len(rows), 72)
    transl = np.stack([pictures[row]["transl_m"][0] for row in rows])
    return smplx_joints_m(smpl_file, poses, np.stack([person["betas"] for person in people]), transl), np.eye(3)


READ_BACK = {
    "glb": read_glb, "usd": read_usd, "bvh": read_bvh, "amass": read_amass, "smpl": read_smpl, "trc": read_trc_joints, "csv": read_csv,
    "pkl": read_pkl,
}  # fmt: skip


def smplx_joints_m(smpl_file: Path, poses: np.ndarray, betas: np.ndarray, transl: np.ndarray) -> np.ndarray:
    """(n, 72), (n, 10), (n, 3) -> (n, 24, 3) by smplx."""
    smplx = import_or_skip("smplx")
    with np.load(smpl_file) as file:
        arrays = {name: file[name].astype(np.float32) if file[name].dtype.kind == "f" else file[name] for name in file.files}
    theirs = smplx.SMPL("", data_struct=smplx.utils.Struct(**arrays), create_transl=False, vertex_ids=defaultdict(int))
    values = {"betas": betas, "global_orient": poses[:, :3], "body_pose": poses[:, 3:], "transl": transl}
    return theirs(**{name: torch.from_numpy(np.array(value, np.float32)) for name, value in values.items()}).joints[:, :24].numpy()


def test_csv_has_the_rows_of_the_file(clip: Path, motion: Motion, tmp_path: Path) -> None:
    (path,) = export(clip, "csv", tmp_path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(len(track) for track in motion.tracks.values())
    assert [int(row["frame"]) for row in rows] == sorted(int(row["frame"]) for row in rows)
    mine = [row for row in rows if row["track_id"] == "2"]
    track = motion.tracks[2]
    np.testing.assert_allclose([float(row["left_wrist_z_m"]) for row in mine], track.joints_m[:, 20, 2], atol=1e-5)
    np.testing.assert_allclose([float(row["left_wrist_y_px"]) for row in mine], track.joints_px[:, 20, 1], atol=0.01)


def test_pkl_projects_as_4d_humans_scripts_project(clip: Path, motion: Motion, tmp_path: Path) -> None:
    (path,) = export(clip, "pkl", tmp_path)
    pictures = pickle.loads(path.read_bytes())
    assert list(pictures)[:2] == ["clip/img/000001.jpg", "clip/img/000002.jpg"]
    assert [len(picture["tid"]) for picture in pictures.values()][18:24] == [1, 1, 0, 0, 1, 1]
    picture = pictures["clip/img/000006.jpg"]
    assert picture["tid"] == [1, 2]
    assert picture["smpl"][1]["global_orient"].shape == (1, 3, 3)
    np.testing.assert_array_equal(picture["smpl"][1]["body_pose"], motion.tracks[2].body_pose[0])
    pelvis = picture["camera"][1] + np.array([-0.0018, -0.2233, 0.0282])
    focal, side = 5000 / 256 * max(WIDTH, HEIGHT), max(WIDTH, HEIGHT)
    in_square = focal * pelvis[:2] / pelvis[2] + (side - 1) / 2
    in_picture = in_square - [(side - WIDTH) / 2, (side - HEIGHT) / 2]
    np.testing.assert_allclose(in_picture, motion.tracks[2].joints_px[0, 0], atol=0.05)
    assert picture["bbox"][0].tolist() == [10, 20, 50, 180]


def test_nothing_is_replaced_unless_asked(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = export(clip, "glb", tmp_path)
    before = path.read_bytes()
    assert main(["export", str(clip), "--to", "glb", "-o", str(tmp_path), "--person", "2"]) == 2
    assert "is there already; use --overwrite" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert export(clip, "glb", tmp_path, "--person", "2", "--overwrite") == [path]
    assert path.read_bytes() != before


def test_one_scene_each_on_request(clip: Path, tmp_path: Path) -> None:
    paths = export(clip, "glb", tmp_path, "--per-person")
    assert [path.name for path in paths] == ["clip_person1.glb", "clip_person2.glb"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "glb", "--person", "7"], "person 7 is not in the file; there: 1, 2"),
        (["--to", "csv", "--per-person"], "csv is one table of everybody"),
        (["--to", "bvh", "--fps", "0"], "rate is 0.0 frames per second"),
        (["--to", "bvh", "--fill-gaps", "-1"], "longest gap is -1.0 s"),
    ],
)
def test_requests_that_make_no_sense_are_refused(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["export", str(clip), "-o", str(tmp_path), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_people_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = write_motion(tmp_path / "empty.npz", {}, [0.0, 0.04])
    assert main(["export", str(clip), "--to", "glb"]) == 1
    assert "there is nobody to write" in capsys.readouterr().err


@pytest.mark.parametrize("to", ["glb", "bvh"])
def test_rows_that_are_no_bodies_are_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str], to: str) -> None:
    clip = write_motion(tmp_path / "clip.npz", {1: range(10), 2: range(10)}, TIMES_S[:10])
    arrays = dict(np.load(clip))
    mine = np.flatnonzero(arrays["track_id"] == 1)
    arrays["body_pose"][mine[4], 7] = 0
    arrays["joints_m"][mine[6], 3, 1] = np.nan
    np.savez(clip, **arrays)
    assert main(["export", str(clip), "--to", to, "-o", str(tmp_path / "out")]) == 0
    assert "person 1: 2 rows are no bodies and left out, the first at frame 4" in capsys.readouterr().err
    arrays["time_s"][mine[5]] = arrays["time_s"][mine[2]]
    np.savez(clip, **arrays)
    assert main(["export", str(clip), "--to", to, "-o", str(tmp_path / "again")]) == 1
    assert "has two rows at 0.080 s or goes back in time" in capsys.readouterr().err


@pytest.mark.parametrize(("to", "module"), [("usd", "pxr"), ("smpl", "smplcodec")])
def test_a_missing_library_is_one_line_that_says_how_to_install_it(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, to: str, module: str
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    # As if it had never been installed: no finder knows it.
    finders = [_Blind(finder, module) for finder in sys.meta_path]
    monkeypatch.setattr(sys, "meta_path", finders)
    assert main(["export", str(clip), "--to", to, "-o", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert f"python -m pip install {'usd-core' if to == 'usd' else module}" in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


class _Blind:
    def __init__(self, finder: Any, module: str) -> None:
        self._finder, self._module = finder, module

    def find_spec(self, name: str, *args: Any) -> Any:
        return None if name.partition(".")[0] == self._module else self._finder.find_spec(name, *args)


def test_a_shape_that_varies_is_fixed_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = write_motion(tmp_path / "clip.npz", {1: range(10)}, [number / FPS for number in range(10)])
    arrays = dict(np.load(clip))
    arrays["betas"] = arrays["betas"] + np.linspace(-1, 1, 10, dtype=np.float32)[:, None]
    arrays["joints_m"] = arrays["joints_m"] * np.linspace(0.98, 1.02, 10, dtype=np.float32)[:, None, None]
    np.savez(clip, **arrays)
    assert main(["export", str(clip), "--to", "bvh"]) == 0
    assert "the shape varies from frame to frame in the file and is fixed here" in capsys.readouterr().err
    assert len(list(tmp_path.glob("*.bvh"))) == 1


def test_a_camera_beside_the_middle_is_kept_by_usd_and_told_for_glb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pxr import Usd, UsdGeom

    camera = Intrinsics(700.0, 710.0, 300.0, 190.0)
    clip = write_motion(tmp_path / "clip.npz", {1: range(3)}, TIMES_S[:3], camera=camera)
    assert main(["export", str(clip), "--to", "glb", "-o", str(tmp_path / "glb")]) == 0
    assert "this one 19.5 px beside it" in capsys.readouterr().err
    (path,) = export(clip, "usd", tmp_path / "usd")
    stage = Usd.Stage.Open(str(path))
    track = load(clip).tracks[1]
    np.testing.assert_allclose(
        usd_pixels(UsdGeom.Camera(stage.GetPrimAtPath("/clip/camera")), track.joints_m[0]), track.joints_px[0], atol=0.05
    )


@pytest.mark.parametrize("to", ["glb", "usd", "bvh", "amass", "smpl", "trc", "csv", "pkl"])
def test_somebody_seen_in_one_frame_is_written_too(tmp_path: Path, to: str) -> None:
    clip = write_motion(tmp_path / "clip.npz", {1: [3]}, TIMES_S[:6])
    (path,) = export(clip, to, tmp_path / "out")
    assert path.stat().st_size > 0
    if to == "bvh":
        assert distance_m(bvh_joints_m(path, [0])[0], load(clip).tracks[1].joints_m[0] * Y_UP) < TOLERANCE_M


def test_the_rate_is_that_of_the_frames_that_were_processed(tmp_path: Path) -> None:
    """Every second frame of a clip of 30000/1001 frames per second, whose times were rounded to milliseconds."""
    import bvhio

    source = 30000 / 1001
    frames = range(0, 60, 2)
    clip = write_motion(tmp_path / "clip.npz", {1: range(30)}, [round(frame / source, 3) for frame in frames], fps=source, frames=frames)
    (path,) = export(clip, "bvh", tmp_path / "out")
    content = bvhio.readAsBvh(str(path))
    assert (content.FrameCount, content.FrameTime) == (30, pytest.approx(2 / source, abs=1e-9))
    (path,) = export(clip, "bvh", tmp_path / "sixty", "--fps", "60")
    assert bvhio.readAsBvh(str(path)).FrameCount == pytest.approx(29 * 2 / source * 60 + 1, abs=1)


def test_skin_that_a_file_cannot_hold_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A body with pose-dependent corrections: how far the skin is off is said, and it is what comes out of comparing the two."""
    free = load_body("free")
    corrections = np.random.default_rng(0).normal(size=(free.vertex_count, 3, 207)) * 0.002
    parents = np.array([PARENTS, range(24)])
    regressor = np.zeros((24, free.vertex_count))
    regressor[np.arange(24), np.random.default_rng(1).integers(0, free.vertex_count, 24)] = 1
    arrays = {"v_template": free.v_template.numpy(), "shapedirs": free.shapedirs.numpy(), "weights": free.weights.numpy(), "f": free.faces}
    body_path = tmp_path / "corrected.npz"
    np.savez(body_path, **arrays, posedirs=corrections, J_regressor=regressor, kintree_table=parents)
    body = load_body(body_path)
    clip = write_motion(tmp_path / "clip.npz", {1: range(20)}, TIMES_S[:20], body=body, body_path=str(body_path))
    assert main(["export", str(clip), "--to", "glb", "-o", str(tmp_path / "out")]) == 0
    said = re.search(r"it lies ([\d.]+) mm off on average, ([\d.]+) mm at most", capsys.readouterr().err)
    assert said is not None
    track = load(clip).tracks[1]
    rotations = torch.from_numpy(track.rotations)
    shift = np.einsum("vcp,fp->fvc", corrections, (rotations[:, 1:] - torch.eye(3)).reshape(20, -1).numpy())
    length = 1000 * np.linalg.norm(shift, axis=-1)  # skinning turns corrections and hardly stretches them
    assert float(said[1]) == pytest.approx(length.mean(), rel=0.1)
    assert float(said[2]) == pytest.approx(length.max(), rel=0.1)

    body_path.unlink()
    assert main(["export", str(clip), "--to", "glb", "-o", str(tmp_path / "again")]) == 1
    assert main(["export", str(clip), "--to", "glb", "-o", str(tmp_path / "again"), "--body", "free"]) == 1
    assert "is not the one this motion was made with" in capsys.readouterr().err


def test_the_python_of_the_documentation_runs(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "export.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(code.replace("out/clip.npz", str(clip)).replace('Path("out")', f'Path("{tmp_path}")'), {})
    assert "clip_person2_frame40.bvh (2,) 1.6 2.36" in capsys.readouterr().out


@pytest.mark.slow
def test_the_script_for_blender_sets_up_camera_movie_and_rate(clip: Path, tmp_path: Path) -> None:
    python = os.environ.get("MCHMR_BPY")
    if python is None:
        pytest.skip("Blender is not here: MCHMR_BPY does not name a Python with bpy")
    (path,) = export(clip, "glb", tmp_path)
    movie = write_video(tmp_path / "clip.mp4", [np.full((HEIGHT, WIDTH, 3), 90, np.uint8)] * 60, fps=25)
    page = (ROOT / "docs" / "blender.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    code = code.replace("/path/out/clip.glb", str(path)).replace("/path/clip.mp4", str(movie)).replace("FPS = 30.0", "FPS = 25.0")
    before = "import bpy; bpy.ops.wm.read_factory_settings(use_empty=True)\n"
    after = "print(scene.render.resolution_x, scene.render.resolution_y, scene.frame_start, scene.frame_end, scene.camera.name)"
    done = subprocess.run([python, "-c", before + code + after], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"{WIDTH} {HEIGHT} 0 59 camera"


@pytest.mark.slow
@pytest.mark.parametrize("to", ["glb", "bvh", "usd"])
def test_blender_agrees(clip: Path, motion: Motion, tmp_path: Path, to: str) -> None:
    python = os.environ.get("MCHMR_BPY")
    if python is None:
        pytest.skip("Blender is not here: MCHMR_BPY does not name a Python with bpy")
    path = export(clip, to, tmp_path, "--person", "1")[0]
    track = motion.tracks[1]
    rows = five_rows(track)
    # Blender puts the first frame of a BVH at frame 1, and time 0 of the others at frame 0.
    frames = [str(track.frame[row] + (to == "bvh")) for row in rows]
    command = [python, str(HELPERS / "blender_reader.py"), str(path), str(FPS), str(WIDTH), str(HEIGHT), *frames]
    seen = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    camera_from_blender = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])  # Blender: x right, y away, z up
    for row, joints, vertices in zip(rows, seen["joints_m"], seen["vertices_m"], strict=True):
        assert distance_m([joints[name] for name in JOINT_NAMES] @ camera_from_blender, track.joints_m[row]) < TOLERANCE_M
        if to != "bvh":
            assert distance_m(vertices @ camera_from_blender, true_skin_m(track, row)) < 5e-4
    if to != "bvh":
        assert seen["field_of_view_deg"] == pytest.approx(2 * np.degrees(np.arctan(WIDTH / 2 / CAMERA.fx)), abs=0.01)
