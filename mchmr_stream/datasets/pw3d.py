"""3DPW's own sequence files: sequenceFiles/{train,validation,test}/*.pkl, pickled dictionaries of Python 2.

| key | shape, for each person in a list where marked * | meaning |
|---|---|---|
| sequence | text | its name; pictures are imageFiles/SEQUENCE/image_00000.jpg and following |
| poses* | (frames, 72) | SMPL, root in world axes |
| betas* | (10 and more) | of the gendered SMPL body |
| genders* | m or f | |
| cam_poses | (frames, 4, 4) | camera from world |
| cam_intrinsics | (3, 3) | K |
| campose_valid* | (frames,) | frames in which camera and picture agree; the others are left out |
| poses2d* | (frames, 3, 18) | OpenPose's 18 points: x, y, confidence |
| jointPositions* | (frames, 72) | SMPL's 24 joints in world axes, metres |

Read without executing code of the pickle (`files.safe_pickle.load_plain`). The box is SPIN's: 1.2 times the longer extent of
the 2D points; where a frame has none, of the projected joints.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datasets.label_columns import Columns, sound
from mchmr_stream.datasets.points import POINT_NAMES
from mchmr_stream.errors import InputError
from mchmr_stream.files.safe_pickle import load_plain
from mchmr_stream.geometry.rotation import exp_so3, log_so3

MAX_FILE_BYTES = 2 * 2**30
_NEEDED = ("sequence", "poses", "betas", "genders", "cam_poses", "cam_intrinsics", "campose_valid", "poses2d", "jointPositions")
_OPENPOSE18 = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist", "right_hip",
    "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye", "right_ear", "left_ear",
)  # fmt: skip
_BOX_FACTOR = 1.2
_WHAT = "3DPW's sequence files"


def read_3dpw(path: Path) -> Columns:
    """Read one sequence.

    Raises:
        InputError: the file is damaged, has another layout, or its pickle would execute code.
    """
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InputError(f"{path} has {path.stat().st_size} bytes, expected at most {MAX_FILE_BYTES} in one of {_WHAT}")
    with path.open("rb") as file:
        content = load_plain(file, str(path), _WHAT)
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no dictionary, expected one of {_WHAT}")
    missing = [name for name in _NEEDED if name not in content]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}, expected one of {_WHAT}")
    people = len(content["poses"]) if isinstance(content["poses"], list) else 0
    if not people:
        raise InputError(f"{path}: poses is no list with an array for each person, expected one of {_WHAT}")
    frames = len(_array(content["poses"][0], path, "poses", None, 72))
    camera_from_world = _array(content["cam_poses"], path, "cam_poses", None, 4, 4)
    frames = min(frames, len(camera_from_world))
    K = _array(content["cam_intrinsics"], path, "cam_intrinsics", 3, 3)
    parts = [_person(content, person, frames, camera_from_world[:frames], K, path) for person in range(people)]
    return sound(_stacked([part for part in parts if len(part)], path), path)


def _person(content: dict[str, Any], person: int, frames: int, camera_from_world: NDArray, K: NDArray, path: Path) -> Columns:
    def of(name: str, *shape: int | None) -> NDArray[np.float64]:
        values = content[name]
        if not isinstance(values, list) or len(values) <= person:
            raise InputError(f"{path}: {name} has nothing for person {person}, expected one of {_WHAT}")
        return _array(values[person], path, name, *shape)

    valid = np.flatnonzero(of("campose_valid", None)[:frames] > 0)
    # A person may have fewer recorded frames than the camera.
    valid = valid[valid < min(len(of("poses", None, 72)), len(of("poses2d", None, 3, 18)), len(of("jointPositions", None, 72)))]
    turn, shift = camera_from_world[valid, :3, :3], camera_from_world[valid, :3, 3]
    pose = of("poses", None, 72)[valid].reshape(-1, 24, 3)
    pose[:, 0] = log_so3(turn @ exp_so3(pose[:, 0]))
    joints = np.einsum("nij,nkj->nki", turn, of("jointPositions", None, 72)[valid].reshape(-1, 24, 3)) + shift[:, None]
    points = of("poses2d", None, 3, 18)[valid].transpose(0, 2, 1)
    centre, side = _boxes(points, joints, K)
    sequence, gender = str(content["sequence"]), str(content["genders"][person])
    n = len(valid)
    return Columns(
        images=np.array([f"imageFiles/{sequence}/image_{frame:05d}.jpg" for frame in valid], np.str_),
        centre_px=centre,
        side_px=side,
        K=np.broadcast_to(K, (n, 3, 3)),
        points_px=points,
        points_px_at=np.array([POINT_NAMES.index(name) for name in _OPENPOSE18]),
        points_m=np.concatenate([joints, np.ones((n, 24, 1))], 2),
        points_m_at=np.arange(24),
        placed=True,
        pose=pose,
        betas=np.broadcast_to(of("betas", None)[:10], (n, 10)),
        gender=np.array([{"f": "female", "m": "male"}.get(gender[:1].lower(), "neutral")] * n, np.str_),
        sequence=np.array([sequence] * n, np.str_),
        frame=valid.astype(np.int64),
        person=np.full(n, person, np.int64),
    )


def _boxes(points: NDArray, joints_m: NDArray, K: NDArray) -> tuple[NDArray, NDArray]:
    projected = joints_m @ K.T
    projected = projected[..., :2] / np.maximum(projected[..., 2:], 1e-3)
    seen = (points[..., 2] > 0)[..., None]
    none = ~seen.any(1)
    low = np.where(none, projected.min(1), np.where(seen, points[..., :2], np.inf).min(1))
    high = np.where(none, projected.max(1), np.where(seen, points[..., :2], -np.inf).max(1))
    return (low + high) / 2, _BOX_FACTOR * (high - low).max(-1)


def _array(value: Any, path: Path, name: str, *shape: int | None) -> NDArray[np.float64]:
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {name} holds no numbers, expected one of {_WHAT}") from error
    if array.ndim != len(shape) or not all(want in (None, got) for got, want in zip(array.shape, shape, strict=True)):
        shape_text = ", ".join("any" if want is None else str(want) for want in shape)
        raise InputError(f"{path}: {name} has shape {array.shape}, expected ({shape_text})")
    return array


def _stacked(parts: Sequence[Columns], path: Path) -> Columns:
    if not parts:
        raise InputError(f"{path} has no frame in which camera and picture agree (campose_valid)")
    first = parts[0]
    same = {"points_px_at": first.points_px_at, "points_m_at": first.points_m_at, "placed": True}
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name, value in vars(first).items()
        if isinstance(value, np.ndarray) and name not in same
    }
    return Columns(**columns, **same)  # type: ignore[arg-type]
