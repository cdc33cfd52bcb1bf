"""One shape per person at the end of a run, when all estimates are known.

Each row holds in `betas_frame` the shape that the network estimated from that frame alone, and in `transl_mean_body` the look-alike
translation of a body of mean shape. These two do not depend on the shape that the rows were written with. From them follow one robust
mean shape per person, the look-alike translation for that shape, the joints and their pixels. A run that was stopped and resumed
therefore ends like one that was not.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from mchmr_stream.body.model import BodyModel, forward_kinematics
from mchmr_stream.body.shape import settled_shape, transl_from_mean_shape
from mchmr_stream.geometry.camera import Intrinsics, project

_ROWS_AT_ONCE = 4096


def apply_final_shape(columns: Mapping[str, NDArray], body: BodyModel, intrinsics: Intrinsics) -> None:
    """Rewrite `betas`, `transl`, `joints_m` and `joints_px` of a whole table in place.

    Args:
        columns: The columns `motion.COLUMNS`, N rows.
        body: The body model.
        intrinsics: The camera.
    """
    identities, owner = np.unique(columns["track_id"], return_inverse=True)
    by_owner = np.argsort(owner, kind="stable")
    ends = np.cumsum(np.bincount(owner, minlength=len(identities)))
    shapes = np.stack([_shape(columns, rows) for rows in np.split(by_owner, ends[:-1])])
    for start in range(0, len(owner), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        betas = shapes[owner[rows]]
        rotations = np.concatenate([columns["global_orient"][rows, None], columns["body_pose"][rows]], 1)
        transl = transl_from_mean_shape(body, rotations, columns["transl_mean_body"][rows], betas).astype(np.float32)
        betas = betas.astype(np.float32)
        tensors = [torch.from_numpy(values) for values in (rotations, betas, transl)]
        joints_m = forward_kinematics(body, *tensors)[0].numpy()
        columns["betas"][rows], columns["transl"][rows], columns["joints_m"][rows] = betas, transl, joints_m
        columns["joints_px"][rows] = project(joints_m, intrinsics)


def _shape(columns: Mapping[str, NDArray], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """(10,) betas of one person. Rows without picture evidence are ignored, unless there are no others."""
    estimates = rows[~columns["interpolated"][rows] & np.isfinite(columns["betas_frame"][rows]).all(-1)]
    if not len(estimates):
        return columns["betas"][rows[-1]].astype(np.float64)
    return settled_shape(columns["betas_frame"][estimates], columns["confidence"][estimates])
