"""`mchmr ablate`: variants that differ in what they say, runs that are not done twice, numbers that are those of the runs."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from head_training import packed_data, sampler_of, small
from PIL import Image
from places import ROOT

from mchmr_stream.body.coco_points import coco_points
from mchmr_stream.body.files import load_body
from mchmr_stream.cli import main
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.evaluation.real_observations import ObservedView, load_observed, real_errors, save_observed
from mchmr_stream.experiments import ablation
from mchmr_stream.experiments.ablation import load_variant
from mchmr_stream.experiments.ablation_report import AblationResults, interval, page, spread, verdict
from mchmr_stream.geometry.camera import roll_matrix
from mchmr_stream.geometry.rotation import matrix_from_axis_angle
from mchmr_stream.network.mesh_network import HeadOutput
from mchmr_stream.network.observations import Observations
from mchmr_stream.training.common.train_settings import load_train_settings
from mchmr_stream.training.frozen_encoder.head_trainer import HeadTrainer, new_head
from mchmr_stream.training.observations.body_landmarks import SparseBody
from mchmr_stream.training.observations.packing import load_packed

CONFIGS = ROOT / "configs"


@pytest.fixture(scope="module")
def body() -> SparseBody:
    return SparseBody(load_body("free"))


def files(*names: str) -> list[str]:
    return [str(CONFIGS / "ablations" / f"{name}.yaml") for name in names]


def test_every_variant_changes_something_of_its_own_and_makes_a_network():
    base = load_train_settings(CONFIGS / "train_ablation.yaml")
    variants = [load_variant(path) for path in sorted((CONFIGS / "ablations").glob("*.yaml"))]
    made = {variant.name: variant.of(base) for variant in variants}
    assert made["base"] == base
    texts = [json.dumps(settings.to_dict(), sort_keys=True) for settings in made.values()]
    assert len(set(texts)) == len(texts)
    for settings in made.values():
        new_head(settings.network_config())
        assert settings.landmark_people + settings.rendered_people == base.landmark_people + base.rendered_people
        assert settings.views <= base.observed_views
    assert made["no contrastive loss"].losses == replace(base.losses, contrastive=0)
    assert {name: ablation.tested_views(settings) for name, settings in made.items() if ablation.tested_views(settings) != [1, 3, 5]} == {
        "1 view": [1], "3 views": [1, 3], "7 views": [1, 3, 5, 7],
        "concatenation": [5], "concatenation with relations (the paper's fusion)": [5],
    }  # fmt: skip


def test_runs_are_trained_once_measured_and_read_again(body, tmp_path, monkeypatch, capsys):
    packed = packed_data(body, tmp_path / "pack")
    small_runs = tmp_path / "small.yaml"
    settings = load_packed(packed)[0].to_dict()
    small_runs.write_text(json.dumps(settings | {"views": 5, "checkpoint_every": 1000}))
    arguments = ["ablate", *files("base", "views_7", "fusion_concat", "views_1"), "--packed", str(packed), "--config", str(small_runs),
                 "-o", str(tmp_path / "out"), "--table", str(tmp_path / "page" / "table.md"), "--steps", "3", "--seeds", "0", "1",
                 "--device", "cpu", "--processes", "2"]  # fmt: skip
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "7 views: left out, only 5 views" in said
    assert "6 of 6" in said
    results = (tmp_path / "out" / "RESULTS.json").read_text()
    runs = json.loads(results)["runs"]
    assert {name: sorted(seeds) for name, seeds in runs.items()} == {name: ["0", "1"] for name in ("base", "concatenation", "1 view")}
    assert list(runs["base"]["0"]["rendered"]) == ["1", "3", "5"]
    assert list(runs["concatenation"]["0"]["rendered"]) == ["5"]
    assert runs["base"]["0"]["rendered"] != runs["base"]["1"]["rendered"]
    table = (tmp_path / "page" / "table.md").read_text()
    mean = np.mean([runs["base"][seed]["rendered"]["5"]["MPJPE mm"] for seed in "01"])
    assert f"{mean:.1f} ± " in table
    assert "Not finished" not in table
    assert str(tmp_path) not in table
    with Image.open(tmp_path / "page" / "images" / "table.png") as picture:
        assert min(picture.size) > 200

    monkeypatch.setattr(ablation.train_head, "run", lambda *_, **__: pytest.fail("trained again"))
    arguments[-1] = "1"
    assert main(arguments) == 0
    again = json.loads((tmp_path / "out" / "RESULTS.json").read_text())["runs"]
    assert again == runs
    arguments[arguments.index("3")] = "4"
    assert main(arguments) == 2
    assert "other settings" in capsys.readouterr().err


def test_a_run_that_was_stopped_goes_on_and_ends_where_one_in_one_go_does(body, tmp_path):
    packed = packed_data(body, tmp_path / "pack")
    options = {"packed": packed, "seeds": [0], "steps": 6, "device": "cpu", "report": lambda line: None}
    assert ablation.ablate([*map(Path, files("base"))], out=tmp_path / "whole", table=tmp_path / "whole.md", **options)
    asked = iter(range(1000))
    stops = lambda: next(asked) == 3
    assert not ablation.ablate([*map(Path, files("base"))], out=tmp_path / "legs", table=tmp_path / "legs.md", stopped=stops, **options)
    assert (tmp_path / "legs" / "base_seed0" / "checkpoint.pt").is_file()
    assert ablation.ablate([*map(Path, files("base"))], out=tmp_path / "legs", table=tmp_path / "legs.md", **options)
    rendered = [json.loads((tmp_path / name / "RESULTS.json").read_text())["runs"]["base"]["0"]["rendered"] for name in ("whole", "legs")]
    assert rendered[0] == rendered[1]


def test_requests_that_make_no_sense_are_refused_in_one_line(body, tmp_path, capsys):
    packed = packed_data(body, tmp_path / "pack")
    bad = {
        "a: [": "cannot read variant", "views: 3": "has the name None", "{name: x, paper: maybe}": "paper is 'maybe'",
        "{name: x, veiws: 3}": "veiws", "{name: x, network: {fusoin: mean}}": "network.fusoin is unknown", "{name: base}": "two variants",
    }  # fmt: skip
    for text, said in bad.items():
        (tmp_path / "variant.yaml").write_text(text)
        assert main(["ablate", *files("base"), str(tmp_path / "variant.yaml"), "--packed", str(packed), "-o", str(tmp_path / "out")]) == 2
        assert said in capsys.readouterr().err
    assert main(["ablate", *files("views_1"), "--packed", str(packed), "-o", str(tmp_path / "out")]) == 2
    assert "no variant is called 'base'" in capsys.readouterr().err


def test_training_refuses_views_that_were_not_observed_and_a_concatenation_of_changing_views(body):
    settings = small(2)
    with pytest.raises(UsageError, match="views is 7, but 5 views"):
        HeadTrainer(replace(settings, views=7), sampler_of(body), None, body)
    concatenated = replace(settings, network=settings.network | {"fusion": "concat"})
    with pytest.raises(UsageError, match="set single_view_share to 0"):
        HeadTrainer(concatenated, sampler_of(body), None, body)
    with pytest.raises(UsageError, match="concat_views to 3"):
        HeadTrainer(replace(concatenated, single_view_share=0.0, views=3), sampler_of(body), None, body)
    trainer = HeadTrainer(replace(settings, views=1), sampler_of(body), None, body)
    assert trainer.draw_views() == [0]
    assert trainer.train_step()["camera_consistency"] == 0


ABOUT = {"steps": 600, "people per step": 160, "rendered per step": 64, "rendered people": 900, "views": 5, "seeds": [0, 1],
         "test people": 563, "date": "2000-01-01", "revision": "abc", "machine": "a machine", "threads": 1, "torch": "2",
         "left out": ["7 views"],          "runs wanted": 5, "reads features": True}  # fmt: skip


def results_of(errors: dict[str, dict[str, float]], paper: dict[str, str | None]) -> AblationResults:
    """PA-MPJPE by variant and seed; MPJPE is 20 more."""
    runs = {
        name: {seed: {"rendered": {"5": {"MPJPE mm": value + 20, "PA-MPJPE mm": value}}} for seed, value in seeds.items()}
        for name, seeds in errors.items()
    }
    return AblationResults(ABOUT, paper, runs)


def test_the_page_gives_mean_deviation_and_paired_differences_and_says_what_is_missing():
    assert spread([70.0, 72.0, 74.0]) == "72.0 ± 2.0"
    assert spread([70.0]) == "70.0"
    assert spread([]) == ""
    errors = {"base": {"0": 50.0, "1": 60.0}, "1 view": {"0": 53.0, "1": 63.1}, "fused": {"0": 40.0}}
    text = page(results_of(errors, {"base": None, "1 view": "worse", "fused": "worse"}), "images/x.png")
    assert "| base | 2 | 75.0 ± 7.1 | 55.0 ± 7.1 |  |  |" in text
    # The seeds differ by 10 mm, the differences to the base by 0.1: t(0.975, 1) = 12.706 times 0.1 / sqrt(2) / sqrt(2).
    assert "| 1 view | worse | reproduces (+3.1 ± 0.6) |" in text
    assert "| fused | worse | not decided (-10.0) |" in text
    assert "7 views: left out" in text
    assert "Real views" not in text
    assert "Not finished: 3 of 5 runs" in page(results_of({"base": {"0": 1.0, "1": 1.0, "2": 1.0}}, {"base": None}), "x.png")


def test_intervals_hold_the_mean_as_often_as_they_say():
    drawn = np.random.default_rng(0).normal(70, 2, (4000, 3))
    held = [abs(found.mean - 70) <= found.half for found in map(interval, drawn.tolist())]
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)
    assert verdict("worse", interval([3.0, 3.1, 3.2])) == verdict("better", interval([-3.0, -3.1, -3.2])) == "reproduces"
    assert verdict("worse", interval([-3.0, -3.1, -3.2])) == "the opposite"
    assert verdict("worse", interval([-3.0, 3.1, 3.2])) == "not decided"


class Knowing(torch.nn.Module):
    """A head that knows the answer: it reads rotations off the features."""

    def forward(self, seen: Observations) -> HeadOutput:
        n, count = seen.views.shape[:2]
        rotations = seen.features[:, 0].reshape(n, 24, 3, 3)
        return HeadOutput(rotations, torch.zeros(n, 10), torch.ones(n, count, 3), torch.zeros(n, 24), torch.zeros(n, count, 64))


def test_real_errors_turn_the_rolled_camera_back_and_count_frames_without_anybody(body, tmp_path):
    generator = torch.Generator().manual_seed(0)
    frame = torch.tensor([0, 1, 3, 4, 5])
    roll = torch.linspace(-0.8, 0.8, 5)
    rotations = matrix_from_axis_angle(torch.randn(5, 24, 3, generator=generator) * 0.3)
    joints = body.pose(rotations, torch.zeros(5, 10))[0]
    target = torch.zeros(6, 12, 3, dtype=torch.float64)
    limbs = coco_points(body.model).place(joints.numpy(), rotations.numpy())
    target[frame] = torch.from_numpy(limbs) + torch.tensor([0.0, 0.0, 3.0])
    rolled = rotations.clone()
    rolled[:, 0] = roll_matrix(-roll) @ rotations[:, 0]
    empty = lambda *shape: torch.zeros(5, *shape)
    seen = Observations(
        rolled.reshape(5, 1, -1).expand(5, 5, -1).clone(),
        empty(5, 33, 3),
        empty(5, 33, 3),
        empty(17, 3),
        empty(5, 3),
        empty(3),
        torch.ones(5),
    )
    save_observed(tmp_path / "real.npz", [ObservedView(frame, roll, seen, target)])
    observed = load_observed(tmp_path / "real.npz")
    assert all(torch.equal(getattr(observed[0], f.name), getattr(ObservedView(frame, roll, seen, target), f.name))
               for f in fields(ObservedView) if f.name != "seen")  # fmt: skip
    errors = real_errors(Knowing(), observed, body, 3)
    assert errors["MPJPE mm"] < 0.01
    assert errors["found %"] == pytest.approx(500 / 6)
    with pytest.raises(UsageError, match="5 were observed"):
        real_errors(Knowing(), observed, body, 7)
    np.savez(tmp_path / "other.npz", count=1)
    with pytest.raises(InputError, match="lacks"):
        load_observed(tmp_path / "other.npz")


@pytest.mark.slow
def test_errors_on_observed_real_views_are_those_of_the_pipeline(shared, body):
    from mchmr_stream.evaluation import real_predictions
    from mchmr_stream.evaluation.real3d import errors_row
    from mchmr_stream.evaluation.real_observations import observe_real
    from mchmr_stream.evaluation.real_views import load_views
    from mchmr_stream.network.weights import load_network

    folder = shared / "data" / "validation" / "pose2sim"
    errors = real_errors(load_network("default").net.head, observe_real(folder, device="cpu"), body, 5)
    predicted = []
    for view in load_views(folder):
        with real_predictions.known_camera(view) as camera:
            alone = ["smoother.kind=none", "fit.kind=none", "crops.views=5"]
            settings = real_predictions.load_settings(None, [*alone, "runtime.device=cpu", camera])
            predicted.append(real_predictions.main_person(view, "ours", settings, undistorted=True))
    expected = errors_row(predicted)
    assert errors == pytest.approx({name: expected[name] for name in errors}, rel=1e-3)
