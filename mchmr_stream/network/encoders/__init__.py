"""Crop encoders by name. A new one is a subclass of `Encoder` and a builder function in `BUILDERS`."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from mchmr_stream.errors import InputError, MissingPart, UsageError
from mchmr_stream.network.encoders.blazepose import BlazePose
from mchmr_stream.network.encoders.encoder import CropFeatures, Encoder
from mchmr_stream.network.encoders.hrnet import HRNetW48, HRNetW48Classifier
from mchmr_stream.network.encoders.inference import fastest_precision, optimise_for_inference
from mchmr_stream.network.encoders.resnet import ResNet50
from mchmr_stream.network.encoders.vit import ViT

BUILDERS: dict[str, Callable[[], Encoder]] = {
    "blazepose_lite": lambda: BlazePose("lite"),
    "blazepose_full": lambda: BlazePose("full"),
    "blazepose_heavy": lambda: BlazePose("heavy"),
    "resnet50": ResNet50,
    "hrnet_w48": HRNetW48,
    "hrnet_w48_classifier": HRNetW48Classifier,
    "vit_h": ViT,
}
"""Functions that build each encoder, by name."""

ENCODER_NAMES = tuple(BUILDERS)

TRAINED_ENCODERS = ("resnet50", "hrnet_w48", "hrnet_w48_classifier", "vit_h")
"""Encoders that are trained together with a head: their weights are in the network's own file. The others are frozen."""


def make_encoder(name: str, weights: Path | None = None, *, pretrained: bool = True) -> Encoder:
    """Build an encoder in float32, evaluation mode, on the CPU.

    Args:
        name: One of `ENCODER_NAMES`.
        weights: A .safetensors file; None takes the one that ships with the package.
        pretrained: False reads no file, for a caller that loads the encoder's weights from its own checkpoint.

    Returns:
        The encoder.

    Raises:
        UsageError: The name is unknown.
        MissingPart: No weights ship for it.
        InputError: The weights do not fit.
    """
    if name not in BUILDERS:
        close = difflib.get_close_matches(name, ENCODER_NAMES, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(ENCODER_NAMES)}"
        raise UsageError(f"unknown encoder {name!r}; {hint}")
    encoder = BUILDERS[name]()
    if pretrained:
        _load(encoder, weights if weights is not None else _shipped(name))
    return encoder.eval()


def _shipped(name: str) -> Path:
    if name in TRAINED_ENCODERS:
        raise MissingPart(
            f"no weights for encoder {name} ship with the package; make a file of somebody's with `mchmr import-weights` (docs/paper.md)"
        )
    path = Path(str(resources.files("mchmr_stream.assets"))) / f"{name}.safetensors"
    if not path.is_file():
        raise MissingPart(
            f"no weights for encoder {name} at {path}; make them with tools/convert_blazepose.py (its docstring says how) "
            "or use blazepose_full, which ships with the package"
        )
    return path


def _load(encoder: Encoder, path: Path) -> None:
    # Imported here, because training needs the encoders' shapes on machines with torch and numpy only.
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read encoder weights {path}: {error}; expected a .safetensors file") from error
    expected = encoder.state_dict()
    for key in sorted(expected.keys() | tensors.keys()):
        got = tuple(tensors[key].shape) if key in tensors else "nothing"
        expects = tuple(expected[key].shape) if key in expected else "nothing"
        if got != expects:
            raise InputError(f"encoder weights {path} do not fit {encoder.name}: {key} is {got}, expected {expects}")
    encoder.load_state_dict({key: value.float() for key, value in tensors.items()})
