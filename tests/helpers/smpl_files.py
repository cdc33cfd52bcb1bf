"""A made-up body in SMPL's file layout."""

from __future__ import annotations

from typing import Any

import numpy as np

from mchmr_stream.body.model import PARENTS


def smpl_arrays(
    rng: np.random.Generator, vertices: int = 60, parents: tuple[int, ...] | list[int] = PARENTS, betas: int = 10
) -> dict[str, Any]:
    """A made-up body in SMPL's file layout with every term of the model switched on."""
    joints = len(parents)
    weights = rng.random((vertices, joints)) ** 8
    regressor = rng.random((joints, vertices)) ** 8
    tree = np.array([parents, range(joints)])
    tree[0, 0] = 2**32 - 1
    return {
        "v_template": rng.normal(size=(vertices, 3)),
        "shapedirs": 0.05 * rng.normal(size=(vertices, 3, betas)),
        "posedirs": 0.05 * rng.normal(size=(vertices, 3, 9 * (joints - 1))),
        "weights": weights / weights.sum(1, keepdims=True),
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "f": rng.integers(0, vertices, (100, 3)).astype(np.uint32),
        "kintree_table": tree.astype(np.uint32),
    }
