"""Frame and tracks in, the network's crops out."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mchmr_stream.cropping.base_box import base_boxes
from mchmr_stream.cropping.crop_layouts import Layout
from mchmr_stream.cropping.warp import load_kornia, shared_reductions, warp_crops
from mchmr_stream.datatypes import CropBatch, Float, Frame, Tracks
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.geometry.crops import image_from_crop_affine, rolled_from_image

_PEOPLE_AT_ONCE = {"cpu": 1, "cuda": 16}
"""More people are warped in several calls: it bounds the memory a crowd takes, and on a CPU the crops of one stay in its caches."""


class Cropper:
    """Cuts the V views of every person of a frame, on the device the network runs on. Keeps no state between frames."""

    def __init__(self, layout: Layout, upright: bool = True, device: torch.device | str = "cpu") -> None:
        """`upright` turns crops so that the trunk points up, where the layout knows keypoints (see `base_box`)."""
        self.layout = layout
        self.upright = upright
        self.device = torch.device(device)
        self._groups = shared_reductions(layout.views[:, 2].tolist())
        load_kornia()

    def crop(self, frame: Frame, tracks: Tracks, intrinsics: Intrinsics) -> CropBatch:
        """The crops of everyone in `tracks`, and where they lie; an empty batch when nobody is there.

        Keypoints that were not detected get the base box's centre and score 0, never NaN.
        """
        base_px, roll_rad = base_boxes(tracks, intrinsics, self.layout, self.upright, (frame.width, frame.height))
        crops, views_px = self.cut(frame.rgb, base_px, roll_rad, intrinsics)
        return CropBatch(
            crops=crops,
            views_px=views_px,
            base_px=base_px,
            keypoints_px=_keypoints_in_rolled_plane(_best_keypoints(tracks), base_px, roll_rad, intrinsics),
            focal_px=np.full(len(tracks), intrinsics.fx, np.float32),
            roll_rad=roll_rad,
        )

    def cut(self, rgb: NDArray[np.uint8], base_px: Float, roll_rad: Float, intrinsics: Intrinsics) -> tuple[Tensor, Float]:
        """The views of base boxes (n, 3) in planes rolled by (n,): crops (n, V, 3, height, width) uint8 and where they lie, (n, V, 3)."""
        views_px = self.layout.views_px(base_px)
        image_from_crop = image_from_crop_affine(views_px, roll_rad, intrinsics, self.layout.crop_hw)
        at_once = _PEOPLE_AT_ONCE.get(self.device.type, 16)
        chunks = [
            warp_crops(rgb, image_from_crop[start : start + at_once], self.layout.crop_hw, self._groups, self.device)
            for start in range(0, len(base_px), at_once)
        ]
        if len(chunks) == 1:
            return chunks[0], views_px
        empty = torch.zeros((0, self.layout.count, *self.layout.crop_hw, 3), dtype=torch.uint8, device=self.device)
        return torch.cat([empty, *(chunk.movedim(2, -1) for chunk in chunks)]).movedim(-1, 2), views_px


def _best_keypoints(tracks: Tracks) -> Float:
    """Where the detector saw nothing of somebody, what the network saw a frame ago: better evidence than none."""
    return np.where(tracks.observed[:, None, None], tracks.keypoints_px, tracks.landmarks_px).astype(np.float32)


def _keypoints_in_rolled_plane(keypoints_px: Float, base_px: Float, roll_rad: Float, intrinsics: Intrinsics) -> Float:
    positions = rolled_from_image(keypoints_px[..., :2].astype(np.float64), intrinsics, roll_rad.astype(np.float64))
    known = np.isfinite(keypoints_px).all(-1, keepdims=True)
    positions = np.where(known, positions, base_px[:, None, :2])
    scores = np.where(known, keypoints_px[..., 2:], 0)
    return np.concatenate([positions, scores], -1).astype(np.float32)
