"""Settings of a training run, read from YAML (configs/train_*.yaml).

They are plain dataclasses, and the libraries that read and check YAML are imported only in functions: a packed run (`packing`) must
start on a machine with torch and numpy only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.network.mesh_network import NetworkConfig
from mchmr_stream.training.observations.landmark_samples import SamplerSettings

MANY = 10**9
Range = tuple[tuple[str, ...], float, float]
"""Names of settings, their least and largest value."""


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses."""

    joints_3d: float = 10.0
    vertices: float = 5.0
    rotations: float = 0.5
    betas: float = 0.02
    joints_2d: float = 1.0
    camera_consistency: float = 1.0
    contrastive: float = 0.1
    depth: float = 0.3
    uncertainty: float = 0.02


@dataclass(frozen=True)
class RunSettings:
    """Settings of all training runs. All random numbers follow from `seed`. Raises UsageError for a value out of its range."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    network: dict[str, Any] = field(default_factory=dict)
    """NetworkConfig values that differ from the defaults"""
    seed: int = 0
    steps: int = 4000
    learning_rate: float = 1.2e-3
    weight_decay: float = 0.02
    warmup_steps: int = 150
    ema: float = 0.999
    precision: str = "bf16"
    """bf16 or fp32"""
    checkpoint_every: int = 250
    """steps"""
    checkpoint_minutes: float = 5.0
    """a checkpoint is also written when this time has passed since the last one"""
    keep_every: int = 0
    """steps between copies of the averaged weights that are stored, for `mchmr average`; 0: none"""

    precisions: ClassVar[tuple[str, ...]] = ("bf16", "fp32")
    ranges: ClassVar[tuple[Range, ...]] = (
        (("steps", "warmup_steps", "checkpoint_every"), 1, MANY),
        (("seed", "weight_decay", "keep_every"), 0, MANY),
        (("learning_rate",), 1e-9, 1.0),
        (("ema",), 0, 1 - 1e-9),
        (("checkpoint_minutes",), 0.001, MANY),
    )

    def __post_init__(self) -> None:
        for names, low, high in self.ranges:
            for name in names:
                value = getattr(self, name)
                if not low <= value <= high:
                    raise UsageError(f"training setting {name} is {value}, expected {low} to {high}")
        if self.precision not in self.precisions:
            raise UsageError(f"training setting precision is {self.precision!r}, expected {' or '.join(self.precisions)}")

    def network_config(self) -> NetworkConfig:
        """Build the network's configuration.

        Raises:
            UsageError: a name does not exist in `NetworkConfig`.
        """
        known = {each.name for each in fields(NetworkConfig)}
        unknown = sorted(set(self.network) - known)
        if unknown:
            raise UsageError(f"training setting network.{unknown[0]} is unknown, expected one of {', '.join(sorted(known))}")
        return NetworkConfig(**self.network)

    def to_dict(self) -> dict[str, Any]:
        """Convert to numbers, strings, lists and dictionaries, as in JSON."""
        return _plain(asdict(self))


@dataclass(frozen=True)
class TrainSettings(RunSettings):
    """Settings of training a head on features of a frozen encoder."""

    landmark_people: int = 448
    """people per step sampled without pictures"""
    rendered_people: int = 64
    """people per step from rendered pictures"""
    pose_pool: int = 200_000
    """poses sampled once from the library at the start"""
    own_poses_share: float = 0.3
    """share of them that comes from the user's own files, if there are any"""
    views: int = 5
    """views of each person: the first ones of those observed"""
    observed_views: int = 5
    """views with which rendered people are observed"""
    single_view_share: float = 0.5
    """share of steps with a random subset of the views"""
    assumed_focal_share: float = 0.5
    """share of people whose focal length is not given to the network"""
    keypoints_dropped: float = 0.15
    """share of rendered people whose detector keypoints are removed"""
    losses: LossWeights = field(default_factory=LossWeights)
    sampler: SamplerSettings = field(default_factory=SamplerSettings)

    ranges: ClassVar[tuple[Range, ...]] = (
        *RunSettings.ranges,
        (("landmark_people", "rendered_people"), 0, MANY),
        (("pose_pool",), 100, MANY),
        (("own_poses_share",), 0.001, 0.999),
        (("views", "observed_views"), 1, 9),
        (("single_view_share", "assumed_focal_share", "keypoints_dropped"), 0, 1),
    )

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> TrainSettings:
        """Build settings from the output of `to_dict`; missing names get their defaults.

        Raises:
            InputError: a name does not exist.
        """
        try:
            values = dict(data)
            losses = LossWeights(**values.pop("losses", {}))
            lists: dict[str, Any] = values.pop("sampler", {})
            sampler: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in lists.items()}
            return TrainSettings(**values, losses=losses, sampler=SamplerSettings(**sampler))
        except (TypeError, ValueError) as error:
            raise InputError(f"training settings were written by another version: {error}; pack or train again with this one") from error


_Settings = TypeVar("_Settings", bound=RunSettings)


def load_train_settings(path: Path) -> TrainSettings:
    """Read and check a file.

    Raises:
        UsageError: the file is not valid.
    """
    return settings_from(read_yaml(path, "training settings"), str(path), TrainSettings)


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """Read the names and values of a YAML file; `what` describes it in messages.

    Raises:
        UsageError: the file is not valid.
    """
    import yaml

    try:
        data = yaml.safe_load(path.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read {what} {path}: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{what} {path} holds a {type(data).__name__}, expected `name: value` lines")
    return data


def settings_from(data: Mapping[str, Any], whose: str, kind: type[_Settings]) -> _Settings:
    """Check values read from YAML; `whose` describes them in messages.

    Raises:
        UsageError: a name or a value is not valid.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(dict(data))
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"training settings {whose}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
