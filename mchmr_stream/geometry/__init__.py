"""Rotations, cameras, boxes and meshes: pure functions, numpy or torch, no state."""
