from dataclasses import fields

import numpy as np
import torch

from mchmr_stream.datatypes import CropBatch, CropEstimates


def batch_of(people: int, seed: int) -> CropBatch:
    random = np.random.default_rng(seed)
    crops = torch.from_numpy(random.integers(0, 255, (people, 2, 4, 4, 3), np.uint8)).movedim(-1, 2)
    rest = [random.random((people, *shape), np.float32) for shape in ((2, 3), (3,), (17, 3), (), ())]
    return CropBatch(crops, *rest)


def estimates_of(people: int, seed: int) -> CropEstimates:
    random = np.random.default_rng(seed)
    return CropEstimates(*(random.random((people, *shape), np.float32) for shape in ((24, 3, 3), (10,), (2, 3), (), (), (27, 3))))


def equal(first, second) -> bool:
    return all(np.array_equal(getattr(first, field.name), getattr(second, field.name)) for field in fields(first))


def test_batches_joined_have_all_people_in_order_and_colours_last():
    parts = [batch_of(2, 0), batch_of(0, 1), batch_of(3, 2)]
    whole = CropBatch.concat(parts)
    assert len(whole) == 5
    assert equal(whole.only([0, 1]), parts[0])
    assert equal(whole.only([2, 3, 4]), parts[2])
    for crops in (whole.crops, whole.only([4, 4, 0]).crops):
        assert crops.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_splitting_estimates_undoes_joining_them():
    parts = [estimates_of(2, 0), estimates_of(0, 1), estimates_of(3, 2)]
    assert all(map(equal, CropEstimates.concat(parts).split([2, 0, 3]), parts))
