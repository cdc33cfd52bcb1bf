"""Cameras and streams: several sources side by side, and load shedding."""
