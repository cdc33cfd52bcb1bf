"""Positions of COCO's twelve limb keypoints on the free body.

The hips and shoulders of annotators and keypoint detectors are not the joints about which a skeleton rotates: COCO's hips lie higher and
farther out, its shoulders higher, its ankles above the joint. Each point is stored as an offset from its joint that moves with one of the
bones, measured by tools/measure_coco_points.py on rendered people only. These points serve for comparison with COCO-style keypoints, in 2D
or 3D; the SMPL joints are unaffected.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.body.model import PARENTS, BodyModel
from mchmr_stream.errors import InputError

LIMB_JOINTS = (16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8)
"""SMPL joints nearest to COCO's shoulders, elbows, wrists, hips, knees, ankles, left before right (COCO 5 to 16)."""
BONES = tuple(PARENTS[joint] for joint in LIMB_JOINTS)
"""Joint whose rotation moves each offset: the parent, so that bending an elbow does not move its own point."""


@dataclass(frozen=True, eq=False)
class CocoPoints:
    """Offsets of the twelve points."""

    offsets_m: NDArray[np.float64]
    """(12, 3) in the rest axes of the body"""

    def place(self, joints_m: NDArray, rotations: NDArray) -> NDArray[np.float64]:
        """Compute the twelve points of posed bodies.

        Args:
            joints_m: (n, 24, 3) joints, metres.
            rotations: (n, 24, 3, 3) relative rotations, the root first, in the joints' axes.

        Returns:
            (n, 12, 3) metres.
        """
        outer = np.empty_like(rotations, dtype=np.float64)
        for joint, parent in enumerate(PARENTS):
            outer[:, joint] = rotations[:, joint] if parent < 0 else outer[:, parent] @ rotations[:, joint]
        carried = np.einsum("nkij,kj->nki", outer[:, list(BONES)], self.offsets_m)
        return np.asarray(joints_m, np.float64)[:, list(LIMB_JOINTS)] + carried


def coco_points(body: BodyModel) -> CocoPoints | None:
    """Points of the free body; None for any other, since they are not measured on it.

    Raises:
        InputError: They were measured on another version of the free body.
    """
    if body.name != "free":
        return None
    stored = json.loads((resources.files("mchmr_stream.assets") / "free_body_coco.json").read_text())
    if stored["body_sha256"] != body.sha256:
        raise InputError(
            "COCO's points were measured on another version of the free body; measure them again with tools/measure_coco_points.py"
        )
    return CocoPoints(np.array(stored["offsets_m"], np.float64))
