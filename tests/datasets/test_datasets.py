"""Data sets: points on bodies, readers of every layout, mixing, checking."""

from __future__ import annotations

import io
import os
import pickle

import labelled_sets as sets
import numpy as np
import pytest
import torch

from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import skin
from mchmr_stream.datasets.mixture import Mixture
from mchmr_stream.datasets.opening import open_set, sets_in
from mchmr_stream.datasets.points import (
    ANNOTATED_NAMES,
    ANNOTATED_POINTS,
    MIRRORED_POINTS,
    POINT_NAMES,
    LabelledPoints,
    load_regressor,
)
from mchmr_stream.datatypes import JOINT_NAMES
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.files.safe_pickle import load_plain
from mchmr_stream.geometry.rotation import matrix_from_axis_angle


@pytest.fixture(scope="module")
def body():
    return load_body("free")


@pytest.fixture(scope="module")
def posed(body):
    generator = torch.Generator().manual_seed(0)
    rotations = matrix_from_axis_angle(0.3 * torch.randn(2, 24, 3, generator=generator))
    return skin(body, rotations, torch.randn(2, 10, generator=generator), torch.tensor([[0.0, 0.0, 4.0], [0.5, 0.0, 6.0]]))


def test_points_lie_where_their_names_say(body):
    vertices, joints = skin(body, torch.eye(3).expand(1, 24, 3, 3), torch.zeros(1, 10))
    points = dict(zip(POINT_NAMES, LabelledPoints.of(body).place(joints, vertices)[0].tolist(), strict=True))
    assert points["head_top"][1] == pytest.approx(float(vertices[0, :, 1].max()))
    up = ["left_ankle", "left_knee", "pelvis", "spine", "thorax", "jaw", "head", "head_top"]
    assert [points[name][1] for name in up] == sorted(points[name][1] for name in up)
    for name in ANNOTATED_NAMES:
        if name.startswith("left"):
            assert points[name][0] > 0.02, name
            assert points[name.replace("left", "right")][0] < -0.02, name
    assert points["nose"][2] > points["left_ear"][2] + 0.05
    assert points["left_knee"] == points["smpl_left_knee"]


def test_points_move_with_the_body_and_mirror_in_pairs(body, posed):
    vertices, joints = posed
    shift = torch.tensor([0.3, -0.2, 1.0])
    points = LabelledPoints.of(body)
    assert torch.allclose(points.place(joints + shift, vertices + shift), points.place(joints, vertices) + shift, atol=1e-5)
    assert [MIRRORED_POINTS[other] for other in MIRRORED_POINTS] == list(range(48))
    assert POINT_NAMES[MIRRORED_POINTS[POINT_NAMES.index("smpl_left_hip")]] == "smpl_right_hip"


def test_a_regressor_of_the_user_replaces_the_stand_ins(body, posed, tmp_path):
    vertices, joints = posed
    matrix = np.zeros((9, body.vertex_count))
    matrix[np.arange(9), 100 * np.arange(9)] = 1
    np.save(tmp_path / "extra.npy", matrix)
    points = LabelledPoints.of(body, load_regressor(tmp_path / "extra.npy", 9, "J_regressor_extra")).place(joints, vertices)
    order = ["right_hip", "left_hip", "neck", "head_top", "pelvis", "thorax", "spine", "jaw", "head"]
    for row, name in enumerate(order):
        assert torch.allclose(points[:, ANNOTATED_POINTS][:, ANNOTATED_NAMES.index(name)], vertices[:, 100 * row], atol=1e-6)
    assert torch.allclose(points[:, :24], joints)
    assert torch.allclose(points[:, POINT_NAMES.index("left_wrist")], joints[:, JOINT_NAMES.index("left_wrist")])
    np.save(tmp_path / "other.npy", matrix[:, :500])
    with pytest.raises(InputError, match="shape"):
        LabelledPoints.of(body, load_regressor(tmp_path / "other.npy", 9, "J_regressor_extra"))
    with pytest.raises(InputError, match="17, vertices"):
        load_regressor(tmp_path / "extra.npy", 17, "J_regressor_h36m")


# ---- readers ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bodies_folder(tmp_path_factory):
    return sets.write_bodies(tmp_path_factory.mktemp("bodies"))


@pytest.fixture(scope="module")
def truth(bodies_folder):
    return sets.make_truth(bodies_folder)


LAYOUTS = {
    "spin": ("h36m", lambda root, truth: sets.write_spin(root, truth, "h36m", "h36m_valid_protocol1.npz")),
    "cliff": ("coco", sets.write_cliff),
    "bedlam": ("bedlam", sets.write_bedlam),
    "3dpw": ("3dpw", sets.write_3dpw),
    "3dpw, old pickle": ("3dpw", lambda root, truth: sets.write_3dpw(root, truth, protocol=0)),
    "3dpw, new pickle": ("3dpw", lambda root, truth: sets.write_3dpw(root, truth, protocol=5)),
    "humandata": ("agora", lambda root, truth: sets.write_humandata(root, truth, compressed=False)),
    "humandata, compressed": ("agora", lambda root, truth: sets.write_humandata(root, truth, compressed=True)),
}


def _order(name):
    """3DPW's files go by person, then by frame; the others by picture."""
    return [0, 2, 4, 1, 3, 5] if name == "3dpw" else list(range(6))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_back_what_was_written(layout, truth, tmp_path):
    name, write = LAYOUTS[layout]
    write(tmp_path, truth)
    assert sets_in(tmp_path) == [name]
    reader = open_set(tmp_path, name)
    assert len(reader) == 6
    assert reader.columns.notes == ()
    for index, person in enumerate(_order(name)):
        label = reader.label(index)
        assert label.has_pose
        assert label.has_betas
        turned = [matrix_from_axis_angle(pose.astype(np.float64)) for pose in (label.pose, truth.pose[person])]
        assert turned[0] == pytest.approx(turned[1], abs=1e-6)
        assert label.betas == pytest.approx(truth.betas[person], abs=1e-6)
        assert label.gender == ("neutral" if layout == "cliff" else {"f": "female", "m": "male"}[truth.gender[person]])
        seen = label.points_px[:, 2] > 0
        assert seen.sum() == (18 if name == "3dpw" else 24)
        if name != "3dpw":
            assert label.points_px[seen, :2] == pytest.approx(truth.points_px[person][seen], abs=1e-4)
            assert label.centre_px == pytest.approx(truth.centre[person], abs=1e-4)
            assert label.side_px == pytest.approx(truth.scale[person] * 200, rel=1e-6)
        if label.has_points_m:
            known = label.points_m[:, 3] > 0
            offset = label.points_m[known, :3] - truth.points_m[person][known]
            assert np.ptp(offset, axis=0).max() < 1e-5
        if layout == "3dpw":
            assert label.points_m[:24, :3] == pytest.approx(truth.points_m[person][:24], abs=1e-5)
            assert (label.sequence, label.frame, label.person) == ("downtown_test_00", person // 2, person % 2)
        if label.transl_m is not None:
            assert label.transl_m == pytest.approx(truth.transl[person], abs=1e-5)
        if label.K is not None:
            assert np.allclose(label.K, sets.K)
        assert np.array_equal(reader.image(index), sets.paint(truth, person // 2))
        for values in (label.pose, label.betas, label.points_px, label.points_m, label.centre_px):
            assert values.dtype == np.float32
            assert np.isfinite(values).all()


def test_openpose_points_of_3dpw_land_on_their_names(truth, tmp_path):
    sets.write_3dpw(tmp_path, truth)
    reader = open_set(tmp_path, "3dpw")
    for index, person in enumerate(_order("3dpw")):
        label = reader.label(index)
        for name in ("nose", "right_wrist", "left_hip", "left_ear"):
            at = POINT_NAMES.index(name)
            assert label.points_px[at] == pytest.approx([*truth.points_px[person, at], 0.9], abs=1e-4)


def test_smplx_labels_have_their_body_joints_and_straight_hands(truth, tmp_path):
    path = sets.write_bedlam(tmp_path, truth)
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["pose_cam"] = np.concatenate([arrays["pose_cam"][:, :66], np.full((6, 99), 0.7)], 1)
    arrays["shape"] = np.concatenate([arrays["shape"], np.ones((6, 1))], 1)
    np.savez(path, **arrays)
    label = open_set(tmp_path, "bedlam").label(2)
    assert label.body == "smplx"
    assert label.pose[:22] == pytest.approx(truth.pose[2, :22], abs=1e-6)
    assert (label.pose[22:] == 0).all()
    assert (label.points_px[:, 2] > 0).sum() == 22


def test_portrait_pictures_stored_on_their_side_are_turned(truth, tmp_path):
    path = sets.write_bedlam(tmp_path, truth)
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["cam_int"][:] = [[310.0, 0, 118.0], [0, 300.0, 155.0], [0, 0, 1]]
    np.savez(path, **arrays)
    reader = open_set(tmp_path, "bedlam")
    assert np.array_equal(np.rot90(reader.image(0)), sets.paint(truth, 0))


def test_readers_can_be_sent_to_other_processes(truth, tmp_path):
    sets.write_spin(tmp_path, truth, "h36m", "h36m_train.npz")
    reader = pickle.loads(pickle.dumps(open_set(tmp_path, "h36m")))
    assert reader.label(5).side_px == pytest.approx(truth.scale[5] * 200, rel=1e-6)


def test_several_files_are_one_set_and_splits_go_by_name(truth, tmp_path):
    for file in ("a_train.npz", "b_train.npz", "h36m_valid_protocol1.npz", "h36m_valid_protocol2.npz"):
        sets.write_spin(tmp_path, truth, "h36m", file, side=np.zeros(1))
    train = open_set(tmp_path, "h36m", "train")
    assert len(train) == 12
    assert train.label(7).pose == pytest.approx(train.label(1).pose)
    assert np.array_equal(train.image(11), sets.paint(truth, 2))
    assert len(open_set(tmp_path, "h36m", "validation")) == 12
    sets.write_3dpw(tmp_path, truth)
    sets.write_spin(tmp_path, truth, "3dpw", "3dpw_test.npz")
    assert len(open_set(tmp_path, "3dpw", "test")) == 6  # not the same people twice
    with pytest.raises(IndexError):
        train.label(12)
    with pytest.raises(UsageError, match=r"Human3\.6M usually has h36m_train"):
        open_set(tmp_path / "nothing", "h36m")


# ---- bad input --------------------------------------------------------------------------------------------------------------


def test_labels_that_are_not_finite_are_switched_off_and_counted(truth, tmp_path):
    arrays = sets.spin_arrays(truth)
    arrays["pose"][1, 5] = np.nan
    arrays["shape"][2, 0] = np.inf
    arrays["part"][3, 4, 0] = np.nan
    arrays["S"][4, 4] = np.nan
    arrays["center"][5, 0] = np.nan
    sets.write_spin(tmp_path, truth, "h36m", "h36m_train.npz", **arrays)
    reader = open_set(tmp_path, "h36m")
    assert len(reader) == 5
    labels = [reader.label(index) for index in range(5)]
    assert [label.has_pose for label in labels] == [True, False, True, True, True]
    assert [label.has_betas for label in labels] == [True, True, False, True, True]
    assert (labels[3].points_px[:, 2] > 0).sum() == 23
    assert (labels[4].points_m[:, 3] > 0).sum() == 23
    assert all(np.isfinite(label.pose).all() and np.isfinite(label.points_m).all() for label in labels)
    notes = "\n".join(reader.columns.notes)
    assert "1 of 6 people have no usable box" in notes
    for what in ("1 people with pose", "1 people with betas", "1 people with points_px", "1 people with points_m"):
        assert what in notes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pose": np.zeros((6, 71))}, "pose is float64 of shape"),
        ({"part": np.zeros((5, 24, 3))}, "part is float64 of shape"),
        ({"S": np.zeros((6, 24, 3))}, "S is float64"),
        ({"imgname": np.array(["../../secret.jpg"] * 6)}, "below the picture folder"),
        ({"imgname": np.array(["/etc/passwd"] * 6)}, "below the picture folder"),
        ({"shape": np.zeros((6, 4))}, "4 betas"),
        ({"scale": np.full(6, -1.0)}, "no person with a usable box"),
        ({"imgname": np.zeros(0, "U4")}, "imgname is empty"),
    ],
)
def test_another_shape_or_a_path_out_of_the_folder_is_refused_in_one_line(change, message, truth, tmp_path):
    (tmp_path / "h36m" / "labels").mkdir(parents=True)
    np.savez(tmp_path / "h36m" / "labels" / "h36m_train.npz", **(sets.spin_arrays(truth) | change))
    with pytest.raises(InputError, match=message) as error:
        open_set(tmp_path, "h36m")
    assert "\n" not in str(error.value)


def test_an_unknown_layout_and_damage_are_named(truth, tmp_path):
    folder = tmp_path / "own" / "labels"
    folder.mkdir(parents=True)
    np.savez(folder / "a.npz", positions=np.zeros(3))
    with pytest.raises(InputError, match="holds positions; expected labels in the layout of SPIN"):
        open_set(tmp_path, "own")
    (folder / "a.npz").write_bytes(sets.write_spin(tmp_path, truth, "h36m", "h36m_train.npz").read_bytes()[:5000])
    with pytest.raises(InputError, match="cannot read"):
        open_set(tmp_path, "own")


class _Harm:
    def __reduce__(self):
        return os.system, ("touch harmed",)


def test_pickles_that_want_to_run_something_are_refused(truth, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = sets.write_3dpw(tmp_path, truth)
    content = pickle.loads(path.read_bytes(), encoding="latin1")
    path.write_bytes(pickle.dumps(content | {"texture_maps": _Harm()}))
    with pytest.raises(InputError, match=r"asks to run \w+\.system"):
        open_set(tmp_path, "3dpw")
    path.write_bytes(pickle.dumps(content)[:-2000])
    with pytest.raises(InputError, match="3DPW's sequence files"):
        open_set(tmp_path, "3dpw")
    path = sets.write_humandata(tmp_path, truth, compressed=False)
    with np.load(path, allow_pickle=True) as archive:
        arrays = dict(archive)
    np.savez(path, **arrays | {"smpl": np.array({"betas": _Harm()}, object)})
    with pytest.raises(InputError, match=r"asks to run \w+\.system"):
        open_set(tmp_path, "agora")
    assert not (tmp_path / "harmed").exists()


def test_plain_pickles_come_back_as_plain_values():
    values = {
        "a": [np.arange(6, dtype=np.int16).reshape(2, 3), np.float32(1.5), "text", None, True],
        "texts": np.array(["one", "three"]),
        "bytes": b"old",
        "objects": np.array([{"x": 1}, "y"], object),
        "none": np.zeros((0, 3)),
    }
    for protocol in range(6):
        read = load_plain(io.BytesIO(pickle.dumps(values, protocol=protocol)), "it", "plain values")
        assert np.array_equal(read["a"][0], values["a"][0])
        assert read["a"][1:] == [1.5, "text", None, True]
        assert read["texts"].tolist() == ["one", "three"]
        assert read["bytes"] == "old"
        assert read["objects"] == [{"x": 1}, "y"]
        assert read["none"].shape == (0, 3)
    endless: list = []
    endless.append(endless)
    with pytest.raises(InputError, match="nested too deeply"):
        load_plain(io.BytesIO(pickle.dumps(endless)), "it", "plain values")


# ---- mixture ----------------------------------------------------------------------------------------------------------------


def test_a_mixture_keeps_its_shares_and_goes_through_every_set_before_it_repeats():
    mixture = Mixture({"big": 5000, "small": 7, "rare": 40}, {"big": 0.6, "small": 0.39, "rare": 0.01}, seed=3)
    drawn = [mixture.at(place) for place in range(3000)]
    for name, share in (("big", 0.6), ("small", 0.39), ("rare", 0.01)):
        assert sum(which == name for which, _ in drawn) == 3000 * share
    small = [row for which, row in drawn if which == "small"]
    rounds = [tuple(small[start : start + 7]) for start in range(0, 700, 7)]
    assert all(sorted(each) == list(range(7)) for each in rounds)
    assert len(set(rounds)) > 90
    assert len({row for which, row in drawn if which == "big"}) == 1800
    assert len({which for which, _ in drawn[:20]}) > 1


def test_a_mixture_resumes_by_step_and_is_split_between_processes():
    def fresh(seed=5):
        return Mixture({"a": 100, "b": 30}, {"a": 2, "b": 1}, seed=seed)

    whole = [fresh().at(place) for place in range(240)]
    assert [fresh().at(place) for place in range(239, -1, -1)] == whole[::-1]
    assert [row for step in range(10) for row in fresh().batch(step, 24)] == whole
    two = [row for step in range(10) for rank in range(2) for row in fresh().batch(step, 12, rank, 2)]
    assert two == whole
    assert [fresh(6).at(place) for place in range(240)] != whole
    sizes = Mixture({"a": 300, "b": 100}).quotas.tolist()
    assert sizes == [750, 250]


@pytest.mark.parametrize(
    ("shares", "message"),
    [({"c": 1}, "shares name c"), ({"a": -1, "b": 2}, "0 or more"), ({"a": 0}, "not all 0"), ({"b": 1}, "b has no people")],
)
def test_shares_that_cannot_be_are_refused(shares, message):
    with pytest.raises(UsageError, match=message):
        Mixture({"a": 10, "b": 0}, shares)
