"""Keypoints of tracked people from a crop of each, at any size in the picture."""
