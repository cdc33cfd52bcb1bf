"""Measurement noise of the networks and prior of the fit, calibrated on rendered people by tools/calibrate_fit.py; reading them."""

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
from mchmr_stream.fitting.point_kinematics import FREE_JOINTS, SIZE

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
    """Calibration for one set of networks and one body model."""

    point_offsets_m: Array
    """(27, 3) from each point's nominal position to where the detector marks it, axes of the bone that carries it"""
    prior_covariance: Array
    """(SIZE, SIZE) covariance of the network's error for well visible people: rotations in the person's rolled camera, betas, bearing and
    log depth
    """
    prior_growth: Array
    """(): growth of a bone's standard deviation as its keypoints become occluded: factor exp(growth (1 - score / SEEN_SCORE))"""
    noise_scores: Array
    """(S,) ascending scores of keypoints"""
    noise_gain: Array
    """(S,) standard deviation of a keypoint's error relative to that of its peak in the heat map, at these scores"""
    noise_floor: Array
    """(): standard deviation that is added, as a share of the base box's side: a detector's joints differ between people"""
    extremity_sd: Array
    """(): standard deviation of a point of a hand or foot about its wrist or ankle, as a share of the base box's side"""
    joint_sd_scale: Array
    """(): ratio of true to computed standard deviation of a fitted joint"""
    about: dict[str, Any]
    """Data and command of the calibration"""

    def save(self, path: Path) -> None:
        """Write as safetensors, with `about` in the header."""
        arrays = {name: torch.from_numpy(np.array(getattr(self, name), np.float32, order="C")) for name in _SHAPES}
        write_tensors(path, arrays, {"about": json.dumps(self.about)})


SEEN_SCORE = 0.7
"""From this score on a keypoint counts as fully visible."""

BONE_KEYPOINTS: dict[int, tuple[int, ...]] = {
    0: (11, 12), 1: (11, 13), 2: (12, 14), 3: (11, 12, 5, 6), 4: (13, 15), 5: (14, 16), 6: (11, 12, 5, 6), 7: (15,), 8: (16,), 9: (5, 6),
    12: (5, 6, 0), 13: (5,), 14: (6,), 15: (0, 1, 2), 16: (5, 7), 17: (6, 8), 18: (7, 9), 19: (8, 10), 20: (9,), 21: (10,),
}  # fmt: skip
"""For each free joint the COCO keypoints that determine its bone's rotation."""
assert tuple(sorted(BONE_KEYPOINTS)) == FREE_JOINTS


@cache
def load_calibration(path: Path | None = None) -> FitCalibration:
    """Read a file of `FitCalibration.save`.

    Args:
        path: The file; None is the one that ships.

    Returns:
        The calibration.

    Raises:
        MissingPart: There is no such file.
        InputError: It is something else.
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
        if got is None or len(got) != len(shape) or any(expects not in (None, have) for expects, have in zip(shape, got, strict=True)):
            raise InputError(f"{path}: {name} has shape {got}, expected {shape}; make it anew with tools/calibrate_fit.py")
    return FitCalibration(**arrays, about=about)


assert set(_SHAPES) | {"about"} == {field.name for field in fields(FitCalibration)}
