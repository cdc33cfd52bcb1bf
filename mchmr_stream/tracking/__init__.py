"""Who is who over time."""

from mchmr_stream.tracking.tracker import PeopleTracker

__all__ = ["PeopleTracker"]
