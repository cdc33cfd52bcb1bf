"""The batch of one training step, of rendered people or of people sampled without pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from mchmr_stream.geometry.camera import box_info
from mchmr_stream.network.observations import Observations


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """A batch of n people, in each person's rolled camera. Lengths in metres, pixels in the rolled plane."""

    seen: Observations
    views_px: Tensor
    """(n, V, 3)"""
    base_px: Tensor
    """(n, 3)"""
    focal_px: Tensor
    """(n,) true"""
    assumed_focal_px: Tensor
    """(n,) assumed where the camera is unknown"""
    rotations: Tensor
    """(n, 24, 3, 3)"""
    betas: Tensor
    """(n, 10)"""
    joints_m: Tensor
    """(n, 24, 3) relative to the pelvis"""
    vertices_m: Tensor
    """(n, v, 3) relative to the pelvis, a fixed subset"""
    pelvis_m: Tensor
    """(n, 3) in the rolled camera"""

    def __len__(self) -> int:
        return len(self.base_px)

    def rows(self, index: Tensor) -> TrainingBatch:
        """Select some of the people."""
        return self._each(lambda value: value[index])

    def choose_views(self, index: Sequence[int]) -> TrainingBatch:
        """Select some of the views, in any order."""
        pick = torch.tensor(index, device=self.base_px.device)
        seen = self.seen._replace(
            features=self.seen.features[:, pick],
            landmarks=self.seen.landmarks[:, pick],
            world=self.seen.world[:, pick],
            views=self.seen.views[:, pick],
        )
        return _replaced(self, seen=seen, views_px=self.views_px[:, pick])

    def with_focal(self, focal_px: Tensor) -> tuple[TrainingBatch, Tensor]:
        """Return the same people as observed under the focal length `focal_px`, and that focal length."""
        info = box_info(self.base_px[:, None], focal_px)[:, 0]
        return _replaced(self, seen=self.seen._replace(base_info=info)), focal_px

    def to(self, device: torch.device) -> TrainingBatch:
        return self._each(lambda value: value.to(device))

    def _each(self, change) -> TrainingBatch:  # type: ignore[no-untyped-def]
        seen = Observations(*(change(value) for value in self.seen))
        return TrainingBatch(seen, *(change(getattr(self, field.name)) for field in fields(self) if field.name != "seen"))

    @staticmethod
    def joined(batches: Sequence[TrainingBatch], feature_dim: int) -> TrainingBatch:
        """Concatenate batches. A batch without pictures has no features; it gets zeros."""
        padded = [
            batch.seen._replace(features=torch.nn.functional.pad(batch.seen.features, (0, feature_dim - batch.seen.features.shape[-1])))
            for batch in batches
        ]
        seen = Observations(*(torch.cat(values) for values in zip(*padded, strict=True)))
        names = [field.name for field in fields(TrainingBatch) if field.name != "seen"]
        return TrainingBatch(seen, *(torch.cat([getattr(batch, name) for batch in batches]) for name in names))


def _replaced(batch: TrainingBatch, **changes: object) -> TrainingBatch:
    values = {field.name: getattr(batch, field.name) for field in fields(batch)} | changes
    return TrainingBatch(**values)
