"""The ablation tool: variants that differ in what they say, runs that are not done twice, numbers that are those of the runs."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from test_training import packed_data, sampler_of, small

from mchmr_stream.body.coco_points import coco_points
from mchmr_stream.body.files import load_body
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.geometry.camera import roll_matrix
from mchmr_stream.geometry.rotation import matrix_from_axis_angle
from mchmr_stream.learning.body_landmarks import SparseBody
from mchmr_stream.learning.evaluation.real_observations import ObservedView, load_observed, real_errors, save_observed
from mchmr_stream.learning.train_settings import TrainSettings
from mchmr_stream.learning.trainer import Trainer, new_head
from mchmr_stream.network.model import HeadOutput
from mchmr_stream.network.observations import Observations

TOOL = Path(__file__).parents[1] / "tools" / "ablate.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ablate", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ablate"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def body() -> SparseBody:
    return SparseBody(load_body("free"))


def test_every_variant_changes_something_of_its_own_and_makes_a_network(tool):
    base = TrainSettings(network={"encoder": "blazepose_lite", "token_dim": 32, "trunk_dim": 64, "trunk_depth": 1})
    made = {variant.name: variant.of(base) for variant in tool.VARIANTS}
    assert made["base"] == base
    texts = [json.dumps(settings.to_dict(), sort_keys=True) for settings in made.values()]
    assert len(set(texts)) == len(texts)
    for settings in made.values():
        new_head(settings.network_config())
        assert settings.landmark_people + settings.rendered_people == base.landmark_people + base.rendered_people
    assert made["rendered people only"].landmark_people == 0
    assert made["people without pictures only"].rendered_people == 0
    assert made["no contrastive loss"].losses.contrastive == 0
    assert {variant.name: variant.tested_views(base) for variant in tool.VARIANTS if variant.tested_views(base) != [1, 3, 5]} == {
        "1 view": [1], "3 views": [1, 3], "7 views": [1, 3, 5, 7],
        "fusion: concatenation": [5], "fusion: concatenation with relations (the paper's)": [5],
    }  # fmt: skip


def test_runs_are_trained_once_measured_and_read_again(tool, body, tmp_path, monkeypatch, capsys):
    packed = packed_data(body, tmp_path / "pack")
    arguments = ["--packed", str(packed), "-o", str(tmp_path / "out"), "--table", str(tmp_path / "table.md"), "--steps", "3",
                 "--seeds", "0", "1", "--device", "cpu", "--variants", "base", "7 views", "fusion: concatenation", "1 view"]  # fmt: skip
    assert tool.main(arguments) == 0
    assert "7 views: left out, only 5 views" in capsys.readouterr().out
    results = (tmp_path / "out" / "RESULTS.json").read_text()
    runs = json.loads(results)["runs"]
    assert {name: list(seeds) for name, seeds in runs.items()} == {name: ["0", "1"] for name in ("base", "fusion: concatenation", "1 view")}
    assert list(runs["base"]["0"]["rendered"]) == ["1", "3", "5"]
    assert list(runs["fusion: concatenation"]["0"]["rendered"]) == ["5"]
    assert runs["base"]["0"]["rendered"] != runs["base"]["1"]["rendered"]
    table = (tmp_path / "table.md").read_text()
    mean = np.mean([runs["base"][seed]["rendered"]["5"]["MPJPE mm"] for seed in "01"])
    assert f"{mean:.1f} ± " in table
    assert "Not finished" not in table
    assert str(tmp_path) not in table

    monkeypatch.setattr(tool.train, "run", lambda *_, **__: pytest.fail("trained again"))
    assert tool.main(arguments) == 0
    assert (tmp_path / "out" / "RESULTS.json").read_text() == results
    arguments[arguments.index("3")] = "4"
    assert tool.main(arguments) == 2
    assert "other settings" in capsys.readouterr().err


def test_requests_that_make_no_sense_are_refused_in_one_line(tool, tmp_path, capsys):
    for arguments, said in (([], "expected --packed"), (["--variants", "bigger"], "'bigger' is unknown")):
        assert tool.main(["-o", str(tmp_path), *arguments]) == 2
        assert said in capsys.readouterr().err


def test_training_refuses_views_that_were_not_observed_and_a_concatenation_of_changing_views(body):
    settings = small(2)
    with pytest.raises(UsageError, match="views is 7, but 5 views"):
        Trainer(replace(settings, views=7), sampler_of(body), None, body)
    concatenated = replace(settings, network=settings.network | {"fusion": "concat"})
    with pytest.raises(UsageError, match="set single_view_share to 0"):
        Trainer(concatenated, sampler_of(body), None, body)
    with pytest.raises(UsageError, match="concat_views to 3"):
        Trainer(replace(concatenated, single_view_share=0.0, views=3), sampler_of(body), None, body)
    trainer = Trainer(replace(settings, views=1), sampler_of(body), None, body)
    assert trainer._views() == [0]
    assert trainer.train_step()["camera_consistency"] == 0


def test_the_table_gives_mean_and_deviation_and_says_what_is_missing(tool):
    assert tool.spread([70.0, 72.0, 74.0]) == "72.0 ± 2.0"
    assert tool.spread([70.0]) == "70.0"
    assert tool.spread([]) == ""
    run = lambda mpjpe: {"rendered": {"5": {"MPJPE mm": mpjpe, "PA-MPJPE mm": 50.0}}}
    about = {"steps": 600, "people per step": 512, "seeds": [0, 1], "test people": 563, "date": "2000-01-01", "revision": "abc",
             "machine": "a machine", "torch": "2", "left out": ["7 views"], "runs wanted": 3}  # fmt: skip
    text = tool.table(about, {"base": {"0": run(90.0), "1": run(94.0)}})
    assert "| base | 2 | 92.0 ± 2.8 | 50.0 ± 0.0 |" in text
    assert "Not finished: 2 of 3 runs" in text
    assert "7 views: left out" in text
    assert "Real views" not in text


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
    from mchmr_stream.learning.evaluation import real_predictions
    from mchmr_stream.learning.evaluation.real3d import errors_row
    from mchmr_stream.learning.evaluation.real_observations import observe_real
    from mchmr_stream.learning.evaluation.real_views import load_views
    from mchmr_stream.network.weights import load_network

    folder = shared / "data" / "validation" / "pose2sim"
    errors = real_errors(load_network("default").net.head, observe_real(folder, device="cpu"), body, 5)
    predicted = []
    for view in load_views(folder):
        with real_predictions.known_camera(view) as camera:
            settings = real_predictions.load_settings(None, ["smoother.kind=none", "runtime.device=cpu", camera])
            predicted.append(real_predictions._main_person(view, "ours", settings, undistorted=True))
    expected = errors_row(predicted)
    assert errors == pytest.approx({name: expected[name] for name in errors}, rel=1e-3)
