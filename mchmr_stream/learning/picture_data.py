"""Who is shown in which step of a training run from pictures, and how: all of it follows from the seed and the number of the draw.

So a run goes on where it stopped with nothing but its step, draws do not depend on how many processes share them, and
pictures may be read by any number of workers.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from mchmr_stream.cropping.cropper import Cropper
from mchmr_stream.cropping.layouts import Layout
from mchmr_stream.errors import InputError
from mchmr_stream.learning.datasets.labels import BodyKind, LabelReader
from mchmr_stream.learning.picture_settings import Augmentation
from mchmr_stream.learning.pictures import AS_LABELLED, CutPeople, cut_person, draw_shown

log = logging.getLogger(__name__)

_TRIES = 20
"""Pictures in a row that cannot be read before a run gives up."""


class People(Protocol):
    """An endless stream of people: one data set, or a mixture of several."""

    def at(self, place: int) -> tuple[LabelReader, int]:
        """Who stands there: a reader and a person in it. Always the same for the same place."""
        ...


class OneDataset:
    """Everybody of one data set, alike often."""

    def __init__(self, reader: LabelReader, seed: int) -> None:
        self._reader, self._seed = reader, seed

    def at(self, place: int) -> tuple[LabelReader, int]:
        return self._reader, int(np.random.default_rng([self._seed, 1, place]).integers(len(self._reader)))


class Draws(Dataset[CutPeople]):
    """Draw number k of a run, for every k."""

    def __init__(self, people: People, layout: Layout, augmentation: Augmentation, body: BodyKind, seed: int) -> None:
        self._people, self._augmentation, self._body, self._seed = people, augmentation, body, seed
        self._cropper = Cropper(layout)

    def __getitem__(self, number: int) -> CutPeople:
        """Raises InputError when one picture after the other cannot be read; single ones are passed over with a warning."""
        for attempt in range(_TRIES):
            reader, index = self._people.at(number + attempt)
            shown = draw_shown(self._augmentation, np.random.default_rng([self._seed, 0, number]))
            try:
                return cut_person(reader.label(index), reader.image(index), self._cropper, shown, self._body)
            except InputError as error:
                if attempt == _TRIES - 1:
                    raise
                log.warning("passed over: %s", error)
        raise AssertionError


def batches(draws: Draws, step: int, accumulate: int, people: int, rows: Sequence[int], workers: int, pin: bool) -> Iterator[CutPeople]:
    """The batches from a step on, `accumulate` for each step; of the `people` of each only the `rows`. Never ends."""
    first = step * accumulate
    sampler = ([number * people + row for row in rows] for number in itertools.count(first))
    loader = DataLoader(
        draws, batch_sampler=sampler, collate_fn=CutPeople.joined, num_workers=workers, pin_memory=pin,
        generator=torch.Generator(),  # its own: the loader draws a seed that nothing here uses
    )  # fmt: skip
    return iter(loader)


def batches_as_labelled(reader: LabelReader, layout: Layout, body: BodyKind, most: int, people: int) -> Iterator[CutPeople]:
    """At most so many people, evenly spread over the data set, as labelled, so many at once."""
    cropper = Cropper(layout)
    chosen = torch.linspace(0, len(reader) - 1, min(most, len(reader))).long().unique().split(people)
    for rows in chosen:
        yield CutPeople.joined([cut_person(reader.label(i), reader.image(i), cropper, AS_LABELLED, body) for i in rows.tolist()])
