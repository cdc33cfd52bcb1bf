"""Other people's checkpoints compute here what they compute where they come from; what does not fit is refused by name."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import published
import pytest
import torch
from published import Weights
from safetensors import safe_open
from torch import Tensor

from mchmr_stream.checkpoints.checkpoint_import import import_weights
from mchmr_stream.cli import main
from mchmr_stream.datatypes import CropBatch
from mchmr_stream.errors import InputError, MissingPart, UsageError
from mchmr_stream.estimators.local import LocalEstimator
from mchmr_stream.network import encoders
from mchmr_stream.network.encoders import Encoder, make_encoder
from mchmr_stream.network.encoders.vit import ViT
from mchmr_stream.network.mesh_network import MultiCropNet
from mchmr_stream.network.paper_head import PaperFusion, PaperHead, views_info
from mchmr_stream.network.weights import LoadedNetwork, load_network

FOCAL_PX = 1100.0
VIEWS_PX = torch.tensor([[30.0, -80.0, 400.0], [70.0, -80.0, 600.0], [-10.0, -80.0, 500.0], [30.0, -40.0, 320.0], [30.0, -120.0, 260.0]])


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def save(path: Path, weights: Weights, wrapper: str = "") -> Path:
    torch.save({"model": {wrapper + name: value for name, value in weights.items()}, "epoch": 3}, path)
    return path


def crops_of(count: int, hw: tuple[int, int] = (256, 192)) -> Tensor:
    """(count, 3, h, w) uint8: noise of several scales, each crop with a colour of its own."""
    g = torch.Generator().manual_seed(7)
    octaves = [torch.nn.functional.interpolate(torch.rand(count, 3, s, s, generator=g), hw, mode="bilinear") for s in (1, 3, 9, 40)]
    return (torch.stack(octaves).mean(0) * 255).to(torch.uint8)


def assert_close(got: Tensor, want: Tensor, tolerance: float = 1e-4) -> None:
    """Within `tolerance` of the larger of one and the largest wanted number."""
    assert got.shape == want.shape
    assert (got - want).abs().max() <= tolerance * max(1.0, float(want.abs().max()))


@torch.inference_mode()
def see(encoder: Encoder, crops: Tensor) -> Tensor:
    return encoder(crops.float() / 255).features


# ---- encoders, step one of every parity --------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapper", ["", "module."])
def test_resnet50_of_torchvision_computes_the_same_features(tmp_path: Path, wrapper: str) -> None:
    weights = published.random_weights(published.resnet50() | published.linear("fc", 2048, 1000))
    torch.save({wrapper + name: value for name, value in weights.items()}, tmp_path / "resnet50.pth")
    result = import_weights(tmp_path / "resnet50.pth", "torchvision", tmp_path / "out.safetensors")
    assert (result.encoder, result.not_used, result.unknown, result.started_anew) == ("resnet50", ["fc.weight", "fc.bias"], [], [])
    encoder = make_encoder("resnet50", tmp_path / "out.safetensors")
    crops = crops_of(2)
    want = published.run_resnet50(weights, crops)
    assert want.std(0).mean() > 0.01 * want.abs().mean(), "the two crops must differ for this test to mean anything"
    assert_close(see(encoder, crops), want)


def test_the_transformer_of_hmr2_computes_the_same_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """At a tiny width: two blocks of 32 numbers; the published one has 32 of 1280. Its decoder is named as not used."""
    monkeypatch.setitem(encoders.BUILDERS, "vit_h", lambda: ViT(dim=32, depth=2, heads=4))
    weights = published.random_weights(published.prefixed("backbone.", published.vit(32, 2)))
    beside = {"smpl_head.decpose.weight": torch.zeros(144, 8), "smpl.betas": torch.zeros(10), "initialized": torch.tensor(True)}
    source = tmp_path / "hmr2.pt"
    torch.save({"state_dict": weights | beside}, source)
    assert main(["import-weights", str(source), "--from", "hmr2", "-o", str(tmp_path / "out.safetensors")]) == 0
    assert "not used: 3: smpl_head.decpose.weight" in capsys.readouterr().out
    crops = crops_of(2)
    want = published.run_vit(published.below("backbone.", weights), crops, heads=4)
    assert want.std(0).mean() > 0.01 * want.abs().mean(), "the two crops must differ for this test to mean anything"
    assert_close(see(make_encoder("vit_h", tmp_path / "out.safetensors"), crops), want)
    with pytest.raises(InputError, match="it looks like hmr2"):
        import_weights(source, "torchvision", tmp_path / "other.safetensors")
    del weights["backbone.blocks.1.mlp.fc2.weight"]
    torch.save(weights, source)
    with pytest.raises(InputError, match=r"it lacks 1 of .*blocks\.1\.mlp\.fc2\.weight"):
        import_weights(source, "hmr2", tmp_path / "other.safetensors")


@pytest.mark.slow
def test_hrnet_of_coco_pose_keeps_its_trunk_and_starts_the_rest_anew(tmp_path: Path) -> None:
    weights = published.random_weights(published.hrnet_trunk(last_module_all_scales=False) | {"final_layer.weight": (17, 48, 1, 1)})
    torch.save(weights, tmp_path / "pose.pth")
    result = import_weights(tmp_path / "pose.pth", "coco-pose", tmp_path / "out.safetensors")
    assert (result.encoder, result.not_used, result.unknown) == ("hrnet_w48", ["final_layer.weight"], [])
    assert {name.split(".")[0] for name in result.started_anew} == {
        "stage4", "downsample_stage_1", "downsample_stage_2", "downsample_stage_3",
    }  # fmt: skip
    encoder = make_encoder("hrnet_w48", tmp_path / "out.safetensors")
    # The test's own forward with the tensors that were drawn: trunk and new layers are where they belong.
    completed = {**encoder.state_dict(), **{name: value for name, value in weights.items() if name in encoder.state_dict()}}
    crops = crops_of(1, (128, 96))
    with torch.inference_mode():
        assert_close(see(encoder, crops), published.run_hrnet_w48(completed, crops))


@pytest.mark.slow
def test_hrnet_of_timm_lacks_only_the_papers_pooling(tmp_path: Path) -> None:
    shapes = published.hrnet_trunk() | published.hrnet_classifier() | published.linear("classifier", 2048, 1000)
    torch.save(published.random_weights(shapes), tmp_path / "timm.pth")
    result = import_weights(tmp_path / "timm.pth", "timm", tmp_path / "out.safetensors")
    assert result.unknown == []
    assert {name.split(".")[0] for name in result.started_anew} == {"downsample_stage_1", "downsample_stage_2", "downsample_stage_3"}


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("resnet50", published.resnet50()),
        ("hrnet_w48", published.hrnet_trunk() | published.hrnet_pooling()),
        ("hrnet_w48_classifier", published.hrnet_trunk() | published.hrnet_classifier()),
    ],
)
def test_encoders_have_the_published_names_and_shapes(name: str, shapes: published.Shapes) -> None:
    ours = {key: tuple(value.shape) for key, value in make_encoder(name, pretrained=False).state_dict().items()}
    assert ours == shapes


# ---- Multi-RoI, step by step ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["resnet50", pytest.param("hrnet_w48", marks=pytest.mark.slow)])
def multi_roi(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Weights, LoadedNetwork]:
    folder = tmp_path_factory.mktemp("multi_roi")
    weights = published.random_weights(published.multi_roi(request.param))
    import_weights(save(folder / "previous_6_12000.pt", weights), "multi-roi", folder / "mine.safetensors")
    return request.param, weights, load_network(str(folder / "mine.safetensors"))


def trunk_features(encoder: str, weights: Weights, crops: Tensor) -> Tensor:
    if encoder == "resnet50":
        return published.run_resnet50(weights, crops)
    return published.run_hrnet_w48(published.below("backbone.", weights), crops)


@torch.inference_mode()
def test_multi_roi_computes_step_by_step_what_was_published(multi_roi: tuple[str, Weights, LoadedNetwork]) -> None:
    encoder, weights, loaded = multi_roi
    head = loaded.net.head
    assert isinstance(head, PaperHead)
    crops = crops_of(5, (128, 96))
    features = trunk_features(encoder, weights, crops)
    assert_close(see(loaded.net.encoder, crops), features)

    # From here on both sides read the same numbers: at 32 frequencies the last digit of a difference decides everything.
    infos = published.box_information(VIEWS_PX, FOCAL_PX)
    fusion = head.fusion[0]
    assert isinstance(fusion, PaperFusion)
    shares = published.fusion_weights(weights, features, infos, 32)
    assert_close(fusion.weights(features[None], infos[None])[0], shares, 1e-5)
    assert shares.std() > 0.01, "shares must differ for this test to mean anything"

    said = head.regress(features[None], infos[None])
    for view in range(5):
        rotations, betas, cam = published.regress(weights, shares[view] @ features, infos.flatten())
        assert_close(said.rotations[0, view], rotations)
        assert_close(said.betas[0, view], betas)
        assert_close(said.views_cam[0, view], cam)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> tuple[Weights, Path]:
    """Multi-RoI with few frequencies, so that rounding of the box information stays rounding; and the imported file."""
    folder = tmp_path_factory.mktemp("few")
    weights = published.random_weights(published.multi_roi("resnet50", frequencies=4))
    import_weights(save(folder / "few.pt", weights), "multi-roi", folder / "few.safetensors")
    return weights, folder / "few.safetensors"


@torch.inference_mode()
def test_multi_roi_whole_network_shows_the_first_views_body_and_all_cameras(few: tuple[Weights, Path]) -> None:
    """From pixels to bodies."""
    weights, path = few
    net = load_network(str(path)).net
    crops = crops_of(5)
    out = run(net, crops, VIEWS_PX)
    features, infos = published.run_resnet50(weights, crops), published.box_information(VIEWS_PX, FOCAL_PX)
    fused = published.fusion_weights(weights, features, infos, 4) @ features
    views = [published.regress(weights, each, infos.flatten()) for each in fused]
    assert_close(out.rotations[0], views[0][0])
    assert_close(out.betas[0], views[0][1])
    assert_close(out.views_cam[0], torch.stack([cam for _, _, cam in views]))


def run(net: MultiCropNet, crops: Tensor, views_px: Tensor):  # type: ignore[no-untyped-def]
    """One person; the base box is the first view."""
    return net(crops[None], views_px[None], views_px[:1], torch.tensor([FOCAL_PX]), torch.zeros(1, 17, 3))


# ---- CLIFF ----------------------------------------------------------------------------------------------------------------


@torch.inference_mode()
@pytest.mark.parametrize("encoder", ["resnet50", pytest.param("hrnet_w48", marks=pytest.mark.slow)])
def test_cliff_runs_as_a_network_of_one_view(tmp_path: Path, encoder: str) -> None:
    weights = published.random_weights(published.cliff(encoder), seed=1)
    result = import_weights(save(tmp_path / "hr48.pt", weights, "module."), "cliff", tmp_path / "mine.safetensors")
    assert (result.views, result.unknown, result.started_anew) == (None, [], [])
    crops = crops_of(3)
    forward = published.run_resnet50 if encoder == "resnet50" else published.run_hrnet_classifier
    features = forward(published.below("encoder.", weights), crops)
    infos = published.box_information(VIEWS_PX, FOCAL_PX)
    want = [published.regress(weights, feature, info) for feature, info in zip(features, infos[:3], strict=True)]

    # Three people of one crop each, through the estimator that a video goes through.
    estimator = LocalEstimator(str(tmp_path / "mine.safetensors"), torch.device("cpu"), "fp32", views=1)
    assert estimator.info.crop_size_hw == (256, 192)
    views_px = VIEWS_PX[:3].numpy()
    got = estimator.estimate(
        CropBatch(crops[:, None], views_px[:, None], views_px, np.zeros((3, 17, 3), np.float32), np.full(3, FOCAL_PX, np.float32),
                  np.zeros(3, np.float32))
    )  # fmt: skip
    for person, (rotations, betas, cam) in enumerate(want):
        assert_close(torch.from_numpy(got.rotations[person]), rotations)
        assert_close(torch.from_numpy(got.betas[person]), betas)
        assert_close(torch.from_numpy(got.views_cam[person, 0]), cam)
    assert np.allclose(got.presence, 0.5), "nobody asked whether there is a person"

    # And any number of views of one person: every camera beside the mean body.
    together = run(load_network(str(tmp_path / "mine.safetensors")).net, crops, VIEWS_PX[:3])
    assert_close(together.betas[0], torch.stack([betas for _, betas, _ in want]).mean(0))


def test_box_information_of_views_is_the_papers() -> None:
    base = VIEWS_PX[:1]
    in_base = torch.cat([(VIEWS_PX[:, :2] - base[:, :2]) / base[:, 2:], VIEWS_PX[:, 2:] / base[:, 2:]], -1)
    want = published.box_information(VIEWS_PX, FOCAL_PX)
    assert torch.allclose(views_info(in_base[None], want[:1])[0], want, atol=1e-5)


# ---- what is written, and what is refused -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cliff_weights() -> Weights:
    return published.random_weights(published.cliff("resnet50"))


def test_the_result_says_where_it_came_from_and_what_was_left_out(tmp_path: Path, cliff_weights: Weights, capsys) -> None:
    source = save(tmp_path / "theirs.pt", {**cliff_weights, "extra.weight": torch.zeros(2), "extra.bias": torch.zeros(2)})
    out = tmp_path / "deep" / "mine.safetensors"
    assert main(["import-weights", str(source), "--from", "cliff", "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert "unknown, left out: 2: extra.weight, extra.bias" in said
    assert f"network.weights={out}" in said
    with safe_open(out, "pt") as file:
        provenance = json.loads(file.metadata()["provenance"])
    assert provenance["imported_from"] == "theirs.pt"
    assert provenance["layout"] == "cliff"
    assert provenance["left_out"] == ["extra.bias", "extra.weight"]
    assert len(provenance["source_sha256"]) == 64
    assert provenance["body"] == "smpl"
    assert [each.name for each in out.parent.iterdir()] == ["mine.safetensors"]


def without(weights: Weights, *names: str) -> Weights:
    return {name: value for name, value in weights.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "layout", "message"),
    [
        (lambda w: without(w, "deccam.bias", "fc2.weight"), "cliff", r"lacks 2 of \d+ tensors, first fc2.weight, deccam.bias$"),
        (lambda w: w, "multi-roi", "no checkpoint of layout multi-roi: no ResNet-50 .*; it looks like cliff, try --from cliff$"),
        (lambda w: w, "torchvision", "it looks like cliff"),
        (lambda w: {**w, "fc2.weight": torch.zeros(1000, 1024)}, "cliff", r"fc2.weight is \(1000, 1024\), expected \(1024, 1024\)"),
        (lambda w: {**w, "fc2.bias": torch.full((1024,), torch.nan)}, "cliff", "fc2.bias holds values that are not finite"),
        (lambda w: {**w, "fc1.weight": torch.zeros(1024, 2209)}, "cliff", "fc1.weight reads 2209 numbers"),
        (lambda w: {**w, "fc1.weight": torch.zeros(1024, 2220)}, "cliff", "the box information of 5 crops"),
        (lambda w: {**w, "fc1.weight": torch.zeros(1).expand(2**20, 2**20)}, "cliff", "no plain tensor"),
        (lambda w: {"a": torch.zeros(1)}, "cliff", "no ResNet-50 and no HRNet-W48 in it$"),
        (lambda w: {}, "cliff", "no named tensors"),
    ],
)
def test_another_architecture_is_refused_by_name(tmp_path: Path, cliff_weights: Weights, change, layout: str, message: str) -> None:
    source = save(tmp_path / "theirs.pt", change(cliff_weights))
    with pytest.raises(InputError, match=message):
        import_weights(source, layout, tmp_path / "mine.safetensors")
    assert not list(tmp_path.glob("*mine*"))


class RunsCode:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_a_checkpoint_with_code_in_it_is_refused_and_the_code_not_run(tmp_path: Path, capsys) -> None:
    torch.save({"model": {"a": torch.zeros(1)}, "extra": RunsCode(tmp_path / "ran")}, tmp_path / "evil.pt")
    assert main(["import-weights", str(tmp_path / "evil.pt"), "--from", "cliff", "-o", str(tmp_path / "out.safetensors")]) == 1
    said = capsys.readouterr().err
    assert "mkdir" in said
    assert said.count("\n") == 1
    assert "weights_only" not in said, "no advice to switch the protection off"
    assert not (tmp_path / "ran").exists()


def test_damaged_files_are_refused_in_one_line(tmp_path: Path, cliff_weights: Weights) -> None:
    whole = save(tmp_path / "whole.pt", dict(list(cliff_weights.items())[:20])).read_bytes()
    torch.save({"a": torch.ones(50)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    old = (tmp_path / "old.pt").read_bytes()
    with zipfile.ZipFile(tmp_path / "zipped.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"0" * 10_000)
    for name, content in {
        "cut": whole[: len(whole) // 2],
        "cut_old": old[:-9],
        "empty": b"",
        "text": b"hello",
        "noise": b"PK" + bytes(99),
    }.items():
        (tmp_path / f"{name}.pt").write_bytes(content)
    for name in ("cut", "cut_old", "empty", "text", "noise", "zipped"):
        with pytest.raises(InputError, match=name) as refused:
            import_weights(tmp_path / f"{name}.pt", "cliff", tmp_path / "mine.safetensors")
        assert "\n" not in str(refused.value)
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(InputError, match="cannot read"):
        import_weights(tmp_path / "text.safetensors", "cliff", tmp_path / "mine.safetensors")
    with pytest.raises(MissingPart, match="not there"):
        import_weights(tmp_path / "nowhere.pt", "cliff", tmp_path / "mine.safetensors")


def test_every_single_byte_of_a_small_checkpoint_can_be_damaged(tmp_path: Path) -> None:
    """Whatever torch.load stumbles over becomes a line; here for bytes of the pickle inside, all over the file."""
    torch.save({"a": torch.ones(2)}, tmp_path / "small.pt", _use_new_zipfile_serialization=False)
    content = (tmp_path / "small.pt").read_bytes()
    for at in range(0, len(content), 5):
        (tmp_path / "bad.pt").write_bytes(content[:at] + bytes([content[at] ^ 0x5A]) + content[at + 1 :])
        with pytest.raises((InputError, UsageError)):
            import_weights(tmp_path / "bad.pt", "cliff", tmp_path / "mine.safetensors")


def test_wrong_requests_say_what_was_expected(tmp_path: Path, capsys) -> None:
    source = save(tmp_path / "a.pt", {"a": torch.zeros(1)})
    assert main(["import-weights", str(source), "--from", "hmr2-style", "-o", str(tmp_path / "b.safetensors")]) == 2
    assert "multi-roi, cliff, torchvision, timm, coco-pose, hmr2" in capsys.readouterr().err
    assert main(["import-weights", str(source), "--from", "cliff", "-o", str(tmp_path / "b.pt")]) == 2
    assert "ends in .safetensors" in capsys.readouterr().err


def test_weights_for_another_positional_encoding_are_refused(tmp_path: Path) -> None:
    weights = published.random_weights(published.multi_roi("resnet50", frequencies=4))
    weights["pos_enc._freqs"] = weights["pos_enc._freqs"] / torch.pi
    with pytest.raises(InputError, match="positional encoding pos_enc._freqs"):
        import_weights(save(tmp_path / "other.pt", weights), "multi-roi", tmp_path / "mine.safetensors")


def test_views_other_than_the_networks_are_refused_before_the_first_frame(few: tuple[Weights, Path]) -> None:
    with pytest.raises(UsageError, match="made for 5 views, got 1; set crops.views=5"):
        LocalEstimator(str(few[1]), torch.device("cpu"), "fp32", views=1)
