"""Training from pictures: labels that move with the crops, steps that do not depend on how they are shared out, exact resuming."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from labelled_sets import make_truth, write_bodies, write_cliff
from places import HELPERS, ROOT
from safetensors.torch import load_file
from tiny_training import SETTINGS, TinyEncoder, write_people

from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import skin
from mchmr_stream.cli import main
from mchmr_stream.cropping.crop_layouts import layout
from mchmr_stream.cropping.cropper import Cropper
from mchmr_stream.datasets.labels import LabelReader
from mchmr_stream.errors import InputError, MchmrError, UsageError
from mchmr_stream.geometry.crops import crop_from_rolled
from mchmr_stream.network import encoders
from mchmr_stream.network.weights import load_network, save_network
from mchmr_stream.training.common.distributed import Ranks
from mchmr_stream.training.end_to_end.crop_sampling import Draws, MixedPeople, open_people
from mchmr_stream.training.end_to_end.labelled_crops import AS_LABELLED, CutPeople, DrawnPerson, cut_person, draw_shown
from mchmr_stream.training.end_to_end.network_settings import Augmentation, NetworkTrainSettings, picture_settings_from
from mchmr_stream.training.end_to_end.network_trainer import NetworkTrainer
from mchmr_stream.training.rendered_people import SyntheticReader

SHOWN = (
    AS_LABELLED,
    DrawnPerson(mirrored=True),
    DrawnPerson(roll_rad=0.9),
    DrawnPerson(mirrored=True, roll_rad=-2.0, scale=0.8, shift=(0.1, -0.05)),
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(encoders.BUILDERS, "resnet50", TinyEncoder)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("people") / "shards", 12)


@pytest.fixture(scope="module")
def reader(shards: Path) -> SyntheticReader:
    return SyntheticReader([shards])


def settings_of(**changes: object) -> NetworkTrainSettings:
    network = SETTINGS["network"] | changes.pop("network", {})
    return picture_settings_from(SETTINGS | changes | {"network": network}, Path("test.yaml"))


def everybody(reader: LabelReader) -> MixedPeople:
    return MixedPeople({"all": reader}, None, 0)


def trainer_of(reader: SyntheticReader, test: SyntheticReader | None = None, **changes: object) -> NetworkTrainer:
    return NetworkTrainer(settings_of(**changes), everybody(reader), load_body("free"), test=test)


def write_config(path: Path, **changes: object) -> Path:
    path.write_text(json.dumps(settings_of(**changes).to_dict()))
    return path


def cut(reader: SyntheticReader, shown: DrawnPerson, person: int = 0) -> CutPeople:
    return cut_person(reader.label(person), reader.image(person), Cropper(layout("paper", 3)), shown, "free")


# ---- how people are shown -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shown", SHOWN)
def test_however_a_person_is_shown_the_labels_are_those_of_one_camera(reader, shown):
    """3D points project to the 2D points, and the body of the labels has the 3D points."""
    people = cut(reader, shown)
    points_m = people.points_m[0, :24, :3]
    projected = points_m[:, :2] / points_m[:, 2:] * people.focal_px
    assert torch.allclose(projected, people.points_px[0, :24, :2], atol=0.02)
    _, joints = skin(load_body("free"), people.rotations, people.betas)
    mirrored_within = 0.01 if shown.mirrored else 1e-4  # the free body is not quite symmetric
    around_pelvis = points_m - points_m[:1]
    assert torch.allclose(joints[0] - joints[0, :1], around_pelvis, atol=mirrored_within)


def test_a_mirrored_person_has_left_for_right(reader):
    plain, mirrored = (cut(reader, shown).points_m[0, :24, :3] for shown in (AS_LABELLED, DrawnPerson(mirrored=True)))
    assert torch.allclose(mirrored[1] * torch.tensor([-1.0, 1, 1]), plain[2], atol=1e-6)


@pytest.mark.parametrize("shown", SHOWN)
def test_crops_show_the_points_where_the_labels_say(reader, shown):
    """White with a black disc on the left wrist: every crop that holds the wrist is black there, and white at the right one."""
    label = reader.label(0)
    rgb = np.full_like(reader.image(0), 255)
    x, y = label.points_px[20, :2]
    rows, columns = np.mgrid[: rgb.shape[0], : rgb.shape[1]]
    rgb[(columns - x) ** 2 + (rows - y) ** 2 < 5**2] = 0
    people = cut_person(label, rgb, Cropper(layout("paper", 3)), shown, "free")
    # In a mirrored picture the wrist called left is the one that was right: the disc is at the other label.
    here, there = (21, 20) if shown.mirrored else (20, 21)
    seen = 0
    for view in range(3):
        places = crop_from_rolled(people.points_px[:, :24, :2], people.views_px[:, view], (256, 192))[0].round().long()
        for point, value in ((here, 0), (there, 255)):
            column, row = places[point].tolist()
            if 2 <= column < 190 and 2 <= row < 254:
                assert abs(int(people.crops[0, view, 0, row, column]) - value) < 30
                seen += 1
    assert seen >= 4


def test_ways_of_showing_are_drawn_as_the_settings_say():
    drawn = [draw_shown(Augmentation(shift_sd=0.05), np.random.default_rng(seed)) for seed in range(2000)]
    assert np.mean([one.mirrored for one in drawn]) == pytest.approx(0.5, abs=0.04)
    turned = np.array([one.roll_rad for one in drawn if one.roll_rad])
    assert len(turned) / len(drawn) == pytest.approx(0.4, abs=0.04)
    assert np.rad2deg(turned).std() == pytest.approx(30 * 0.96, abs=1.5)
    assert abs(turned).max() <= np.deg2rad(60.001)
    scales, gains = np.array([one.scale for one in drawn]), np.array([one.gain for one in drawn])
    assert scales.min() == pytest.approx(0.75)
    assert scales.max() == pytest.approx(1.25)
    assert (gains.min(), gains.max()) == (pytest.approx(0.6, abs=0.01), pytest.approx(1.4, abs=0.01))
    assert np.array([one.shift for one in drawn]).std() == pytest.approx(0.05 * 0.96, abs=0.004)


def test_a_picture_that_cannot_be_read_is_passed_over_with_its_name_and_many_end_the_run(reader, caplog):
    class Damaged(SyntheticReader):
        def __init__(self, broken: int) -> None:
            self.__dict__.update(vars(reader) | {"name": "damaged"})
            self.broken = broken

        def image(self, index: int) -> np.ndarray:
            if index < self.broken:
                raise InputError(f"cannot read {index:06d}.jpg")
            return super().image(index)

    people = Damaged(6)
    draws = Draws(everybody(people), layout("paper", 3), Augmentation(), "free", 0)
    with caplog.at_level(logging.WARNING):
        CutPeople.joined([draws[number] for number in range(8)])
    assert "passed over: cannot read 00000" in caplog.text
    people.broken = 12
    with pytest.raises(InputError, match="cannot read"):
        draws[0]


# ---- steps ----------------------------------------------------------------------------------------------------------------


def test_a_run_learns(tmp_path):
    """Four people by heart, as labelled."""
    reader = SyntheticReader([write_people(tmp_path / "four", 4)])
    nothing_changes = {"flip": 0, "turn": 0, "scale_sd": 0, "colour": 0}
    changes = {"network": {"dropout": 0.0}, "learning_rate": 5e-4, "warmup_steps": 20, "ema": 0.5, "augmentation": nothing_changes}
    trainer = trainer_of(reader, reader, **changes)
    before = trainer.test()
    steps = [trainer.train_step() for _ in range(60)]
    mean = lambda some, name: np.mean([step[name] for step in some])
    for name in ("total", "joints_3d", "rotations", "joints_2d"):
        assert mean(steps[-10:], name) < 0.75 * mean(steps[:10], name), name
    after = trainer.test()
    assert after["PA-MPJPE mm"] < 0.75 * before["PA-MPJPE mm"]
    assert after["MPJPE mm"] < 0.6 * before["MPJPE mm"]


def test_the_network_moves_with_its_encoder_and_the_average_follows(reader):
    trainer = trainer_of(reader, ema=0.5)
    before = {name: value.clone() for name, value in trainer.net.state_dict().items()}
    trainer.train_step()
    after, average = trainer.net.state_dict(), trainer.average.state_dict()
    assert not torch.equal(before["encoder.layers.0.weight"], after["encoder.layers.0.weight"])
    share = 2 / 11  # of the first steps: (1 + 1) / (10 + 1), less than 0.5
    for name in ("encoder.layers.0.weight", "encoder.layers.1.running_mean", "head.fc1.weight"):
        assert torch.allclose(average[name], before[name] * share + after[name] * (1 - share), atol=1e-7)
    frozen = trainer_of(reader, freeze_norms=True)
    frozen.train_step()
    assert torch.equal(frozen.net.state_dict()["encoder.layers.1.running_mean"], torch.zeros(8))


def test_gradients_of_two_halves_are_those_of_the_whole(reader):
    """Where nothing compares people with each other: norms that are kept, no contrast."""
    common = {"precision": "fp64", "freeze_norms": True, "losses": {"contrastive": 0}, "network": {"dropout": 0.0}}
    whole, halves = trainer_of(reader, people=4, **common), trainer_of(reader, people=2, accumulate=2, **common)
    for _ in range(3):
        one, other = whole.train_step(), halves.train_step()
        assert one["total"] == pytest.approx(other["total"], rel=1e-9)
    for one, other in zip(whole.net.parameters(), halves.net.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-9)


def test_a_long_gradient_is_shortened(reader):
    trainers = [trainer_of(reader, network={"dropout": 0.0}, gradient_limit=limit) for limit in (0, 1.0)]
    said = [trainer.train_step()["gradient"] for trainer in trainers]
    assert said[0] == said[1] > 10
    norms = [
        torch.stack([value.grad.norm() for value in trainer.net.parameters() if value.grad is not None]).norm() for trainer in trainers
    ]
    assert norms == [pytest.approx(said[0], rel=1e-4), pytest.approx(1.0, rel=1e-4)]


def test_bf16_is_for_the_encoder_alone(reader):
    exact, mixed = trainer_of(reader, network={"dropout": 0.0}), trainer_of(reader, precision="bf16", network={"dropout": 0.0})
    batch = exact.next_batch()
    kept = {}
    for name, trainer in (("exact", exact), ("mixed", mixed)):
        trainer.net.head.fusion[0].register_forward_hook(lambda _, inputs, output, name=name: kept.__setitem__(name, (*inputs, output)))
        trainer.forward(trainer.net.eval(), batch)
    assert {value.dtype for values in kept.values() for value in values} == {torch.float32}
    assert torch.equal(kept["exact"][1], kept["mixed"][1])
    assert 1e-5 < (kept["exact"][0] - kept["mixed"][0]).abs().max() < 0.1


def test_numbers_that_break_end_the_step_and_change_nothing(reader):
    trainer = trainer_of(reader)
    trainer.train_step()
    with torch.no_grad():
        trainer.net.head.decshape.weight[0, 0] = float("inf")
    before = {name: value.clone() for name, value in trainer.net.state_dict().items()}
    with pytest.raises(MchmrError, match="training broke at step 1"):
        trainer.train_step()
    assert all(torch.equal(value, before[name]) for name, value in trainer.net.state_dict().items())
    assert trainer.step == 1
    with pytest.raises(MchmrError, match=r"decshape\.weight are not finite"):
        trainer.state()


# ---- runs -----------------------------------------------------------------------------------------------------------------


def train(config: Path, shards: Path, out: Path, *more: str) -> int:
    return main(["train", str(config), "--shards", str(shards), "-o", str(out), "--device", "cpu", *more])


def checkpoint_of(folder: Path) -> dict:
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def test_two_legs_give_the_weights_and_the_log_of_one_bit_for_bit(shards, tmp_path, capsys):
    config = write_config(tmp_path / "six.yaml", ema=0.9, steps=6, keep_every=3)
    assert train(config, shards, tmp_path / "whole", "--test-shards", str(shards)) == 0
    first = write_config(tmp_path / "three.yaml", ema=0.9, steps=3)
    assert train(first, shards, tmp_path / "legs", "--test-shards", str(shards)) == 0
    assert train(config, shards, tmp_path / "legs", "--test-shards", str(shards), "--workers", "1") == 2
    assert "--resume" in capsys.readouterr().err
    assert train(config, shards, tmp_path / "legs", "--test-shards", str(shards), "--workers", "1", "--resume") == 0
    whole, legs = checkpoint_of(tmp_path / "whole"), checkpoint_of(tmp_path / "legs")
    assert whole["step"] == legs["step"] == 6
    for part in ("net", "average"):
        assert all(torch.equal(value, legs[part][name]) for name, value in whole[part].items())
    assert not all(torch.equal(value, whole["net"][name]) for name, value in whole["average"].items())
    records = [json.loads((tmp_path / name / "progress.jsonl").read_text().splitlines()[-1]) for name in ("whole", "legs")]
    assert records[0]["test PA-MPJPE mm"] == records[1]["test PA-MPJPE mm"]
    loaded = load_network(str(tmp_path / "whole" / "paper_resnet50.safetensors"))
    assert torch.equal(loaded.net.state_dict()["head.fc1.weight"], whole["average"]["head.fc1.weight"])
    assert loaded.provenance["settings"]["people"] == 4
    assert sorted(path.name for path in (tmp_path / "whole" / "kept").iterdir()) == [
        "paper_resnet50_0000003.safetensors", "paper_resnet50_0000006.safetensors",
    ]  # fmt: skip


def in_processes(count: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = [str(HELPERS / "tiny_training.py"), *arguments]
    start = [sys.executable] if count == 1 else [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([*start, *program], capture_output=True, text=True, check=False, env=environment, timeout=300)


def test_two_processes_train_what_one_trains(shards, tmp_path):
    """20 steps with batch norms, contrasts and accumulation give the same weights within 1e-6.

    The test runs in float64: weights before a batch norm have gradients that are zero but for rounding, which Adam scales to whole steps.
    """
    config = write_config(tmp_path / "config.yaml", steps=20, precision="fp64", accumulate=2, ema=0.9, network={"dropout": 0.0})
    for count in (1, 2):
        arguments = ["train", str(config), "--shards", str(shards), "--test-shards", str(shards), "--device", "cpu"]
        done = in_processes(count, *arguments, "-o", str(tmp_path / str(count)))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("test PA-MPJPE") == 1, "one process speaks"
    one, two = checkpoint_of(tmp_path / "1"), checkpoint_of(tmp_path / "2")
    start = trainer_of(SyntheticReader([shards]), precision="fp64", network={"dropout": 0.0}).net.state_dict()
    for part in ("net", "average"):
        for name, value in one[part].items():
            assert torch.allclose(value.double(), two[part][name].double(), atol=1e-6, rtol=0), name
    moved = max(float((one["net"][name] - value).abs().max()) for name, value in start.items() if value.is_floating_point())
    assert moved > 1e-2, "they must have learnt for this to mean anything"
    rows = [json.loads((tmp_path / name / "progress.jsonl").read_text().splitlines()[-1]) for name in ("1", "2")]
    assert rows[0]["total"] == pytest.approx(rows[1]["total"], rel=1e-4)


def test_sets_are_mixed_as_the_shares_say(reader, shards, tmp_path, capsys):
    """COCO with CLIFF's labels beside rendered people; their bodies are SMPL's, so of them pose and points alone are learnt."""
    write_cliff(tmp_path / "sets", make_truth(write_bodies(tmp_path / "bodies")))
    config = write_config(tmp_path / "config.yaml", shares={"synthetic": 3, "coco": 1}, people=4, steps=2, augmentation={"turn": 0})
    assert train(config, shards, tmp_path / "out", "--sets", str(tmp_path / "sets")) == 0
    assert "coco: 6 people, 25.0 %" in capsys.readouterr().out
    people = open_people({"synthetic": 3, "coco": 1}, 0, [shards], tmp_path / "sets", unchecked=True)
    drawn = [people.at(place) for place in range(1000)]
    assert sum(one.name == "coco" for one, _ in drawn) == 250
    other = next(
        cut_person(one.label(i), one.image(i), Cropper(layout("paper", 3)), AS_LABELLED, "free") for one, i in drawn if one.name == "coco"
    )
    assert (float(other.has_pose), float(other.has_betas)) == (1, 0)
    next((tmp_path / "sets" / "coco" / "train2014").iterdir()).unlink()
    assert train(config, shards, tmp_path / "incomplete", "--sets", str(tmp_path / "sets")) == 1
    assert "coco" in capsys.readouterr().err
    assert not (tmp_path / "incomplete" / "checkpoint.pt").exists()
    for shares, said in (({"mpii": 1}, "no labels"), ({"synthetic": 0}, "not all 0")):
        config = write_config(tmp_path / "config.yaml", shares=shares)
        assert train(config, shards, tmp_path / "bad", "--sets", str(tmp_path / "sets")) == 2
        assert said in capsys.readouterr().err


def test_requests_that_make_no_sense_are_refused_in_one_line(shards, tmp_path, capsys, monkeypatch):
    config = write_config(tmp_path / "config.yaml")
    said = lambda: capsys.readouterr().err
    assert main(["train", str(config), "-o", str(tmp_path / "out")]) == 2
    assert "needs rendered people (--shards) or data sets (--sets)" in said()
    assert train(config, shards, tmp_path / "out", "--data", str(tmp_path)) == 2
    assert "--data is for training a head on a frozen encoder" in said()
    config.write_text(json.dumps(settings_of().to_dict() | {"schedule": "sometimes"}))
    assert train(config, shards, tmp_path / "out") == 2
    assert "schedule is 'sometimes'" in said()
    frozen = ROOT / "configs" / "train_default.yaml"
    assert train(frozen, shards, tmp_path / "out", "--workers", "2") == 2
    assert "for training from pictures" in said()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert train(frozen, shards, tmp_path / "out", "--data", str(tmp_path)) == 2
    assert "without torchrun" in said()
    with pytest.raises(UsageError, match="cannot be shared out"):
        Ranks(0, 3, torch.device("cpu")).rows(4)


def test_runs_start_from_imported_weights_and_from_nothing_else(reader, shards, tmp_path, capsys):
    donor = trainer_of(reader, seed=5).net
    whole = tmp_path / "whole.safetensors"
    save_network(whole, donor, {}, half=False)
    config = write_config(tmp_path / "config.yaml", steps=1, learning_rate=1e-9, ema=0, network={"bodies": "shared"})
    assert train(config, shards, tmp_path / "a", "--start", str(whole)) == 0
    got = checkpoint_of(tmp_path / "a")["net"]
    assert torch.allclose(got["head.fc1.weight"], donor.state_dict()["head.fc1.weight"], atol=1e-6)
    from safetensors.torch import save_file

    encoder = tmp_path / "encoder.safetensors"
    save_file({name: value.contiguous() for name, value in donor.encoder.state_dict().items()}, encoder, {"encoder": "resnet50"})
    assert train(config, shards, tmp_path / "b", "--start", str(encoder)) == 0
    got = checkpoint_of(tmp_path / "b")["net"]
    assert torch.allclose(got["encoder.layers.0.weight"], donor.state_dict()["encoder.layers.0.weight"], atol=1e-6)
    assert not torch.allclose(got["head.fc1.weight"], donor.state_dict()["head.fc1.weight"], atol=1e-3)
    capsys.readouterr()
    other = write_config(tmp_path / "other.yaml", network={"concat_views": 4})
    assert train(other, shards, tmp_path / "c", "--start", str(whole)) == 2
    assert '"concat_views": 3' in capsys.readouterr().err
    save_file({"x": torch.zeros(1)}, tmp_path / "neither.safetensors")
    assert train(config, shards, tmp_path / "c", "--start", str(tmp_path / "neither.safetensors")) == 1
    assert "neither a network nor an encoder" in capsys.readouterr().err


def test_checkpoints_are_averaged(reader, tmp_path, capsys):
    nets = [trainer_of(reader, seed=seed).net for seed in range(3)]
    files = [tmp_path / f"{seed}.safetensors" for seed in range(3)]
    for net, file in zip(nets, files, strict=True):
        save_network(file, net, {"step": 1}, half=False)
    assert main(["average", *map(str, files), "-o", str(tmp_path / "mean.safetensors")]) == 0
    mean = load_network(str(tmp_path / "mean.safetensors"))
    for name, value in mean.net.state_dict().items():
        if value.is_floating_point():
            expected = torch.stack([net.state_dict()[name] for net in nets]).mean(0)
            assert torch.allclose(value, expected, atol=1e-6), name
    assert [one["file"] for one in mean.provenance["average_of"]] == ["0", "1", "2"]
    for net, file in zip(nets, files, strict=True):
        save_network(file, net, {"step": 1}, half=True)
    assert main(["average", *map(str, files), "-o", str(tmp_path / "half.safetensors")]) == 0
    kinds = {name: value.dtype for name, value in load_file(tmp_path / "half.safetensors").items() if value.is_floating_point()}
    assert {kind for name, kind in kinds.items() if name.startswith("head.")} == {torch.float16}, "as large as each of them"
    assert {kind for name, kind in kinds.items() if name.startswith("encoder.")} == {torch.float32}
    capsys.readouterr()
    assert main(["average", str(files[0]), "-o", str(tmp_path / "x.safetensors")]) == 2
    assert "two or more" in capsys.readouterr().err
    save_network(files[1], trainer_of(reader, network={"concat_views": 2}).net, {}, half=False)
    assert main(["average", *map(str, files[:2]), "-o", str(tmp_path / "x.safetensors")]) == 2
    assert "another network" in capsys.readouterr().err


def test_a_checkpoint_of_the_other_kind_of_run_is_refused(reader):
    trainer = trainer_of(reader)
    with pytest.raises(InputError, match="trains a head on a frozen encoder"):
        trainer.restore({"step": 1, "head": {}})
    state = trainer.state()
    with pytest.raises(UsageError, match="the checkpoint holds the network"):
        trainer_of(reader, network={"token_dim": 16}).restore(state)
    assert replace(trainer.settings, network=state["settings"]["network"]) == trainer.settings
