"""Data of a training run: observed rendered people and a pool of poses.

`gather` makes it from the developers' data and from the output of `mchmr synth`; `packing` stores it for another machine.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mchmr_stream.cropping.crop_layouts import layout
from mchmr_stream.errors import UsageError
from mchmr_stream.training.common.loop import Report
from mchmr_stream.training.common.train_settings import TrainSettings
from mchmr_stream.training.observations.observed_people import ObservedPeople

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Training data on the CPU."""

    rendered: ObservedPeople
    test: ObservedPeople | None
    poses: Tensor | None
    """(n, 24, 3) axis-angle; None where the settings sample no people without pictures"""
    shards: str
    """names of the folders with rendered people, for the record"""
    own_poses: str = ""
    """names of the user's files and folders of poses, for the record"""


def gather(
    settings: TrainSettings,
    data: Path,
    shards: Sequence[Path],
    test_shards: Path | None,
    out: Path,
    report: Report = log.info,
    own_poses: Sequence[Path] = (),
) -> TrainingData:
    """Observe the rendered people (stored in `out`, done once) and sample the poses, the user's own among them.

    Args:
        settings: the run's settings.
        data: folder of poses.
        shards: folders of rendered people.
        test_shards: folder of rendered people for measuring errors.
        out: output folder.
        report: called with lines for the log.
        own_poses: files and folders of the user's poses.

    Raises:
        UsageError: two folders have the same name, or poses would not be used.
        InputError: a folder holds no shards.
    """
    if own_poses and not settings.landmark_people:
        raise UsageError("poses are for people without pictures, and the settings draw none of those (landmark_people is 0)")
    folders = [*shards, *([test_shards] if test_shards is not None else [])]
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        raise UsageError(f"the folders of rendered people are called {', '.join(names)}; give each its own name")
    encoder = settings.network_config().encoder
    people = [
        prepare(folder, out / f"observed_{name}.npz", encoder, settings.observed_views, settings.seed, report)
        for folder, name in zip(folders, names, strict=True)
    ]
    poses = pose_pool(data, settings, own_poses) if settings.landmark_people else None
    return TrainingData(
        joined(people[: len(shards)]),
        people[-1] if test_shards is not None else None,
        poses,
        " ".join(names[: len(shards)]),
        " ".join(path.resolve().name for path in own_poses),
    )


def prepare(shards: Path, out: Path, encoder: str, views: int, seed: int, report: Report = log.info) -> ObservedPeople:
    """Observe all rendered people under `shards` once and store them in `out`.

    Raises:
        UsageError: the stored observations have fewer views.
    """
    if out.is_file():
        kept = ObservedPeople.load(out)
        if kept.views.shape[1] < views:
            raise UsageError(f"{out} holds {kept.views.shape[1]} views of each person, the settings say {views}; delete it to repeat")
        return kept
    from mchmr_stream.cropping.cropper import Cropper
    from mchmr_stream.detection.movenet_detector import MoveNetDetector
    from mchmr_stream.keypoints.crop_keypoints import CropKeypoints
    from mchmr_stream.keypoints.thunder_keypoints import ThunderPoints
    from mchmr_stream.network.encoders import make_encoder, optimise_for_inference
    from mchmr_stream.synthesis.shards import read_shards
    from mchmr_stream.training.observations.observed_people import Observer

    cpu = torch.device("cpu")
    net = optimise_for_inference(make_encoder(encoder), cpu, "auto")
    observer = Observer(
        MoveNetDetector(device=cpu), Cropper(layout("wide", views), device=cpu), net, seed, CropKeypoints(ThunderPoints(cpu))
    )
    start = time.monotonic()
    people = observer.observe(read_shards(shards))
    report(f"observed {len(people)} people of {shards} in {time.monotonic() - start:.0f} s")
    out.parent.mkdir(parents=True, exist_ok=True)
    people.save(out)
    return people


def pose_pool(data: Path, settings: TrainSettings, own_poses: Sequence[Path] = ()) -> Tensor:
    """Sample (settings.pose_pool, 24, 3) axis-angle poses of the training split."""
    from mchmr_stream.synthesis.poses import PoseLibrary, PoseSettings
    from mchmr_stream.synthesis.rig import load_render_body

    chosen = PoseSettings(split="train", files=tuple(own_poses), files_share=settings.own_poses_share)
    library = PoseLibrary(data, load_render_body(data), chosen)
    rng = np.random.default_rng(settings.seed)
    return torch.from_numpy(np.stack([library.draw(rng).axis_angle for _ in range(settings.pose_pool)]))


def joined(people: Sequence[ObservedPeople]) -> ObservedPeople:
    """Concatenate people, in order."""
    return ObservedPeople(**{field.name: torch.cat([getattr(some, field.name) for some in people]) for field in fields(ObservedPeople)})
