"""Weights on disk: safetensors with the network's configuration and provenance in the header.

safetensors is imported in functions, because training runs on machines with torch and numpy only.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mchmr_stream.errors import InputError, MissingPart, UsageError
from mchmr_stream.files.checksum import sha256_of_file
from mchmr_stream.files.safe_tensors import write_tensors
from mchmr_stream.network.encoders import TRAINED_ENCODERS
from mchmr_stream.network.mesh_network import MultiCropNet, NetworkConfig

ASSETS = Path(__file__).resolve().parent.parent / "assets"
SHIPPED = {"default": "mchmr_default.safetensors"}


@dataclass(frozen=True, eq=False)
class LoadedNetwork:
    """A network ready for inference, and its origin."""

    net: MultiCropNet
    name: str
    sha256: str
    provenance: dict[str, Any]
    half: bool
    """whether the file holds the head in float16; in memory it is float32"""


def find_weights(which: str) -> Path:
    """Find a weights file.

    Args:
        which: A shipped name or a path.

    Returns:
        The file.

    Raises:
        MissingPart: There is no such file; the message names the path.
    """
    path = ASSETS / SHIPPED[which] if which in SHIPPED else Path(which)
    if not path.is_file():
        raise MissingPart(
            f"weights {which!r} not found at {path}; expected one of {', '.join(SHIPPED)} or a .safetensors file (see `mchmr doctor`)"
        )
    return path


def save_network(path: Path, net: MultiCropNet, provenance: dict[str, Any], *, half: bool = True) -> None:
    """Write head and configuration, and an encoder that was trained with the head.

    A frozen encoder is referred to by name, because its weights ship separately.

    Args:
        path: The file.
        net: The network.
        provenance: Data and command of the training.
        half: The head in float16. An encoder stays float32, because its batch norms hold variances beyond float16.
    """
    parts = {"head": net.head, **_trained_encoder(net)}
    state = {
        f"{part}.{key}": value.half() if half and part == "head" and value.is_floating_point() else value
        for part, module in parts.items()
        for key, value in module.state_dict().items()
    }
    header = {"config": json.dumps(net.config.to_dict()), "provenance": json.dumps(provenance), "format": "mchmr-stream 1"}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, state, header)


def read_header(path: Path) -> dict[str, str]:
    """Read the header of a weights file.

    Args:
        path: The file.

    Returns:
        Its entries.

    Raises:
        MissingPart: The file does not exist.
        InputError: It is something else.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise MissingPart(f"weights {path} are not there, expected a .safetensors file")
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise InputError(f"cannot read weights {path}: {error}; expected a .safetensors file of this project") from error


def load_network(which: str) -> LoadedNetwork:
    """Load a network in eval mode, float32, on the CPU.

    Args:
        which: A shipped name or a .safetensors file.

    Returns:
        The network.

    Raises:
        MissingPart: There is no such file.
        InputError: It is something else.
    """
    from safetensors import SafetensorError, safe_open

    path = find_weights(which)
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise InputError(f"cannot read weights {path}: {error}; expected a .safetensors file of this project") from error
    config = _config(header, path)
    try:
        net = MultiCropNet(config)
    except UsageError as error:
        raise InputError(f"weights {path} name a network that is not here: {error}") from error
    for part, module in {"head": net.head, **_trained_encoder(net)}.items():
        _fill(module, part, state, path)
    name = which if which in SHIPPED else path.stem
    half = all(value.dtype == torch.float16 for key, value in state.items() if key.startswith("head.") and value.is_floating_point())
    return LoadedNetwork(net.eval().requires_grad_(False), name, sha256_of_file(path), json.loads(header.get("provenance", "{}")), half)


def _trained_encoder(net: MultiCropNet) -> dict[str, nn.Module]:
    return {"encoder": net.encoder} if net.config.encoder in TRAINED_ENCODERS else {}


def _fill(module: nn.Module, part: str, state: dict[str, Tensor], path: Path) -> None:
    """Load a part's weights as float32. Raises InputError unless they fit exactly."""
    prefix = f"{part}."
    given = {
        key.removeprefix(prefix): value.float() if value.is_floating_point() else value
        for key, value in state.items()
        if key.startswith(prefix)
    }
    expected = module.state_dict()
    wrong = [k for k in expected if k not in given or given[k].shape != expected[k].shape] + [k for k in given if k not in expected]
    if wrong:
        raise InputError(
            f"weights {path} do not fit their own configuration: {len(wrong)} of {len(expected)} tensors differ, first {wrong[0]}"
        )
    module.load_state_dict(given)


def _config(header: dict[str, str], path: Path) -> NetworkConfig:
    try:
        values = json.loads(header["config"])
        known = {field.name for field in fields(NetworkConfig)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(
                f"weights {path} were made by another version: unknown network settings {', '.join(unknown)}; update mchmr-stream"
            )
        return NetworkConfig(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"weights {path} carry no network configuration, expected a file written by mchmr-stream") from error


def pick_device(name: str) -> torch.device:
    """Select a device.

    Args:
        name: auto, cpu, cuda or cuda:N.

    Returns:
        The device.

    Raises:
        UsageError: Any other name: torch knows more devices (mps, xpu, meta), for which the parts here are not made.
        MissingPart: There is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d{1,4})?", name):
        raise UsageError(f"device is {name!r}, expected auto, cpu, cuda or cuda:N")
    device = torch.device(name)
    if device.type == "cuda" and not (torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()):
        raise MissingPart(
            f"device {name} asked for, but {torch.cuda.device_count()} CUDA devices are usable here; use --device cpu or auto"
        )
    return device
