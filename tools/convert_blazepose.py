"""Convert a published BlazePose landmark network (.tflite) to weights for `mchmr_stream.network.encoders`.

    npm pack @mediapipe/pose@0.5.1675469404 && tar xf mediapipe-pose-0.5.1675469404.tgz pip install tflite python tools/convert_blazepose.py
    package/pose_landmark_full.tflite mchmr_stream/assets/blazepose_full.safetensors

Works for pose_landmark_lite, _full and _heavy; the size is taken from the file's name. The weights are published in half
precision and stored so: nothing is lost. Before writing, the output of every convolution is compared with the published
graph, run operator by operator; the tool refuses to write when one differs by more than 3e-4 of its largest value.
Where the package `ai-edge-litert` is installed, the three outputs are also compared with Google's own runtime.
`--crops FILE.npy --reference FILE.npz` compares on your crops and stores the graph's answers to them, for the tests.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tflite
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from mchmr_stream.files.safe_tensors import write_tensors
from mchmr_stream.network.encoders.blazepose import INPUT_PX, VARIANTS, BlazePose
from mchmr_stream.network.encoders.encoder import CropFeatures

SOURCE = "npm @mediapipe/pose 0.5.1675469404"
LICENCE = "Apache-2.0, Copyright The MediaPipe Authors (model card: BlazePose GHUM 3D, Apache-2.0)"
TOLERANCE = 3e-4
LANDMARKS, PRESENCE, WORLD = "Identity", "Identity_1", "Identity_4"
"""Names of the graph's outputs; Identity_2 (mask) and Identity_3 (heat maps) are left out."""

OPERATOR_NAMES = {code: name for name, code in vars(tflite.BuiltinOperator).items() if isinstance(code, int)}
ACTIVATIONS: dict[int, Callable[[Tensor], Tensor]] = {
    tflite.ActivationFunctionType.NONE: lambda x: x,
    tflite.ActivationFunctionType.RELU6: F.relu6,
}


@dataclass(frozen=True)
class Operator:
    """One node of the graph."""

    kind: str
    inputs: tuple[int, ...]
    output: int
    options: Any
    """the flatbuffer's table of this kind's options; None for kinds without any"""


class Graph:
    """A .tflite file: constants as float32 or integers, and the operators that make each tensor."""

    OPTIONS = {
        "CONV_2D": tflite.Conv2DOptions,
        "DEPTHWISE_CONV_2D": tflite.DepthwiseConv2DOptions,
        "ADD": tflite.AddOptions,
        "MAX_POOL_2D": tflite.Pool2DOptions,
        "RESIZE_BILINEAR": tflite.ResizeBilinearOptions,
    }
    DTYPES = {
        tflite.TensorType.FLOAT32: np.float32,
        tflite.TensorType.FLOAT16: np.float16,
        tflite.TensorType.INT32: np.int32,
    }

    def __init__(self, data: bytes) -> None:
        model = tflite.Model.GetRootAsModel(data, 0)
        graph = model.Subgraphs(0)
        self.constants: dict[int, NDArray] = {}
        self.outputs: dict[str, int] = {}
        self.input = int(graph.Inputs(0))
        for index in range(graph.TensorsLength()):
            tensor = graph.Tensors(index)
            buffer = model.Buffers(tensor.Buffer())
            if buffer.DataLength():
                if tensor.Sparsity() is not None:
                    raise SystemExit("the file has sparse weights, which the published BlazePose files do not: is it the right one?")
                values = np.frombuffer(buffer.DataAsNumpy().tobytes(), self.DTYPES[tensor.Type()])
                self.constants[index] = values.reshape(tensor.ShapeAsNumpy() if tensor.ShapeLength() else ())
        for index in graph.OutputsAsNumpy():
            self.outputs[graph.Tensors(int(index)).Name().decode()] = int(index)
        self.makers: dict[int, Operator] = {}
        for position in range(graph.OperatorsLength()):
            node = graph.Operators(position)
            code = model.OperatorCodes(node.OpcodeIndex())
            kind = OPERATOR_NAMES[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            inputs, output = tuple(int(i) for i in node.InputsAsNumpy()), int(node.Outputs(0))
            if kind == "DEQUANTIZE":
                self.constants[output] = self.constants[inputs[0]].astype(np.float32)
                continue
            options = None
            if kind in self.OPTIONS:
                options = self.OPTIONS[kind]()
                options.Init(node.BuiltinOptions().Bytes, node.BuiltinOptions().Pos)
            self.makers[output] = Operator(kind, inputs, output, options)

    def towards(self, *targets: int) -> list[Operator]:
        """List the operators that `targets` need, each after its inputs: a depth-first walk, inputs in the operator's order."""
        order: dict[int, Operator] = {}
        stack = [(target, False) for target in reversed(targets)]
        while stack:
            tensor, inputs_done = stack.pop()
            if tensor in order or tensor not in self.makers:
                continue
            operator = self.makers[tensor]
            if inputs_done:
                order[tensor] = operator
            else:
                stack.append((tensor, True))
                stack += [(source, False) for source in reversed(operator.inputs)]
        return list(order.values())

    def kernel(self, operator: Operator) -> tuple[Tensor, Tensor]:
        """Return weight and bias of a convolution in PyTorch's layout."""
        weight = torch.from_numpy(self.constants[operator.inputs[1]].copy())
        # TensorFlow Lite: out, height, width, in; depthwise 1, height, width, channel.
        weight = weight.permute(3, 0, 1, 2) if operator.kind == "DEPTHWISE_CONV_2D" else weight.permute(0, 3, 1, 2)
        return weight.contiguous(), torch.from_numpy(self.constants[operator.inputs[2]].copy())


def run(graph: Graph, crops: Tensor, operators: list[Operator]) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Return all tensors (NCHW) for `crops` (B, 3, 256, 256), and the convolutions' outputs before their activation."""
    values, linear = {graph.input: crops}, {}
    for operator in operators:
        x, options, constants = values[operator.inputs[0]], operator.options, graph.constants
        match operator.kind:
            case "CONV_2D" | "DEPTHWISE_CONV_2D":
                weight, bias = graph.kernel(operator)
                stride = options.StrideH()
                if options.Padding() == tflite.Padding.SAME:
                    x = pad_same(x, weight.shape[2], stride)
                linear[operator.output] = F.conv2d(x, weight, bias, stride, groups=x.shape[1] // weight.shape[1])
                y = ACTIVATIONS[options.FusedActivationFunction()](linear[operator.output])
            case "ADD":
                y = ACTIVATIONS[options.FusedActivationFunction()](x + values[operator.inputs[1]])
            case "PAD":
                _, rows, columns, channels = constants[operator.inputs[1]].tolist()
                y = F.pad(x, (*columns, *rows, *channels))
            case "MAX_POOL_2D":
                y = F.max_pool2d(x, options.FilterHeight(), options.StrideH())
            case "RESIZE_BILINEAR":
                if not options.HalfPixelCenters() or options.AlignCorners():
                    raise SystemExit("a resize does not use half-pixel centres, which the published BlazePose files do")
                y = F.interpolate(x, constants[operator.inputs[1]].tolist(), mode="bilinear", align_corners=False)
            case "RESHAPE":
                y = x.reshape(len(x), -1)
            case "LOGISTIC":
                y = x.sigmoid()
            case other:
                raise SystemExit(f"the graph has an operator {other}, which the published BlazePose files do not")
        values[operator.output] = y
    return values, linear


def pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's SAME padding of a square map: an odd remainder goes to the bottom and right."""
    size = x.shape[-1]
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    before, after = total // 2, total - total // 2
    return F.pad(x, (before, after, before, after))


def convolutions(encoder: BlazePose) -> list[tuple[str, nn.Conv2d]]:
    return [(name, module) for name, module in encoder.named_modules() if isinstance(module, nn.Conv2d)]


def carry_over(graph: Graph, encoder: BlazePose) -> list[Operator]:
    """Copy the weights of all convolutions to `encoder`. Returns the graph's convolutions in the same order."""
    operators = [op for op in graph.towards(*targets(graph)) if "CONV_2D" in op.kind]
    modules = convolutions(encoder)
    if len(operators) != len(modules):
        raise SystemExit(f"the graph has {len(operators)} convolutions, expected {len(modules)} for {encoder.name}")
    for operator, (name, module) in zip(operators, modules, strict=True):
        weight, bias = graph.kernel(operator)
        if weight.shape != module.weight.shape:
            raise SystemExit(f"{name}: the graph has a kernel {tuple(weight.shape)}, expected {tuple(module.weight.shape)}")
        module.load_state_dict({"weight": weight, "bias": bias})
    return operators


def targets(graph: Graph) -> tuple[int, int, int]:
    """Return the outputs that are used, in the order of the heads in `BlazePose`."""
    return graph.outputs[LANDMARKS], graph.outputs[WORLD], graph.outputs[PRESENCE]


def published_outputs(encoded: CropFeatures) -> dict[str, Tensor]:
    """An encoder's output in the units of the graph: pixels and a probability."""
    half = INPUT_PX / 2
    x_y, z, logits = encoded.landmarks.split((2, 1, 2), dim=-1)
    return {
        LANDMARKS: torch.cat([(x_y + 1) * half, z * half, logits], dim=-1).flatten(1),
        WORLD: encoded.world.flatten(1),
        PRESENCE: encoded.presence[:, None].sigmoid(),
    }


def relative_error(got: Tensor, want: Tensor) -> float:
    return float((got - want).abs().max() / want.abs().max().clamp(min=1e-6))


def worst_error(graph: Graph, encoder: BlazePose, operators: list[Operator], crops: Tensor) -> tuple[float, dict[str, Tensor]]:
    """The largest relative error over all convolutions and the three outputs; and the graph's three outputs."""
    values, linear = run(graph, crops, graph.towards(*targets(graph)))
    ours: dict[str, Tensor] = {}
    hooks = [
        # Without sum and ReLU6, which the graph has as separate operators.
        module.register_forward_hook(lambda module, inputs, _output, name=name: ours.update({name: nn.Conv2d.forward(module, inputs[0])}))
        for name, module in convolutions(encoder)
    ]
    with torch.inference_mode():
        encoded = encoder(crops)
    for hook in hooks:
        hook.remove()
    names = [name for name, _ in convolutions(encoder)]
    errors = {name: relative_error(ours[name], linear[op.output]) for name, op in zip(names, operators, strict=True)}
    wanted = {name: values[graph.outputs[name]] for name in (LANDMARKS, WORLD, PRESENCE)}
    errors |= {name: relative_error(value, wanted[name]) for name, value in published_outputs(encoded).items()}
    worst = max(errors, key=lambda name: errors[name])
    print(f"{len(errors)} tensors compared with the graph, largest relative error {errors[worst]:.1e} at {worst}")
    return errors[worst], wanted


def error_against_google(data: bytes, wanted: dict[str, Tensor], crops: Tensor) -> float | None:
    """The largest relative error of the graph's outputs against Google's runtime; None if it is not installed."""
    if importlib.util.find_spec("ai_edge_litert") is None:
        print("ai-edge-litert is not installed: not compared with Google's runtime")
        return None
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    error = 0.0
    for index, crop in enumerate(crops):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], crop.permute(1, 2, 0)[None].numpy())
        interpreter.invoke()
        for details in interpreter.get_output_details():
            if details["name"] in wanted:
                got = torch.from_numpy(interpreter.get_tensor(details["index"]))
                error = max(error, relative_error(wanted[details["name"]][index : index + 1], got))
    print(f"{len(crops)} crops compared with Google's runtime, largest relative error of an output {error:.1e}")
    return error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tflite", type=Path, help="pose_landmark_{lite,full,heavy}.tflite")
    parser.add_argument("out", type=Path, help=".safetensors file to write")
    parser.add_argument("--crops", type=Path, help="(n, h, w, 3) uint8 .npy to compare on, resized to 256 x 256; default: noise")
    parser.add_argument("--reference", type=Path, help="also store the graph's answers to --crops here")
    arguments = parser.parse_args()

    variant = arguments.tflite.stem.rpartition("_")[2]
    if variant not in VARIANTS:
        raise SystemExit(f"got {arguments.tflite.name}, expected pose_landmark_ and one of {', '.join(VARIANTS)}")
    data = arguments.tflite.read_bytes()
    graph, encoder = Graph(data), BlazePose(variant).eval()
    operators = carry_over(graph, encoder)

    if arguments.crops is not None:
        crops = torch.from_numpy(np.load(arguments.crops, allow_pickle=False)).permute(0, 3, 1, 2).float() / 255
        crops = F.interpolate(crops, (INPUT_PX, INPUT_PX), mode="bilinear", align_corners=False)
    else:
        crops = torch.rand(2, 3, INPUT_PX, INPUT_PX, generator=torch.Generator().manual_seed(0))
    error, wanted = worst_error(graph, encoder, operators, crops)
    error = max(error, error_against_google(data, wanted, crops) or 0.0)
    if not error <= TOLERANCE:
        raise SystemExit(f"largest relative error {error:.1e}, expected at most {TOLERANCE}: nothing written")

    tensors = {name: value.half() for name, value in encoder.state_dict().items()}
    for name, value in encoder.state_dict().items():
        if not torch.equal(tensors[name].float(), value):
            raise SystemExit(f"{name} does not fit half precision, expected weights published in it: nothing written")
    metadata = {"source": f"{SOURCE}, {arguments.tflite.name}", "licence": LICENCE, "sha256": hashlib.sha256(data).hexdigest()}
    write_tensors(arguments.out, tensors, metadata)
    print(f"wrote {arguments.out}, {arguments.out.stat().st_size / 1e6:.1f} MB")
    if arguments.reference is not None:
        # Outputs of the graph, not of the converted module: the test compares with them.
        answers = {name: value.numpy() for name, value in zip(("landmarks_px", "world_m", "presence"), wanted.values(), strict=True)}
        np.savez_compressed(arguments.reference, **answers)
        print(f"wrote {arguments.reference}, {arguments.reference.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())
