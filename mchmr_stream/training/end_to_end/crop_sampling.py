"""Who is shown in which step of a training run from pictures, and how: all of it follows from the seed and the number of the draw.

So a run goes on where it stopped with nothing but its step, draws do not depend on how many processes share them, and
pictures may be read by any number of workers.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from mchmr_stream.cropping.crop_layouts import Layout
from mchmr_stream.cropping.cropper import Cropper
from mchmr_stream.datasets.checking import check_set, require_sound
from mchmr_stream.datasets.labels import BodyKind, LabelReader
from mchmr_stream.datasets.mixture import BLOCK, Mixture
from mchmr_stream.datasets.opening import label_files, open_set, sets_in
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.training.end_to_end.labelled_crops import AS_LABELLED, CutPeople, cut_person, draw_shown
from mchmr_stream.training.end_to_end.network_settings import Augmentation
from mchmr_stream.training.rendered_people import SyntheticReader

log = logging.getLogger(__name__)

_TRIES = 20
"""Pictures in a row that cannot be read before a run gives up."""


SYNTHETIC = "synthetic"
"""What rendered people are called among data sets."""


class MixedPeople:
    """An endless stream of people out of one data set or several, see `datasets.mixture`."""

    def __init__(self, readers: Mapping[str, LabelReader], shares: Mapping[str, float] | None, seed: int) -> None:
        """`shares` by name; None: everybody alike often. Raises UsageError for shares that make no sense."""
        self._readers = dict(readers)
        self._mixture = Mixture({name: len(reader) for name, reader in readers.items()}, shares, seed)

    def at(self, place: int) -> tuple[LabelReader, int]:
        """Who stands there: a reader and a person in it. Always the same for the same place."""
        name, person = self._mixture.at(place)
        return self._readers[name], person

    def lines(self) -> list[str]:
        """What is mixed, for people."""
        sizes = zip(self._mixture.names, self._mixture.sizes, self._mixture.quotas, strict=True)
        return [f"{name}: {size} people, {quota / BLOCK:.1%} of what is shown".replace("%", " %") for name, size, quota in sizes]


def open_people(
    shares: Mapping[str, float], seed: int, shards: Sequence[Path], sets: Path | None, *, unchecked: bool = False
) -> MixedPeople:
    """Rendered people in `shards` and the data sets in the folder `sets` that have a share; without shares, all there is.

    Data sets are checked first (`datasets.checking`); one that fails is refused with MchmrError, unless `unchecked`.
    Raises UsageError where there is nobody or a share has no data, InputError for data that cannot be read.
    """
    wanted = set(shares) if shares else {SYNTHETIC, *(sets_in(sets) if sets is not None else ())}
    readers: dict[str, LabelReader] = {}
    if shards and SYNTHETIC in wanted:
        readers[SYNTHETIC] = SyntheticReader(shards, SYNTHETIC)
    if sets is not None:
        reports = [check_set(sets, name, "train") for name in sorted(wanted - {SYNTHETIC}) if label_files(sets / name, "train")]
        require_sound(reports, force=unchecked)
        checked = {report.name: report.reader for report in reports}
        readers |= {name: checked.get(name) or open_set(sets, name, "train") for name in sorted(wanted - {SYNTHETIC})}
    if not readers:
        raise UsageError("training from pictures needs rendered people (--shards) or data sets (--sets); docs/training.md has the commands")
    return MixedPeople(readers, shares or None, seed)


class Draws(Dataset[CutPeople]):
    """Draw number k of a run, for every k."""

    def __init__(self, people: MixedPeople, layout: Layout, augmentation: Augmentation, body: BodyKind, seed: int) -> None:
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
