"""Where a report says that a person's bodies are in doubt."""

from __future__ import annotations

import numpy as np
import pytest

from mchmr_stream.datatypes import Bodies
from mchmr_stream.sinks.people_summary import PersonSeen

FPS = 25.0


def bodies_of(frame: int, confidence: float, keypoints: int, filled: bool) -> Bodies:
    n = 1
    keypoints_px = np.zeros((n, 17, 3), np.float32)
    keypoints_px[:, :keypoints, 2] = 0.9
    return Bodies(
        frame=frame,
        time_s=frame / FPS,
        track_id=np.ones(n, np.int64),
        boxes_xyxy_px=np.zeros((n, 4), np.float32),
        scores=np.ones(n, np.float32),
        keypoints_px=keypoints_px,
        global_orient=np.zeros((n, 3, 3), np.float32),
        body_pose=np.zeros((n, 23, 3, 3), np.float32),
        betas=np.zeros((n, 10), np.float32),
        transl=np.zeros((n, 3), np.float32),
        views_cam=np.zeros((n, 1, 3), np.float32),
        confidence=np.full(n, confidence, np.float32),
        interpolated=np.full(n, filled),
    )


def seen(rows: dict[int, tuple[float, int, bool]], frames: int = 100) -> PersonSeen:
    """A person who is seen well but in the given frames."""
    person = PersonSeen()
    for frame in range(frames):
        person.add(bodies_of(frame, *rows.get(frame, (0.67, 17, False))), 0)
    return person


def test_stretches_say_from_when_to_when_and_why() -> None:
    unsure = dict.fromkeys(range(10, 30), (0.3, 17, False))
    hidden = {frame: (0.6, 4, frame > 65) for frame in range(60, 71)}
    summary = seen(unsure | hidden).summary()
    assert summary["doubtful"] == [
        {"from_s": 0.4, "to_s": pytest.approx(1.16), "why": ["low confidence"]},
        {"from_s": 2.4, "to_s": 2.8, "why": ["mostly hidden", "filled in"]},
    ]
    assert (summary["rows"], summary["interpolated_rows"], summary["first_time_s"], summary["last_time_s"]) == (100, 5, 0.0, 3.96)
    assert summary["mean_confidence"] == pytest.approx((69 * 0.67 + 20 * 0.3 + 11 * 0.6) / 100, abs=1e-3)


def test_moments_are_left_out_and_near_ones_are_one() -> None:
    assert seen({40: (0.2, 17, False)}).summary()["doubtful"] == []
    blinking = dict.fromkeys(range(20, 60, 10), (0.2, 17, False))
    assert [(one["from_s"], one["to_s"]) for one in seen(blinking).summary()["doubtful"]] == [(0.8, 2.0)]


def test_a_single_picture_may_be_in_doubt() -> None:
    assert seen({0: (0.2, 17, False)}, frames=1).summary()["doubtful"] == [{"from_s": 0.0, "to_s": 0.0, "why": ["low confidence"]}]
    assert seen({0: (float("nan"), 17, False)}, frames=1).summary()["doubtful"][0]["why"] == ["low confidence"]


def test_a_second_pass_has_the_last_word() -> None:
    person = seen(dict.fromkeys(range(100), (0.3, 17, True)))
    for frame in range(100):
        person.replace(bodies_of(frame, 0.7, 17, False), 0)
    person.replace(bodies_of(500, 0.1, 0, True), 0)
    summary = person.summary()
    assert (summary["doubtful"], summary["interpolated_rows"], summary["rows"]) == ([], 0, 100)
    assert summary["mean_confidence"] == pytest.approx(0.7, abs=1e-4)
