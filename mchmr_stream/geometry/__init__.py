"""Rotations and cameras: pure functions, numpy or torch, no state."""
