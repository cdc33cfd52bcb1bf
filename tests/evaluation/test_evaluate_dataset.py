"""Public data sets by their published protocols: what is fed back gives 0, what is moved gives what it was moved by, in every layout."""

from __future__ import annotations

import json

import labelled_sets as sets
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from mchmr_stream.body.files import load_body
from mchmr_stream.body.kinematics import posed_joints
from mchmr_stream.body.model import rest_pelvis, skin
from mchmr_stream.cli import main
from mchmr_stream.datasets.labelled_bodies import LabelledBodies
from mchmr_stream.datasets.opening import open_set
from mchmr_stream.datasets.points import ANNOTATED_NAMES, ANNOTATED_POINTS, LabelledPoints
from mchmr_stream.errors import InputError, MissingPart, UsageError
from mchmr_stream.evaluation import dataset, dataset_predictions
from mchmr_stream.evaluation.dataset_protocols import H36M_ORDER, JOINTS_14, PROTOCOLS, Protocol, protocol_of


@pytest.fixture(scope="module")
def bodies_folder(tmp_path_factory):
    return sets.write_bodies(tmp_path_factory.mktemp("bodies"))


@pytest.fixture(scope="module")
def truth(bodies_folder):
    return sets.make_truth(bodies_folder)


@pytest.fixture(scope="module")
def regressor(tmp_path_factory):
    """A made-up J_regressor_h36m: every joint a mean of some vertices."""
    rng = np.random.default_rng(2)
    matrix = np.zeros((17, 6890))
    for row in matrix:
        row[rng.choice(6890, 30, replace=False)] = 1 / 30
    path = tmp_path_factory.mktemp("regressor") / "J_regressor_h36m.npy"
    np.save(path, matrix)
    return path


WRITTEN = {
    "spin": ("h36m-p1", lambda root, truth: sets.write_spin(root, truth, "h36m", "h36m_valid_protocol1.npz")),
    "spin, frontal camera": ("h36m-p2", lambda root, truth: sets.write_spin(root, truth, "h36m", "h36m_valid_protocol2.npz")),
    "spin, 17 joints": ("3dhp", lambda root, truth: sets.write_spin(root, truth, "3dhp", "mpi_inf_3dhp_test.npz")),
    "cliff": ("coco", sets.write_cliff),
    "bedlam": ("bedlam", sets.write_bedlam),
    "3dpw": ("3dpw", sets.write_3dpw),
    "humandata": ("agora", lambda root, truth: sets.write_humandata(root, truth, compressed=True)),
}


def _evaluated(capsys, *arguments) -> dict:
    assert main(["evaluate", *map(str, arguments), "--json", "-q"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("layout", WRITTEN)
def test_labels_fed_back_give_zero_and_known_changes_their_value(layout, truth, bodies_folder, tmp_path, capsys):
    protocol, write = WRITTEN[layout]
    write(tmp_path, truth)
    kept = tmp_path / "predictions.npz"
    common = ("--dataset", protocol, "--bodies", bodies_folder)
    results = _evaluated(capsys, *common, "--data", tmp_path, "--self-check", "--predictions", kept)
    row = results["tables"]["errors"]["all"]
    assert row["people"] == 6
    assert row["MPJPE mm"] == pytest.approx(0, abs=2e-3)
    assert row["PA-MPJPE mm"] == pytest.approx(0, abs=2e-3)
    assert row.get("PVE mm", 0) == pytest.approx(0, abs=1e-6)
    assert row.get("PCK@150mm %", 100) == 100
    assert ("PVE mm" in row) == (PROTOCOLS.get(protocol, Protocol("own", "either")).truth != "points")

    # The whole body turned about its pelvis by a half turn, which a similarity undoes; the hand-worked MPJPE is twice the joints'
    # distance from the axis through the pelvis.
    predictions = dataset_predictions.load_predictions(kept)
    turned = dataset_predictions.load_predictions(kept)
    half_turn = np.diag([-1.0, 1.0, -1.0])
    turned.predicted["rotations"][:, 0] = half_turn @ turned.predicted["rotations"][:, 0]
    turned.save(kept)
    results = _evaluated(capsys, *common, "--from", kept)["tables"]["errors"]["all"]
    joints, target, _ = dataset.compared_joints(
        predictions, np.arange(6), protocol_of(protocol), LabelledBodies(bodies_folder), None, "PVE mm" in row,
    )  # fmt: skip
    expected = 2 * np.linalg.norm(target[..., [0, 2]], axis=-1).mean() * 1e3
    assert results["MPJPE mm"] == pytest.approx(expected, rel=1e-4)
    assert results["PA-MPJPE mm"] == pytest.approx(0, abs=5e-3)
    assert expected > 200
    assert joints == pytest.approx(target, abs=1e-5)


def test_a_joint_that_is_off_costs_its_distance_over_the_number_of_joints(truth, tmp_path, capsys, bodies_folder):
    """Labelled points of which one was moved by 70 mm: 70/14, on 17 joints 70/17 and one in 17 beyond 150 mm when it is 200."""
    for name, file, protocol, count, shift in (
        ("h36m", "h36m_valid_protocol1.npz", "h36m-p1", 14, 0.07), ("3dhp", "mpi_inf_3dhp_test.npz", "3dhp", 17, 0.2),
    ):  # fmt: skip
        S = sets.spin_arrays(truth)["S"]
        S[:, ANNOTATED_NAMES.index("left_wrist"), 0] += shift
        sets.write_spin(tmp_path, truth, name, file, S=S)
        results = _evaluated(capsys, "--dataset", protocol, "--data", tmp_path, "--bodies", bodies_folder, "--self-check")
        row = results["tables"]["errors"]["all"]
        assert row["MPJPE mm"] == pytest.approx(shift * 1e3 / count, abs=2e-3)
        assert results["tables"]["per joint, mm"]["left_wrist"]["MPJPE mm"] == pytest.approx(shift * 1e3, abs=2e-3)
        if protocol == "3dhp":
            assert row["PCK@150mm %"] == pytest.approx(100 * 16 / 17)
            # 31 thresholds; at 0 mm rounding alone decides, so one of them may go either way.
            assert row["AUC %"] == pytest.approx(100 * 16 / 17, abs=100 / 31)


def test_truth_has_the_body_of_its_gender(truth, bodies_folder, tmp_path):
    """A network's body is the neutral one. Right rotations on it are off by what the bodies differ in, computed here by hand."""
    sets.write_3dpw(tmp_path, truth)
    predictions = dataset_predictions.feed_truth(open_set(tmp_path, "3dpw"), {})
    predictions.predicted["gender"] = np.array(["neutral"] * 6)
    row = dataset.evaluate(predictions, PROTOCOLS["3dpw"], LabelledBodies(bodies_folder), None).tables["errors"]["all"]
    expected_joints, expected_vertices = [], []
    for person in range(6):
        posed = []
        for name in ("NEUTRAL", "FEMALE" if truth.gender[person] == "f" else "MALE"):
            body = load_body(bodies_folder / f"SMPL_{name}.npz")
            rotations = torch.from_numpy(Rotation.from_rotvec(truth.pose[person]).as_matrix()).float()[None]
            vertices, joints = skin(body, rotations, torch.from_numpy(truth.betas[person : person + 1]))
            points = LabelledPoints.of(body).place(joints, vertices)[0, ANNOTATED_POINTS].numpy()
            pelvis = points[ANNOTATED_NAMES.index("pelvis")]
            posed.append((points[[ANNOTATED_NAMES.index(joint) for joint in JOINTS_14]] - pelvis, vertices[0].numpy() - pelvis))
        (mine, mine_all), (theirs, theirs_all) = posed
        expected_joints.append(np.linalg.norm(mine - theirs, axis=1).mean() * 1e3)
        expected_vertices.append(np.linalg.norm(mine_all - theirs_all, axis=1).mean() * 1e3)
    assert row["MPJPE mm"] == pytest.approx(np.mean(expected_joints), rel=1e-4)
    assert row["PVE mm"] == pytest.approx(np.mean(expected_vertices), rel=1e-4)
    assert row["MPJPE mm"] > 10


def test_pa_mpjpe_agrees_with_scipys_alignment_of_vectors(truth, bodies_folder, tmp_path):
    sets.write_bedlam(tmp_path, truth)
    predictions = dataset_predictions.feed_truth(open_set(tmp_path, "bedlam"), {})
    rng = np.random.default_rng(3)
    noise = Rotation.from_rotvec(0.3 * rng.standard_normal((6 * 24, 3))).as_matrix().reshape(6, 24, 3, 3)
    predictions.predicted["rotations"] = (noise @ predictions.predicted["rotations"]).astype(np.float32)
    bodies, protocol = LabelledBodies(bodies_folder), PROTOCOLS["bedlam"]
    row = dataset.evaluate(predictions, protocol, bodies, None).tables["errors"]["all"]
    joints, target, _ = dataset.compared_joints(predictions, np.arange(6), protocol, bodies, None, True)
    errors = []
    for mine, theirs in zip(joints, target, strict=True):
        mine, theirs = mine - mine.mean(0), theirs - theirs.mean(0)
        turned = Rotation.align_vectors(theirs, mine)[0].apply(mine)
        scale = (turned * theirs).sum() / (turned**2).sum()
        errors.append(np.linalg.norm(scale * turned - theirs, axis=1).mean() * 1e3)
    assert row["PA-MPJPE mm"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert row["PA-MPJPE mm"] < row["MPJPE mm"]


def test_a_regressor_of_the_user_makes_the_joints(truth, bodies_folder, regressor, tmp_path, capsys):
    sets.write_bedlam(tmp_path, truth)
    kept = tmp_path / "kept.npz"
    common = ("--dataset", "bedlam", "--bodies", bodies_folder, "--regressor", regressor)
    row = _evaluated(capsys, *common, "--data", tmp_path, "--self-check", "--predictions", kept)["tables"]["errors"]["all"]
    assert row["MPJPE mm"] == pytest.approx(0, abs=1e-6)
    predictions = dataset_predictions.load_predictions(kept)
    predictions.predicted["gender"] = np.array(["neutral"] * 6)
    predictions.save(kept)
    results = _evaluated(capsys, *common, "--from", kept)
    matrix, expected = np.load(regressor), []
    for person in range(6):
        joints = []
        for name in ("NEUTRAL", "FEMALE" if truth.gender[person] == "f" else "MALE"):
            body = load_body(bodies_folder / f"SMPL_{name}.npz")
            rotations = torch.from_numpy(Rotation.from_rotvec(truth.pose[person]).as_matrix()).float()[None]
            vertices = skin(body, rotations, torch.from_numpy(truth.betas[person : person + 1]))[0][0].numpy()
            places = matrix @ vertices
            joints.append(places[[H36M_ORDER.index(joint) for joint in JOINTS_14]] - places[0])
        expected.append(np.linalg.norm(joints[0] - joints[1], axis=1).mean() * 1e3)
    assert results["tables"]["errors"]["all"]["MPJPE mm"] == pytest.approx(np.mean(expected), rel=1e-4)
    assert results["about"]["joints"] == "14, the regressor's"


def test_the_networks_people_stand_where_their_pictures_show_them(truth, tmp_path, capsys):
    """The shipped network on painted people, once; all numbers come again from the file."""
    sets.write_bedlam(tmp_path, truth)
    kept = tmp_path / "kept.npz"
    first = _evaluated(
        capsys, "--dataset", "bedlam", "--data", tmp_path, "--limit", "2", "--views", "1", "--device", "cpu", "--predictions", kept
    )
    again = _evaluated(capsys, "--dataset", "bedlam", "--from", kept)
    assert first["tables"] == again["tables"]
    assert first["about"]["people"] == 2
    assert first["about"]["predicted body"] == "free"
    predictions = dataset_predictions.load_predictions(kept)
    pelvis = truth.transl[:2] + rest_pelvis(load_body(), torch.from_numpy(truth.betas[:2])).numpy()
    bearing = predictions.predicted["pelvis_m"][:, :2] / predictions.predicted["pelvis_m"][:, 2:]
    assert bearing == pytest.approx(pelvis[:, :2] / pelvis[:, 2:], abs=0.06)


def test_people_of_one_picture_are_predicted_together_as_they_are_alone(truth, quick_settings, tmp_path):
    """And a picture that cannot be read is passed over, a run that is stopped keeps what it has."""
    sets.write_bedlam(tmp_path, truth)
    reader = open_set(tmp_path, "bedlam")
    overrides = [
        f"network.weights={quick_settings.network.weights}", "network.precision=fp32", "crops.views=1", "runtime.device=cpu",
        "detector.input_px=256",
    ]  # fmt: skip
    everybody = dataset_predictions.predict(reader, {}, overrides=overrides)
    assert everybody.about["people"] == 6
    alone = dataset_predictions.predict(_Only(reader, 4), {}, overrides=overrides).predicted
    for name in ("rotations", "betas", "pelvis_m"):
        assert alone[name][0] == pytest.approx(everybody.predicted[name][4], abs=2e-4), name
    reader.picture(0).write_bytes(b"no picture")
    answers = iter([False, False, True])
    partly = dataset_predictions.predict(reader, {}, overrides=overrides, stopped=lambda: next(answers))
    assert partly.about["pictures that could not be read"] == 1
    assert (partly.about["people"], partly.about["asked for"]) == (2, 6)
    assert partly.image.tolist() == everybody.image[2:4].tolist()
    assert partly.truth["rotations"] == pytest.approx(everybody.truth["rotations"][2:4])
    assert partly.predicted["betas"] == pytest.approx(everybody.predicted["betas"][2:4], abs=1e-4)


def test_predictions_are_fitted_to_the_picture_unless_settings_say_otherwise(truth, quick_settings, tmp_path):
    """An untrained network's bodies show nothing of the people; fitted to their keypoints their joints lie nearer to the true ones."""
    sets.write_bedlam(tmp_path, truth)
    overrides = [
        f"network.weights={quick_settings.network.weights}", "network.precision=fp32", "crops.views=1", "runtime.device=cpu",
        "detector.input_px=256",
    ]  # fmt: skip
    pelvis_m = truth.transl[:2] + rest_pelvis(load_body(), torch.from_numpy(truth.betas[:2])).numpy()
    errors = {}
    for kind in ("map", "none"):
        said = dataset_predictions.predict(open_set(tmp_path, "bedlam"), {}, overrides=[*overrides, f"fit.kind={kind}"], limit=2)
        assert said.about["fit"] == kind
        shown, true = (
            posed_joints(load_body(), side["rotations"], side["betas"])[1] + place_m[:, None]
            for side, place_m in ((said.predicted, said.predicted["pelvis_m"]), (said.truth, pelvis_m))
        )
        errors[kind] = np.linalg.norm(shown[..., :2] / shown[..., 2:] - true[..., :2] / true[..., 2:], axis=-1).mean()
    assert errors["map"] < 0.8 * errors["none"], errors


class _Only:
    """One person of a reader."""

    name = "one"

    def __init__(self, reader, index):
        self._reader, self._index = reader, index

    def __len__(self):
        return 1

    def label(self, index):
        return self._reader.label(self._index)

    def image(self, index):
        return self._reader.image(self._index)


def test_a_set_with_missing_pictures_is_refused_before_anything_runs(truth, tmp_path, capsys):
    sets.write_3dpw(tmp_path, truth)
    (tmp_path / "3dpw" / "imageFiles" / "downtown_test_00" / "image_00001.jpg").unlink()
    assert main(["evaluate", "--dataset", "3dpw", "--data", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "1 pictures of 3dpw are not there (2 of 6 people)" in said
    assert "image_00001.jpg" in said


def test_labels_of_smplx_are_compared_at_joints_that_both_bodies_have(truth, regressor, tmp_path, caplog):
    bodies = LabelledBodies(sets.write_smplx_bodies(sets.write_bodies(tmp_path / "bodies")))
    path = sets.write_bedlam(tmp_path, truth)
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **arrays | {"pose_cam": np.concatenate([arrays["pose_cam"][:, :66], np.zeros((6, 99))], 1)})
    predictions = dataset_predictions.feed_truth(open_set(tmp_path, "bedlam"), {})
    row = dataset.evaluate(predictions, PROTOCOLS["bedlam"], bodies, np.load(regressor)).tables["errors"]["all"]
    assert row["MPJPE mm"] == pytest.approx(0, abs=1e-6)
    assert "SMPL-X" in caplog.text
    predictions.predicted["body"] = np.array(["smpl"] * 6)
    row = dataset.evaluate(predictions, PROTOCOLS["bedlam"], bodies, None).tables["errors"]["all"]
    # The SMPL-X bodies here are SMPL's with more joints and vertices: the same people, whose surfaces cannot be compared.
    assert row["MPJPE mm"] == pytest.approx(0, abs=1e-3)
    assert np.isnan(row["PVE mm"])


def test_what_cannot_be_evaluated_is_said_in_one_line(truth, bodies_folder, tmp_path, capsys):
    assert main(["evaluate"]) == 2
    assert main(["evaluate", "--dataset", "3dpw"]) == 2
    assert main(["evaluate", "--dataset", "h36m", "--data", str(tmp_path)]) == 2
    assert main(["evaluate", "--dataset", "3dpw", "--data", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 4
    assert "KIND or --dataset" in lines[0]
    assert "--data DIR" in lines[1]
    assert "h36m-p1 or h36m-p2" in lines[2]
    assert "virtualhumans.mpi-inf.mpg.de" in lines[3]
    arrays = {name: value for name, value in sets.spin_arrays(truth).items() if name not in ("pose", "shape", "has_smpl")}
    (tmp_path / "h36m" / "labels").mkdir(parents=True)
    np.savez(tmp_path / "h36m" / "labels" / "h36m_valid_protocol1.npz", **arrays)
    with pytest.raises(UsageError, match="no bodies that could be fed back"):
        dataset_predictions.feed_truth(open_set(tmp_path, "h36m"), {})
    sets.write_bedlam(tmp_path, truth)
    predictions = dataset_predictions.feed_truth(open_set(tmp_path, "bedlam"), {})
    with pytest.raises(InputError, match="none of 6 people has 3D points with the 14 joints"):
        dataset.evaluate(predictions, PROTOCOLS["h36m-p1"], LabelledBodies(bodies_folder), None)
    (tmp_path / "few").mkdir()
    with pytest.raises(MissingPart, match="no SMPL_FEMALE.npz"):
        dataset.evaluate(predictions, PROTOCOLS["bedlam"], LabelledBodies(tmp_path / "few"), None)


def test_predictions_of_another_kind_or_shape_are_refused(truth, tmp_path):
    sets.write_bedlam(tmp_path, truth)
    dataset_predictions.feed_truth(open_set(tmp_path, "bedlam"), {}).save(tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz") as archive:
        arrays = dict(archive)
    for change, message in (
        ({"kind": np.array("real3d")}, "holds 'real3d' predictions"),
        ({"predicted.betas": np.zeros((6, 9))}, "predicted.betas has shape"),
        ({"about": np.array("{")}, "no JSON"),
    ):
        np.savez(tmp_path / "other.npz", **arrays | change)
        with pytest.raises(InputError, match=message):
            dataset_predictions.load_predictions(tmp_path / "other.npz")
