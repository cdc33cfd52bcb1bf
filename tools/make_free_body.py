"""Make mchmr_stream/assets/free_body.npz: the free SMPL-format body with a shape space of both sexes and varied limbs.

    python tools/make_free_body.py DATA [--out mchmr_stream/assets/free_body.npz]

`DATA` is the training data folder (docs/training.md). The shape directions of its body hardly vary the ratio of arm to leg length, which
is 0.602 +- 0.019 against about 0.65 in people. This tool samples a population with both sexes in equal number and all limbs stretched
independently (`synthesis/source_body.py`); its mean becomes the template, and its first ten principal components, scaled to unit
variance, the shape directions. Surface and joints have equal weight, so limb lengths are kept although few vertices depend on them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from mchmr_stream.synthesis.source_body import draw_population, load_source_body

POPULATION = 6000
BETAS = 10
SAMPLES = 2000
"""number of people whose betas are stored, as a population to sample bodies from"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("mchmr_stream/assets/free_body.npz"))
    args = parser.parse_args()

    body = load_source_body(args.data)
    people, is_male = draw_population(body, POPULATION, seed=0)
    directions = body.directions[body.subset]
    mean, components, variance = principal_shapes(people, directions, body.joint_directions)
    print("standard deviation of each component, mm (surface and joints):", np.round(np.sqrt(variance[: BETAS + 3]) * 1e3, 1))
    print(f"variance left out: {variance[BETAS:].sum() / variance.sum():.2%}")

    with np.load(args.data / "body" / "free_body_smpl_f16.npz", allow_pickle=False) as source:
        arrays = {name: source[name] for name in source.files}
    arrays["v_template"] = (body.template_m[body.subset] + directions @ mean).astype(np.float32)
    arrays["shapedirs"] = (directions @ components[:, :BETAS]).astype(np.float16)
    arrays["sample_betas"] = np.linalg.solve(components, (people - mean).T).T[:SAMPLES, :BETAS].astype(np.float16)
    arrays["sample_is_male"] = is_male[:SAMPLES]
    np.savez_compressed(args.out, **arrays)
    print(f"{args.out}: {args.out.stat().st_size / 1e3:.0f} kB")


def principal_shapes(people: np.ndarray, directions: np.ndarray, joint_directions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean shape (k,), components (k, k) as columns of unit variance in decreasing order, and their variances in m^2.

    The body is linear in the k numbers of a shape, so the analysis runs on those, with the metric of surface and joints: |shape|^2 = mean
    square displacement of a vertex plus that of a joint.
    """
    surface, joints = directions.reshape(-1, directions.shape[-1]), joint_directions.reshape(-1, directions.shape[-1])
    metric = surface.T @ surface / len(directions) + joints.T @ joints / len(joint_directions)
    root = np.linalg.cholesky(metric + 1e-12 * np.eye(len(metric))).T
    mean = people.mean(0)
    variance, vectors = np.linalg.eigh(np.cov(root @ (people - mean).T))
    order = np.argsort(variance)[::-1]
    components = np.linalg.solve(root, vectors[:, order] * np.sqrt(np.maximum(variance[order], 0)))
    # Signs are arbitrary: a positive first beta makes a taller body; the others are positive for the vertex that moves most.
    signs = np.sign((directions[:, 1] @ components)[np.argmax(directions[:, 1, 0])])
    return mean, components * np.where(signs == 0, 1, signs), variance[order]


if __name__ == "__main__":
    main()
