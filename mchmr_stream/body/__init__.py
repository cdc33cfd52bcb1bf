"""The SMPL-format body: files, model, joints, shape, builds, and the positions of keypoints on it."""
