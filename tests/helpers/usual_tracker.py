"""Trackers with the settings of a run."""

from __future__ import annotations

from typing import Any

from mchmr_stream.config import TrackerSettings
from mchmr_stream.tracking.tracker import PeopleTracker


def people_tracker(**changes: Any) -> PeopleTracker:
    """With the usual settings but `changes`. Everybody whom the detector finds is a person: there are no crops to say otherwise."""
    usual = TrackerSettings().model_dump(exclude={"scene_cuts", "appearance"})
    return PeopleTracker(**usual | {"min_keypoint_score": 0.0} | changes)
