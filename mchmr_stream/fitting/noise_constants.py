"""How far networks are off: what was measured on rendered people by tools/calibrate_fit.py, and reading it back."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mchmr_stream.datatypes import LANDMARK_NAMES
from mchmr_stream.errors import InputError, MissingPart
from mchmr_stream.files.safe_tensors import write_tensors
from mchmr_stream.fitting.kinematics import FREE_JOINTS, SIZE

Array = NDArray[np.float64]

FILE_NAME = "fit_calibration.safetensors"
_SHAPES: dict[str, tuple[int | None, ...]] = {
    "point_offsets_m": (len(LANDMARK_NAMES), 3),
    "prior_covariance": (SIZE, SIZE),
    "prior_growth": (),
    "noise_scores": (None,),
    "noise_gain": (None,),
    "noise_floor": (),
    "extremity_sd": (),
    "joint_sd_scale": (),
}


@dataclass(frozen=True, eq=False)
class FitCalibration:
    """Numbers of one set of networks and one body."""

    point_offsets_m: Array
    """(27, 3) from each point's nominal place on the body to where the detector sees it, axes of the bone that carries it"""
    prior_covariance: Array
    """(SIZE, SIZE) of the network's deviation from the truth for people who are seen well: turns in the person's rolled camera, betas,
    bearing and log depth"""
    prior_growth: Array
    """(): how the deviation of a bone's turn grows as its keypoints disappear: factor exp(growth (1 - score / SEEN_SCORE))"""
    noise_scores: Array
    """(S,) ascending scores of keypoints"""
    noise_gain: Array
    """(S,) standard deviation of a keypoint's error over that of its peak in the heat map, at these scores"""
    noise_floor: Array
    """(): standard deviation that is added, as a share of the base box's side: a detector's joints differ from person to person"""
    extremity_sd: Array
    """(): standard deviation of a point of a hand or foot about its wrist or ankle, as a share of the base box's side"""
    joint_sd_scale: Array
    """(): true over computed standard deviation of a fitted joint"""
    about: dict[str, Any]
    """What it was measured on and with"""

    def save(self, path: Path) -> None:
        """As safetensors, the rest in the header."""
        arrays = {name: torch.from_numpy(np.array(getattr(self, name), np.float32, order="C")) for name in _SHAPES}
        write_tensors(path, arrays, {"about": json.dumps(self.about)})


SEEN_SCORE = 0.7
"""A keypoint of this score is seen as well as any."""

BONE_KEYPOINTS: dict[int, tuple[int, ...]] = {
    0: (11, 12), 1: (11, 13), 2: (12, 14), 3: (11, 12, 5, 6), 4: (13, 15), 5: (14, 16), 6: (11, 12, 5, 6), 7: (15,), 8: (16,), 9: (5, 6),
    12: (5, 6, 0), 13: (5,), 14: (6,), 15: (0, 1, 2), 16: (5, 7), 17: (6, 8), 18: (7, 9), 19: (8, 10), 20: (9,), 21: (10,),
}  # fmt: skip
"""For each free joint the COCO keypoints that show how its bone is turned."""
assert tuple(sorted(BONE_KEYPOINTS)) == FREE_JOINTS


@cache
def load_calibration(path: Path | None = None) -> FitCalibration:
    """Read a file of `FitCalibration.save`; None is the one that ships.

    Raises:
        MissingPart: there is no such file.
        InputError: it is something else.
    """
    from safetensors import SafetensorError, safe_open

    path = path or Path(str(resources.files("mchmr_stream.assets"))) / FILE_NAME
    if not path.is_file():
        raise MissingPart(f"no calibration of the fit at {path}; reinstall mchmr-stream, or make it with tools/calibrate_fit.py")
    try:
        with safe_open(path, "numpy") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            arrays = {key: file.get_tensor(key).astype(np.float64) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}; expected a file made by tools/calibrate_fit.py") from error
    for name, shape in _SHAPES.items():
        got = arrays[name].shape if name in arrays else None
        if got is None or len(got) != len(shape) or any(want not in (None, have) for want, have in zip(shape, got, strict=True)):
            raise InputError(f"{path}: {name} has shape {got}, expected {shape}; make it anew with tools/calibrate_fit.py")
    return FitCalibration(**arrays, about=about)


assert set(_SHAPES) | {"about"} == {field.name for field in fields(FitCalibration)}
