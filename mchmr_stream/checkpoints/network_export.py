"""Export of the network as one file for other runtimes: ONNX, or TorchScript. Inputs and outputs are those of `triton/wire_format.py`.

The file is float32. A later reduction of the precision (such as TensorRT's FP16 mode) should spare the head: in 16 bits the phase of
the positional encodings' higher frequencies is noise.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor, nn

from mchmr_stream.errors import MchmrError, MissingPart
from mchmr_stream.network.mesh_network import MultiCropNet
from mchmr_stream.network.weights import LoadedNetwork
from mchmr_stream.triton.wire_format import OUTPUT_SPECS, VIEWS, input_specs, probe_batch, request_arrays

_LARGEST = 1e-3
"""largest accepted difference from the network: entries of rotations, betas, scales; landmarks in units of the box"""


class _Exported(nn.Module):
    """The network with the inputs and outputs of a served model: plain tensors, two dimensions at least."""

    def __init__(self, net: MultiCropNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, crops: Tensor, views_px: Tensor, base_px: Tensor, focal_px: Tensor, keypoints_px: Tensor) -> tuple[Tensor, ...]:
        out = self.net(crops, views_px, base_px, focal_px[:, 0], keypoints_px)
        return out.rotations, out.betas, out.views_cam, out.confidence[:, None], out.presence[:, None], out.landmarks_px


def export_onnx(network: LoadedNetwork, path: Path) -> float | None:
    """Write an ONNX file for any number of people and views.

    Args:
        network: The network.
        path: The file.

    Returns:
        Its largest difference from the network; None without onnxruntime.

    Raises:
        MissingPart: The package onnx is not installed.
        MchmrError: The file's results differ from the network's.
    """
    if find_spec("onnx") is None:
        raise MissingPart("writing ONNX files needs onnx: python -m pip install onnx onnxruntime")
    module, example = _prepared(network, torch.device("cpu"))
    specs = [*input_specs(network.net.encoder.input_hw), *OUTPUT_SPECS]
    axes = {spec.name: {0: "people", **({1: "views"} if spec.dims[0] == VIEWS else {})} for spec in specs}
    with torch.no_grad(), warnings.catch_warnings():
        # The exporter based on TorchScript: its successor takes a minute for this network and needs another package.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, example, str(path), input_names=[spec.name for spec in specs[: len(example)]],
            output_names=[spec.name for spec in OUTPUT_SPECS], dynamic_axes=axes, opset_version=17, dynamo=False,
        )  # fmt: skip
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(inputs: tuple[Tensor, ...]) -> list[Tensor]:
        feed = {spec.name: value.numpy() for spec, value in zip(specs, inputs, strict=False)}
        return [torch.from_numpy(value) for value in session.run([spec.name for spec in OUTPUT_SPECS], feed)]

    return _checked(network, run, path)


def export_torchscript(network: LoadedNetwork, path: Path, device: torch.device) -> float:
    """Write a TorchScript file for any number of people and views.

    Args:
        network: The network.
        path: The file.
        device: The only device that the file is for.

    Returns:
        Its largest difference from the network.

    Raises:
        MchmrError: The file's results differ from the network's.
    """
    module, example = _prepared(network, device)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Via memory: on a full disk, torch's own writing aborts the process.
        written = BytesIO()
        torch.jit.save(torch.jit.freeze(torch.jit.trace(module, example, check_trace=False)), written)
        path.write_bytes(written.getbuffer())
        script = torch.jit.load(str(path), map_location=device)

    @torch.no_grad()
    def run(inputs: tuple[Tensor, ...]) -> list[Tensor]:
        with torch.jit.optimized_execution(False):  # compilation takes longer than the whole check
            return [value.float().cpu() for value in script(*(value.to(device) for value in inputs))]

    return _checked(network, run, path)


def _prepared(network: LoadedNetwork, device: torch.device) -> tuple[nn.Module, tuple[Tensor, ...]]:
    net = copy.deepcopy(network.net).eval().requires_grad_(False)
    views = network.net.config.fixed_views or 3
    return _Exported(net).to(device).eval(), tuple(value.to(device) for value in _inputs(network, people=2, views=views))


def _inputs(network: LoadedNetwork, people: int, views: int) -> tuple[Tensor, ...]:
    """Noise that differs between people and views."""
    generator = torch.Generator().manual_seed(100 * people + views)
    size = network.net.encoder.input_hw
    one = request_arrays(probe_batch(size, views))
    arrays = {name: torch.from_numpy(array).repeat(people, *[1] * (array.ndim - 1)) for name, array in one.items()}
    arrays["CROPS"] = torch.randint(0, 256, arrays["CROPS"].shape, dtype=torch.uint8, generator=generator)
    arrays["VIEWS_PX"] = arrays["VIEWS_PX"] * (1 + 0.2 * torch.rand(arrays["VIEWS_PX"].shape, generator=generator))
    return tuple(arrays[spec.name] for spec in input_specs(size))


@torch.no_grad()
def _checked(network: LoadedNetwork, run: Callable[[tuple[Tensor, ...]], list[Tensor]], path: Path) -> float:
    """Largest difference from the network, over numbers of people and views other than those of the export."""
    fixed, module, worst = network.net.config.fixed_views, _Exported(network.net), 0.0
    for people, views in ((1, 1), (3, 5), (2, 9)):
        inputs = _inputs(network, people, fixed or views)
        side_px = inputs[2][:, 2].max()
        for spec, expected, got in zip(OUTPUT_SPECS, module(*inputs), run(inputs), strict=True):
            difference = (got - expected).abs()
            worst = max(worst, float((difference / side_px if spec.name == "LANDMARKS_PX" else difference).max()))
    if not worst <= _LARGEST:
        raise MchmrError(f"{path} differs from the network by {worst:.2g}, at most {_LARGEST:g} was expected; please report this")
    return worst
