"""The .npz layout of BEDLAM's labels, also used for AGORA's labels.

| key | shape | meaning |
|---|---|---|
| imgname | (N,) text | path of the picture |
| center, scale | (N, 2), (N,) | box: middle in pixels, side over 200 |
| pose_cam | (N, 72), or (N, 66 and more) | SMPL, or SMPL-X (the first 22 joints are read); root in camera axes |
| shape | (N, 10 and more) | betas, the first ten are read |
| gtkps | (N, J, 2 or 3) | joints of that body in pixels, SMPL's order: 24 are read of SMPL, 22 of SMPL-X |
| cam_int | (N, 3, 3) | K |
| trans_cam, cam_ext | (N, 3), (N, 4, 4) | transl in the camera is trans_cam plus the last column of cam_ext |
| gender | (N,) | m, f, male, female, neutral |

imgname, center, scale, pose_cam and shape are required. BEDLAM's close-ups are stored rotated by a quarter turn; K is of the upright
picture, and they are rotated when they are read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mchmr_stream.datasets.label_columns import Columns, flat_numbers, frames_of, genders, numbers, sound, texts
from mchmr_stream.errors import InputError
from mchmr_stream.files.safe_npz import read_npz

NEEDED = ("imgname", "center", "scale", "pose_cam", "shape")
OPTIONAL = ("gtkps", "cam_int", "trans_cam", "cam_ext", "gender")
_SMPL, _SMPLX_BODY = 72, 66


def read_bedlam(path: Path, *, frames: bool) -> Columns:
    """Read a label file.

    Args:
        path: the npz file.
        frames: the pictures are frames of films, named by number.

    Raises:
        InputError: the file has another layout.
    """
    found = read_npz(path, NEEDED, optional=OPTIONAL, what="labels in BEDLAM's layout")
    images = texts(found["imgname"], path, "imgname")
    n = len(images)
    column = lambda name, *shape: numbers(found[name], path, name, n, *shape) if name in found else None
    pose_cam = flat_numbers(found["pose_cam"], path, "pose_cam", n)
    if pose_cam.shape[1] < _SMPLX_BODY or pose_cam.shape[1] in range(_SMPLX_BODY + 1, _SMPL):
        raise InputError(f"{path}: pose_cam holds {pose_cam.shape[1]} numbers a person, expected 72 (SMPL) or 66 and more (SMPL-X)")
    smpl = pose_cam.shape[1] == _SMPL
    read = _SMPL if smpl else _SMPLX_BODY
    pose = np.zeros((n, 72))
    pose[:, :read] = pose_cam[:, :read]
    transl, outer = column("trans_cam", 3), column("cam_ext", 4, 4)
    if transl is not None and outer is not None:
        transl = transl + outer[:, :3, 3]
    joints = read // 3
    points = found.get("gtkps")
    if points is not None:
        if points.ndim != 3 or points.shape[0] != n or points.shape[1] < joints or points.shape[2] not in (2, 3):
            raise InputError(f"{path}: gtkps has shape {points.shape}, expected ({n}, at least {joints}, 2 or 3)")
        points = numbers(points[:, :joints], path, "gtkps", n, joints, None)
        if points.shape[2] == 2:
            points = np.concatenate([points, np.ones((n, joints, 1))], 2)
    sequence, frame = frames_of(images) if frames else (None, None)
    return sound(
        Columns(
            images=images,
            centre_px=numbers(found["center"], path, "center", n, 2),
            side_px=flat_numbers(found["scale"], path, "scale", n)[:, 0] * 200,
            K=column("cam_int", 3, 3),
            points_px=points,
            points_px_at=np.arange(joints),
            pose=pose.reshape(n, 24, 3),
            betas=numbers(found["shape"], path, "shape", n, None)[:, :10],
            transl_m=transl,
            gender=genders(found["gender"], path) if "gender" in found else None,
            sequence=sequence,
            frame=frame,
            body="smpl" if smpl else "smplx",
        ),
        path,
    )
