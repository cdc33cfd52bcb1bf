"""The .npz layout of SPIN's preprocessing, also used for CLIFF's pseudo ground truth and many others.

| key | shape | meaning |
|---|---|---|
| imgname | (N,) text | path of the picture |
| center, scale | (N, 2), (N,) | box: middle in pixels, side over 200 |
| part | (N, 24, 3) | annotated points: x, y, confidence |
| S | (N, 24, 4) | annotated points in camera axes, metres, pelvis at the origin; confidence |
| pose, shape | (N, 72), (N, 10) | SMPL, root in camera axes |
| has_smpl | (N,) | where pose and shape count |
| gender | (N,) | m or f |
| global_t, focal_l | (N, 3), (N,) | CLIFF's: transl and focal length of the whole picture |

imgname, center and scale are required. OpenPose's detections (`openpose`) are not labels and are not read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mchmr_stream.datasets.label_columns import Columns, flat_numbers, frames_of, genders, numbers, sound, texts
from mchmr_stream.datasets.points import ANNOTATED_POINTS, POINT_COUNT
from mchmr_stream.files.safe_npz import read_npz

NEEDED = ("imgname", "center", "scale")
OPTIONAL = ("part", "S", "pose", "shape", "has_smpl", "gender", "global_t", "focal_l")
_ANNOTATED = np.arange(POINT_COUNT)[ANNOTATED_POINTS]


def read_spin(path: Path, *, frames: bool) -> Columns:
    """Read a label file.

    Args:
        path: the npz file.
        frames: the pictures are frames of films, named by number.

    Raises:
        InputError: the file has another layout.
    """
    found = read_npz(path, NEEDED, optional=OPTIONAL, what="labels in SPIN's layout")
    images = texts(found["imgname"], path, "imgname")
    n = len(images)
    column = lambda name, *shape: numbers(found[name], path, name, n, *shape) if name in found else None
    pose = column("pose", 72)
    betas = column("shape", None)
    has_smpl = column("has_smpl")
    sequence, frame = frames_of(images) if frames else (None, None)
    has = has_smpl > 0 if has_smpl is not None else None
    return sound(
        Columns(
            images=images,
            centre_px=numbers(found["center"], path, "center", n, 2),
            side_px=flat_numbers(found["scale"], path, "scale", n)[:, 0] * 200,
            focal_px=column("focal_l"),
            points_px=column("part", 24, 3),
            points_px_at=_ANNOTATED,
            points_m=column("S", 24, 4),
            points_m_at=_ANNOTATED,
            pose=None if pose is None else pose.reshape(n, 24, 3),
            has_pose=has,
            betas=None if betas is None else betas[:, :10],
            has_betas=has,
            transl_m=column("global_t", 3),
            gender=genders(found["gender"], path) if "gender" in found else None,
            sequence=sequence,
            frame=frame,
        ),
        path,
    )
