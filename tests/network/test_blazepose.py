"""Crop encoders: the published numbers, the laws of their coordinates, the fast forms against the plain one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from places import DATA, ROOT
from torch import Tensor, nn

from mchmr_stream.errors import InputError, MissingPart, UsageError
from mchmr_stream.network.encoders import CropFeatures, Encoder, inference, make_encoder, optimise_for_inference
from mchmr_stream.network.landmarks import BLAZEPOSE_MIRROR, BLAZEPOSE_NAMES

CPU = torch.device("cpu")
VARIANTS = ("blazepose_lite", "blazepose_full")
HALF_PX = 128
"""Crop coordinates to pixels of the 256 x 256 crop."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def crops() -> Tensor:
    """(4, 3, 256, 256): four people in two videos."""
    with np.load(DATA / "person_crops.npz", allow_pickle=False) as file:
        small = torch.from_numpy(file["rgb"]).permute(0, 3, 1, 2).float() / 255
    return F.interpolate(small, (256, 256), mode="bilinear", align_corners=False)


@pytest.fixture(scope="module", params=VARIANTS)
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return make_encoder(request.param)


@torch.inference_mode()
def look(encoder: Callable[[Tensor], CropFeatures], crops: Tensor) -> CropFeatures:
    return encoder(crops)


def body_px(seen: CropFeatures) -> Tensor:
    """(B, 33, 2) landmarks of the body in crop pixels from the centre."""
    return seen.landmarks[:, :33, :2] * HALF_PX


def test_outputs_are_those_of_the_published_graph(encoder: Encoder, crops: Tensor) -> None:
    seen = look(encoder, crops)
    with np.load(DATA / f"{encoder.name}_reference.npz", allow_pickle=False) as file:
        landmarks, world = file["landmarks_px"].reshape(-1, 39, 5), file["world_m"].reshape(-1, 39, 3)
        presence = file["presence"][:, 0]
    np.testing.assert_allclose(seen.landmarks[..., :2] * HALF_PX + HALF_PX, landmarks[..., :2], atol=0.01)
    np.testing.assert_allclose(seen.landmarks[..., 2] * HALF_PX, landmarks[..., 2], atol=0.02)
    np.testing.assert_allclose(seen.landmarks[..., 3:], landmarks[..., 3:], atol=1e-3)
    np.testing.assert_allclose(seen.world, world, atol=1e-4)
    np.testing.assert_allclose(seen.presence.sigmoid(), presence, atol=1e-4)


def test_shapes_are_as_announced(encoder: Encoder, crops: Tensor) -> None:
    seen = look(encoder, crops[:2])
    assert crops.shape[-2:] == encoder.input_hw
    assert seen.features.shape == (2, encoder.feature_dim)
    assert seen.map8.shape == (2, encoder.map_channels, 8, 8)
    assert seen.landmarks.shape == (2, encoder.landmark_count, 5)
    assert seen.world.shape == (2, encoder.landmark_count, 3)
    assert seen.presence.shape == (2,)


def test_presence_tells_people_from_noise(encoder: Encoder, crops: Tensor) -> None:
    noise = torch.rand(3, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    assert (look(encoder, crops).presence.sigmoid() > 0.9).all()
    assert (look(encoder, noise).presence.sigmoid() < 0.1).all()


def test_a_mirrored_crop_gives_mirrored_landmarks(encoder: Encoder, crops: Tensor) -> None:
    """Left and right of the names are the person's own, and zero is at the crop's centre."""
    seen, mirrored = look(encoder, crops), look(encoder, crops.flip(-1))
    swap = list(BLAZEPOSE_MIRROR)
    off_px = body_px(mirrored)[:, swap] * torch.tensor([-1.0, 1.0]) - body_px(seen)
    off_m = mirrored.world[:, swap] * torch.tensor([-1.0, 1.0, 1.0]) - seen.world[:, :33]
    assert off_px.norm(dim=-1).median() < 4
    assert off_px[..., 0].median().abs() < 1.5
    assert off_m.norm(dim=-1).median() < 0.06
    unswapped = body_px(mirrored) * torch.tensor([-1.0, 1.0]) - body_px(seen)
    assert unswapped.norm(dim=-1).median() > 8


def test_landmarks_move_with_the_crop(encoder: Encoder, crops: Tensor) -> None:
    shift_px = 10
    moved = F.pad(crops, (shift_px, -shift_px, shift_px, -shift_px), mode="replicate")
    step = body_px(look(encoder, moved)) - body_px(look(encoder, crops))
    assert (step.flatten(0, 1).median(dim=0).values - shift_px).abs().max() < 1.5


def test_heads_stand_above_feet_and_hips_are_the_origin(encoder: Encoder, crops: Tensor) -> None:
    world = look(encoder, crops).world
    at = {name: world[:, index] for index, name in enumerate(BLAZEPOSE_NAMES)}
    assert (at["left_ankle"][:, 1] - at["nose"][:, 1] > 1.0).all()  # y points down
    assert ((at["left_hip"] + at["right_hip"]) / 2).norm(dim=-1).max() < 0.02
    assert (at["left_knee"] - at["left_ankle"]).norm(dim=-1).sub(0.4).abs().max() < 0.12


def test_fused_form_agrees(crops: Tensor) -> None:
    encoder = make_encoder("blazepose_full")
    plain, fused = look(encoder, crops), optimise_for_inference(encoder, CPU, "fp32")(crops)
    assert isinstance(fused, CropFeatures)
    assert (body_px(fused) - body_px(plain)).abs().max() < 0.01
    for ours, theirs in zip(fused, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", VARIANTS)
def test_bf16_form_agrees_where_plain_rounding_does_not(name: str, crops: Tensor) -> None:
    encoder, rounded = make_encoder(name), make_encoder(name)
    for part in rounded.reduced_parts:
        rounded.get_submodule(part).to(torch.bfloat16)
    rounded.reduced_dtype = torch.bfloat16
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    plain, fast = look(encoder, crops), optimise_for_inference(encoder, CPU, "bf16", crops_at_once=4)(crops)
    error_px = lambda seen: (body_px(seen) - body_px(plain)).norm(dim=-1).mean()
    assert error_px(fast) < 0.5
    assert error_px(fast) < 0.6 * error_px(look(rounded, crops))
    assert (fast.world - plain.world)[:, :33].norm(dim=-1).mean() < 0.005
    assert (fast.presence > 2).all()
    assert all(value.dtype == torch.float32 for value in fast)
    after = encoder.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items()), "the encoder itself was changed"


def test_any_number_of_crops_in_passes_of_three(crops: Tensor) -> None:
    encoder = make_encoder("blazepose_lite")
    fast = optimise_for_inference(encoder, CPU, "fp32", crops_at_once=3)
    crops = torch.cat([crops, crops.flip(0)])
    plain = look(encoder, crops)
    for count in (0, 1, 4, 6, 8):  # six go through at once
        seen = fast(crops[:count])
        for ours, theirs in zip(seen, plain, strict=True):
            torch.testing.assert_close(ours, theirs[:count], rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_export_with_a_free_batch(crops: Tensor) -> None:
    encoder = make_encoder("blazepose_lite")
    program = torch.export.export(encoder, (crops[:2],), dynamic_shapes={"crops": {0: torch.export.Dim("batch", min=1, max=64)}})
    torch.testing.assert_close(look(program.module(), crops[:3]).landmarks, look(encoder, crops[:3]).landmarks, rtol=1e-4, atol=1e-4)


class FeaturesOnly(Encoder):
    """What a ResNet will be: no landmarks, its own crop size."""

    name, input_hw, feature_dim, map_channels, landmark_count = "features_only", (64, 48), 8, 8, 0

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 32, stride=32)

    def forward(self, crops: Tensor) -> CropFeatures:
        map8 = self.convolution(crops)
        none = crops.new_zeros(crops.shape[0], 0, 5)
        return CropFeatures(map8.mean(dim=(2, 3)), map8, none, none[..., :3], crops.new_zeros(0))


def test_an_encoder_without_landmarks_fits_the_contract() -> None:
    encoder = FeaturesOnly().eval()
    crops = torch.rand(7, 3, 64, 48)
    plain, fast = look(encoder, crops), optimise_for_inference(encoder, CPU, "fp32", crops_at_once=2)(crops)
    torch.testing.assert_close(fast.features, plain.features)
    assert fast.landmarks.shape == (7, 0, 5)
    assert fast.world.shape == (7, 0, 3)
    assert fast.presence.shape == (0,)


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean blazepose_full"):
        make_encoder("blazepose_ful")
    with pytest.raises(UsageError, match="expected auto, fp32"):
        optimise_for_inference(FeaturesOnly(), CPU, "int8")
    with pytest.raises(UsageError, match="fp16 is not for cpu; use auto or fp32"):
        optimise_for_inference(FeaturesOnly(), CPU, "fp16")
    with pytest.raises(UsageError, match="crops_at_once is 0"):
        optimise_for_inference(FeaturesOnly(), CPU, "fp32", crops_at_once=0)


def test_auto_is_bf16_only_where_the_cpu_multiplies_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for able, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(inference, "cpu_multiplies_bf16", lambda able=able: able)
        assert inference.fastest_precision(CPU) == expected


def test_weights_that_are_missing_damaged_or_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingPart, match="tools/convert_blazepose.py"):
        make_encoder("blazepose_heavy")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"\xff" * 100)
    with pytest.raises(InputError, match="cannot read encoder weights"):
        make_encoder("blazepose_full", damaged)
    lite = ROOT / "mchmr_stream" / "assets" / "blazepose_lite.safetensors"
    with pytest.raises(InputError, match=r"do not fit blazepose_full: .* is \(.*\), expected \("):
        make_encoder("blazepose_full", lite)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_fp16_on_cuda_agrees(crops: Tensor) -> None:
    encoder = make_encoder("blazepose_full")
    plain, fast = look(encoder, crops), optimise_for_inference(encoder, torch.device("cuda"), "fp16")(crops)
    assert (body_px(fast).cpu() - body_px(plain)).norm(dim=-1).mean() < 0.5
    assert (fast.world.cpu() - plain.world)[:, :33].norm(dim=-1).mean() < 0.005
