"""tools/make_training_data.py: DeepMimic's motions and MakeHuman's garments as training reads them. Nothing is fetched here."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest
import torch
from places import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import make_training_data as tool

from mchmr_stream.errors import MchmrError, MissingPart, UsageError
from mchmr_stream.geometry.rotation import matrix_from_axis_angle
from mchmr_stream.synthesis.garments import load_proxies
from mchmr_stream.synthesis.rig import RenderBody, forward_kinematics, load_render_body

LEFT_KNEE, RIGHT_KNEE, LEFT_ANKLE, RIGHT_ANKLE, LEFT_SHOULDER, LEFT_ELBOW, LEFT_WRIST, RIGHT_WRIST = 4, 5, 7, 8, 16, 18, 20, 21


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> RenderBody:
    folder = tmp_path_factory.mktemp("data")
    shutil.copytree(tool.BODY, folder / "body")
    return load_render_body(folder)


def joints_m(body: RenderBody, **numbers: float) -> np.ndarray:
    """(24, 3) of a frame at rest but for `numbers`, by their place in it."""
    frame = np.zeros((1, 44))
    frame[0, [4, 8, 12, 16, 21, 25, 30, 35, 39]] = 1
    for place, value in numbers.items():
        frame[0, int(place[1:])] = value
    turns = matrix_from_axis_angle(torch.as_tensor(tool.smpl_poses(frame).astype(np.float32)))
    return forward_kinematics(turns, body.joints_m[None])[0][0].numpy()


def test_the_humanoid_at_rest_stands_with_hanging_arms_and_its_left_is_left(body):
    rest = joints_m(body)
    assert rest[LEFT_SHOULDER, 1] - rest[LEFT_WRIST, 1] > 0.4
    assert rest[LEFT_WRIST, 0] > 0 > rest[RIGHT_WRIST, 0]
    np.testing.assert_allclose(rest[[LEFT_ANKLE, RIGHT_ANKLE]], body.joints_m[[LEFT_ANKLE, RIGHT_ANKLE]].numpy(), atol=1e-3)


def test_knees_bend_backwards_and_elbows_forwards_on_the_side_that_is_named(body):
    rest, bent = joints_m(body), joints_m(body, n20=-1.2, n43=1.2)
    assert bent[RIGHT_ANKLE, 2] - bent[RIGHT_KNEE, 2] < -0.25
    assert bent[LEFT_WRIST, 2] - bent[LEFT_ELBOW, 2] > 0.15
    np.testing.assert_allclose(bent[[LEFT_ANKLE, RIGHT_WRIST]], rest[[LEFT_ANKLE, RIGHT_WRIST]], atol=1e-3)


def test_motions_keep_their_seconds_whatever_their_frames_last():
    slow = np.zeros((4, 44))
    slow[:, 0] = 0.1
    assert len(tool.evenly_spaced(slow)) == 10


def test_garments_are_read_back_as_they_lie_on_the_body(body, tmp_path):
    corners = [[100, 101, 102], [200, 201, 202], [300, 301, 302], [400, 401, 402]]
    ties = {"ref_vIdxs": corners, "weights": [[0.2, 0.3, 0.5]] * 4, "offsets": [[0.0, 0.0, 0.1]] * 4}
    piece = {"vertices": list(range(12)), "uvs": [[0, 0, 1, 0, 1, 1, 0, 1]], "faces": [11, 0, 1, 2, 3, 0, 3, 2, 1, 0], **ties}
    piece["metadata"] = {"deleteVerts": [0] * 7 + [1] + [0] * 5}
    for kind in ("clothes", "hair"):
        tool.write_garment(piece, tool.GARMENTS["clothes"]["shoes01"], tmp_path / kind / f"piece_{kind}")
        (tmp_path / kind / f"piece_{kind}" / f"piece_{kind}_diffuse.webp").touch()
    proxy = load_proxies(tmp_path, body)["piece_clothes"]
    assert len(proxy.mesh.faces) == 2
    assert np.flatnonzero(proxy.hidden_skin).tolist() == [7]
    assert proxy.mesh.corner_uv[0].tolist() == [[0, 1], [1, 1], [1, 0]]
    with pytest.raises(MchmrError, match="kind 0"):
        tool.parsed_faces([0, 1, 2, 3])


def test_a_folder_that_holds_something_and_a_machine_without_npm_are_refused_before_anything_is_fetched(tmp_path, monkeypatch):
    (tmp_path / "mine").touch()
    with pytest.raises(UsageError, match="not empty"):
        tool.make(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingPart, match="npm is not installed"):
        tool.make(tmp_path / "new")
