"""Run the network in this process, on the CPU or a GPU."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from mchmr_stream.datatypes import LANDMARK_NAMES, CropBatch, CropEstimates, EstimatorInfo
from mchmr_stream.errors import UsageError
from mchmr_stream.estimators.base import SynchronousEstimator
from mchmr_stream.network.encoders import optimise_for_inference
from mchmr_stream.network.mesh_network import finish, observe, presence_logits
from mchmr_stream.network.weights import load_network


class LocalEstimator(SynchronousEstimator):
    """The network in this process.

    Args:
        weights: Name of shipped weights, or a .safetensors file.
        device: Where it computes.
        precision: Of the encoder; bf16 is for CPUs, fp16 for CUDA. The head always computes in fp32.
        views: Number of crops per person, for which the encoder is optimised.

    Raises:
        UsageError: The weights were made for another number of views.
    """

    def __init__(
        self, weights: str, device: torch.device, precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto", views: int = 5
    ) -> None:
        loaded = load_network(weights)
        fixed = loaded.net.config.fixed_views
        if fixed not in (None, views):
            raise UsageError(f"the weights {loaded.name} were made for {fixed} views, got {views}; set crops.views={fixed}")
        self.info = EstimatorInfo(
            loaded.name,
            loaded.sha256,
            loaded.net.encoder.input_hw,
            fixed_views=fixed,
            body_sha256=loaded.provenance.get("body_sha256"),
            trained_on_smpl=loaded.provenance.get("body") == "smpl",
        )
        self._device = device
        self._head = loaded.net.head.to(device)
        self._encoder = optimise_for_inference(loaded.net.encoder, device, precision, crops_at_once=views)

    @torch.inference_mode()
    def estimate(self, batch: CropBatch) -> CropEstimates:
        """Run encoder and head on a batch."""
        n, count = batch.crops.shape[:2]
        if n == 0:
            zero = lambda *shape: np.zeros(shape, np.float32)
            return CropEstimates(zero(0, 24, 3, 3), zero(0, 10), zero(0, count, 3), zero(0), zero(0), zero(0, len(LANDMARK_NAMES), 3))
        to_device = lambda array: torch.as_tensor(array, dtype=torch.float32, device=self._device)
        views_px, base_px, focal_px = to_device(batch.views_px), to_device(batch.base_px), to_device(batch.focal_px)
        encoded = self._encoder(batch.crops.to(self._device).flatten(0, 1).float() / 255)
        seen = observe(encoded, n, count, views_px, base_px, focal_px, to_device(batch.keypoints_px))
        out = finish(self._head(seen), seen, presence_logits(encoded, n, count), views_px, base_px, focal_px)
        return CropEstimates(*(value.float().cpu().numpy() for value in out))
