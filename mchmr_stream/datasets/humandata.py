"""MMHuman3D's HumanData .npz files (its documentation: docs/human_data.md).

| key | shape | meaning |
|---|---|---|
| image_path | (N,) text | path of the picture |
| bbox_xywh | (N, 4 or 5) | left, top, width, height, pixels (its converters enlarge boxes by 1.2); score |
| keypoints2d, keypoints2d_mask | (N, 190 or those in the mask, 3), (190,) | points of its 190 names; which of them the data set has |
| keypoints3d, keypoints3d_mask | (N, 190 or those in the mask, 4), (190,) | the same in camera axes, metres |
| smpl | dictionary | global_orient (N, 3), body_pose (N, 69) or (N, 23, 3), betas (N, 10), transl (N, 3) |
| smplx | dictionary | the same with body_pose of 21 joints; read where there is no smpl |
| meta | dictionary | gender: N texts |
| has_smpl | (N,) | where smpl counts |

image_path and bbox_xywh are required. Dictionaries in an .npz are pickles; they are read without executing code
(`files.safe_pickle.load_plain`).
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mchmr_stream.datasets.label_columns import Columns, flat_numbers, frames_of, genders, numbers, sound, texts
from mchmr_stream.datasets.points import ANNOTATED_NAMES, POINT_NAMES
from mchmr_stream.datatypes import JOINT_NAMES
from mchmr_stream.errors import InputError
from mchmr_stream.files.safe_npz import MAX_ARRAY_BYTES, read_npz
from mchmr_stream.files.safe_pickle import load_plain

NEEDED = ("image_path", "bbox_xywh")
_WHAT = "a HumanData file"
_NAMES = 190
_HANDS = {"left_hand": 188, "right_hand": 189}
_LIMBS = tuple(name for name in ANNOTATED_NAMES if name in JOINT_NAMES and "hip" not in name and name not in ("neck", "pelvis", "head"))
_SMPL_PLACES = [*range(22), *_HANDS.values()]
"""Indices of SMPL's 24 joints among the 190."""
_ANNOTATED_PLACES = {
    "right_hip": 144, "left_hip": 145, "neck": 146, "head_top": 147, "pelvis": 148, "thorax": 149, "spine": 150, "jaw": 151, "head": 152,
    "nose": 55, "right_eye": 56, "left_eye": 57, "right_ear": 58, "left_ear": 59, **{name: JOINT_NAMES.index(name) for name in _LIMBS},
}  # fmt: skip
_SMPL_HIPS = [1, 2]


def read_humandata(path: Path, *, frames: bool) -> Columns:
    """Read a label file.

    Args:
        path: the npz file.
        frames: the pictures are frames of films, named by number.

    Raises:
        InputError: the file has another layout.
    """
    optional = ("keypoints2d", "keypoints2d_mask", "keypoints3d", "keypoints3d_mask", "has_smpl")
    found = read_npz(path, NEEDED, optional=optional, what=_WHAT)
    images = texts(found["image_path"], path, "image_path")
    n = len(images)
    boxes = numbers(found["bbox_xywh"], path, "bbox_xywh", n, None)
    if boxes.shape[1] not in (4, 5):
        raise InputError(f"{path}: bbox_xywh has shape {boxes.shape}, expected ({n}, 4 or 5)")
    smpl, smplx, meta = (_dictionary(path, name) for name in ("smpl", "smplx", "meta"))
    body = smpl or smplx
    joints = 23 if smpl else 21
    known: dict[str, Any] = {}
    if body:
        missing = [name for name in ("global_orient", "body_pose", "betas") if name not in body]
        if missing:
            raise InputError(f"{path}: its body lacks {', '.join(missing)}; expected global_orient, body_pose and betas")
        column = lambda name: flat_numbers(np.asarray(body[name]), path, name, n)
        pose = np.concatenate([column("global_orient"), column("body_pose")], 1)
        if pose.shape[1] != 3 * (joints + 1):
            raise InputError(f"{path}: its body has {pose.shape[1]} numbers of pose a person, expected {3 * (joints + 1)}")
        has = flat_numbers(found["has_smpl"], path, "has_smpl", n)[:, 0] > 0 if "has_smpl" in found else None
        pose = np.pad(pose, ((0, 0), (0, 72 - pose.shape[1]))).reshape(n, 24, 3)
        known |= {"pose": pose, "betas": column("betas")[:, :10], "has_pose": has, "has_betas": has, "body": "smpl" if smpl else "smplx"}
        known["transl_m"] = numbers(np.asarray(body["transl"]), path, "transl", n, 3) if "transl" in body else None
    for name, ours, width in (("keypoints2d", "points_px", 3), ("keypoints3d", "points_m", 4)):
        if name in found:
            known[ours], known[f"{ours}_at"] = _points(found, path, name, n, width)
    if "gender" in meta:
        # A list of texts has one per person; a single text holds for all people.
        gender_texts = meta["gender"]
        known["gender"] = genders(np.array([gender_texts] * n if isinstance(gender_texts, str) else gender_texts, np.str_), path)
        if len(known["gender"]) != n:
            raise InputError(f"{path}: meta names {len(known['gender'])} genders, expected {n}")
    if frames:
        known["sequence"], known["frame"] = frames_of(images)
    centre = boxes[:, :2] + boxes[:, 2:4] / 2
    return sound(Columns(images, centre, boxes[:, 2:4].max(1), **known), path)


def _points(found: dict[str, NDArray], path: Path, name: str, n: int, width: int) -> tuple[NDArray, NDArray[np.int64]]:
    """The points, among the 190, that are labelled. Limbs are SMPL's joints if SMPL's hips are labelled too, else annotated points."""
    mask = found.get(f"{name}_mask")
    labelled = np.ones(_NAMES, np.bool_) if mask is None else numbers(mask, path, f"{name}_mask", _NAMES) > 0
    values = numbers(found[name], path, name, n, None, width)
    if values.shape[1] == int(labelled.sum()):
        everything = np.zeros((n, _NAMES, width))
        everything[:, labelled] = values
        values = everything
    if values.shape[1] != _NAMES:
        raise InputError(f"{path}: {name} has shape {values.shape}, expected {_NAMES} points, or the {int(labelled.sum())} of its mask")
    of_smpl = bool(labelled[_SMPL_HIPS].all())
    ours = [(POINT_NAMES.index(f"smpl_{joint}"), place) for joint, place in zip(JOINT_NAMES, _SMPL_PLACES, strict=True) if of_smpl]
    ours += [(POINT_NAMES.index(point), place) for point, place in _ANNOTATED_PLACES.items() if not (of_smpl and point in _LIMBS)]
    ours = [(point, place) for point, place in ours if labelled[place]]
    return values[:, [place for _, place in ours]], np.array([point for point, _ in ours], np.int64)


def _dictionary(path: Path, name: str) -> dict[str, Any]:
    """A pickled dictionary of the archive; empty if it does not exist."""
    try:
        with zipfile.ZipFile(path) as archive:
            if f"{name}.npy" not in archive.namelist():
                return {}
            if archive.getinfo(f"{name}.npy").file_size > MAX_ARRAY_BYTES:
                raise InputError(f"{path}: {name} is larger than {MAX_ARRAY_BYTES} bytes")
            with archive.open(f"{name}.npy") as file:
                version = npy.read_magic(file)
                read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                shape, _, dtype = read(file)
                if shape != () or not dtype.hasobject:
                    raise InputError(f"{path}: {name} is {dtype} of shape {shape}, expected a dictionary")
                content = load_plain(file, f"{path}: {name}", "HumanData's dictionaries")
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise InputError(f"cannot read {path}: {' '.join(str(error).split())}; expected {_WHAT}") from error
    # numpy pickles an array of one object.
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    if not isinstance(content, dict):
        raise InputError(f"{path}: {name} is no dictionary, expected {_WHAT}")
    return content
