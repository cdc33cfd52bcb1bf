"""tools/turntable.py: the right pictures beside the bodies, bodies turned the right way, on their ground, with the bend of their knees."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from media import counter_picture, read_counter, write_video
from motions import HEIGHT, WIDTH, write_motion
from PIL import Image
from places import ROOT
from scipy.spatial.transform import Rotation

from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import forward_kinematics, skin
from mchmr_stream.motion.motion import WORLD_COLUMNS

TOOL = ROOT / "tools" / "turntable.py"
FRAMES = 12
TILE = 120
LEFT_KNEE, LEFT_SHOULDER, RIGHT_SHOULDER = 4, 16, 17


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("turntable", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["turntable"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every picture carries its number; the file is filmed on its side, with a display matrix."""
    pictures = [np.rot90(counter_picture(number, WIDTH, HEIGHT)) for number in range(FRAMES)]
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", pictures, fps=25, rotation_deg=-90)


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Person 1 upright, turned to the camera, arms straight out to both sides."""
    return _write_pose(tmp_path_factory.mktemp("motion") / "standing.npz", {})


def _write_pose(path: Path, vectors: dict[int, Sequence[float]], position_m: Sequence[float] = (0, 0, 5)) -> Path:
    """Joint -> its rotation vector, the same in every frame."""
    write_motion(path, {1: range(FRAMES)}, [number / 25 for number in range(FRAMES)])
    with np.load(path) as file:
        arrays = dict(file)
    rotations = _pose(vectors)
    arrays["global_orient"][:], arrays["body_pose"][:] = rotations[0], rotations[1:]
    arrays["betas"][:], arrays["transl"][:] = 0, position_m
    tensors = [torch.from_numpy(values)[None] for values in (rotations, arrays["betas"][0], arrays["transl"][0])]
    arrays["joints_m"][:] = forward_kinematics(load_body("free"), *tensors)[0].numpy()
    np.savez(path, **arrays)
    return path


def _pose(vectors: dict[int, Sequence[float]]) -> np.ndarray:
    axis_angle = np.zeros((24, 3))
    axis_angle[0] = [np.pi, 0, 0]
    for joint, vector in vectors.items():
        axis_angle[joint] = vector
    return Rotation.from_rotvec(axis_angle).as_matrix().astype(np.float32)


def _sheet(tool: ModuleType, out: Path, *arguments: str | Path) -> np.ndarray:
    assert tool.main([*map(str, arguments), "--tile", str(TILE), "-o", str(out)]) == 0
    return np.array(Image.open(out).convert("RGB"))


def _tile(sheet: np.ndarray, column: int, row: int = 0) -> np.ndarray:
    """The n-th body's tile of a row, under the row's line of text."""
    left = 2 * (round(WIDTH * TILE / HEIGHT) + 4) + column * (TILE + 4)
    return sheet[row * (TILE + 24) + 20 :][:TILE, left : left + TILE].astype(int)


def _body(tile: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels that person 1's colour, blue, is in."""
    return np.nonzero(tile[..., 2] - tile[..., 0] > 25)


def test_the_sheet_has_a_row_per_frame_and_file_and_a_column_per_view(tool, clip, standing, tmp_path):
    one = _sheet(tool, tmp_path / "one.png", standing, clip, "--frames", "3,7")
    assert one.shape == (2 * (20 + TILE + 4), 2 * (213 + 4) + 2 * (TILE + 4), 3)
    more = _sheet(tool, tmp_path / "more.png", standing, clip, "--count", "3", "--views", "camera,side,back,top", "--compare", standing)
    assert more.shape == (6 * (20 + TILE + 4), 2 * (213 + 4) + 4 * (TILE + 4), 3)


def test_the_pictures_are_those_of_the_frames_upright(tool, clip, standing, tmp_path):
    sheet = _sheet(tool, tmp_path / "sheet.png", standing, clip, "--frames", "9,2")
    pictures = [sheet[row * (TILE + 24) + 20 :][:TILE, :213] for row in range(2)]
    assert [read_counter(picture) for picture in pictures] == [9, 2]


def test_arms_to_both_sides_are_seen_from_the_front_and_back_not_from_the_side(tool, clip, standing, tmp_path):
    sheet = _sheet(tool, tmp_path / "sheet.png", standing, clip, "--frames", "3", "--views", "camera,side,back,top")
    camera, side, back, top = (_body(_tile(sheet, column)) for column in range(4))
    assert np.ptp(side[1]) < 0.4 * np.ptp(camera[1])
    assert abs(np.ptp(back[1]) - np.ptp(camera[1])) <= 2
    assert abs(np.ptp(top[1]) - np.ptp(camera[1])) <= 2
    assert np.ptp(top[0]) < 0.4 * np.ptp(camera[0])
    assert abs(np.ptp(side[0]) - np.ptp(camera[0])) <= 1


def test_what_is_nearer_to_the_camera_is_on_the_left_of_the_side_view_and_low_in_the_top_view(tool, clip, tmp_path):
    """Both arms reach for the camera."""
    pose = {LEFT_SHOULDER: [0, -np.pi / 2, 0], RIGHT_SHOULDER: [0, np.pi / 2, 0]}
    reaching = _write_pose(tmp_path / "reaching.npz", pose)
    sheet = _sheet(tool, tmp_path / "sheet.png", reaching, clip, "--frames", "3", "--views", "side,top")
    rows, columns = _body(_tile(sheet, 0))
    foot = columns[rows > rows.max() - 5].mean()
    assert foot - columns.min() > 2 * (columns.max() - foot)
    rows, columns = _body(_tile(sheet, 1))
    widest = np.bincount(rows).argmax()  # the shoulders
    assert rows.max() - widest > 2 * (widest - rows.min())


def test_bodies_stand_on_the_ground_line(tool, clip, standing, tmp_path):
    """Also the one whose left knee is bent by a right angle: the line is through the lower foot."""
    bent = _write_pose(tmp_path / "bent.npz", {LEFT_KNEE: [np.pi / 2, 0, 0]})
    for path in (standing, bent):
        tile = _tile(_sheet(tool, tmp_path / "sheet.png", path, clip, "--frames", "3", "--views", "side"), 0)
        grey = (np.abs(tile - 110).max(-1) < 8).mean(1)
        lines = np.flatnonzero(grey > 0.6)
        assert len(lines) == 1
        assert abs(lines[0] - _body(tile)[0].max()) <= 2


def test_a_view_does_not_depend_on_where_around_the_camera_somebody_stands(tool):
    body = load_body("free")
    rotations = torch.from_numpy(_pose({LEFT_KNEE: [1.0, 0, 0], LEFT_SHOULDER: [0, -1.0, 0.5]}))[None]
    vertices_m = skin(body, rotations, torch.zeros(1, 10), torch.tensor([[0.0, 0.3, 4.0]]))[0][0].double().numpy()
    around = Rotation.from_rotvec([0, 0.6, 0]).as_matrix()
    down = np.array([0.0, 1.0, 0.0])
    for view in tool.VIEWS:
        axes = tool.view_axes(view, down, vertices_m.mean(0))
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(axes) > 0  # no mirror image
        moved_axes = tool.view_axes(view, down, around @ vertices_m.mean(0))
        np.testing.assert_allclose(vertices_m @ around.T @ moved_axes.T, vertices_m @ axes.T, atol=1e-9)


def test_the_world_says_what_is_upright_where_the_camera_looks_down(tool, clip, standing, tmp_path):
    """The camera is turned down by 30 degrees: with the world's vertical somebody upright looks as with a level camera."""
    camera_from_level = Rotation.from_euler("x", 30, degrees=True).as_matrix()
    turned = tmp_path / "turned.npz"
    with np.load(standing) as file:
        arrays = dict(file)
    rows = len(arrays["frame"])
    joints_m = arrays["joints_m"] @ camera_from_level.T
    # (the body turns about its pelvis, which is at the rest pelvis + transl)
    arrays["transl"] = (arrays["transl"] + joints_m[:, 0] - arrays["joints_m"][:, 0]).astype(np.float32)
    arrays["global_orient"] = (camera_from_level @ arrays["global_orient"]).astype(np.float32)
    arrays["joints_m"] = joints_m.astype(np.float32)
    world = {name: np.zeros((rows, *column.shape), column.dtype) for name, column in WORLD_COLUMNS.items()}
    world_from_camera = np.eye(4)
    world_from_camera[:3, :3] = np.diag([1.0, -1.0, -1.0]) @ camera_from_level.T
    np.savez(turned, **arrays, **world, world_from_camera=world_from_camera, world_info=np.array("{}"))
    level = _sheet(tool, tmp_path / "level.png", standing, clip, "--frames", "3")
    upright = _sheet(tool, tmp_path / "upright.png", turned, clip, "--frames", "3", "--up", "world")
    leaning = _sheet(tool, tmp_path / "leaning.png", turned, clip, "--frames", "3")
    height, width = (np.ptp(axis) for axis in _body(_tile(level, 1)))
    upright_height, upright_width = (np.ptp(axis) for axis in _body(_tile(upright, 1)))
    assert abs(upright_height - height) <= 1
    assert abs(upright_width - width) <= 1
    assert np.ptp(_body(_tile(leaning, 1))[1]) > 2 * width


def test_knees_are_printed_as_bent(tool, clip, standing, tmp_path, capsys):
    bent = _write_pose(tmp_path / "bent.npz", {LEFT_KNEE: [np.radians(70), 0, 0]})
    capsys.readouterr()
    _sheet(tool, tmp_path / "sheet.png", standing, clip, "--frames", "3", "--compare", bent, "--labels", "before,after")
    before, after = (line.split() for line in capsys.readouterr().out.splitlines()[1:3])
    assert before[:3] == ["before", "3", "1"]
    assert after[:3] == ["after", "3", "1"]
    assert max(float(before[4]), float(before[5])) < 10
    assert float(after[4]) == pytest.approx(70, abs=8)
    assert after[5] == before[5]


def test_a_straight_leg_is_not_bent_and_a_folded_one_by_half_a_turn(tool):
    joints_m = np.zeros((24, 3))
    joints_m[4], joints_m[7] = [0, 0.4, 0], [0, 0.8, 0]
    assert tool.knee_flexion_deg(joints_m, "left") == pytest.approx(0)
    joints_m[7] = [0, 0.4, 0.3]
    assert tool.knee_flexion_deg(joints_m, "left") == pytest.approx(90)
    joints_m[7] = [0, 0.1, 0]
    assert tool.knee_flexion_deg(joints_m, "left") == pytest.approx(180)


def test_the_centre_of_volume_does_not_follow_dense_vertices(tool):
    """A tetrahedron whose one face is cut into three: the mean of the vertices moves, the centre does not."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1 / 3, 1 / 3, 0]]) + 5
    faces = np.array([[0, 2, 4], [2, 1, 4], [1, 0, 4], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    np.testing.assert_allclose(tool.volume_centre(corners, faces), [5.25, 5.25, 5.25])


def test_who_is_not_there_leaves_an_empty_tile(tool, clip, tmp_path):
    path = write_motion(tmp_path / "two.npz", {1: range(6), 2: range(FRAMES)}, [number / 25 for number in range(FRAMES)])
    sheet = _sheet(tool, tmp_path / "sheet.png", path, clip, "--frames", "3,9", "--views", "camera")
    assert len(_body(_tile(sheet, 0, 0))[0]) > 100
    assert len(_body(_tile(sheet, 0, 1))[0]) == 0
    only = _sheet(tool, tmp_path / "only.png", path, clip, "--frames", "3,9", "--views", "camera", "--ids", "2")
    assert only.shape[1] == sheet.shape[1] - (TILE + 4)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--frames", "3,99"], 2, "99, the file has 0 to 11"),
        (["--frames", "three"], 2, "whole numbers"),
        (["--views", "camera,below"], 2, "'below', expected some of camera,side,back,top"),
        (["--ids", "7"], 2, "7, the file has 1"),
        (["--labels", "before,after"], 2, "expected 1"),
        (["--up", "world"], 2, "--static-camera"),
        (["-o", "sheet.jpg"], 2, "ends in .png"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(tool, clip, standing, tmp_path, monkeypatch, capsys, arguments, code, said):
    monkeypatch.chdir(tmp_path)
    assert tool.main([str(standing), str(clip), *arguments]) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_another_clip_is_refused(tool, standing, tmp_path, capsys):
    shorter = write_video(tmp_path / "shorter.mp4", [counter_picture(number, WIDTH, HEIGHT) for number in range(4)], fps=25)
    smaller = write_video(tmp_path / "smaller.mp4", [counter_picture(number, 320, 180) for number in range(FRAMES)], fps=25)
    slower = write_video(tmp_path / "slower.mp4", [counter_picture(number, WIDTH, HEIGHT) for number in range(FRAMES)], fps=10)
    for other in (shorter, smaller, slower):
        assert tool.main([str(standing), str(other), "--frames", "9", "-o", str(tmp_path / "sheet.png")]) in (1, 2)
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "sheet.png").exists()
