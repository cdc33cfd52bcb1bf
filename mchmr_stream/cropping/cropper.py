"""Crops of the tracked people of a frame, as input of the network."""

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
"""More people are warped in several calls: this bounds the memory for crowds, and on a CPU the crops of one person fit its caches."""


class Cropper:
    """Cuts the V views of each person of a frame, on the device of the network. It keeps no state between frames."""

    def __init__(self, layout: Layout, upright: bool = True, device: torch.device | str = "cpu") -> None:
        """Prepare a layout.

        Args:
            layout: The views.
            upright: Rotate crops so that the trunk points up, for layouts with the rule `keypoints` (see `base_box`).
            device: Device on which crops are cut.
        """
        self.layout = layout
        self.upright = upright
        self.device = torch.device(device)
        self._groups = shared_reductions(layout.views[:, 2].tolist())
        load_kornia()

    def crop(self, frame: Frame, tracks: Tracks, intrinsics: Intrinsics) -> CropBatch:
        """Cut the crops of all people.

        Args:
            frame: The picture.
            tracks: n people, possibly none.
            intrinsics: Camera of the picture.

        Returns:
            The crops and their positions. Undetected keypoints get the base box's centre and score 0, never NaN.
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
        """Cut the views of base boxes.

        Args:
            rgb: (H, W, 3) picture.
            base_px: (n, 3) base boxes in each person's rolled plane.
            roll_rad: (n,) rolls of these planes.
            intrinsics: Camera of the picture.

        Returns:
            Crops (n, V, 3, height, width) uint8 and their views (n, V, 3).
        """
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
    """Detected keypoints, or for undetected people the network's landmarks of the previous frame."""
    return np.where(tracks.observed[:, None, None], tracks.keypoints_px, tracks.landmarks_px).astype(np.float32)


def _keypoints_in_rolled_plane(keypoints_px: Float, base_px: Float, roll_rad: Float, intrinsics: Intrinsics) -> Float:
    positions = rolled_from_image(keypoints_px[..., :2].astype(np.float64), intrinsics, roll_rad.astype(np.float64))
    known = np.isfinite(keypoints_px).all(-1, keepdims=True)
    positions = np.where(known, positions, base_px[:, None, :2])
    scores = np.where(known, keypoints_px[..., 2:], 0)
    return np.concatenate([positions, scores], -1).astype(np.float32)
