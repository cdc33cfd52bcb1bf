"""Where COCO's twelve limb keypoints are on the free body.

What annotators and keypoint detectors call a hip or a shoulder is not the joint a skeleton turns about: COCO's hips lie
higher and farther out, its shoulders higher, its ankles above the joint. Each point is stored as an offset from its joint
that moves with one of the bones, measured by tools/measure_coco_points.py on rendered people only. Use these points to
compare with COCO-style keypoints, in 2D or 3D; the SMPL joints stay what they are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.body.body_model import PARENTS, BodyModel
from mchmr_stream.errors import InputError

LIMB_JOINTS = (16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8)
"""SMPL joints nearest to COCO's shoulders, elbows, wrists, hips, knees, ankles, left before right (COCO 5 to 16)."""
BONES = tuple(PARENTS[joint] for joint in LIMB_JOINTS)
"""The joint whose rotation carries each offset: the one above, so that a bent elbow does not swing its own point."""


@dataclass(frozen=True, eq=False)
class CocoPoints:
    """Offsets of the twelve points."""

    offsets_m: NDArray[np.float64]
    """(12, 3) in the rest axes of the body"""

    def place(self, joints_m: NDArray, rotations: NDArray) -> NDArray[np.float64]:
        """joints (n, 24, 3) and relative rotations (n, 24, 3, 3, the root first, in the joints' axes) -> points (n, 12, 3)."""
        turned = np.empty_like(rotations, dtype=np.float64)
        for joint, parent in enumerate(PARENTS):
            turned[:, joint] = rotations[:, joint] if parent < 0 else turned[:, parent] @ rotations[:, joint]
        carried = np.einsum("nkij,kj->nki", turned[:, list(BONES)], self.offsets_m)
        return np.asarray(joints_m, np.float64)[:, list(LIMB_JOINTS)] + carried


def coco_points(body: BodyModel) -> CocoPoints | None:
    """The points of the free body; None for any other, for which nobody has measured them.

    Raises InputError when they were measured on another version of the free body.
    """
    if body.name != "free":
        return None
    stored = json.loads((resources.files("mchmr_stream.assets") / "free_body_coco.json").read_text())
    if stored["body_sha256"] != body.sha256:
        raise InputError(
            "COCO's points were measured on another version of the free body; measure them again with tools/measure_coco_points.py"
        )
    return CocoPoints(np.array(stored["offsets_m"], np.float64))
