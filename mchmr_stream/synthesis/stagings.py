"""Named stagings of clips, in which people reliably cross, occlude each other, enter and leave.

A role gives a person's position at one moment and the kind of motion; identity, captured motion and exact position follow from the
clip's seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mchmr_stream.synthesis.captured_motion import CapturedMotion

Action = Literal["walks", "runs", "stands", "sits down"]

_PACE = 2.2
"""Largest speed-up of a walk that is played as a run, back and forth: captured runs end after a second."""
_TURN_S = 3.5
"""Time between every second turn."""
_SITTING_S = (0.4, 1.8, 3.0, 4.4)
"""Sitting down lasts from the first of these times to the second, getting up from the third to the fourth; repeated in longer clips."""
_SIT_STRETCH_S = 2.0
_SITS_M = 0.3
"""Least lowering of the pelvis when sitting down."""
_STAYS_M = 0.5
"""Largest distance from the start of a person who stands or sits."""


@dataclass(frozen=True)
class Role:
    """One person of a staging."""

    action: Action
    moment: float
    """share of the clip"""
    across: float
    """the pelvis's position then: -1 at the left border of the picture, 1 at the right one"""
    nearer_m: float
    """distance towards the camera from the middle of the stage"""
    heading: Literal["left", "right"] = "right"


STAGINGS: dict[str, tuple[Role, ...]] = {
    "crossing": (Role("walks", 0.5, 0.0, 0.45, "right"), Role("walks", 0.5, 0.0, -0.45, "left")),
    "hiding": (
        Role("stands", 0.5, -0.25, 0.6),
        Role("walks", 0.45, -0.25, -0.6, "right"),
        Role("stands", 0.5, 0.4, 0.4),
    ),
    "entering": (
        Role("walks", 0.25, -1.0, 0.3, "right"),
        Role("walks", 0.4, 1.0, -0.6, "left"),
        Role("walks", 0.7, 1.0, -1.4, "right"),
    ),
    "running": (Role("runs", 0.12, 0.0, 0.6, "right"), Role("stands", 0.5, -0.35, -0.3), Role("stands", 0.5, 0.4, -0.5)),
    "sitting": (Role("sits down", 0.5, -0.3, 0.2), Role("sits down", 0.5, 0.3, 0.0), Role("walks", 0.5, 0.0, -0.9, "left")),
    "crowd": (
        Role("walks", 0.4, -0.1, 0.5, "right"),
        Role("walks", 0.5, 0.1, -0.3, "left"),
        Role("walks", 0.6, 0.2, -1.1, "right"),
        Role("stands", 0.5, 0.3, -1.9),
    ),
}  # fmt: skip
"""By name. People in front come first: those behind are placed around them."""


def course_s(action: Action, fps: float, frames: int) -> np.ndarray:
    """Return the time (frames,) of the captured section that each frame shows."""
    times_s = np.arange(frames) / fps
    if action == "runs":
        return _PACE * _TURN_S / (2 * np.pi) * (1 - np.cos(2 * np.pi * times_s / _TURN_S))
    if action == "sits down":
        down, low, up, high = _SITTING_S
        ease = lambda start, end: np.clip((times_s % high - start) / (end - start), 0, 1)
        smooth = lambda share: share * share * (3 - 2 * share)
        return _SIT_STRETCH_S * (smooth(ease(down, low)) - smooth(ease(up, high)))
    return times_s


def fits(action: Action, motion: CapturedMotion, course: np.ndarray) -> bool:
    """Return whether a captured section, played with the times `course`, is what the role needs."""
    reach_m = float(np.linalg.norm(motion.path_m - motion.path_m[0], axis=-1).max())
    sinks_m = float(np.ptp(motion.joints_m[:, 0, 1]))
    if action in ("walks", "runs"):
        return reach_m >= 0.5 * float(np.ptp(course))
    if action == "sits down":
        return sinks_m >= _SITS_M and reach_m <= _STAYS_M
    return sinks_m <= _SITS_M / 2 and reach_m <= _STAYS_M
