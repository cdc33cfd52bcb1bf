"""Tracking: identities of people over time."""

from mchmr_stream.tracking.scene_cuts import SceneCuts
from mchmr_stream.tracking.tracker import PeopleTracker

__all__ = ["PeopleTracker", "SceneCuts"]
