"""Keypoints of tracked people from crops of their own, at any size in the picture."""
