"""People who walk along known paths, and a detector that errs: truth for trackers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from mchmr_stream.datatypes import Detections
from mchmr_stream.geometry.boxes import box_iou

# A standing person in a box of width 0.4 and height 1 whose centre is the origin; COCO's order.
STANDING = np.array([
    [0, -0.42], [0.02, -0.44], [-0.02, -0.44], [0.04, -0.43], [-0.04, -0.43], [0.1, -0.3], [-0.1, -0.3], [0.14, -0.12], [-0.14, -0.12],
    [0.16, 0.04], [-0.16, 0.04], [0.06, 0], [-0.06, 0], [0.07, 0.24], [-0.07, 0.24], [0.07, 0.45], [-0.07, 0.45],
])  # fmt: skip


HALF_BOX = np.array([0.2, 0.5])


Path = Callable[[float], tuple[float, float]]


@dataclass
class Person:
    """Walks along `centre_px(t)`, swings arms and legs, is in the picture from `enters_s` to `leaves_s` and hidden in `hidden_s`."""

    centre_px: Path
    height_px: float = 200.0
    enters_s: float = 0.0
    leaves_s: float = math.inf
    hidden_s: Sequence[tuple[float, float]] = field(default_factory=tuple)
    score: float = 0.9
    phase: float = 0.0

    def seen(self, t: float) -> bool:
        return self.enters_s <= t < self.leaves_s and not any(a <= t < b for a, b in self.hidden_s)

    def keypoints(self, t: float) -> np.ndarray:
        swing = 0.06 * np.sin(2 * np.pi * 1.0 * t + self.phase) * np.array([0] * 9 + [1, -1, 0, 0, -0.5, 0.5, -1, 1])
        points = (STANDING + np.stack([swing, 0 * swing], -1)) * self.height_px + self.centre_px(t)
        return np.concatenate([points, np.full((17, 1), 0.8)], -1)

    def box(self, t: float) -> np.ndarray:
        centre = np.array(self.centre_px(t))
        return np.concatenate([centre - HALF_BOX * self.height_px, centre + HALF_BOX * self.height_px])


def look(
    people: Sequence[Person], t: float, rng: np.random.Generator, miss: float = 0.0, noise: float = 0.01
) -> tuple[Detections, list[int]]:
    """What a detector makes of them, in random order, and who is who. The earlier in the list hides the later behind them."""
    there = [i for i in range(len(people)) if people[i].seen(t)]
    covered = [any(box_iou(people[i].box(t)[None], people[j].box(t)[None]) > 0.6 for j in there if j < i) for i in there]
    who = [i for i, hidden in zip(there, covered, strict=True) if not hidden and rng.random() >= miss]
    rng.shuffle(who)
    boxes = np.array([people[i].box(t) + rng.normal(size=4) * noise * people[i].height_px for i in who]).reshape(-1, 4)
    keypoints = np.array([people[i].keypoints(t) for i in who]).reshape(-1, 17, 3)
    keypoints[..., :2] += rng.normal(size=keypoints[..., :2].shape) * noise * np.array([people[i].height_px for i in who]).reshape(-1, 1, 1)
    scores = np.array([people[i].score for i in who])
    return Detections(boxes.astype(np.float32), scores.astype(np.float32), keypoints.astype(np.float32)), who


def times(fps: float, seconds: float) -> np.ndarray:
    return np.arange(round(fps * seconds) + 1) / fps


def straight(x: float, y: float, vx: float = 0.0, vy: float = 0.0) -> Path:
    return lambda t: (x + vx * t, y + vy * t)
