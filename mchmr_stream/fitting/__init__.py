"""The most probable body given the network's body and all keypoints: maximum a posteriori by Levenberg-Marquardt."""
