"""Training data as one small folder, for a machine with torch, numpy and a GPU, and nothing else.

    settings.json       the run's settings, and the sources of the data
    rendered.npz        observations and truth of rendered people; test.npz the same of test people, if any
    poses.npz           the pool of poses

Numbers of order one are float16 (observations in base sides, rotations, joints in metres, poses); pixels are float32. Inputs that the
network does not use (`use_features`, `use_world`) are left out. Residuals are not stored, because they are computed from the rest. The
body is not stored, because it ships with the package.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

from mchmr_stream.body.files import load_body
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.files.safe_npz import read_npz
from mchmr_stream.training.common.train_settings import TrainSettings
from mchmr_stream.training.observations.observed_people import ObservedPeople
from mchmr_stream.training.observations.training_data import TrainingData

MAX_BYTES = 50_000_000
_HALVED = ("features", "landmarks", "world", "keypoints", "rotations", "betas", "joints_m", "views")
_FIELDS = [field.name for field in fields(ObservedPeople)]


def packed_files(folder: Path) -> list[Path]:
    """List all files that a pack may have."""
    return [folder / name for name in ("rendered.npz", "test.npz", "poses.npz", "settings.json")]


def pack(data: TrainingData, settings: TrainSettings, folder: Path) -> int:
    """Write `folder` and return its size in bytes.

    Raises:
        UsageError: it would be larger than 50 MB.
    """
    arrays = {"rendered": _arrays(data.rendered, settings)}
    if data.test is not None:
        arrays["test"] = _arrays(data.test, settings)
    if data.poses is not None:
        arrays["poses"] = {"poses": data.poses.half().numpy()}
    size = sum(array.nbytes for group in arrays.values() for array in group.values())
    if size > MAX_BYTES:
        parts = ", ".join(f"{name} {sum(array.nbytes for array in group.values()) / 1e6:.0f}" for name, group in arrays.items())
        raise UsageError(f"the pack would have {size / 1e6:.0f} MB ({parts}), expected at most 50: lower pose_pool or render fewer people")
    folder.mkdir(parents=True, exist_ok=True)
    for name, group in arrays.items():
        np.savez(folder / f"{name}.npz", allow_pickle=False, **group)
    about = {"settings": settings.to_dict(), "shards": data.shards, "own_poses": data.own_poses, "body": load_body("free").sha256}
    (folder / "settings.json").write_text(json.dumps(about, indent=1) + "\n")
    return sum((folder / name).stat().st_size for name in ("settings.json", *(f"{name}.npz" for name in arrays)))


def load_packed(folder: Path) -> tuple[TrainSettings, TrainingData]:
    """Read a pack.

    Raises:
        InputError: `folder` is no pack, or was made for another body.
    """
    try:
        about = json.loads((folder / "settings.json").read_text())
        settings, body = TrainSettings.from_dict(about["settings"]), about["body"]
        shards, own_poses = str(about["shards"]), str(about.get("own_poses", ""))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} is no packed training data ({error}); make it with `mchmr train ... --pack DIR`") from error
    if body != load_body("free").sha256:
        raise InputError(f"{folder} was packed with another version of the free body; pack it again with this one")
    test = _people(folder / "test.npz") if (folder / "test.npz").is_file() else None
    poses = None
    if (folder / "poses.npz").is_file():
        poses = torch.from_numpy(read_npz(folder / "poses.npz", ["poses"], what="packed poses")["poses"].astype(np.float32))
    return settings, TrainingData(_people(folder / "rendered.npz"), test, poses, shards, own_poses)


def _arrays(people: ObservedPeople, settings: TrainSettings) -> dict[str, np.ndarray]:
    network = settings.network_config()
    arrays = {}
    for name in _FIELDS:
        values = getattr(people, name)
        if (name == "features" and not network.use_features) or (name == "world" and not network.use_world):
            values = values[..., :1] * 0 if name == "features" else values[:, :, :, :0]
        arrays[name] = (values.half() if name in _HALVED else values).numpy()
    return arrays


def _people(path: Path) -> ObservedPeople:
    arrays = read_npz(path, _FIELDS, what="packed training data")
    if arrays["world"].shape[-1] == 0:
        arrays["world"] = np.zeros((*arrays["world"].shape[:-1], 3), np.float16)
    half = lambda name: name == "features"  # as in ObservedPeople; `batch` converts them to float32 row by row
    return ObservedPeople(**{
        name: torch.from_numpy(array if half(name) or array.dtype != np.float16 else array.astype(np.float32))
        for name, array in arrays.items()
    })  # fmt: skip
