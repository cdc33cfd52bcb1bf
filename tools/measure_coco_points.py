"""Measure the positions of COCO's limb keypoints on the free body, and write mchmr_stream/assets/free_body_coco.json.

    python tools/measure_coco_points.py runs/default/observed_train.npz

The file holds training's observations of rendered people of the training split: MoveNet's keypoints and the true bodies. MoveNet was
trained on COCO's annotations, so its mean position of a hip over thousands of poses and cameras is COCO's hip. For each point the offset
from its joint, moving with the parent bone, is found that projects best: the geometric median (iteratively reweighted least squares) of
the 2D residuals, left and right mirrored into one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mchmr_stream.body.coco_points import BONES, LIMB_JOINTS
from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import PARENTS
from mchmr_stream.training.observations.landmark_offsets import geometric_fit
from mchmr_stream.training.observations.observed_people import ObservedPeople

MIN_SCORE, MIN_BASE_PX = 0.4, 250
"""Least score of keypoints and least base side of people that count: clearly visible, and large enough for half a pixel not to matter."""
_COCO_LIMBS = slice(5, 17)
_MIRROR = torch.tensor([-1.0, 1.0, 1.0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("observed", type=Path)
    parser.add_argument("--out", type=Path, default=Path("mchmr_stream/assets/free_body_coco.json"))
    args = parser.parse_args()
    people = ObservedPeople.load(args.observed)
    offsets, used, before, after = measure(people)
    for index, joint in enumerate(LIMB_JOINTS[::2]):
        print(f"joint {joint}: {np.round(offsets[2 * index].numpy() * 1e3, 1)} mm")
    print(f"{used} keypoints; median distance {before * 100:.2f} % of the base box's side, with the offsets {after * 100:.2f} %")
    args.out.write_text(json.dumps({
        "body_sha256": load_body("free").sha256,
        "how": "tools/measure_coco_points.py: MoveNet's keypoints on rendered people of the training split",
        "keypoints": used,
        "offsets_m": [[round(value, 5) for value in row] for row in offsets.tolist()],
    }, indent=1) + "\n")  # fmt: skip


def measure(people: ObservedPeople) -> tuple[Tensor, int, float, float]:
    """Return (12, 3) offsets in metres, the number of keypoints, and their median distance without and with the offsets, in base sides."""
    turned = [people.rotations[:, 0]]
    for joint in range(1, len(PARENTS)):
        turned.append(turned[PARENTS[joint]] @ people.rotations[:, joint])
    joints = people.joints_m + people.pelvis_m[:, None]
    side = people.base_px[:, 2]
    keypoints = people.keypoints[:, _COCO_LIMBS]
    counts = (keypoints[..., 2] > MIN_SCORE) & (side > MIN_BASE_PX)[:, None]

    offsets, before, after = torch.zeros(12, 3), [], []
    for left in range(0, 12, 2):
        slopes, residuals = [], []
        for limb, mirror in ((left, torch.ones(3)), (left + 1, _MIRROR)):
            rows = counts[:, limb]
            point = joints[rows, LIMB_JOINTS[limb]]
            per_metre = people.focal_px[rows] / point[:, 2] / side[rows]
            seen = (keypoints[rows, limb, :2] * side[rows, None] + people.base_px[rows, :2]) / people.focal_px[rows, None]
            residuals.append((seen - point[:, :2] / point[:, 2:]) * point[:, 2:] * per_metre[:, None])
            # d(x/z) along the bone's axes, with the small change of z.
            towards = torch.cat([torch.eye(2).expand(len(point), 2, 2), -(point[:, :2] / point[:, 2:])[..., None]], -1)
            slopes.append(towards @ turned[BONES[limb]][rows] * mirror * per_metre[:, None, None])
        slope, residual = torch.cat(slopes), torch.cat(residuals)
        offset = geometric_fit(slope, residual)
        offsets[left], offsets[left + 1] = offset, offset * _MIRROR
        before.append(residual.norm(dim=-1))
        after.append((residual - slope @ offset).norm(dim=-1))
    return offsets, int(counts.sum()), float(torch.cat(before).median()), float(torch.cat(after).median())


if __name__ == "__main__":
    main()
