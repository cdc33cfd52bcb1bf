"""The network's head: any number of views, in any order, with the same weights; sides and cameras as promised."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mchmr_stream.errors import InputError, MissingPart, UsageError
from mchmr_stream.fitting.noise_constants import load_calibration
from mchmr_stream.geometry.camera import box_info, full_from_local
from mchmr_stream.network.fusion import FUSIONS, ConcatFusion, CropAwareFusion, SelfAttentionFusion, fourier, relative_boxes
from mchmr_stream.network.heads import CameraDecoder
from mchmr_stream.network.landmarks import BLAZEPOSE_MIRROR, COCO_FROM_BLAZEPOSE
from mchmr_stream.network.mesh_network import MultiCropHead, MultiCropNet, NetworkConfig
from mchmr_stream.network.observations import Observations, agree_on_sides, base_from_unit, points_to_base, view_geometry
from mchmr_stream.network.weights import find_weights, load_network, save_network

CONFIG = NetworkConfig(encoder="blazepose_lite", token_dim=32, fusion_layers=2, trunk_dim=64, trunk_depth=1, feature_dropout=0.0)


@pytest.fixture(scope="module")
def head() -> MultiCropHead:
    torch.manual_seed(0)
    return MultiCropHead(CONFIG, 48, 33).eval()


def observations(n: int = 3, views: int = 5, *, has_image: bool = True) -> Observations:
    g = torch.Generator().manual_seed(1)
    base_px = torch.tensor([[100.0, -50.0, 400.0]]).expand(n, 3)
    focal_px = torch.full((n,), 1500.0)
    views_px = base_px[:, None] * torch.tensor([1.0, 1.0, 1.0]) + torch.randn(n, views, 3, generator=g) * 20
    return Observations(
        features=torch.randn(n, views, 48, generator=g),
        landmarks=torch.rand(n, views, 33, 3, generator=g) - torch.tensor([0.5, 0.5, 0.0]),
        world=torch.randn(n, views, 33, 3, generator=g) * 0.3,
        keypoints=torch.rand(n, 17, 3, generator=g) - torch.tensor([0.5, 0.5, 0.0]),
        views=view_geometry(views_px, base_px),
        base_info=box_info(base_px[:, None], focal_px)[:, 0],
        has_image=torch.full((n,), float(has_image)),
    )


def reordered(seen: Observations, order: list[int]) -> Observations:
    return seen._replace(
        features=seen.features[:, order], landmarks=seen.landmarks[:, order], world=seen.world[:, order], views=seen.views[:, order]
    )


@pytest.mark.parametrize("views", range(1, 10))
def test_one_set_of_weights_takes_any_number_of_views(head, views):
    out = head(observations(views=views))
    assert out.rotations.shape == (3, 24, 3, 3)
    assert out.views_cam.shape == (3, views, 3)
    identity = torch.eye(3).expand(3, 24, 3, 3)
    assert torch.allclose(out.rotations @ out.rotations.transpose(-1, -2), identity, atol=1e-5)
    assert (out.views_cam[..., 0] > 0).all()


def test_the_body_does_not_depend_on_the_order_of_the_views_and_cameras_follow_it(head):
    seen, order = observations(), [3, 0, 4, 1, 2]
    out, other = head(seen), head(reordered(seen, order))
    assert torch.allclose(out.rotations, other.rotations, atol=1e-5)
    assert torch.allclose(out.betas, other.betas, atol=1e-5)
    assert torch.allclose(out.views_cam[:, order], other.views_cam, atol=1e-5)


def test_people_of_one_batch_do_not_see_each_other(head):
    seen = observations(n=4)
    alone = head(Observations(*(value[2:3] for value in seen)))
    assert torch.allclose(head(seen).rotations[2:3], alone.rotations, atol=1e-5)


def test_samples_without_pictures_ignore_features_and_training_computes_the_same(head):
    seen = observations(has_image=False)
    assert torch.allclose(head(seen).betas, head(seen._replace(features=seen.features + 5)).betas)
    mixed = observations()._replace(has_image=torch.tensor([1.0, 0.0, 1.0]))
    evaluated = head(mixed)
    head.train()
    trained = head(mixed)
    head.eval()
    assert torch.allclose(evaluated.rotations, trained.rotations, atol=1e-5)


def test_fusion_equals_the_slow_obvious_sum_over_tokens():
    torch.manual_seed(2)
    layer = CropAwareFusion(16, heads=2, frequencies=3)
    x, views = torch.randn(2, 4, 16), torch.rand(2, 4, 3) + 0.5
    fused, weights = layer.fuse(x, views)
    relation = fourier(relative_boxes(views), 3)
    query, key, value = layer.query(x), layer.key(x), layer.value(x)
    for n in range(2):
        for i in range(4):
            parts = []
            for h in range(2):
                span = slice(8 * h, 8 * h + 8)
                keys = [key[n, j, span] + layer.key_from_relation[h] @ relation[n, i, j] for j in range(4)]
                values = [value[n, j, span] + layer.value_from_relation[h] @ relation[n, i, j] for j in range(4)]
                share = torch.stack([query[n, i, span] @ k / 8**0.5 for k in keys]).softmax(0)
                assert torch.allclose(weights[n, h, i], share, atol=1e-5)
                parts.append(sum(s * v for s, v in zip(share, values, strict=True)))
            assert torch.allclose(fused[n, i], layer.out(torch.cat(parts)), atol=1e-5)


def test_concatenation_equals_the_slow_obvious_mlp_over_tokens_and_relations():
    torch.manual_seed(7)
    layer = ConcatFusion(16, views=3, frequencies=2)
    x, views = torch.randn(2, 3, 16), torch.rand(2, 3, 3) + 0.5
    relation = fourier(relative_boxes(views), 2)
    # In the module all features come first and then all relations; an MLP does not mind the order.
    weight = torch.cat([layer.from_features.weight, layer.from_relations.weight], 1)
    for n in range(2):
        for i in range(3):
            tokens = torch.cat([layer.norm(x[n]).flatten(), relation[n, i].flatten()])
            expected = x[n, i] + layer.out(weight @ tokens + layer.from_features.bias)
            assert torch.allclose(layer(x, views)[n, i], expected, atol=1e-5)


def test_plain_attention_is_crop_aware_fusion_without_relations():
    torch.manual_seed(8)
    ours, plain = CropAwareFusion(16, heads=2, frequencies=None), SelfAttentionFusion(16, heads=2)
    parts = [getattr(ours, name) for name in ("query", "key", "value")]
    plain.attention.in_proj_weight.data = torch.cat([part.weight.data for part in parts])
    plain.attention.in_proj_bias.data = torch.cat([part.bias.data for part in parts])
    plain.attention.out_proj.load_state_dict(ours.out.state_dict())
    plain.feed_forward.load_state_dict(ours.feed_forward.state_dict())
    x, views = torch.randn(2, 4, 16), torch.rand(2, 4, 3) + 0.5
    assert torch.allclose(ours(x, views), plain(x, views), atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("relative", [True, False])
def test_every_fusion_joins_the_views_and_only_those_that_are_told_mind_where_they_lie(fusion, relative):
    torch.manual_seed(9)
    head = MultiCropHead(replace(CONFIG, fusion=fusion, relative_encoding=relative, concat_views=4), 48, 33).eval()
    tokens, views = torch.randn(2, 4, 32), torch.rand(2, 4, 3) + 0.5

    def fuse(views: torch.Tensor) -> torch.Tensor:
        fused = tokens
        for layer in head.fusion:
            fused = layer(fused, views)
        return fused

    told = relative and fusion in ("crop_aware", "concat")
    assert torch.equal(fuse(views), fuse(views + torch.tensor([0.3, 0.2, 0.1]) * torch.rand(2, 4, 3))) != told
    assert head(observations(views=4)).rotations.shape == (3, 24, 3, 3)
    if fusion == "concat":
        with pytest.raises(UsageError, match="made for 4 views, got 3"):
            head(observations(views=3))
    else:
        assert head(observations(views=2)).views_cam.shape == (3, 2, 3)


def test_an_unknown_fusion_is_named():
    with pytest.raises(UsageError, match="'sum', expected one of crop_aware, self_attention, concat, mean"):
        MultiCropHead(replace(CONFIG, fusion="sum"), 48, 33)


def test_weights_from_before_fusions_could_be_chosen_say_what_they_said(tmp_path):
    shipped = find_weights("default")
    with safe_open(shipped, "pt") as file:
        header = file.metadata()
    config = json.loads(header["config"])
    told = {"fusion": "crop_aware", "relative_encoding": True, "concat_views": 5}
    for name, values in (("old", {k: v for k, v in config.items() if k not in told}), ("new", config | told)):
        save_file(load_file(shipped), tmp_path / f"{name}.safetensors", header | {"config": json.dumps(values)})
    heads = [load_network(str(tmp_path / f"{name}.safetensors")).net.head for name in ("old", "new")]
    seen = observations()._replace(features=torch.zeros(3, 5, heads[0].feature_dim))
    for one, other in zip(heads[0](seen), heads[1](seen), strict=True):
        assert torch.equal(one, other)
    # Fused as before there was a choice: by layers with these parameters, in this order.
    layers = [CropAwareFusion(config["token_dim"], config["fusion_heads"], config["frequencies"]) for _ in range(config["fusion_layers"])]
    for number, layer in enumerate(layers):
        layer.load_state_dict(
            {k.removeprefix(f"fusion.{number}."): v for k, v in heads[0].state_dict().items() if k.startswith(f"fusion.{number}.")}
        )
    tokens = torch.randn(2, 5, config["token_dim"])
    fused = again = tokens
    for layer, loaded in zip(layers, heads[0].fusion, strict=True):
        fused, again = layer(fused, seen.views[:2]), loaded(again, seen.views[:2])
    assert torch.equal(fused, again)


def test_relative_boxes_do_not_change_when_the_person_moves_or_grows():
    views = torch.rand(2, 5, 3) + 0.5
    moved = views * 3 + torch.tensor([7.0, -2.0, 0.0])
    assert torch.allclose(relative_boxes(views), relative_boxes(moved), atol=1e-5)


def test_untrained_local_cameras_already_describe_nearly_one_full_camera():
    """The decoder starts from what the place of a crop implies: with equal features all views say the same."""
    torch.manual_seed(3)
    decoder = CameraDecoder(16)
    base_px, focal = torch.tensor([[30.0, 40.0, 500.0]]), torch.tensor([1400.0])
    views = torch.tensor([[[0.0, 0, 1.2], [0.1, 0, 1.5], [0, -0.1, 0.85]]])
    views_px = torch.cat([base_px[:, None, :2] + views[..., :2] * base_px[:, None, 2:], views[..., 2:] * base_px[:, None, 2:]], -1)
    cameras = decoder(torch.randn(1, 1, 16).expand(1, 3, 16), torch.randn(1, 16), views)
    transl = full_from_local(cameras, views_px, focal)
    assert torch.allclose(transl, transl[:, :1].expand_as(transl), rtol=1e-4)


def test_points_of_a_crop_land_where_they_are_in_the_plane():
    base_px = torch.tensor([[120.0, 80.0, 300.0]])
    views_px = torch.tensor([[[150.0, 80.0, 450.0]]])
    unit = torch.tensor([[[[-1.0, -1.0], [0.5, 0.0]]]])
    plane = views_px[:, :, None, :2] + unit * 225
    expected = points_to_base(torch.cat([plane[:, 0], torch.ones(1, 2, 1)], -1), base_px)[..., :2]
    assert torch.allclose(base_from_unit(unit, view_geometry(views_px, base_px))[:, 0], expected)


def test_sides_that_contradict_the_detector_are_swapped_and_others_left():
    g = torch.Generator().manual_seed(4)
    landmarks, world = torch.rand(1, 2, 33, 3, generator=g), torch.randn(1, 2, 33, 3, generator=g)
    landmarks[:, 1] = landmarks[:, 0]
    keypoints = landmarks[:, 0, list(COCO_FROM_BLAZEPOSE)].clone()
    keypoints[..., 2] = 0.9
    landmarks[:, 1] = landmarks[:, 1, list(BLAZEPOSE_MIRROR)]
    fixed, fixed_world, swapped = agree_on_sides(landmarks, world, keypoints)
    assert swapped.tolist() == [[False, True]]
    assert torch.equal(fixed[:, 0], fixed[:, 1])
    assert torch.equal(fixed_world[:, 1, :, 2], -world[:, 1, list(BLAZEPOSE_MIRROR), 2])
    keypoints[..., 2] = 0
    assert not agree_on_sides(landmarks, world, keypoints)[2].any()


def test_weights_survive_a_round_trip_and_say_what_they_are(tmp_path):
    torch.manual_seed(5)
    net = MultiCropNet(CONFIG).eval()
    save_network(tmp_path / "mine.safetensors", net, {"made": "by a test"}, half=False)
    loaded = load_network(str(tmp_path / "mine.safetensors"))
    assert loaded.name == "mine"
    assert loaded.provenance == {"made": "by a test"}
    assert len(loaded.sha256) == 64
    crops = torch.randint(0, 256, (1, 3, 3, 256, 256), dtype=torch.uint8)
    views_px = torch.tensor([[[0.0, 0, 240], [20, 0, 300], [0, 20, 200]]])
    inputs = (crops, views_px, torch.tensor([[0.0, 0, 200]]), torch.tensor([1000.0]), torch.zeros(1, 17, 3))
    with torch.inference_mode():
        for got, want in zip(loaded.net(*inputs), net(*inputs), strict=True):
            assert torch.allclose(got, want, atol=1e-5)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_weights_are_readable_for_those_whom_the_umask_admits(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        save_network(tmp_path / "new.safetensors", MultiCropNet(CONFIG), {})
        load_calibration().save(tmp_path / "calibration.safetensors")
        save_network(tmp_path / "new.safetensors", MultiCropNet(CONFIG), {})
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == dict.fromkeys(
        ("new.safetensors", "calibration.safetensors"), mode
    )


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_whole_network_can_be_traced(fusion):
    torch.manual_seed(6)
    net = MultiCropNet(replace(CONFIG, fusion=fusion, concat_views=3)).eval()
    inputs = lambda n, views: (
        torch.randint(0, 256, (n, views, 3, 256, 256), dtype=torch.uint8),
        torch.rand(n, views, 3) * 100 + 200,
        torch.rand(n, 3) * 100 + 200,
        torch.full((n,), 1000.0),
        torch.rand(n, 17, 3) * 100,
    )
    with torch.inference_mode():
        example = inputs(2, 3)
        traced = torch.jit.trace(net, example, check_trace=False)
        for got, want in zip(traced(*example), net(*example), strict=True):
            assert torch.allclose(got, want, atol=1e-4)


def test_weights_that_are_not_there_or_something_else_are_named(tmp_path):
    with pytest.raises(MissingPart, match="nowhere"):
        load_network(str(tmp_path / "nowhere.safetensors"))
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(InputError, match="cannot read"):
        load_network(str(tmp_path / "text.safetensors"))
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="no network configuration"):
        load_network(str(tmp_path / "other.safetensors"))


def test_array_and_tensor_cameras_agree():
    cameras, views_px, focal = np.random.rand(2, 5, 3) + 0.5, np.random.rand(2, 5, 3) * 300 + 50, np.array([900.0, 1200.0])
    torch_result = full_from_local(torch.from_numpy(cameras), torch.from_numpy(views_px), torch.from_numpy(focal))
    assert np.allclose(full_from_local(cameras, views_px, focal), torch_result.numpy())
