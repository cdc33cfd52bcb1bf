"""Rendered people as observed by detector, keypoint network and encoder: the training data of the head."""
