"""A small training run of the head, and its data: drawn, not rendered."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import torch

from mchmr_stream.cropping.crop_layouts import layout
from mchmr_stream.training.common.train_settings import TrainSettings
from mchmr_stream.training.observations.body_landmarks import SparseBody
from mchmr_stream.training.observations.landmark_offsets import LandmarkPlaces
from mchmr_stream.training.observations.landmark_samples import LandmarkSampler, ResidualBank, Residuals, SamplerSettings
from mchmr_stream.training.observations.observed_people import ObservedPeople
from mchmr_stream.training.observations.packing import pack
from mchmr_stream.training.observations.training_data import TrainingData

QUIET = SamplerSettings(truncated_share=0, keypoints_dropped=0, visibility_noise=0, point_noise=0)


def perfect_residuals(count: int = 50) -> Residuals:
    """Detectors that make no mistakes and see everything."""
    views = torch.from_numpy(layout("wide", 5).views.copy()).expand(count, 5, 3)
    return Residuals(
        joints_m=torch.randn(count, 24, 3, generator=torch.Generator().manual_seed(0)),
        inside=torch.ones(count, 12),
        landmark_error=torch.zeros(count, 5, 33, 2),
        visibility=torch.full((count, 5, 33), 0.99),
        keypoint_error=torch.zeros(count, 17, 2),
        keypoint_score=torch.full((count, 17), 0.9),
        views=views,
    )


def sampler_of(body: SparseBody, settings: SamplerSettings = QUIET, seed: int = 0) -> LandmarkSampler:
    poses = torch.randn(200, 24, 3, generator=torch.Generator().manual_seed(1)) * 0.2
    return LandmarkSampler(
        poses, ResidualBank(perfect_residuals(), settings, 0), LandmarkPlaces.nominal(), body, layout("wide", 5), settings, seed
    )


def small(steps: int) -> TrainSettings:
    network = {"encoder": "blazepose_lite", "token_dim": 32, "trunk_dim": 64, "trunk_depth": 1}
    return TrainSettings(steps=steps, landmark_people=16, rendered_people=0, network=network, warmup_steps=2)


def people(body: SparseBody, count: int, seed: int = 0) -> ObservedPeople:
    """Made-up rendered people: what a sampler draws, called observations."""
    batch = sampler_of(body, seed=seed).batch(count)
    seen = batch.seen._asdict()
    values = {field.name: seen.get(field.name, getattr(batch, field.name, None)) for field in fields(ObservedPeople)}
    values |= {"features": torch.ones(count, 5, 1152, dtype=torch.half), "inside": torch.ones(count, 12), "group": torch.zeros(count, 4)}
    return ObservedPeople(**values)


def packed_data(body: SparseBody, folder: Path, **settings: object) -> Path:
    """A pack of few made-up people for ten steps."""
    poses = torch.randn(100, 24, 3, generator=torch.Generator().manual_seed(5)) * 0.2
    network = small(10).network | {"use_features": False, "use_world": False}
    wanted = replace(small(10), rendered_people=8, network=network, **settings)
    pack(TrainingData(people(body, 30), people(body, 20, 7), poses, "made up"), wanted, folder)
    return folder
