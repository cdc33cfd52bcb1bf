"""What a training run is made of; read from YAML (configs/train_*.yaml)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mchmr_stream.errors import UsageError
from mchmr_stream.learning.landmark_samples import SamplerSettings
from mchmr_stream.network.model import NetworkConfig


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LossWeights(_Section):
    """How much each loss counts."""

    joints_3d: float = 10.0
    vertices: float = 5.0
    rotations: float = 0.5
    betas: float = 0.02
    joints_2d: float = 1.0
    camera_consistency: float = 1.0
    contrastive: float = 0.1
    depth: float = 0.3
    uncertainty: float = 0.02


class TrainSettings(_Section):
    """One run. Everything random comes from `seed`."""

    network: dict[str, Any] = Field(default_factory=dict, description="NetworkConfig values that differ from the defaults")
    seed: int = 0
    steps: int = Field(4000, ge=1)
    landmark_people: int = Field(448, ge=0, description="people per step drawn without pictures")
    rendered_people: int = Field(64, ge=0, description="people per step from rendered pictures")
    pose_pool: int = Field(200_000, ge=100, description="poses drawn once from the library at the start")
    learning_rate: float = Field(1.2e-3, gt=0)
    weight_decay: float = Field(0.02, ge=0)
    warmup_steps: int = Field(150, ge=1)
    ema: float = Field(0.999, ge=0, lt=1)
    single_view_share: float = Field(0.5, ge=0, le=1, description="share of steps with a random subset of the views")
    assumed_focal_share: float = Field(0.5, ge=0, le=1, description="share of people whose focal length is not told")
    keypoints_dropped: float = Field(0.15, ge=0, le=1, description="share of rendered people whose detector keypoints are hidden")
    precision: str = "bf16"
    checkpoint_every: int = Field(250, ge=1)
    losses: LossWeights = LossWeights()
    sampler: SamplerSettings = SamplerSettings()

    def network_config(self) -> NetworkConfig:
        return NetworkConfig(**self.network)


def load_train_settings(path: Path) -> TrainSettings:
    """Read and check. Raises UsageError."""
    try:
        data = yaml.safe_load(path.read_text()) or {}
        return TrainSettings.model_validate(data)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read training settings {path}: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"training settings {path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
