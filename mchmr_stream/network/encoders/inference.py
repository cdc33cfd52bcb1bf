"""Faster inference with an encoder: fused kernels on the CPU, and 16-bit arithmetic where accuracy allows it.

16 bits are used in `Encoder.reduced_parts` only. bfloat16 has 8 significant bits, so that rounding the weights shifts the mean of each
channel, and rounding the biases even more; these shifts are most of the error. They are corrected: the first is measured on noise
pictures (it hardly depends on the picture) and added to the bias (Nagel et al., "Data-Free Quantization Through Weight Equalization and
Bias Correction", 2019), and the bias is stored in two parts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mchmr_stream.errors import UsageError
from mchmr_stream.network.encoders.convolution import Convolution
from mchmr_stream.network.encoders.encoder import CropFeatures, Encoder
from mchmr_stream.runtime.onednn import OneDnnModule, cpu_multiplies_bf16

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_NOISE_CROPS = 8
_LEAST_IN_PASS = 4


def fastest_precision(device: torch.device) -> str:
    """The fastest precision of `optimise_for_inference`: fp16 on CUDA, bf16 on CPUs that support it, else fp32."""
    if device.type == "cuda":
        return "fp16"
    return "bf16" if cpu_multiplies_bf16() else "fp32"


def optimise_for_inference(
    encoder: Encoder, device: torch.device, precision: str = "auto", crops_at_once: int = 5
) -> Callable[[Tensor], CropFeatures]:
    """Make a frozen copy of an encoder for a device. Building takes about a second.

    Args:
        encoder: Stays as it is.
        device: CPU or CUDA.
        precision: auto (`fastest_precision`), fp32, bf16 (CPU) or fp16 (CUDA).
        crops_at_once: Crops per pass on a CPU, the number of crops of one person; the last pass is padded.

    Returns:
        A function of (B, 3, *input_hw) float RGB, 0 to 1, any B; all outputs are float32.

    Raises:
        UsageError: The precision is unknown or does not suit the device.
    """
    if precision == "auto":
        precision = fastest_precision(device)
    if precision not in _DTYPES:
        raise UsageError(f"precision is {precision!r}, expected auto, {', '.join(_DTYPES)}")
    if precision == ("bf16" if device.type == "cuda" else "fp16"):
        raise UsageError(f"precision {precision} is not for {device.type}; use auto or fp32")
    if crops_at_once < 1:
        raise UsageError(f"crops_at_once is {crops_at_once}, expected 1 or more")
    dtype = _DTYPES[precision]
    model = copy.deepcopy(encoder).cpu().float().eval().requires_grad_(False)
    if dtype == torch.bfloat16 and model.reduced_parts:
        _round_to_bf16(model)
    model.reduced_dtype = dtype
    for part in model.reduced_parts:
        model.get_submodule(part).to(dtype)
    if device.type == "cpu" and model.onednn_fusion:
        return _InPasses(model, crops_at_once)
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload] # lacks memory_format

    @torch.inference_mode()
    def run(crops: Tensor) -> CropFeatures:
        return model(crops.to(device=device, memory_format=torch.channels_last))

    return run


class _InPasses:
    """Run the fused encoder on a fixed number of crops at a time.

    It is compiled for one shape, and the number of people varies. Passes of less than four crops take longer per crop; passes of more
    than five do not gain, and maps above 32 MB are returned to the system after each use. So the crops of several people or frames run
    in passes of at least four, and the rest in passes of `crops_at_once`.
    """

    def __init__(self, model: Encoder, crops_at_once: int) -> None:
        self._model = OneDnnModule(model, dtype=None)
        self._small = crops_at_once
        self._large = crops_at_once * -(-_LEAST_IN_PASS // crops_at_once)
        self._model(torch.zeros(crops_at_once, 3, *model.input_hw))

    @torch.inference_mode()
    def __call__(self, crops: Tensor) -> CropFeatures:
        count = len(crops)
        large = count // self._large
        small = max(-(-(count - large * self._large) // self._small), 0 if count else 1)
        sizes = [self._large] * large + [self._small] * small
        missing = sum(sizes) - count
        if missing:
            crops = F.pad(crops, (0, 0, 0, 0, 0, 0, 0, missing))
        passes = [self._model(part) for part in crops.split(sizes)]
        return CropFeatures(*(torch.cat(tensors)[:count] for tensors in zip(*passes, strict=True)))


class _Bf16Convolution(nn.Module):
    """`Convolution` with bfloat16 weights that keeps the means of its channels."""

    def __init__(self, convolution: Convolution, input_mean: Tensor) -> None:
        super().__init__()
        self.stride, self.padding, self.groups = convolution.stride, convolution.padding, convolution.groups
        self.relu6 = convolution.relu6
        self.weight = nn.Parameter(convolution.weight.bfloat16(), requires_grad=False)
        lost = (convolution.weight - self.weight.float()).sum(dim=(2, 3))
        bias = lost[:, 0] * input_mean if self.groups > 1 else lost @ input_mean
        if convolution.bias is not None:
            bias = bias + convolution.bias
        coarse = bias.bfloat16()
        self.bias = nn.Parameter(coarse, requires_grad=False)
        self.bias_rest = nn.Parameter((bias - coarse.float()).bfloat16().view(1, -1, 1, 1), requires_grad=False)

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        # The fused kernel accumulates in float32.
        y = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, groups=self.groups) + self.bias_rest
        if shortcut is not None:
            y = y + shortcut
        return F.relu6(y) if self.relu6 else y


def _round_to_bf16(model: Encoder) -> None:
    """Replace each `Convolution` of the reduced parts by `_Bf16Convolution`."""
    convolutions = {
        f"{part}.{name}": module
        for part in model.reduced_parts
        for name, module in model.get_submodule(part).named_modules()
        if isinstance(module, Convolution)
    }
    means = _input_means(model, convolutions)
    for name, convolution in convolutions.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, _Bf16Convolution(convolution, means[name]))


def _input_means(model: Encoder, convolutions: dict[str, Convolution]) -> dict[str, Tensor]:
    """Mean of each convolution's input channels over noise pictures."""
    means: dict[str, Tensor] = {}

    def remember(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _module, inputs: means.update({name: inputs[0].mean(dim=(0, 2, 3))})

    hooks = [convolution.register_forward_pre_hook(remember(name)) for name, convolution in convolutions.items()]
    with torch.inference_mode():
        model(_noise_pictures(model.input_hw))
    for hook in hooks:
        hook.remove()
    return {name: mean.clone() for name, mean in means.items()}


def _noise_pictures(size_hw: tuple[int, int]) -> Tensor:
    """Noise of equal strength at every scale, approximately as in photographs. Always the same pictures."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.zeros(_NOISE_CROPS, 3, *size_hw)
    for cells in (2, 4, 8, 16, 32, 64, 128, 256):
        octave = torch.rand(_NOISE_CROPS, 3, cells, cells, generator=generator) - 0.5
        pictures += F.interpolate(octave, size=size_hw, mode="bicubic")
    return (0.35 * pictures + 0.5).clamp(0, 1)
