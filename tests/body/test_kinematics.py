import numpy as np
import torch
from scipy.spatial.transform import Rotation

from mchmr_stream.body.files import load_body
from mchmr_stream.body.kinematics import global_rotations, joints_around_pelvis, rest_joints
from mchmr_stream.body.model import forward_kinematics


def test_numpy_and_torch_pose_the_same_skeleton():
    body = load_body("free", dtype=torch.float64)
    rotations = Rotation.random(5 * 24, random_state=0).as_matrix().reshape(5, 24, 3, 3)
    betas = np.tile(np.random.default_rng(0).normal(size=10), (5, 1))
    joints, outer = forward_kinematics(body, torch.from_numpy(rotations), torch.from_numpy(betas))
    np.testing.assert_allclose(global_rotations(rotations), outer, atol=1e-12)
    expected = joints.numpy() - joints.numpy()[:, :1]
    for rest in (rest_joints(body, betas), rest_joints(body, betas[0])):  # a shape of each body, and one of all
        np.testing.assert_allclose(joints_around_pelvis(rest, outer.numpy()), expected, atol=1e-9)
