"""Rendered people with their labels, as detected by the pipeline: the input of synthetic evaluations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mchmr_stream.cropping.crop_layouts import layout
from mchmr_stream.cropping.cropper import Cropper
from mchmr_stream.detection.movenet_detector import MoveNetDetector
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.keypoints.crop_keypoints import CropKeypoints
from mchmr_stream.keypoints.thunder_keypoints import ThunderPoints
from mchmr_stream.network.encoders import make_encoder, optimise_for_inference
from mchmr_stream.synthesis.samples import PersonLabel, SyntheticScene
from mchmr_stream.synthesis.shards import read_shards
from mchmr_stream.training.observations.observed_people import ObservedPeople, Observer, observable

STORED_VIEWS = 5
"""Default number of observed views of each person: as many as training stores."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """A rendered person and the scene they are in."""

    scene: SyntheticScene
    person: PersonLabel


def labelled_people(shards: Path) -> Iterator[Labelled]:
    """Yield all visible people, in the order of observation."""
    for scene in read_shards(shards):
        for person in scene.people:
            if observable(person):
                yield Labelled(scene, person)


def make_observer(encoder: str, views: int = STORED_VIEWS, seed: int = 0) -> Observer:
    """Build the pipeline's detector, cropper and encoder on the CPU."""
    cpu = torch.device("cpu")
    net = optimise_for_inference(make_encoder(encoder), cpu, "auto")
    return Observer(MoveNetDetector(device=cpu), Cropper(layout("wide", views), device=cpu), net, seed, CropKeypoints(ThunderPoints(cpu)))


def observed_people(
    shards: Path | None, observed: Path | None, encoder: str, views: int | None, progress: Callable[[int], None] | None = None
) -> ObservedPeople:
    """Load observed people from the file `observed`, or observe them in `shards` and store them in `observed` if it is given.

    Args:
        shards: folder of rendered people.
        observed: file of stored observations; may not exist yet.
        encoder: the encoder's name.
        views: crops per person; None for the default.
        progress: called with the number of people observed.

    Raises:
        UsageError: neither `shards` nor an existing file is given.
        InputError: the file has fewer views than requested.
    """
    if observed is not None and observed.is_file():
        people = ObservedPeople.load(observed)
        if views is not None and views > people.views.shape[1]:
            raise UsageError(f"{views} views were requested, {observed} holds {people.views.shape[1]}; observe anew from --shards")
        return people
    if shards is None:
        where = f"{observed} is not there" if observed is not None else "neither was given"
        raise UsageError(f"expected --observed FILE.npz or --shards DIR with rendered people, but {where}")
    people = make_observer(encoder, max(views or 0, STORED_VIEWS)).observe(read_shards(shards), progress)
    if observed is not None:
        observed.parent.mkdir(parents=True, exist_ok=True)
        people.save(observed)
    return people


def check_same_people(labels: list[Labelled], betas: NDArray[np.floating]) -> None:
    """Check that the labels belong to the observed people, in the same order, by their betas (N, 10).

    Raises:
        InputError: they do not.
    """
    same = len(labels) == len(betas)
    if same and labels:
        same = bool(np.allclose(np.stack([label.person.betas for label in labels]), betas, atol=1e-4))
    if not same:
        raise InputError(
            f"the observations ({len(betas)} people) were not made of these shards ({len(labels)} people that can be seen); "
            "give the shards they were made of, or leave --shards out"
        )
