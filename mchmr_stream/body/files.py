"""Loading of body files into a `BodyModel`: the free body that ships, and the user's SMPL, SMPL-H and SMPL-X files.

All are read as plain arrays, so neither chumpy nor smplx is needed. SMPL-H and SMPL-X are the same model with more joints (fingers, jaw,
eyes). With those joints straight, as here, they move rigidly with the wrists and the head, so their skinning weights are added to those,
which gives a body of 24 joints exactly. Of the two hand joints of SMPL's 24, only the position is then meaningful (the base of the middle
finger); rotating them moves no vertex.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mchmr_stream.body.model import BETA_COUNT, JOINT_COUNT, PARENTS, BodyModel
from mchmr_stream.errors import InputError
from mchmr_stream.files.checksum import sha256_of_file
from mchmr_stream.files.safe_npz import read_npz
from mchmr_stream.files.safe_pickle import load_arrays

FREE_BODY = "free"
NEEDED = ("v_template", "shapedirs", "weights", "f", "kintree_table", "J_regressor")
OPTIONAL = ("posedirs",)
MAX_VERTICES = 200_000
MAX_FILE_BYTES = 2 * 2**30

_BODY_JOINTS = 22  # pelvis to wrists: the same in SMPL, SMPL-H and SMPL-X
_HEAD, _LEFT_WRIST, _RIGHT_WRIST = 15, 20, 21
_LEFT_HAND, _RIGHT_HAND = 22, 23
# Extra joints of each format: a number on the head, then 15 of each hand; the middle finger's base is the fourth of a hand.
_HEAD_JOINTS = {52: 0, 55: 3}
_HAND_JOINTS, _MIDDLE_FINGER = 15, 3


def load_body(which: str | Path = FREE_BODY, dtype: torch.dtype = torch.float32) -> BodyModel:
    """Load a body model.

    Args:
        which: "free" (ships with the package) or the path of an SMPL, SMPL-H or SMPL-X .npz or .pkl file.
        dtype: Floating type of its tensors.

    Returns:
        The body.

    Raises:
        InputError: The file is missing, is of another kind, or has arrays of the wrong shape.
    """
    if str(which) == FREE_BODY:
        with resources.as_file(resources.files("mchmr_stream.assets") / "free_body.npz") as path:
            return _load_file(path, FREE_BODY, dtype)
    return _load_file(Path(which), Path(which).stem, dtype)


def _load_file(path: Path, name: str, dtype: torch.dtype) -> BodyModel:
    what = 'an SMPL-format .npz or .pkl file, or "free"'
    if not path.is_file():
        raise InputError(f"body {path} is {'a folder' if path.is_dir() else 'not there'}, expected {what}")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InputError(f"body {path} has {path.stat().st_size} bytes, expected at most {MAX_FILE_BYTES} in {what}")
    if path.suffix == ".npz":
        arrays = read_npz(path, NEEDED, optional=OPTIONAL, what="an SMPL-format body")
    elif path.suffix == ".pkl":
        arrays = load_arrays(path, NEEDED, OPTIONAL)
    else:
        raise InputError(f"body {path} ends in {path.suffix!r}, expected {what}")
    return _build(arrays, path, name, sha256_of_file(path), dtype)


def _build(arrays: Mapping[str, NDArray], path: Path, name: str, sha256: str, dtype: torch.dtype) -> BodyModel:
    vertices = len(arrays["v_template"]) if arrays["v_template"].ndim else 0
    joints = arrays["kintree_table"].shape[-1] if arrays["kintree_table"].ndim else 0
    if not 0 < vertices <= MAX_VERTICES:
        raise InputError(f"body {path} has {vertices} vertices, expected 1 to {MAX_VERTICES}")
    if joints not in (JOINT_COUNT, *_HEAD_JOINTS):
        raise InputError(f"body {path} has {joints} joints, expected 24 (SMPL), 52 (SMPL-H) or 55 (SMPL-X)")
    expected: dict[str, tuple[int | None, ...]] = {
        "v_template": (vertices, 3),
        "shapedirs": (vertices, 3, None),
        "weights": (vertices, joints),
        "f": (None, 3),
        "kintree_table": (2, joints),
        "J_regressor": (joints, vertices),
        "posedirs": (vertices, 3, (joints - 1) * 9),
    }
    for key, array in arrays.items():
        _check_array(path, key, array, expected[key])
    if arrays["shapedirs"].shape[2] < BETA_COUNT:
        raise InputError(f"body {path}: shapedirs know {arrays['shapedirs'].shape[2]} betas, expected at least {BETA_COUNT}")
    faces = arrays["f"].astype(np.int64)
    if faces.size and not (faces.min() >= 0 and faces.max() < vertices):
        raise InputError(f"body {path}: faces name vertices {faces.min()} to {faces.max()}, expected 0 to {vertices - 1}")
    parents = arrays["kintree_table"][0].astype(np.int64)[1:_BODY_JOINTS]
    if tuple(parents) != PARENTS[1:_BODY_JOINTS]:
        raise InputError(f"body {path}: the tree of joints is not SMPL's (parents {parents.tolist()})")
    weights, regressor, posedirs = arrays["weights"], arrays["J_regressor"], arrays.get("posedirs")
    if abs(weights.sum(1, dtype=np.float64) - 1).max() > 0.01:
        raise InputError(f"body {path}: skinning weights do not sum to one for every vertex")
    if joints != JOINT_COUNT:
        weights, regressor, posedirs = _fold_extra_joints(weights, regressor, posedirs)
    return BodyModel.from_arrays(
        v_template=arrays["v_template"],
        shapedirs=arrays["shapedirs"][..., :BETA_COUNT],
        posedirs=posedirs,
        joint_regressor=regressor,
        weights=weights,
        faces=faces,
        name=name,
        sha256=sha256,
        dtype=dtype,
    )


def _check_array(path: Path, key: str, array: NDArray, shape: tuple[int | None, ...]) -> None:
    matches = array.ndim == len(shape) and all(want in (None, got) for got, want in zip(array.shape, shape, strict=True))
    if not matches:
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise InputError(f"body {path}: {key} has shape {array.shape}, expected ({wanted})")
    if array.dtype.kind not in "fiu":
        raise InputError(f"body {path}: {key} holds {array.dtype}, expected numbers")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"body {path}: {key} holds values that are not finite")


def _fold_extra_joints(weights: NDArray, regressor: NDArray, posedirs: NDArray | None) -> tuple[NDArray, NDArray, NDArray | None]:
    """Reduce 52 or 55 joints to 24: weights of the extra joints are added to head and wrists (see the top of this file)."""
    left_hand = _BODY_JOINTS + _HEAD_JOINTS[weights.shape[1]]
    right_hand = left_hand + _HAND_JOINTS
    folded = np.zeros((len(weights), JOINT_COUNT), np.float64)
    folded[:, :_BODY_JOINTS] = weights[:, :_BODY_JOINTS]
    folded[:, _HEAD] += weights[:, _BODY_JOINTS:left_hand].sum(1)
    folded[:, _LEFT_WRIST] += weights[:, left_hand:right_hand].sum(1)
    folded[:, _RIGHT_WRIST] += weights[:, right_hand:].sum(1)
    joint_regressor = regressor[[*range(_BODY_JOINTS), left_hand + _MIDDLE_FINGER, right_hand + _MIDDLE_FINGER]]
    if posedirs is not None:
        corrections = np.zeros((*posedirs.shape[:2], (JOINT_COUNT - 1) * 9), posedirs.dtype)
        corrections[..., : (_BODY_JOINTS - 1) * 9] = posedirs[..., : (_BODY_JOINTS - 1) * 9]
        posedirs = corrections
    return folded, joint_regressor, posedirs
