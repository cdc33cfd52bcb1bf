"""Evidence against an estimated world, person by person, and the warnings that follow from it.

The method assumes a camera that stands still and a single floor. Each warning names the assumption that is violated, as far as the
people show it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

_STEADY_M_S = 0.15
"""Most of the time, the slower sole of a person who stands or walks moves less than this across the line of sight."""
_LEAST_S = 1.0
"""Feet that are visible for a shorter time are no evidence about the camera."""
_UNSURE_DEG = 5.0
_FEW_STEPS = 4
_SAME_FLOOR_M = 0.3
_DISTANCE_ERROR = 0.15
"""Relative error of a person's distance; it lifts their floor by this share of the camera's height over it."""
_UP_ERROR = 0.09
"""Error of the trunks' "up", radians; it lifts the floor by this share of the distance between two people."""
_TILTED_DEG = 12.0
_OFF = 0.05
"""Median over time of the distance from the person in the picture, as a share of the box."""
_OFTEN_OFF = 0.25
"""95th percentile over time, as a share of the box."""


@dataclass(frozen=True)
class WorldEvidence:
    """Evidence of one person about the world."""

    track_id: int
    steps: int
    height_m: float | None
    """height of the resting soles over the camera, along the trunks: before the floor is fitted, which tilts so that all stand on it"""
    pelvis_m: tuple[float, float, float]
    """of the pelvis in camera axes, median"""
    seen_s: float
    """how long a foot was visible"""
    sole_m_s: float
    """median speed of the slower sole across the line of sight; NaN where no foot was visible"""
    off_share: float
    """distance of the world's projected joints from those in the picture, median as a share of the box"""
    often_off_share: float
    """the same, 95th percentile"""
    off_px: float

    def as_info(self) -> dict[str, Any]:
        """Plain values for `world_info`."""
        return {
            "track_id": self.track_id,
            "steps": self.steps,
            "standing_over_camera_m": None if self.height_m is None else round(self.height_m, 3),
            "standing_soles_m_s": None if math.isnan(self.sole_m_s) else round(self.sole_m_s, 3),
            "moved_share_of_box": round(self.off_share, 4),
        }


def steadiest_m_s(people: Sequence[WorldEvidence]) -> float:
    """Speed of the soles of the person with the slowest feet.

    Before a standing camera, a person who walks nearly always has one foot on the floor. A moving camera moves the feet of all people.

    Args:
        people: Evidence of all people.

    Returns:
        Metres per second; NaN if no person's feet were visible for long.
    """
    long_seen = [person for person in people if person.seen_s >= _LEAST_S] or list(people)
    return min((person.sole_m_s for person in long_seen if not math.isnan(person.sole_m_s)), default=float("nan"))


def warnings_of(people: Sequence[WorldEvidence], tilt_deg: float, up_sd_deg: float) -> list[str]:
    """Describe each violated assumption.

    Args:
        people: Evidence of all people.
        tilt_deg: Angle between floor normal and trunks.
        up_sd_deg: Standard deviation of the up direction.

    Returns:
        One line per warning.
    """
    steps = sum(person.steps for person in people)
    found = [_floors(people) or _tilt(tilt_deg), _camera(people), _out_of_place(people)]
    if up_sd_deg > _UNSURE_DEG or steps < _FEW_STEPS:
        found.append(f"gravity and floor rest on {steps} steps only ({up_sd_deg:.1f} degrees at best): take them as a guess")
    return [text for text in found if text is not None]


def _camera(people: Sequence[WorldEvidence]) -> str | None:
    speed = steadiest_m_s(people)
    if not speed > _STEADY_M_S:
        return None
    return (
        f"everybody's feet, which should stand in turns, move at {speed:.2f} m/s across the picture: the camera seems to move, or nobody "
        "stands or walks; the world is then wrong"
    )


def _floors(people: Sequence[WorldEvidence]) -> str | None:
    standing = sorted((person for person in people if person.height_m is not None), key=_height_m)
    apart = [pair for pair in combinations(standing, 2) if _height_m(pair[1]) - _height_m(pair[0]) > _tolerance_m(*pair)]
    if not apart:
        return None
    involved = sorted({person.track_id: person for pair in apart for person in pair}.values(), key=_height_m)
    heights = ", ".join(
        f"person {person.track_id} {abs(_height_m(person)):.1f} m {'under' if _height_m(person) < 0 else 'over'} the camera"
        for person in involved
    )
    # A wrong distance moves a person along the line of sight: feet below the camera stay below it.
    certain = _height_m(involved[0]) < 0 < _height_m(involved[-1])
    cause = "several floors (a box, stairs, a balcony)" if certain else "several floors, or somebody at a wrong distance"
    return f"people stand at different heights ({heights}): {cause}; the world has one floor, so bodies are wrong in it"


def _height_m(person: WorldEvidence) -> float:
    return 0.0 if person.height_m is None else person.height_m


def _tolerance_m(one: WorldEvidence, other: WorldEvidence) -> float:
    """Largest height difference that usual errors explain on a single floor."""
    farther = max(abs(_height_m(one)), abs(_height_m(other)))
    return _SAME_FLOOR_M + _DISTANCE_ERROR * farther + _UP_ERROR * math.dist(one.pelvis_m, other.pelvis_m)


def _tilt(tilt_deg: float) -> str | None:
    if tilt_deg <= _TILTED_DEG:
        return None
    return (
        f"the floor that fits all steps is tilted by {tilt_deg:.0f} degrees against the trunks of the people: they stand on several "
        "floors, stairs or a slope, or they lean; the world is then wrong"
    )


def _out_of_place(people: Sequence[WorldEvidence]) -> str | None:
    off = [person for person in people if person.off_share > _OFF or person.often_off_share > _OFTEN_OFF]
    if not off:
        return None
    how_far = ", ".join(
        f"person {person.track_id} by {person.off_px:.0f} px ({100 * person.off_share:.0f} % of the box, at times "
        f"{100 * person.often_off_share:.0f} %)"
        for person in off
    )
    return f"bodies of the world do not lie over the people in the picture: {how_far}; do not use these in the world"
