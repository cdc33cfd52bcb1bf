"""Evaluation by law and by hand-worked cases: what is zero, what a known change costs, and that a file says what the run said."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import forward_kinematics, skin
from mchmr_stream.cropping.crop_layouts import layout
from mchmr_stream.evaluation import camera_consistency, real3d, real_predictions, reprojection, synthetic, upper_body
from mchmr_stream.evaluation import synthetic_predictions as rendered
from mchmr_stream.evaluation.figures import draw_cases
from mchmr_stream.evaluation.html_report import real_report, synthetic_report
from mchmr_stream.evaluation.real_predictions import Predicted, RealPredictions
from mchmr_stream.evaluation.results import Results, read_results
from mchmr_stream.evaluation.synthetic_people import Labelled, check_same_people
from mchmr_stream.evaluation.worst_cases import worst_rows
from mchmr_stream.geometry.camera import Intrinsics, box_info, local_from_full
from mchmr_stream.geometry.rotation import matrix_from_axis_angle
from mchmr_stream.metrics.joint_errors import LIMBS_IN_SMPL, errors_by_frame, pose_errors, right_points
from mchmr_stream.metrics.surface_errors import body_mass_index, stature_m, vertex_error_mm
from mchmr_stream.network.encoders import make_encoder
from mchmr_stream.network.mesh_network import MultiCropNet, NetworkConfig
from mchmr_stream.network.weights import LoadedNetwork, load_network, save_network
from mchmr_stream.synthesis.samples import PersonLabel, SyntheticScene
from mchmr_stream.training.observations.observed_people import ObservedPeople

RNG = np.random.default_rng(0)


# --- metrics


def test_pck_of_a_skeleton_moved_by_a_known_share_of_its_box():
    target = np.zeros((3, 12, 2))
    target[:, :, 1] = np.linspace(0, 200, 12)  # a box 200 px high
    moved = target + np.array([15.0, 0])
    assert right_points(moved, target, 0.1).tolist() == [1, 1, 1]  # 15 <= 20
    assert right_points(moved, target, 0.05).tolist() == [0, 0, 0]  # 15 > 10
    moved[1, :3] = np.nan
    assert right_points(moved, target, 0.1)[1] == pytest.approx(9 / 12), "a joint without a prediction is wrong"


def test_pck_leaves_out_what_is_not_counted():
    target = RNG.normal(size=(2, 12, 2)) * 100
    predicted = target.copy()
    predicted[:, 5] += 1000
    counted = np.ones((2, 12), bool)
    assert right_points(predicted, target, 0.1).tolist() == pytest.approx([11 / 12, 11 / 12])
    counted[0, 5] = False
    counted[1] = False
    first, second = right_points(predicted, target, 0.1, counted)
    assert first == 1
    assert np.isnan(second)


def test_errors_by_frame_average_to_the_errors_of_the_clip():
    target = RNG.normal(size=(30, 12, 3))
    predicted = target + RNG.normal(size=(30, 12, 3)) * 0.05
    predicted[4] = np.nan
    centred, aligned = errors_by_frame(predicted, target)
    errors = pose_errors(predicted, target)
    assert np.isnan(centred[4])
    assert np.nanmean(centred) == pytest.approx(errors.mpjpe)
    assert np.nanmean(aligned) == pytest.approx(errors.pa_mpjpe)


# --- the body's surface


def rotations(count: int) -> torch.Tensor:
    return torch.from_numpy(matrix_from_axis_angle(RNG.normal(size=(count, 24, 3)) * 0.3)).float()


def test_vertex_error_is_zero_for_the_same_body_and_known_for_a_turned_one():
    body = load_body()
    turned, betas = rotations(3), torch.randn(3, 10, generator=torch.Generator().manual_seed(0))
    assert vertex_error_mm(body, turned, betas, turned, betas).max() == 0
    half_turn = torch.diag(torch.tensor([-1.0, 1.0, -1.0]))  # about the vertical: each vertex moves by twice its distance from the axis
    other = turned.clone()
    other[:, 0] = half_turn @ turned[:, 0]
    vertices, joints = skin(body, turned, betas)
    expected = 2 * (vertices - joints[:, :1])[..., [0, 2]].norm(dim=-1).mean(1) * 1e3
    assert vertex_error_mm(body, other, betas, turned, betas) == pytest.approx(expected.numpy(), rel=1e-4)


def test_stature_is_the_height_of_the_standing_body():
    body = load_body()
    betas = torch.randn(5, 10, generator=torch.Generator().manual_seed(1))
    vertices, _ = skin(body, torch.eye(3).expand(5, 24, 3, 3), betas)
    expected = (vertices[..., 1].max(1).values - vertices[..., 1].min(1).values).numpy()
    assert stature_m(body, betas) == pytest.approx(expected, abs=1e-5)
    assert 1.4 < stature_m(body, torch.zeros(1, 10))[0] < 2.0


def test_body_mass_index_of_a_block():
    body = load_body()
    corners = torch.tensor([[x, y, z] for x in (0.0, 0.4) for y in (0.0, 2.0) for z in (0.0, 0.1)])
    faces = np.array(
        [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
    )
    block = dataclasses.replace(body, v_template=corners, shapedirs=torch.zeros(8, 3, 10), faces=faces)
    assert body_mass_index(block, torch.zeros(2, 10)) == pytest.approx([0.4 * 2 * 0.1 * 1000 / 4] * 2)
    assert 15 < body_mass_index(body, torch.zeros(1, 10))[0] < 40


# --- cameras


def test_views_of_one_camera_do_not_spread_and_a_known_disagreement_does():
    transl = np.tile(np.array([[[0.3, -0.2, 4.0]]]), (2, 5, 1))
    assert camera_consistency.camera_spread(transl).tolist() == [0, 0]
    assert camera_consistency.averaged(transl) == pytest.approx(transl[:, 0])
    transl[1, :, 0] += [0.2, -0.2, 0, 0, 0]
    expected = np.sqrt(2 * 0.2**2 / 5) / 4
    assert camera_consistency.camera_spread(transl) == pytest.approx([0, expected])


def test_depths_of_a_written_file_are_compared_without_its_boxes(tmp_path):
    """Cameras of one translation, of boxes that the file does not hold: the depths agree; one camera off by a fifth: they do not."""
    views = layout("wide", 5)
    base = np.array([[50.0, -30, 300], [10, 0, 120]], np.float32)
    focal = np.array([1000.0, 1000])
    cameras = local_from_full(np.array([[0.2, 0.1, 5], [0, 0, 9]]), views.views_px(base), focal)
    write_motion(tmp_path / "agree.npz", cameras)
    cameras[:, 2, 0] *= 1.2
    write_motion(tmp_path / "disagree.npz", cameras)
    table = camera_consistency.evaluate_files([tmp_path / "agree.npz", tmp_path / "disagree.npz"]).tables["consistency"]
    agree, disagree = table.values()
    assert agree["median %"] == pytest.approx(0, abs=1e-4)
    depths = np.array([1, 1, 1 / 1.2, 1, 1])
    assert disagree["median %"] == pytest.approx(depths.std() / depths.mean() * 100, rel=1e-4)


def test_reprojection_of_joints_moved_by_a_known_share_of_the_box(tmp_path):
    write_motion(tmp_path / "a.npz", np.ones((3, 5, 3)), off_px=10)
    write_motion(tmp_path / "b.npz", np.ones((1, 5, 3)), off_px=30)
    rows = reprojection.evaluate([tmp_path / "a.npz", tmp_path / "b.npz"]).tables["reprojection"]
    first, second, everything = rows.values()
    assert first["median %"] == pytest.approx(5)  # the box is 200 px high
    assert second["median %"] == pytest.approx(15)
    assert everything["keypoints"] == first["keypoints"] + second["keypoints"] == 4 * 12
    assert everything["mean %"] == pytest.approx(5 * 3 / 4 + 15 / 4)


def write_motion(path: Path, views_cam: np.ndarray, off_px: float = 0.0) -> None:
    """A file as `mchmr video` writes it, of people with these cameras and joints beside their keypoints."""
    from mchmr_stream.datatypes import JOINT_NAMES, KEYPOINT_NAMES

    n = len(views_cam)
    zero = lambda *shape: np.zeros((n, *shape), np.float32)
    keypoints = zero(17, 3)
    keypoints[:, 5:, 2] = 0.9
    joints_px = zero(24, 2)
    joints_px[..., 0] = off_px
    np.savez(
        path, schema=1, fps=25.0, width=640, height=480, K=np.eye(3), joint_names=np.array(JOINT_NAMES),
        keypoint_names=np.array(KEYPOINT_NAMES),
        body_model="free", body_model_sha256=load_body().sha256, weights="some", weights_sha256="1",
        settings=json.dumps({"crops": {"views": 5}}),
        frame=np.arange(n), time_s=np.arange(n) / 25, track_id=np.ones(n, np.int64), box_xyxy_px=zero(4) + np.float32([0, 0, 100, 200]),
        score=zero(), global_orient=zero(3, 3), body_pose=zero(23, 3, 3), betas=zero(10),
        transl=zero(3) + np.float32([0, 0, 4]), joints_m=zero(24, 3) + np.float32([0, 0, 4]),
        joints_px=joints_px, keypoints_px=keypoints, confidence=zero(), views_cam=views_cam.astype(np.float32),
        interpolated=np.zeros(n, bool), betas_frame=zero(10), transl_mean_body=zero(3),
        frames=np.arange(n), frames_time_s=np.arange(n) / 25,
    )  # fmt: skip


# --- real views


def real(frames: int = 30) -> RealPredictions:
    """Two cameras, two methods: one 30 mm off at one joint and nobody found in 3 frames; one exact."""
    clips = []
    for view in ("left", "right"):
        target = RNG.normal(size=(frames, 12, 3)) + np.array([0, 0, 5])
        target_px = target[..., :2] * 100
        off, off_px = target.copy(), target_px.copy()
        off[:, 4, 0] += 0.03
        off[:3] = off_px[:3] = np.nan
        unknown = lambda *shape: np.full((frames, *shape), np.nan)
        clips += [
            Predicted(
                "here", view, "", method, np.arange(frames), limbs_m, limbs_px, unknown(24, 3), unknown(24, 2), unknown(5, 2),
                np.full(frames, 200.0), unknown(), target, target_px, unknown(5, 2),
            )
            for method, limbs_m, limbs_px in (("off", off, off_px), ("exact", target, target_px))
        ]  # fmt: skip
    return RealPredictions({"weights": "none", "views": 5}, tuple(clips))


def test_real_tables_of_known_errors():
    results = real3d.evaluate(real())
    off, exact = (results.tables["errors"][f"mean: {name}"] for name in ("off", "exact"))
    assert off["found %"] == pytest.approx(90)
    assert off["MPJPE mm"] == pytest.approx(30 / 12)
    assert off["PCK@0.1 %"] == pytest.approx(90), "joints of frames without anybody count as wrong"
    assert [exact["MPJPE mm"], exact["PA-MPJPE mm"]] == pytest.approx([0, 0], abs=1e-9)
    joints = results.tables["per joint, mm"]
    assert joints["left wrist"]["off"] == pytest.approx(30)
    assert joints["right wrist"]["off"] == pytest.approx(0, abs=1e-9)
    assert len(results.tables["errors"]) == 4 + 2


def test_metrics_from_the_file_are_those_of_the_run(tmp_path):
    predictions = real()
    predictions.save(tmp_path / "p.npz")
    again = real_predictions.load_predictions(tmp_path / "p.npz")
    assert real3d.evaluate(again).to_json() == real3d.evaluate(predictions).to_json()


def test_results_survive_json_with_what_has_no_value(tmp_path):
    (tmp_path / "r.json").write_text(Results("real3d", {"views": 5}, {"errors": {"a": {"x": 1.5, "y": float("nan")}}}).to_json())
    assert "NaN" not in (tmp_path / "r.json").read_text()
    again = read_results(tmp_path / "r.json")
    assert again.tables["errors"]["a"]["x"] == 1.5
    assert np.isnan(again.tables["errors"]["a"]["y"])


def test_a_report_is_one_page_that_needs_no_other_file(tmp_path):
    predictions = real()
    page = real_report(tmp_path, real3d.evaluate(predictions), predictions, [])
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 3
    assert "http" not in text
    assert "mean: off" in text
    for name in ("tables", "joints", "time"):
        assert min(Image.open(tmp_path / f"{name}.png").size) > 100


# --- rendered people


@functools.cache
def feature_dim() -> int:
    return make_encoder(NetworkConfig().encoder).feature_dim


def observed(count: int = 12, views: int = 5) -> ObservedPeople:
    """People of the free body at known places, seen without mistakes; the last third not found by the detector."""
    body, generator = load_body(), torch.Generator().manual_seed(2)
    turned, betas = rotations(count), torch.randn(count, 10, generator=generator)
    joints, _ = forward_kinematics(body, turned, betas)
    base = torch.tensor([20.0, -10, 400]).expand(count, 3)
    shape = layout("wide", views)
    views_px = torch.from_numpy(shape.views_px(base.numpy()))
    focal = torch.full((count,), 900.0)
    keypoints = torch.rand(count, 17, 3, generator=generator)
    keypoints[count * 2 // 3 :] = 0
    group = torch.zeros(count, 4)
    group[:, 0] = 1
    group[::2, 1] = 0.4
    group[:, 2] = torch.arange(count) % 2
    return ObservedPeople(
        features=torch.zeros(count, views, feature_dim(), dtype=torch.float16),
        landmarks=torch.rand(count, views, 33, 3, generator=generator),
        world=torch.zeros(count, views, 33, 3), keypoints=keypoints, views=torch.from_numpy(shape.views.copy()).expand(count, -1, -1),
        views_px=views_px, base_px=base, base_info=box_info(base[:, None], focal)[:, 0], focal_px=focal, assumed_focal_px=focal * 1.2,
        rotations=turned, betas=betas, joints_m=joints - joints[:, :1], pelvis_m=torch.tensor([0.1, 0.0, 4.0]).expand(count, 3),
        inside=torch.ones(count, 12), group=group,
    )  # fmt: skip


@pytest.fixture(scope="module")
def small_network(tmp_path_factory: pytest.TempPathFactory) -> LoadedNetwork:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_network(path, MultiCropNet(NetworkConfig(token_dim=32, trunk_dim=64, trunk_depth=1)), {})
    return load_network(str(path))


@pytest.fixture(scope="module")
def predictions(small_network: LoadedNetwork) -> rendered.SyntheticPredictions:
    return rendered.predict(observed(), small_network, data="test")


def test_a_prediction_equal_to_the_truth_has_no_error(predictions):
    truth = predictions.truth
    exact = {
        "rotations": truth["rotations"], "betas": truth["betas"], "joints_m": truth["joints_m"],
        "transl_m": np.repeat(truth["pelvis_m"][:, None], 5, 1), "sigma_m": np.ones((12, 24), np.float32),
    }  # fmt: skip
    values = synthetic.per_person(exact, truth, assumed=False)
    for name, value in values.items():
        assert value == pytest.approx(np.full(12, 100.0 if "PCK" in name else 0.0), abs=1e-3), name


def test_a_person_placed_twice_as_far_is_a_hundred_percent_off_and_half_as_large(predictions):
    truth = predictions.truth
    far = dict(predictions.predicted[rendered.KNOWN]) | {
        "joints_m": truth["joints_m"], "transl_m": np.repeat(2 * truth["pelvis_m"][:, None], 5, 1),
    }  # fmt: skip
    values = synthetic.per_person(far, truth, assumed=False)
    assert values["depth error %"] == pytest.approx(np.full(12, 100), rel=1e-5)
    assert values["MPJPE mm"] == pytest.approx(np.zeros(12), abs=1e-3)
    assert values["PCK@0.05 %"].mean() < 50


def test_groups_are_exhaustive_and_hold_found_people_only(predictions):
    results = synthetic.evaluate(predictions)
    errors, groups = results.tables["errors"], results.tables["groups (found, known focal)"]
    assert errors["found, known focal"]["people"] == 8
    assert errors["all, known focal"]["people"] == 12
    for kind in ("truncation", "sex", "skin tone", "size in the picture", "stature", "body mass index"):
        assert sum(row["people"] for name, row in groups.items() if name.startswith(kind)) == 8, kind
    assert groups["truncation: 25 % and more"]["people"] == groups["sex: male"]["people"] == 4
    assert not any(name.startswith("pose") for name in groups), "families are known from labels only"


def test_rendered_metrics_from_the_file_are_those_of_the_run(predictions, tmp_path):
    predictions.save(tmp_path / "p.npz")
    again = rendered.load_predictions(tmp_path / "p.npz")
    assert synthetic.evaluate(again).to_json() == synthetic.evaluate(predictions).to_json()
    assert camera_consistency.evaluate_predictions(again).tables == camera_consistency.evaluate_predictions(predictions).tables
    assert worst_rows(again, 3) == worst_rows(predictions, 3)


def test_fewer_views_are_the_first_of_those_observed(small_network):
    people = observed()
    two = dataclasses.replace(
        people, **{name: getattr(people, name)[:, :2] for name in ("features", "landmarks", "world", "views", "views_px")}
    )
    chosen = rendered.predict(people, small_network, views=2).predicted[rendered.KNOWN]
    alone = rendered.predict(two, small_network).predicted[rendered.KNOWN]
    assert chosen["transl_m"].shape[1] == 2
    assert chosen["joints_m"] == pytest.approx(alone["joints_m"], abs=1e-6)


def test_people_of_another_body_are_refused(small_network):
    people = observed()
    with pytest.raises(Exception, match="another body"):
        rendered.predict(dataclasses.replace(people, joints_m=people.joints_m * 1.2), small_network)


def test_a_synthetic_report_shows_groups(predictions, tmp_path):
    text = synthetic_report(tmp_path, synthetic.evaluate(predictions), []).read_text()
    assert "truncation: none" in text


# --- people cut off under the hips


def standing(width: int = 400, height: int = 400) -> Labelled:
    """Someone upright in the middle of a picture, 5 m away; rows of the picture are numbered by their grey."""
    body = load_body()
    turned = torch.eye(3).repeat(1, 24, 1, 1)
    turned[:, 0] = torch.diag(torch.tensor([1.0, -1, -1]))
    joints, _ = forward_kinematics(body, turned, torch.zeros(1, 10))
    joints = (joints - joints[:, :1]).numpy()[0] + np.float32([0, 0, 5])
    camera = Intrinsics.from_focal(width, height, 600)
    pixels = (joints[:, :2] / joints[:, 2:] * 600 + [camera.cx, camera.cy]).astype(np.float32)
    keypoints = np.ones((17, 3), np.float32)
    keypoints[5:, :2] = pixels[list(LIMBS_IN_SMPL)]
    keypoints[:5, :2] = pixels[15]
    grey = np.repeat(np.arange(height)[:, None] // 2, width, 1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.stack([grey] * 3, -1)).save(buffer, "PNG")
    box = np.float32([150, 50, 250, 350])
    person = PersonLabel(
        turned.numpy()[0], np.zeros(10, np.float32), True, joints[0], joints, pixels, keypoints, box, 1.0, 0.0, "male", 2, "suit", "a/b",
        "upright", False,
    )  # fmt: skip
    return Labelled(SyntheticScene(0, buffer.getvalue(), width, height, camera, (person,), "room", "full"), person)


def test_the_cut_lies_between_hips_and_knees_and_leaves_the_rest_as_it_was():
    whole = standing()
    row = upper_body.cut_row(whole)
    limbs = whole.person.joints_px[list(LIMBS_IN_SMPL)]
    assert row is not None
    assert limbs[6:8, 1].max() < row < limbs[8:10, 1].min()
    cut = upper_body.cut_below(whole.scene, row)
    assert cut.rgb().shape == (row, 400, 3)
    assert np.array_equal(cut.rgb(), whole.scene.rgb()[:row])
    assert cut.intrinsics == whole.scene.intrinsics
    person = cut.people[0]
    assert person.box_xyxy_px[3] == row
    assert person.keypoints_px[11:13, 2].min() == 1, "hips stay in view"
    assert person.keypoints_px[13:, 2].max() == 0, "knees and ankles do not"
    assert np.array_equal(person.joints_m, whole.person.joints_m)


@pytest.mark.parametrize("change", ["outside", "hidden", "upside down"])
def test_people_who_cannot_be_cut_are_left_out(change):
    whole = standing()
    pixels = whole.person.joints_px.copy()
    if change == "outside":
        pixels[:, 0] -= 200
    if change == "upside down":
        pixels[:, 1] = 400 - pixels[:, 1]
    visible = 0.4 if change == "hidden" else 1.0
    person = dataclasses.replace(whole.person, joints_px=pixels, visible_fraction=visible)
    assert upper_body.cut_row(Labelled(whole.scene, person)) is None


def test_only_joints_in_view_are_compared(predictions):
    """The cut prediction is wrong only where nothing is seen: the ratio of the visible joints stays one."""
    truth = dict(predictions.truth)
    truth["inside"] = truth["inside"].copy()
    truth["inside"][:, 8:] = 0
    bodies = dict(predictions.predicted[rendered.KNOWN])
    bodies["joints_m"] = bodies["joints_m"].copy()
    bodies["joints_m"][:, [4, 5, 7, 8]] += 1
    cut = dataclasses.replace(predictions, truth=truth, predicted=predictions.predicted | {rendered.KNOWN: bodies})
    table = upper_body.compare(predictions, cut)
    assert table["ratio"]["PA-MPJPE mm, joints in view"] == pytest.approx(1)
    assert table["ratio"]["MPJPE mm, joints cut off"] > 1.5
    assert table["whole"]["people"] == 8


def test_labels_of_other_people_are_refused():
    labelled = standing()
    check_same_people([labelled], np.zeros((1, 10)))
    for betas in (np.ones((1, 10)), np.zeros((2, 10))):
        with pytest.raises(Exception, match="not made of these shards"):
            check_same_people([labelled], betas)


def test_a_drawn_case_is_blue_where_the_truth_is_and_orange_where_the_prediction_is():
    from mchmr_stream.evaluation.worst_cases import Case

    labelled = standing()
    limbs = labelled.person.joints_px[list(LIMBS_IN_SMPL)].astype(np.float64)
    in_3d = labelled.person.joints_m[list(LIMBS_IN_SMPL)].astype(np.float64)
    case = Case("one", labelled.scene.rgb(), limbs + np.array([60, 0]), limbs, in_3d, in_3d)
    drawn = np.array(Image.open(io.BytesIO(draw_cases([case]))).convert("RGB")).astype(int)
    picture = drawn[:, : drawn.shape[1] // 6]
    blue = np.argwhere(abs(picture - [0, 114, 178]).sum(-1) < 30)
    orange = np.argwhere(abs(picture - [213, 94, 0]).sum(-1) < 30)
    assert min(len(blue), len(orange)) > 50
    assert orange[:, 1].mean() > blue[:, 1].mean() + 10


# --- the command


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    from mchmr_stream.cli import main

    code = main(["evaluate", *map(str, argv)])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_prints_metrics_of_a_file_as_table_and_json(capsys, tmp_path):
    predictions = real()
    predictions.save(tmp_path / "p.npz")
    code, out, _ = run(capsys, "real3d", "--from", tmp_path / "p.npz", "--json")
    assert code == 0
    assert json.loads(out) == json.loads(real3d.evaluate(predictions).to_json())
    code, out, _ = run(capsys, "real3d", "--from", tmp_path / "p.npz")
    assert code == 0
    assert "mean: off" in out


def test_observations_and_weights_to_kept_predictions_and_back(capsys, tmp_path, small_network):
    observed().save(tmp_path / "seen.npz")
    weights = tmp_path / "w.safetensors"
    save_network(weights, small_network.net, {})
    arguments = ("synthetic", "--observed", tmp_path / "seen.npz", "--weights", weights, "--views", 3)
    code, direct, _ = run(capsys, *arguments, "--json", "--predictions", tmp_path / "p.npz")
    assert code == 0
    code, again, _ = run(capsys, "synthetic", "--from", tmp_path / "p.npz", "--json")
    assert code == 0
    assert json.loads(direct) == json.loads(again)
    assert json.loads(again)["about"]["views"] == 3
    code, out, _ = run(capsys, "consistency", "--from", tmp_path / "p.npz")
    assert code == 0
    assert "depth alone" in out


@pytest.mark.parametrize(
    ("argv", "code", "expected"),
    [
        (["real3d"], 2, "--data"),
        (["real3d", "--data", "."], 1, "gt_*.npz"),
        (["real3d", "--from", "nothing.npz"], 1, "nothing.npz does not exist"),
        (["real3d", "--from", "rendered.npz"], 1, "'synthetic'"),
        (["real3d", "--from", "a.npz", "--predictions", "b.npz"], 2, "--predictions"),
        (["synthetic"], 2, "--shards"),
        (["synthetic", "--observed", "nothing.npz"], 2, "nothing.npz is not there"),
        (["synthetic", "--observed", "seen.npz", "--views", "7"], 2, "7 views"),
        (["synthetic", "--observed", "seen.npz", "--views", "0"], 2, "--views: got 0, expected a whole number from 1"),
        (["synthetic", "--observed", "rendered.npz"], 1, "lacks"),
        (["synthetic", "--from", "real.npz"], 1, "'real3d'"),
        (["synthetic", "--crop-upper-body"], 2, "--shards"),
        (["synthetic", "--crop-upper-body", "--shards", ".", "--from", "real.npz"], 2, "--from"),
        (["synthetic", "--shards", "."], 1, "shard_*.npz"),
        (["consistency"], 2, "--shards"),
        (["consistency", "real.npz"], 1, "schema"),
        (["consistency", "real.npz", "--observed", "seen.npz"], 2, "one or the other"),
        (["reprojection"], 2, "FILE.npz"),
        (["reprojection", "nothing.npz"], 1, "nothing.npz"),
    ],
)
def test_a_request_that_cannot_be_met_is_one_line(capsys, tmp_path, monkeypatch, predictions, argv, code, expected):
    monkeypatch.chdir(tmp_path)
    predictions.save(tmp_path / "rendered.npz")
    real(2).save(tmp_path / "real.npz")
    observed(3).save(tmp_path / "seen.npz")
    got, out, err = run(capsys, *argv)
    assert got == code
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert expected in err


def test_a_report_without_matplotlib_says_what_to_install(capsys, tmp_path, monkeypatch):
    import importlib

    def missing(name: str, *_: object) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    code, _, err = run(capsys, "real3d", "--from", tmp_path / "p.npz", "--report", tmp_path / "report")
    assert code == 1
    assert "python -m pip install matplotlib" in err
    assert not (tmp_path / "report").exists()
