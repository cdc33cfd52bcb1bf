"""Parameters for programs with their own SMPL body: pose, shape and translation.

The free body's betas are meaningless for SMPL. For it the mean SMPL shape is given (zeros), and the translation is computed for SMPL's
own pelvis, so that the pelvis of the reader's body is where the picture has it; the limbs then have the mean body's lengths. With a run
on an SMPL file all values are those of STEM.npz.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from mchmr_stream.body.files import FREE_BODY
from mchmr_stream.body.model import BETA_COUNT, BodyModel
from mchmr_stream.export.person_motion import Array, ExportedPerson

SMPL_NEUTRAL_PELVIS_M = np.array([-0.0018, -0.2233, 0.0282])
"""Rest position of the root joint of the neutral SMPL body of mean shape."""


@dataclass(frozen=True, eq=False)
class SmplParameters:
    """F frames of one person for an SMPL body."""

    poses: Array
    """(F, 24, 3) axis-angle, radians"""
    betas: Array
    """(10,)"""
    trans: Array
    """(F, 3) m: pelvis = rest pelvis + trans"""
    gender: str = "neutral"
    """The SMPL body that `betas` belong to: neutral, female or male"""


def smpl_parameters(person: ExportedPerson, body: BodyModel) -> SmplParameters:
    """Convert a person to SMPL's parameters.

    Args:
        person: F frames of the person.
        body: The body model of the run.

    Returns:
        The parameters.
    """
    count, joints = person.rotations.shape[:2]
    poses = Rotation.from_matrix(person.rotations.reshape(-1, 3, 3)).as_rotvec().reshape(count, joints, 3)
    if body.name == FREE_BODY:
        return SmplParameters(poses, np.zeros(BETA_COUNT), person.pelvis_m - SMPL_NEUTRAL_PELVIS_M)
    return SmplParameters(poses, person.betas, person.transl_m, _gender(body))


def _gender(body: BodyModel) -> str:
    """Gender by the names of SMPL's files: SMPL_FEMALE, basicModel_f_lbs_10_207_0_v1.0.0. Others count as neutral."""
    words = re.split(r"[^a-z]+", body.name.lower())
    for gender in ("female", "male"):
        if gender in words or gender[0] in words:
            return gender
    return "neutral"
