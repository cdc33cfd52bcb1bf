"""At the end of a run every person gets one shape: all that was seen of them is known then.

Every row says, as `betas_frame`, what shape the network saw in that frame alone, and, as `transl_mean_body`, where a body of mean
shape looks as this one does. From these two follow, whatever shape the rows were written with: one robust mean per person, where
a body of that shape must stand to look the same, its joints, and their pixels. So a run that was stopped and resumed ends
as one that was not.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from mchmr_stream.body.body_model import BodyModel, forward_kinematics
from mchmr_stream.body.shape import settled_shape, transl_to_look_alike
from mchmr_stream.geometry.camera import Intrinsics, project

_ROWS_AT_ONCE = 4096


def apply_final_shape(columns: Mapping[str, NDArray], body: BodyModel, intrinsics: Intrinsics) -> None:
    """Rewrite `betas`, `transl`, `joints_m` and `joints_px` of a whole table in place. `columns` are those of `motion.COLUMNS`, N rows."""
    identities, owner = np.unique(columns["track_id"], return_inverse=True)
    by_owner = np.argsort(owner, kind="stable")
    ends = np.cumsum(np.bincount(owner, minlength=len(identities)))
    shapes = np.stack([_shape(columns, rows) for rows in np.split(by_owner, ends[:-1])])
    for start in range(0, len(owner), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        betas = shapes[owner[rows]]
        rotations = np.concatenate([columns["global_orient"][rows, None], columns["body_pose"][rows]], 1)
        transl = transl_to_look_alike(body, rotations, np.zeros_like(betas), columns["transl_mean_body"][rows], betas).astype(np.float32)
        betas = betas.astype(np.float32)
        tensors = [torch.from_numpy(values) for values in (rotations, betas, transl)]
        joints_m = forward_kinematics(body, *tensors)[0].numpy()
        columns["betas"][rows], columns["transl"][rows], columns["joints_m"][rows] = betas, transl, joints_m
        columns["joints_px"][rows] = project(joints_m, intrinsics)


def _shape(columns: Mapping[str, NDArray], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """(10,) of one person. Rows without picture evidence have no say, unless there are no others."""
    looks = rows[~columns["interpolated"][rows] & np.isfinite(columns["betas_frame"][rows]).all(-1)]
    if not len(looks):
        return columns["betas"][rows[-1]].astype(np.float64)
    return settled_shape(columns["betas_frame"][looks], columns["confidence"][looks])
