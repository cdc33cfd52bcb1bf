"""The paper's head by its laws, encoders without landmarks in the network, and the paper's settings."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from places import ROOT
from torch import Tensor

from mchmr_stream.errors import MissingPart, UsageError
from mchmr_stream.geometry.camera import box_info
from mchmr_stream.geometry.rotation import matrix_from_sixd
from mchmr_stream.network.encoders import make_encoder, optimise_for_inference
from mchmr_stream.network.mesh_network import MultiCropNet, NetworkConfig, make_head
from mchmr_stream.network.observations import Observations, view_geometry
from mchmr_stream.network.paper_head import PaperFusion, PaperHead, ViewBodies, positional_encoding, views_info
from mchmr_stream.network.weights import load_network, save_network
from mchmr_stream.training.common.train_settings import read_yaml
from mchmr_stream.training.end_to_end.network_settings import Augmentation, picture_settings_from
from mchmr_stream.training.end_to_end.paper_losses import PUBLISHED_WEIGHTS
from mchmr_stream.training.frozen_encoder.head_trainer import new_head

CONFIGS = ROOT / "configs"
FEATURES, VIEWS = 24, 5


def paper_head(bodies: str = "per_view", fusion: str = "paper", views: int = VIEWS, seed: int = 0) -> PaperHead:
    torch.manual_seed(seed)
    head = PaperHead(
        FEATURES, views=views, fusion=fusion, bodies=bodies, token_dim=16, frequencies=4, relative_encoding=True, fusion_layers=1,
        fusion_heads=4, regressor_dim=32, dropout=0.5,
    )  # fmt: skip
    for layer in (head.decpose, head.decshape, head.deccam):
        torch.nn.init.normal_(layer.weight, std=0.1)  # a new head hardly leaves the mean body
    return head.eval()


def seen_by(views: int = VIEWS, people: int = 3) -> Observations:
    g = torch.Generator().manual_seed(1)
    base_px = torch.tensor([[40.0, -30.0, 350.0]]).expand(people, 3)
    views_px = base_px[:, None] + torch.randn(people, views, 3, generator=g) * 40
    return Observations(
        features=torch.randn(people, views, FEATURES, generator=g), landmarks=torch.zeros(people, views, 0, 3),
        world=torch.zeros(people, views, 0, 3), keypoints=torch.zeros(people, 17, 3), views=view_geometry(views_px, base_px),
        base_info=box_info(base_px[:, None], torch.full((people,), 900.0))[:, 0], has_image=torch.ones(people),
    )  # fmt: skip


def regress(head: PaperHead, seen: Observations) -> ViewBodies:
    return head.regress(seen.features, views_info(seen.views, seen.base_info))


@torch.inference_mode()
def test_the_shared_body_is_the_mean_of_the_views_bodies() -> None:
    """Three affine rounds: correcting one body by the mean is the mean of the bodies corrected one by one."""
    each, shared, seen = paper_head("per_view"), paper_head("shared"), seen_by()
    shared.load_state_dict(each.state_dict())
    by_view, one = regress(each, seen), regress(shared, seen)
    assert by_view.betas.std(1).mean() > 0.01, "views must disagree for this test to mean anything"
    assert torch.allclose(one.betas, by_view.betas.mean(1, keepdim=True).expand_as(one.betas), atol=1e-5)
    assert torch.allclose(one.views_cam.mean(1), by_view.views_cam.mean(1), atol=1e-5)
    assert one.views_cam.std(1).mean() > 0.01, "every view keeps its own camera"
    assert torch.equal(one.rotations, one.rotations[:, :1].expand_as(one.rotations))
    out = shared(seen)
    assert torch.equal(out.rotations, one.rotations[:, 0])
    assert torch.equal(out.views_cam, one.views_cam)


@torch.inference_mode()
def test_the_first_views_body_counts_as_in_the_authors_code() -> None:
    head, seen = paper_head("per_view"), seen_by()
    out, by_view = head(seen), regress(head, seen)
    assert torch.equal(out.rotations, by_view.rotations[:, 0])
    assert not torch.allclose(by_view.rotations[:, 0], by_view.rotations[:, 1], atol=1e-2)
    assert torch.allclose(out.embedding.norm(dim=-1), torch.ones(3, VIEWS), atol=1e-5)


@torch.inference_mode()
def test_one_view_without_fusion_is_read_alone_whatever_stands_beside_it() -> None:
    head, seen = paper_head("per_view", fusion="none", views=1), seen_by()
    together = regress(head, seen)
    alone = regress(head, seen._replace(features=seen.features[:, 2:3], views=seen.views[:, 2:3]))
    assert torch.allclose(together.betas[:, 2], alone.betas[:, 0], atol=1e-5)


@pytest.mark.parametrize("fusion", ["paper", "none", "self_attention", "concat"])
def test_every_fusion_gives_bodies_and_gradients_to_all_its_weights(fusion: str) -> None:
    head, seen = paper_head("shared", fusion).train(), seen_by()
    out = head(seen)
    identity = torch.eye(3).expand_as(out.rotations)
    assert torch.allclose(out.rotations @ out.rotations.transpose(-1, -2), identity, atol=1e-5)
    (out.rotations.sum() + out.betas.sum() + out.views_cam.sum() + out.embedding.square().sum() + out.embedding[..., 0].sum()).backward()
    assert all(each.grad is not None and torch.isfinite(each.grad).all() for each in head.parameters())


@torch.inference_mode()
def test_fusion_shares_sum_to_one_and_stay_within_what_the_last_tanh_allows() -> None:
    torch.manual_seed(3)
    fusion, seen = PaperFusion(FEATURES, 16, VIEWS, 4), seen_by()
    for layer in fusion.attention:
        if isinstance(layer, torch.nn.Linear):
            layer.weight *= 30  # drive the tanh to its ends
    shares = fusion.weights(seen.features, views_info(seen.views, seen.base_info))
    assert torch.allclose(shares.sum(-1), torch.ones(3, VIEWS))
    low, high = math.exp(-1) / (math.exp(-1) + 4 * math.e), math.e / (math.e + 4 * math.exp(-1))
    assert shares.min() > low - 1e-6
    assert shares.max() < high + 1e-6
    assert shares.max() > 0.5


@torch.inference_mode()
def test_fusion_without_relations_does_not_look_where_the_crops_lie() -> None:
    seen = seen_by()
    infos = views_info(seen.views, seen.base_info)
    for frequencies, same in ((4, False), (None, True)):
        torch.manual_seed(4)
        fusion = PaperFusion(FEATURES, 16, VIEWS, frequencies)
        assert torch.allclose(fusion(seen.features, infos), fusion(seen.features, infos * 2), atol=1e-6) is same


def test_views_information_is_the_box_information_of_the_views() -> None:
    focal = torch.tensor([800.0, 1500.0])
    base_px = torch.tensor([[100.0, -20.0, 300.0], [-400.0, 90.0, 120.0]])
    views_px = base_px[:, None] + torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(2)) * 30
    got = views_info(view_geometry(views_px, base_px), box_info(base_px[:, None], focal)[:, 0])
    assert torch.allclose(got, box_info(views_px, focal), atol=1e-5)


def test_positional_encoding_is_ordered_by_frequency_and_has_195_numbers_for_32() -> None:
    values = torch.tensor([[0.3, -0.7, 0.11]])
    assert positional_encoding(values, 32).shape == (1, 195)
    got = positional_encoding(values, 3)[0]
    want = [0.3, -0.7, 0.11]
    for k in range(3):
        want += [math.sin(2**k * math.pi * v) for v in (0.3, -0.7, 0.11)] + [math.cos(2**k * math.pi * v) for v in (0.3, -0.7, 0.11)]
    assert torch.allclose(got, torch.tensor(want), atol=1e-5)


@torch.inference_mode()
def test_a_new_head_says_an_upright_body_in_front_of_the_camera() -> None:
    torch.manual_seed(0)
    config = NetworkConfig(encoder="resnet50", head="paper", fusion="paper", frequencies=32)
    out = make_head(config, make_encoder("resnet50", pretrained=False)).eval()(seen_by()._replace(features=torch.zeros(3, VIEWS, 2048)))
    up = out.rotations[:, 0] @ torch.tensor([0.0, 1.0, 0.0])
    assert (up[:, 1] < -0.9).all(), "y of the body points up, of the camera down"
    assert (out.views_cam[..., 0] > 0.5).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head": "paper", "fusion": "crop_aware"}, "network fusion is 'crop_aware', expected with head paper one of paper, none"),
        ({"head": "paper", "fusion": "paper", "bodies": "two"}, "network bodies is 'two', expected one of shared, per_view"),
        ({"head": "paper", "fusion": "paper", "concat_views": 1}, "concat_views is 1"),
        ({"head": "papr"}, "network head is 'papr', expected one of tokens, paper"),
    ],
)
def test_settings_that_make_no_head_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_head(NetworkConfig(**change), make_encoder("blazepose_lite", pretrained=False))


def test_another_number_of_views_is_refused() -> None:
    with pytest.raises(UsageError, match="made for 5 views, got 3"):
        paper_head()(seen_by(3))


@pytest.mark.parametrize(("name", "inputs"), [("paper_resnet50", 2048), ("paper_hrnet_w48", 720)])
def test_paper_settings_build_the_published_network(name: str, inputs: int) -> None:
    path = CONFIGS / f"{name}.yaml"
    settings = picture_settings_from(read_yaml(path, "training settings"), path)
    config = settings.network_config()
    encoder = make_encoder(config.encoder, pretrained=False)
    assert encoder.input_hw == (256, 192)
    head = make_head(config, encoder)
    shapes = {key: tuple(value.shape) for key, value in head.state_dict().items()}
    assert shapes["fusion.0.fuse_fc.weight"] == (256, inputs + 195)
    assert shapes["fusion.0.attention.0.weight"] == (256, 1280)
    assert shapes["fusion.0.attention.4.weight"] == (5, 256)
    assert shapes["fc1.weight"] == (2048, inputs + 172)
    assert shapes["fc2.weight"] == (1024, 2048)
    assert shapes["decpose.weight"] == (144, 1024)
    assert asdict(settings.losses) == PUBLISHED_WEIGHTS
    assert settings.augmentation == Augmentation()
    with pytest.raises(UsageError, match="paper learns from pictures"):
        new_head(config)


# ---- encoders without landmarks in the whole network ----------------------------------------------------------------------


def network_inputs(people: int, views: int) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(5)
    crops = torch.randint(0, 256, (people, views, 3, 128, 96), dtype=torch.uint8, generator=g)
    views_px = torch.rand(people, views, 3, generator=g) * 100 + 200
    keypoints = torch.rand(people, 17, 3, generator=g) * 100
    keypoints[..., 2] = 0.8
    return crops, views_px, views_px[:, 0], torch.full((people,), 1000.0), keypoints


def test_our_head_reads_resnet_features_and_keeps_the_detectors_keypoints(tmp_path: Path) -> None:
    torch.manual_seed(6)
    net = MultiCropNet(NetworkConfig(encoder="resnet50", token_dim=32, trunk_dim=64, trunk_depth=1)).eval()
    inputs = network_inputs(2, 3)
    with torch.inference_mode():
        out = net(*inputs)
        other = net(255 - inputs[0], *inputs[1:])
    assert out.views_cam.shape == (2, 3, 3)
    assert not torch.allclose(out.betas, other.betas, atol=1e-6), "the picture must count"
    assert torch.allclose(out.landmarks_px[:, :17], inputs[4], atol=1e-3)
    assert torch.equal(out.landmarks_px[:, 17:, 2], torch.zeros(2, 10)), "it sees no hands and feet"
    assert torch.equal(out.presence, torch.full((2,), 0.5))

    save_network(tmp_path / "mine.safetensors", net, {}, half=False)
    loaded = load_network(str(tmp_path / "mine.safetensors"))
    with torch.inference_mode():
        assert torch.allclose(loaded.net(*inputs).betas, out.betas, atol=1e-6), "the encoder is in the file"


def test_gradients_reach_the_first_convolution_of_a_trained_encoder() -> None:
    torch.manual_seed(7)
    net = MultiCropNet(NetworkConfig(encoder="resnet50", head="paper", fusion="paper")).train()
    out = net(*network_inputs(2, 5))
    (out.rotations.square().sum() + out.betas.square().sum() + out.views_cam.sum()).backward()
    gradient = net.encoder.conv1.weight.grad
    assert gradient is not None
    assert gradient.abs().max() > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "hrnet_w48"])
def test_the_encoder_prepared_for_speed_sees_the_same(name: str) -> None:
    torch.manual_seed(8)
    encoder = make_encoder(name, pretrained=False)
    crops = torch.rand(5, 3, 256, 192)
    with torch.inference_mode():
        encoder.train()(crops[:, :, ::2, ::2])  # real means and variances, or activations explode
        want = encoder.eval()(crops)
        fast = optimise_for_inference(encoder, torch.device("cpu"), "fp32")
        got = fast(crops[:3])
    assert want.map8.shape == (5, encoder.map_channels, 8, 6)
    assert want.features.std(0).max() > 1e-3
    assert torch.allclose(got.features, want.features[:3], rtol=1e-3, atol=1e-4 * float(want.features.abs().max()))


def test_encoders_that_do_not_ship_say_where_weights_come_from() -> None:
    with pytest.raises(MissingPart, match="import-weights"):
        make_encoder("resnet50")


def test_six_numbers_of_the_rest_pose_are_a_rotation() -> None:
    pose = matrix_from_sixd(paper_head().init_pose.reshape(24, 6))
    assert torch.allclose(torch.linalg.det(pose), torch.ones(24))
