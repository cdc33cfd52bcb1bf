"""Rendered people as detector, keypoint network and encoder observe them: the training data of the head."""
