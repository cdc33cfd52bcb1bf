"""Cuts between shots: found, not invented, and nobody keeps an identity over one."""

from __future__ import annotations

import numpy as np
from usual_tracker import people_tracker

from mchmr_stream.datatypes import Detections
from mchmr_stream.tracking import SceneCuts


def shot(seed: int, shift_px: int = 0) -> np.ndarray:
    """A picture of blocks of few colours, (180, 320, 3); `shift_px` pans it."""
    rng = np.random.default_rng(seed)
    blocks = rng.choice(rng.integers(0, 256, (4, 3)), size=(12, 40))
    return np.ascontiguousarray(np.kron(blocks, np.ones((15, 16, 1)))[:, shift_px : shift_px + 320].astype(np.uint8))


def found(pictures: list[np.ndarray]) -> list[int]:
    cuts = SceneCuts()
    return [i for i, picture in enumerate(pictures) if cuts.begins_with(picture)]


def test_a_cut_is_found_where_it_is():
    rng = np.random.default_rng(0)
    noisy = lambda picture: np.clip(picture + rng.normal(0, 5, picture.shape), 0, 255).astype(np.uint8)
    pictures = [noisy(shot(seed)) for seed in (1, 2, 3) for _ in range(10)]
    assert found(pictures) == [10, 20]


def test_a_pan_and_a_change_of_light_are_no_cuts():
    assert found([shot(1, 8 * i) for i in range(30)]) == []
    assert found([np.clip(shot(1) * (0.7 + 0.02 * i), 0, 255).astype(np.uint8) for i in range(20)]) == []


def test_somebody_in_the_same_place_after_a_cut_is_somebody_else():
    boxes = Detections.from_boxes(np.array([[100, 50, 160, 230]], np.float32), np.array([0.9], np.float32))
    tracker = people_tracker()
    before = [tracker.update(boxes, i / 25).track_id.tolist() for i in range(5)]
    tracker.end_scene()
    after = [tracker.update(boxes, i / 25).track_id.tolist() for i in range(5, 10)]
    assert before == [[1]] * 5
    assert after == [[2]] * 5


def test_a_cut_to_a_scene_of_the_same_colours_is_found_by_its_shapes():
    other = np.ascontiguousarray(np.roll(shot(1)[::-1], 90, axis=0)[:, ::-1])
    assert np.array_equal(np.unique(other), np.unique(shot(1)))
    assert found([*[shot(1)] * 10, *[other] * 10]) == [10]


def test_a_camera_swung_round_at_once_is_no_cut():
    assert found([*[shot(1)] * 10, *[shot(1, 40 * i) for i in range(1, 9)]]) == []
