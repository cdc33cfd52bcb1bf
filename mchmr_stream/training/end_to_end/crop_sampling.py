"""Sampling of people and augmentations for training from pictures, determined by the seed and the number of the draw.

So a run resumes from its step alone, draws do not depend on the number of processes, and any number of workers may read pictures.
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
"""Unreadable pictures in a row after which a run fails."""


SYNTHETIC = "synthetic"
"""Name of rendered people among the data sets."""


class MixedPeople:
    """An endless sequence of people from one or several data sets, see `datasets.mixture`."""

    def __init__(self, readers: Mapping[str, LabelReader], shares: Mapping[str, float] | None, seed: int) -> None:
        """`shares` by name; None samples all people equally often. Raises UsageError for invalid shares."""
        self._readers = dict(readers)
        self._mixture = Mixture({name: len(reader) for name, reader in readers.items()}, shares, seed)

    def at(self, place: int) -> tuple[LabelReader, int]:
        """Return a reader and an index of a person in it, always the same for the same place."""
        name, person = self._mixture.at(place)
        return self._readers[name], person

    def lines(self) -> list[str]:
        """Describe the mixture for the log."""
        sizes = zip(self._mixture.names, self._mixture.sizes, self._mixture.quotas, strict=True)
        return [f"{name}: {size} people, {quota / BLOCK:.1%} of what is shown".replace("%", " %") for name, size, quota in sizes]


def open_people(
    shares: Mapping[str, float], seed: int, shards: Sequence[Path], sets: Path | None, *, unchecked: bool = False
) -> MixedPeople:
    """Open rendered people in `shards` and the data sets in the folder `sets` that have a share; without shares, all data.

    Args:
        shares: share of each data set by name.
        seed: seed of the mixture.
        shards: folders of rendered people.
        sets: folder of data sets.
        unchecked: skip the check of data sets (`datasets.checking`).

    Raises:
        MchmrError: a data set fails the check.
        UsageError: there are no people, or a share has no data.
        InputError: data cannot be read.
    """
    selected = set(shares) if shares else {SYNTHETIC, *(sets_in(sets) if sets is not None else ())}
    readers: dict[str, LabelReader] = {}
    if shards and SYNTHETIC in selected:
        readers[SYNTHETIC] = SyntheticReader(shards, SYNTHETIC)
    if sets is not None:
        reports = [check_set(sets, name, "train") for name in sorted(selected - {SYNTHETIC}) if label_files(sets / name, "train")]
        require_sound(reports, force=unchecked)
        checked = {report.name: report.reader for report in reports}
        readers |= {name: checked.get(name) or open_set(sets, name, "train") for name in sorted(selected - {SYNTHETIC})}
    if not readers:
        raise UsageError("training from pictures needs rendered people (--shards) or data sets (--sets); docs/training.md has the commands")
    return MixedPeople(readers, shares or None, seed)


class Draws(Dataset[CutPeople]):
    """Sampled people by number of the draw."""

    def __init__(self, people: MixedPeople, layout: Layout, augmentation: Augmentation, body: BodyKind, seed: int) -> None:
        self._people, self._augmentation, self._body, self._seed = people, augmentation, body, seed
        self._cropper = Cropper(layout)

    def __getitem__(self, number: int) -> CutPeople:
        """Return draw `number`; single unreadable pictures are skipped with a warning.

        Raises:
            InputError: several pictures in a row cannot be read.
        """
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
    """Yield batches from a step on, without end.

    Args:
        draws: the sampled people.
        step: first step.
        accumulate: batches per step.
        people: people per batch, of all processes.
        rows: rows of each batch that this process computes.
        workers: processes that read pictures.
        pin: pin memory for copies to a GPU.
    """
    first = step * accumulate
    sampler = ([number * people + row for row in rows] for number in itertools.count(first))
    loader = DataLoader(
        draws, batch_sampler=sampler, collate_fn=CutPeople.joined, num_workers=workers, pin_memory=pin,
        generator=torch.Generator(),  # its own generator: the loader draws a seed from it that nothing uses
    )  # fmt: skip
    return iter(loader)


def batches_as_labelled(reader: LabelReader, layout: Layout, body: BodyKind, most: int, people: int) -> Iterator[CutPeople]:
    """Yield batches of `people` people as labelled, at most `most` in total, evenly spread over the data set."""
    cropper = Cropper(layout)
    chosen = torch.linspace(0, len(reader) - 1, min(most, len(reader))).long().unique().split(people)
    for rows in chosen:
        yield CutPeople.joined([cut_person(reader.label(i), reader.image(i), cropper, AS_LABELLED, body) for i in rows.tolist()])
