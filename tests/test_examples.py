"""The files in examples/ run as their first lines say, on a short clip of two painted people, and print and write what they promise."""

from __future__ import annotations

import ast
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import media
import numpy as np
import pytest
from people import FPS, HEIGHT, STRIP_PX, WIDTH, people_pictures
from places import ROOT

import mchmr_stream

EXAMPLES = ROOT / "examples"
NAMES = ["bodies_in_blender", "own_detector", "own_estimator", "read_npz_without_package", "video_to_bodies", "webcam"]
FRAMES = 12
DISTANCES_M = (4.0, 4.5)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people walk side by side before a grey wall, one of them nearer."""
    near, far = DISTANCES_M
    pictures = people_pictures(FRAMES, [((-0.9, 0.3, near), (-0.3, 0.3, near)), ((0.4, 0.3, far), (1.1, 0.3, far))])
    for picture in pictures:
        picture[:STRIP_PX] = 150  # the wall in place of the number
    return media.write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", pictures, fps=FPS)


@pytest.fixture(scope="module")
def bodies(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    settings = mchmr_stream.load_settings(overrides=["crops.views=1", "fit.kind=none", "output.overlay=false"])
    return mchmr_stream.process_video(clip, out, settings).npz


def run(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    """The lines that an example prints, run in this process: the networks' libraries are loaded already."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    return capsys.readouterr().out.splitlines()


def test_every_example_is_listed_and_tested_here() -> None:
    assert sorted(path.stem for path in EXAMPLES.glob("*.py")) == NAMES
    readme = (EXAMPLES / "README.md").read_text()
    assert sorted(re.findall(r"\]\((\w+)\.py\)", readme)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_examples_use_public_names_only(name: str) -> None:
    tree = ast.parse((EXAMPLES / f"{name}.py").read_text())
    imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    ours = {module for module in imported if module.partition(".")[0] == "mchmr_stream"}
    assert ours == (set() if name == "read_npz_without_package" else {"mchmr_stream"}), "submodules may move"
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "mchmr_stream"}
    assert used <= set(mchmr_stream.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_without_arguments_says_how_to_run_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [name])
    with pytest.raises(SystemExit, match=rf"python examples/{name}\.py "):
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


def test_video_to_bodies(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = run("video_to_bodies", monkeypatch, capsys, clip, tmp_path)
    rows = [
        re.fullmatch(r" *([\d.]+) s  person (\d)  pelvis \S+ \S+ \+([\d.]+) m  pose \(23, 3, 3\)  shape \(10,\)", line) for line in lines
    ]
    seen = [row for row in rows if row is not None]
    assert len(seen) == 2 * FRAMES, "one line per person and frame"
    assert {row[2] for row in seen} == {"1", "2"}
    assert all(2.5 < float(row[3]) < 6.5 for row in seen), "about where they were painted"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.json", "clip.mp4", "clip.npz"]
    assert lines[-2:] == [f"{tmp_path / 'clip.npz'}: person {person}, {FRAMES} frames from 0.00 to 0.73 s" for person in (1, 2)]


def test_webcam_prints_results_with_their_age(clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    *results, last = run("webcam", monkeypatch, capsys, clip)
    ages_ms = [int(re.fullmatch(r" *[\d.]+ s +(\d+) ms old  \d+ dropped  (person .* m away|nobody)", line)[1]) for line in results]  # type: ignore[index]
    assert 1 <= len(ages_ms) <= FRAMES
    assert f"clip.mp4: {len(ages_ms)} results" in last
    assert last.endswith("ended")


def test_own_detector_finds_both_people(clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = run("own_detector", monkeypatch, capsys, clip)
    assert len(lines) == FRAMES
    boxes = {int(who): json.loads(box) for who, box in re.findall(r"person (\d+) in (\[.*?\])", lines[-1])}
    assert list(boxes) == [1, 2]
    (left, top, right, bottom), (left_2, _, right_2, _) = sorted(boxes.values())
    assert 0 <= left < right <= left_2 < right_2 <= WIDTH, "one beside the other"
    assert HEIGHT / 3 < bottom - top < HEIGHT


def test_own_estimator_is_used_and_fitted_to_the_keypoints(
    clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    named, *lines = run("own_estimator", monkeypatch, capsys, clip)
    assert named == "network tiny"
    away_m = {
        person: [float(line.split()[5]) for line in lines if f"person {person}" in line] for person in (1, 2)
    }  # "T s person N pelvis X m away"
    assert [len(each) for each in away_m.values()] == [FRAMES, FRAMES]
    for found, expected in zip(sorted(float(np.median(each)) for each in away_m.values()), DISTANCES_M, strict=True):
        assert abs(found - expected) < 0.4


def test_bodies_in_blender_exports_and_says_how_to_import(
    bodies: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "bpy", None)  # as where it is not installed; docs/blender.md says how it was checked with it
    lines = run("bodies_in_blender", monkeypatch, capsys, bodies)
    glb = bodies.with_suffix(".glb")
    assert lines[0] == f"{glb}: people 1, 2, {FRAMES} frames"
    assert glb.read_bytes()[:4] == b"glTF"
    assert f'bpy.ops.import_scene.gltf(filepath=r"{glb}")' in lines[-1]


def test_npz_is_read_without_the_package(bodies: Path, tmp_path: Path) -> None:
    """By an interpreter that cannot import it; in camera axes, and in the world where the file has one."""
    with np.load(bodies, allow_pickle=False) as clip:
        columns = dict(clip)
    np.savez(tmp_path / "world.npz", **columns, world_joints_m=np.full_like(columns["joints_m"], 1.25))
    blocked = (
        "import sys, runpy; sys.modules['mchmr_stream'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    script = str(EXAMPLES / "read_npz_without_package.py")
    for path, where in ((bodies, "x right, y down"), (tmp_path / "world.npz", "y up, floor at 0")):
        command = [sys.executable, "-c", blocked, script, str(path), str(tmp_path / "plot.png")]
        out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
        assert out[0] == f"{FRAMES} frames of {WIDTH}x{HEIGHT} px, {2 * FRAMES} rows, body free"
        assert where in out[1]
        assert [line.partition(",")[0] for line in out[2:4]] == [f"person {person}: 0.00 to 0.73 s" for person in (1, 2)]
        assert ("(1.25, 1.25, 1.25) to (1.25, 1.25, 1.25)" in out[2]) == (where == "y up, floor at 0")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
