"""AMASS's .npz: one person, one segment, an even rate, as SMPL-H parameters.

Metres, z up (x right, y away from the viewer), the camera at the origin: AMASS's axes. `poses` (F, 156): 22 joints, then both hands,
which are flat. `trans`, `betas` (16), `gender`, `mocap_framerate` and `surface_model_type` are as scripts for AMASS expect them;
`start_s` and `track_id` are additions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mchmr_stream.body.model import BodyModel
from mchmr_stream.export.person_motion import ExportedPerson
from mchmr_stream.export.smpl_parameters import smpl_parameters

_BODY_JOINTS, _POSE_NUMBERS, _BETAS = 22, 156, 16


def write_amass(path: Path, person: ExportedPerson, rate: float, body: BodyModel) -> None:
    """Write one segment of a person.

    Args:
        path: The file.
        person: The person at an even rate, z up.
        rate: Frames per second.
        body: The body model.
    """
    parameters = smpl_parameters(person, body)
    poses = np.zeros((len(person), _POSE_NUMBERS))
    poses[:, : _BODY_JOINTS * 3] = parameters.poses[:, :_BODY_JOINTS].reshape(len(person), -1)
    betas = np.zeros(_BETAS)
    betas[: len(parameters.betas)] = parameters.betas
    with path.open("wb") as file:
        np.savez(
            file,
            poses=poses,
            trans=parameters.trans,
            betas=betas,
            gender=np.array(parameters.gender),
            mocap_framerate=np.array(rate),
            surface_model_type=np.array("smplh"),
            start_s=np.array(person.time_s[0]),
            track_id=np.array(person.track_id),
        )
