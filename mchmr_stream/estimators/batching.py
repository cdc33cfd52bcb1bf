"""Concatenate batches of crops, and split the network's result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import torch

from mchmr_stream.datatypes import CropBatch, CropEstimates


def concat_batches(batches: Sequence[CropBatch]) -> CropBatch:
    """Concatenate the people of several batches with equally many views."""
    if len(batches) == 1:
        return batches[0]
    # Concatenated in memory order, colours last: `cat` alone would give planes, which the network would convert back.
    crops = torch.cat([batch.crops.movedim(2, -1) for batch in batches]).movedim(-1, 2)
    rest = [np.concatenate([getattr(batch, field.name) for batch in batches]) for field in fields(CropBatch)[1:]]
    return CropBatch(crops, *rest)


def split_estimates(estimates: CropEstimates, counts: Sequence[int]) -> list[CropEstimates]:
    """Split estimates of concatenated batches of `counts` people each."""
    ends = np.cumsum(counts)[:-1]
    columns = [np.split(getattr(estimates, field.name), ends) for field in fields(CropEstimates)]
    return [CropEstimates(*rows) for rows in zip(*columns, strict=True)]
