"""Rows of a table that a second pass replaces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.body.joints import posed_joints
from mchmr_stream.body.model import BodyModel
from mchmr_stream.body.one_shape import transl_to_look_alike
from mchmr_stream.geometry.camera import Intrinsics, project
from mchmr_stream.records import Bodies


def replace_rows(columns: Mapping[str, NDArray], frames: Iterable[Bodies], body: BodyModel, intrinsics: Intrinsics) -> None:
    """Rewrite the bodies of a table in place.

    Args:
        columns: those of `motion.COLUMNS`, N rows in order of the frames.
        frames: bodies of some frames. Rows of other frames, and of people whom these do not have, stay as they are.
        body: the model that is posed.
        intrinsics: of the picture.
    """
    for bodies in frames:
        first, end = np.searchsorted(columns["frame"], [bodies.frame, bodies.frame + 1])
        row_of = {int(track): row for row, track in enumerate(columns["track_id"][first:end], int(first))}
        known = np.array([row for row, track in enumerate(bodies.track_id) if int(track) in row_of], np.int64)
        if not len(known):
            continue
        chosen = bodies.rows(known)
        target = np.array([row_of[int(track)] for track in chosen.track_id])
        for name, values in _columns_of(chosen, body, intrinsics).items():
            columns[name][target] = values


def _columns_of(bodies: Bodies, body: BodyModel, intrinsics: Intrinsics) -> dict[str, NDArray]:
    rotations = np.concatenate([bodies.global_orient[:, None], bodies.body_pose], 1)
    pelvis, around = posed_joints(body, rotations, bodies.betas)
    joints_m = ((pelvis + bodies.transl)[:, None] + around).astype(np.float32)
    mean = np.zeros_like(bodies.betas)
    return {
        "global_orient": bodies.global_orient,
        "body_pose": bodies.body_pose,
        "betas": bodies.betas,
        "transl": bodies.transl,
        "joints_m": joints_m,
        "joints_px": project(joints_m, intrinsics),
        "confidence": bodies.confidence,
        "betas_frame": bodies.betas_frame,
        "transl_mean_body": transl_to_look_alike(body, rotations, bodies.betas, bodies.transl, mean),
        "joint_sd_m": bodies.joint_sd_m,
    }
