"""Settings of training encoder and head together from pictures (configs/paper_*.yaml)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from mchmr_stream.errors import UsageError
from mchmr_stream.training.common.train_settings import MANY, Range, RunSettings, settings_from


@dataclass(frozen=True)
class NetworkLossWeights:
    """Weights of the published losses (`paper_losses`); the defaults are the authors'."""

    joints_2d: float = 300.0
    joints_3d: float = 300.0
    vertices: float = 60.0
    rotations: float = 60.0
    betas: float = 0.06
    camera_consistency: float = 60.0
    contrastive: float = 6.0


@dataclass(frozen=True)
class Augmentation:
    """Augmentation settings; the defaults are the authors'. All crops of a person change together."""

    flip: float = 0.5
    """share of people mirrored"""
    turn: float = 0.4
    """share of people rotated: the camera rolls about its axis, so that the cameras of all crops still agree"""
    turn_sd_deg: float = 30.0
    """limited to twice this value"""
    scale_sd: float = 0.25
    """of the base box's side, limited to this much on both sides of 1"""
    shift_sd: float = 0.0
    """of the base box's centre, in its sides, limited to twice this value; the authors have none"""
    colour: float = 0.4
    """each channel is multiplied by a uniform factor in 1 +- this value"""


@dataclass(frozen=True)
class NetworkTrainSettings(RunSettings):
    """Settings of training the paper's network, encoder included. Raises UsageError for a value out of its range."""

    people: int = 20
    """per step, over all processes"""
    accumulate: int = 1
    """a step sums the gradients of this many batches of `people` each; batch norms and contrastive loss use one batch"""
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    warmup_steps: int = 1
    schedule: str = "constant"
    """of the learning rate after its warm-up: constant or cosine"""
    gradient_limit: float = 0.0
    """gradients are clipped to this norm; 0: never, as published. Training from scratch, where depths diverge, needs some 5000"""
    ema: float = 0.0
    body: str = "free"
    """body of the betas and vertices that are trained: free, or the path of an SMPL file; other labels train pose and points only"""
    vertex_step: int = 1
    """the vertex loss uses every n-th vertex"""
    freeze_norms: bool = False
    """the encoder's batch norms keep their means and variances, for batches that are too small to estimate them"""
    test_people: int = 500
    """number of test people measured at a checkpoint, evenly spread"""
    shares: dict[str, float] = field(default_factory=dict)
    """sampling share of each data set by name (rendered people: synthetic); empty: all people equally often"""
    losses: NetworkLossWeights = field(default_factory=NetworkLossWeights)
    augmentation: Augmentation = field(default_factory=Augmentation)

    precisions: ClassVar[tuple[str, ...]] = ("bf16", "fp32", "fp64")
    ranges: ClassVar[tuple[Range, ...]] = (
        *RunSettings.ranges,
        (("gradient_limit",), 0, MANY),
        (("people", "accumulate", "vertex_step", "test_people"), 1, MANY),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule not in ("constant", "cosine"):
            raise UsageError(f"training setting schedule is {self.schedule!r}, expected constant or cosine")
        network = self.network_config()
        if network.head != "paper":
            raise UsageError(f"network head is {network.head!r}: pictures train head paper (docs/paper.md)")
        if self.augmentation.scale_sd >= 1:
            raise UsageError(f"training setting augmentation.scale_sd is {self.augmentation.scale_sd}, expected less than 1")


def learns_from_pictures(data: dict[str, Any]) -> bool:
    """Return whether settings read from YAML are of this kind of run."""
    network = data.get("network")
    return isinstance(network, dict) and network.get("head") == "paper"


def picture_settings_from(data: dict[str, Any], path: Path) -> NetworkTrainSettings:
    """Check settings read from YAML.

    Raises:
        UsageError: a name or a value is not valid.
    """
    return settings_from(data, str(path), NetworkTrainSettings)
