"""The model repository that Triton loads: `mchmr/config.pbtxt` and `mchmr/1/`."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from mchmr_stream import __version__
from mchmr_stream.checkpoints.network_export import export_onnx, export_torchscript
from mchmr_stream.config import CropSettings
from mchmr_stream.errors import UsageError
from mchmr_stream.network.weights import SHIPPED, LoadedNetwork, find_weights, pick_device
from mchmr_stream.triton.wire_format import MODEL, OUTPUT_SPECS, VIEWS, About, TensorSpec, input_specs

VERSION = "1"
WEIGHTS_FILE = "weights.safetensors"

_MODEL_PY = '''\
"""What Triton's python backend loads. The model itself is mchmr_stream/serving/python_model.py."""

import os
import sys

# The interpreter in the server is an isolated one: it takes no notice of PYTHONPATH.
sys.path[:0] = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]

from mchmr_stream.serving.python_model import TritonPythonModel  # noqa: E402, F401
'''


@dataclass(frozen=True)
class ModelOptions:
    """How the model runs; the weights determine what it computes."""

    device: str = "auto"
    """auto: each GPU of the server, else the CPU; cpu, cuda, or cuda:N"""
    instances: int = 1
    """per GPU, or on the CPU"""
    prepared_views: int | None = None
    """expected number of crops per person; others work, on a CPU more slowly. None: that of the weights, or the pipeline's default"""
    precision: str = "auto"
    threads: int = 0
    """CPU threads of each instance; 0: half the cores, as in process"""
    most_people: int = 32
    """per batch"""


def about_weights(network: LoadedNetwork) -> About:
    """The description that a server of these weights gives of itself."""
    return About(
        weights=network.name,
        weights_sha256=network.sha256,
        crop_size_hw=network.net.encoder.input_hw,
        fixed_views=network.net.config.fixed_views,
        body_sha256=network.provenance.get("body_sha256"),
        trained_on_smpl=network.provenance.get("body") == "smpl",
        version=__version__,
    )


def write_python_repository(folder: Path, network: LoadedNetwork, weights: str, options: ModelOptions) -> Path:
    """Write the model for Triton's python backend.

    Args:
        folder: The model repository.
        network: The network.
        weights: The name or path that `network` was loaded from; a file that does not ship is copied.
        options: How the model runs.

    Returns:
        The model's folder.

    Raises:
        UsageError: The options do not fit the weights.
    """
    about = about_weights(network)
    if options.prepared_views is not None and about.fixed_views not in (None, options.prepared_views):
        raise UsageError(f"the weights {about.weights} were made for {about.fixed_views} views, got {options.prepared_views}")
    model = folder / MODEL
    (model / VERSION).mkdir(parents=True, exist_ok=True)
    (model / VERSION / "model.py").write_text(_MODEL_PY)
    if weights not in SHIPPED:
        shutil.copyfile(find_weights(weights), model / VERSION / WEIGHTS_FILE)
    settings = {
        "weights_file": weights if weights in SHIPPED else WEIGHTS_FILE,
        "precision": options.precision,
        "prepared_views": str(_prepared_views(about, options)),
        "threads": str(options.threads),
    }
    (model / "config.pbtxt").write_text(_python_config(about, settings, options))
    return model


def write_onnx_repository(folder: Path, network: LoadedNetwork, options: ModelOptions) -> tuple[Path, float | None]:
    """Write the model for Triton's onnxruntime backend.

    Args:
        folder: The model repository.
        network: The network.
        options: How the model runs.

    Returns:
        The model's folder, and the file's largest difference (`export_onnx`).
    """
    model = folder / MODEL
    (model / VERSION).mkdir(parents=True, exist_ok=True)
    off = export_onnx(network, model / VERSION / "model.onnx")
    (model / "config.pbtxt").write_text(config_pbtxt(network, "onnxruntime", options, numbered=False))
    return model, off


def write_torchscript_repository(folder: Path, network: LoadedNetwork, options: ModelOptions) -> tuple[Path, float]:
    """Write the model for Triton's pytorch backend.

    Args:
        folder: The model repository.
        network: The network.
        options: How the model runs; the file is for their device, where `auto` is the CPU.

    Returns:
        The model's folder, and the file's largest difference (`export_torchscript`).
    """
    device = "cpu" if options.device == "auto" else options.device
    model = folder / MODEL
    (model / VERSION).mkdir(parents=True, exist_ok=True)
    off = export_torchscript(network, model / VERSION / "model.pt", pick_device(device))
    (model / "config.pbtxt").write_text(config_pbtxt(network, "pytorch", replace(options, device=device), numbered=True))
    return model, off


def _prepared_views(about: About, options: ModelOptions) -> int:
    return about.fixed_views or options.prepared_views or CropSettings().views


def config_pbtxt(network: LoadedNetwork, backend: str, options: ModelOptions, *, numbered: bool) -> str:
    """The text of the model's config.pbtxt; `numbered` names tensors NAME__INDEX, as Triton's pytorch backend does."""
    about = about_weights(network)
    inputs, outputs = input_specs(about.crop_size_hw), OUTPUT_SPECS
    if numbered:  # Triton's pytorch backend identifies tensors by NAME__INDEX
        inputs = tuple(replace(spec, name=f"{spec.name}__{i}") for i, spec in enumerate(inputs))
        outputs = tuple(replace(spec, name=f"{spec.name}__{i}") for i, spec in enumerate(outputs))
    return "\n".join(
        [
            "# Written by `mchmr export-model`; docs/triton.md explains it.",
            f"name: {_text(MODEL)}",
            f"backend: {_text(backend)}",
            f"max_batch_size: {options.most_people}",
            _tensors("input", inputs),
            _tensors("output", outputs),
            "dynamic_batching { }",
            _instances(options),
            _warm_up(inputs, _prepared_views(about, options)),
            *_parameters(about.to_parameters()),
            *(_parameters({"INFERENCE_MODE": "true"}) if backend == "pytorch" else []),
            "",
        ]
    )


def _python_config(about: About, settings: dict[str, str], options: ModelOptions) -> str:
    inputs = input_specs(about.crop_size_hw)
    return "\n".join(
        [
            "# Written by `mchmr export-model`; docs/triton.md explains it.",
            f"name: {_text(MODEL)}",
            'backend: "python"',
            f"max_batch_size: {options.most_people}",
            _tensors("input", inputs),
            _tensors("output", OUTPUT_SPECS),
            "# People of any streams are computed together. No default_queue_policy: it stalls for half a second at a time.",
            "dynamic_batching { }",
            _instances(options),
            _warm_up(inputs, _prepared_views(about, options)),
            *_parameters({**about.to_parameters(), **settings}),
            "# Crops that are on the GPU already (CUDA shared memory) stay there.",
            *_parameters({"FORCE_CPU_ONLY_INPUT_TENSORS": "no"}),
            "",
        ]
    )


def _tensors(kind: str, specs: tuple[TensorSpec, ...]) -> str:
    rows = [f"  {{ name: {_text(spec.name)}, data_type: TYPE_{spec.datatype}, dims: {list(spec.dims)} }}" for spec in specs]
    return f"{kind} [\n" + ",\n".join(rows) + "\n]"


def _instances(options: ModelOptions) -> str:
    kind, _, number = options.device.partition(":")
    kinds = {"auto": "KIND_AUTO", "cpu": "KIND_CPU", "cuda": "KIND_GPU"}
    if kind not in kinds or (number and not (kind == "cuda" and number.isdecimal())):
        raise UsageError(f"device is {options.device!r}, expected auto, cpu, cuda or cuda:N")
    gpus = f", gpus: [{number}]" if number else ""
    return f"instance_group [ {{ count: {options.instances}, kind: {kinds[kind]}{gpus} }} ]"


def _warm_up(specs: tuple[TensorSpec, ...], views: int) -> str:
    """Run the network on one person before the server reports that it is ready."""

    def sample(spec: TensorSpec) -> str:
        dims = [views if size == VIEWS else size for size in spec.dims]
        return f"    inputs {{ key: {_text(spec.name)}, value: {{ data_type: TYPE_{spec.datatype}, dims: {dims}, random_data: true }} }}"

    return 'model_warmup [ {\n    name: "one person"\n    batch_size: 1\n' + "\n".join(map(sample, specs)) + "\n} ]"


def _parameters(values: dict[str, str]) -> list[str]:
    return [f"parameters {{ key: {_text(key)}, value: {{ string_value: {_text(value)} }} }}" for key, value in values.items()]


def _text(value: str) -> str:
    return json.dumps(value)
