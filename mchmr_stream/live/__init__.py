"""Cameras and streams in real time: several sources at once, and load shedding."""
