"""Rendered people as the pipeline sees them, with their labels: what synthetic evaluations start from."""

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
"""Views of each person that are observed unless more are asked for: what training keeps."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """A rendered person and the picture they are in."""

    scene: SyntheticScene
    person: PersonLabel


def labelled_people(shards: Path) -> Iterator[Labelled]:
    """Everyone who can be seen, in the order in which they are observed."""
    for scene in read_shards(shards):
        for person in scene.people:
            if observable(person):
                yield Labelled(scene, person)


def make_observer(encoder: str, views: int = STORED_VIEWS, seed: int = 0) -> Observer:
    """The pipeline's detector, cropper and encoder, on the CPU."""
    cpu = torch.device("cpu")
    net = optimise_for_inference(make_encoder(encoder), cpu, "auto")
    return Observer(MoveNetDetector(device=cpu), Cropper(layout("wide", views), device=cpu), net, seed, CropKeypoints(ThunderPoints(cpu)))


def observed_people(
    shards: Path | None, observed: Path | None, encoder: str, views: int | None, progress: Callable[[int], None] | None = None
) -> ObservedPeople:
    """From the file `observed` when it is there, else observed anew from `shards` and kept in `observed`, if that is given.

    Raises UsageError when there is neither, InputError when the file has fewer views than asked for.
    """
    if observed is not None and observed.is_file():
        people = ObservedPeople.load(observed)
        if views is not None and views > people.views.shape[1]:
            raise UsageError(f"{views} views were asked for, {observed} holds {people.views.shape[1]}; observe anew from --shards")
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
    """Raises InputError unless the labels are those of the observed people, in order; `betas` (N, 10) tell."""
    same = len(labels) == len(betas)
    if same and labels:
        same = bool(np.allclose(np.stack([label.person.betas for label in labels]), betas, atol=1e-4))
    if not same:
        raise InputError(
            f"the observations ({len(betas)} people) were not made of these shards ({len(labels)} people that can be seen); "
            "give the shards they were made of, or leave --shards out"
        )
