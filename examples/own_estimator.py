"""Your own network in place of the one that ships.

    python examples/own_estimator.py clip.mp4

An estimator gets a `CropBatch` (V crops of each person) and returns `CropEstimates` (one SMPL body and V cameras per person).
This network is untrained: it gives everyone a standing body, which the fit then moves onto the keypoints. The network that ships is
not loaded.
"""

from __future__ import annotations

import sys
from contextlib import closing

import torch
from torch import nn

import mchmr_stream

STANDING = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
"""Root rotation of somebody who faces the camera: SMPL's y is up, the camera's is down."""


class TinyNet(nn.Module):
    """(n, V, 3, 256, 256) in [0, 1] -> joint rotations (n, 24, 3, 3), betas (n, 10) and camera scale (n,)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(3 * 16 * 16, 64), nn.ReLU())
        self.head = nn.Linear(64, 24 * 9 + 10 + 1)
        nn.init.zeros_(self.head.weight)  # in place of training
        nn.init.zeros_(self.head.bias)

    def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        n, views = crops.shape[:2]
        seen = self.encoder(crops.flatten(0, 1)).reshape(n, views, -1).mean(1)
        turns, betas, scale = self.head(seen).split([24 * 9, 10, 1], dim=1)
        turns = turns.reshape(n, 24, 3, 3)
        rotations = torch.linalg.matrix_exp(turns - turns.mT)  # of a skew-symmetric matrix: always a rotation
        return torch.cat([STANDING @ rotations[:, :1], rotations[:, 1:]], 1), betas, scale[:, 0].exp()


class TinyEstimator(mchmr_stream.SynchronousEstimator):
    """Batch in, bodies out. The base class turns `estimate` into what the pipeline calls."""

    name = "tiny"
    weights_sha256 = "untrained"  # written into the npz, so that files say what they were made with
    crop_size_hw = (256, 256)

    def __init__(self) -> None:
        self._net = TinyNet().eval()

    @torch.inference_mode()
    def estimate(self, batch: mchmr_stream.CropBatch) -> mchmr_stream.CropEstimates:
        n = len(batch)
        rotations, betas, scale = self._net(batch.crops.float() / 255)
        # One camera for the person, about the middle of the base box, said again in the coordinates of each view.
        base, view = torch.from_numpy(batch.base_px)[:, None], torch.from_numpy(batch.views_px)
        scales = scale[:, None] * base[..., 2] / view[..., 2]
        shifts = (base[..., :2] - view[..., :2]) * 2 / (view[..., 2] * scales)[..., None]
        return mchmr_stream.CropEstimates(
            rotations=rotations.numpy(),
            betas=betas.numpy(),
            views_cam=torch.cat([scales[..., None], shifts], -1).numpy(),
            confidence=torch.full((n,), 0.5).numpy(),
            presence=torch.ones(n).numpy(),
            landmarks_px=torch.zeros(n, 27, 3).numpy(),  # visibility 0: it sees no landmarks of its own
        )


def main(video: str) -> None:
    settings = mchmr_stream.load_settings(overrides=["crops.views=2"])
    with closing(mchmr_stream.Pipeline(settings, estimator=TinyEstimator())) as pipeline:
        print("network", pipeline.components.estimator.info.name)
        for scene in mchmr_stream.stream(video, pipeline=pipeline):
            for track_id, joints_m in zip(scene.bodies.track_id, scene.joints_m, strict=True):
                print(f"{scene.frame.time_s:6.2f} s  person {track_id}  pelvis {joints_m[0, 2]:.2f} m away")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
