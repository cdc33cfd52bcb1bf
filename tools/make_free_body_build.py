"""Make mchmr_stream/assets/free_body_build.npz: differences in the free body's surface between women and men (body.build).

    python tools/make_free_body_build.py DATA [--out mchmr_stream/assets/free_body_build.npz]

`DATA` is the training data folder (docs/training.md). The population is that of tools/make_free_body.py. The direction is half of the
difference between its mean man and its mean woman, minus the part that follows from their skeletons. Head, hands and feet do not move,
because the fit of bodies to keypoints depends on the points of the face, the hands and the soles. The neutral body is the mean of both
with a man's chest: keypoints do not determine the chest, and this shape suits both.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from mchmr_stream.body.builds import relative_to_skeleton
from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import BodyModel
from mchmr_stream.datatypes import JOINT_NAMES
from mchmr_stream.export.materials import vertex_normals
from mchmr_stream.synthesis.rig import load_render_body
from mchmr_stream.synthesis.source_body import draw_population, load_source_body

POPULATION = 6000
_STILL = ("head", "left_wrist", "right_wrist", "left_hand", "right_hand", "left_ankle", "right_ankle", "left_foot", "right_foot")
_TRUNK = ("spine1", "spine2", "spine3", "left_collar", "right_collar")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("mchmr_stream/assets/free_body_build.npz"))
    args = parser.parse_args()

    body = load_body("free", torch.float64)
    direction = sex_direction(args.data, body)
    chest = direction * chest_share(body)[:, None]
    people = load_render_body(args.data)
    sex = np.where(people.sample_is_male, 1.0, -1.0)
    of_betas, *_ = np.linalg.lstsq(np.c_[people.sample_betas, np.ones(len(sex))], sex, rcond=None)
    print(f"direction: {np.linalg.norm(direction, axis=1).max() * 1e3:.1f} mm at most; sex of betas {of_betas[:-1].round(2)}")
    np.savez_compressed(
        args.out,
        body_sha256=np.array(body.sha256),
        direction_m=direction.astype(np.float16),
        neutral_chest_m=chest.astype(np.float16),
        sex_of_betas=of_betas[:-1].astype(np.float32),
    )
    print(f"{args.out}: {args.out.stat().st_size / 1e3:.0f} kB")


def sex_direction(data: Path, body: BodyModel) -> np.ndarray:
    """(V, 3) metres from the mean body to a man's on the same skeleton; its negative is that to a woman's."""
    source = load_source_body(data)
    people, is_male = draw_population(source, POPULATION, seed=0)
    half = (people[is_male].mean(0) - people[~is_male].mean(0)) / 2
    moved, joints_moved = source.directions[source.subset] @ half, source.joint_directions @ half
    relative = relative_to_skeleton(moved, joints_moved, body.v_template.numpy(), body.j_template.numpy())
    still = share(body, _STILL) + share(body, ("neck",)) / 2
    return relative * np.clip(1 - still, 0, 1)[:, None]


def chest_share(body: BodyModel) -> np.ndarray:
    """(V,) 1 on the front of the chest, 0 elsewhere, smooth between them."""
    template, joints = body.v_template.numpy(), body.j_template.numpy()
    height = {name: joints[JOINT_NAMES.index(name), 1] for name in ("spine1", "spine2", "left_shoulder")}
    front = smooth_step(vertex_normals(template, body.faces)[:, 2], -0.4, 0.3)
    above = smooth_step(template[:, 1], height["spine1"] + 0.02, height["spine2"] + 0.08)
    below = 1 - smooth_step(template[:, 1], height["left_shoulder"] - 0.06, height["left_shoulder"] + 0.02)
    return share(body, _TRUNK) * front * above * below


def share(body: BodyModel, joints: tuple[str, ...]) -> np.ndarray:
    """Compute the share (V,) of these joints in the motion of each vertex."""
    return body.weights[:, [JOINT_NAMES.index(name) for name in joints]].sum(1).numpy()


def smooth_step(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


if __name__ == "__main__":
    main()
