"""Small training from pictures: a tiny encoder replaces ResNet-50, and the pictures show the free body.

Run as a program it is `mchmr` with that encoder, for tests that start processes.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import skin
from mchmr_stream.geometry.camera import Intrinsics, project
from mchmr_stream.geometry.rotation import matrix_from_axis_angle
from mchmr_stream.network import encoders
from mchmr_stream.network.encoders import CropFeatures, Encoder
from mchmr_stream.rendering.shading import paint_bodies
from mchmr_stream.synthesis.samples import PersonLabel, SyntheticScene
from mchmr_stream.synthesis.shards import write_shard

WIDTH, HEIGHT = 256, 192


class TinyEncoder(Encoder):
    """Two convolutions with batch norms."""

    name = "resnet50"
    input_hw = (256, 192)
    feature_dim = map_channels = 16
    landmark_count = 0

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 8, 8, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 4, 4, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
        )

    def forward(self, crops: Tensor) -> CropFeatures:
        last = self.layers(crops * 4 - 2)
        nothing = last.new_zeros((len(last), 0, 5))
        return CropFeatures(last.mean((2, 3)), last, nothing, nothing[..., :3], last.new_zeros(0))


SETTINGS = {
    "people": 4, "steps": 6, "precision": "fp32", "vertex_step": 50, "learning_rate": 1e-3,
    "network": {
        "encoder": "resnet50", "head": "paper", "fusion": "paper", "bodies": "per_view", "concat_views": 3, "token_dim": 8,
        "frequencies": 32, "regressor_dim": 32, "dropout": 0.5,
    },
}  # fmt: skip


def write_people(folder: Path, count: int, seed: int = 0) -> Path:
    """A folder of one shard: pictures with one person each, standing in poses of their own."""
    generator = torch.Generator().manual_seed(seed)
    body = load_body("free")
    camera = Intrinsics.assumed(WIDTH, HEIGHT)
    folder.mkdir(parents=True, exist_ok=True)
    scenes = []
    for index in range(count):
        axis_angle = torch.randn(24, 3, generator=generator) * 0.25
        axis_angle[22:] = 0
        turned = torch.eye(3, dtype=torch.float64)
        turned[1, 1] = turned[2, 2] = -1
        rotations = torch.from_numpy(matrix_from_axis_angle(axis_angle.double().numpy()))
        rotations[0] = turned @ rotations[0]
        betas = torch.randn(1, 10, generator=generator) * 0.5
        transl = torch.tensor([[*(torch.rand(2, generator=generator) - 0.5), 4 + torch.rand(1, generator=generator)]])
        vertices, joints = skin(body, rotations[None].float(), betas, transl)
        rgb = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
        paint_bodies(rgb, vertices.numpy(), body.faces, camera, np.array([[0.8, 0.6, 0.5]], np.float32), opacity=1.0)
        jpeg = io.BytesIO()
        Image.fromarray(rgb).save(jpeg, "JPEG", quality=95)
        outline = project(vertices[0].numpy(), camera)
        joints_px = project(joints[0].numpy(), camera)
        person = PersonLabel(
            rotations=rotations.float().numpy(), betas=betas[0].numpy(), betas_exact=True, transl=transl[0].numpy(),
            joints_m=joints[0].numpy(), joints_px=joints_px.astype(np.float32), keypoints_px=np.zeros((17, 3), np.float32),
            box_xyxy_px=np.concatenate([outline.min(0), outline.max(0)]).astype(np.float32), visible_fraction=1.0, truncated_fraction=0.0,
            sex="female", skin_tone=0, outfit="", pose_clip="", pose_family="", mirrored=False,
        )  # fmt: skip
        scenes.append(SyntheticScene(index, jpeg.getvalue(), WIDTH, HEIGHT, camera, (person,), "", ""))
    write_shard(folder / "shard_0000.npz", scenes)
    return folder


if __name__ == "__main__":
    from mchmr_stream.cli import main

    torch.set_num_threads(1)
    encoders.BUILDERS["resnet50"] = TinyEncoder
    sys.exit(main())
