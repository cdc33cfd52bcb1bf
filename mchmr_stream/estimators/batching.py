"""Several batches of crops as one, and what comes of it apart again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import torch

from mchmr_stream.datatypes import CropBatch, CropEstimates


def concat_batches(batches: Sequence[CropBatch]) -> CropBatch:
    """The people of several batches of equally many views, one after the other."""
    if len(batches) == 1:
        return batches[0]
    # Joined as they lie in memory, colours last: `cat` alone would give planes, which the network would turn back.
    crops = torch.cat([batch.crops.movedim(2, -1) for batch in batches]).movedim(-1, 2)
    rest = [np.concatenate([getattr(batch, field.name) for batch in batches]) for field in fields(CropBatch)[1:]]
    return CropBatch(crops, *rest)


def split_estimates(estimates: CropEstimates, counts: Sequence[int]) -> list[CropEstimates]:
    """Undo `concat_batches` on what came of it."""
    ends = np.cumsum(counts)[:-1]
    columns = [np.split(getattr(estimates, field.name), ends) for field in fields(CropEstimates)]
    return [CropEstimates(*rows) for rows in zip(*columns, strict=True)]
