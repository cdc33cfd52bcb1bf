"""The SMPL-format body: files, model, joints, shape, builds, and where keypoints are on it."""
