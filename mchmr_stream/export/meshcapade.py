"""Meshcapade's .smpl, encoded by their smplcodec: one person, one segment, an even rate, 24 SMPL joints.

Metres, y up, the camera at the origin looking along -z.
"""

from __future__ import annotations

from pathlib import Path

from mchmr_stream.body.model import BodyModel
from mchmr_stream.export.optional_packages import needed
from mchmr_stream.export.person_motion import ExportedPerson
from mchmr_stream.export.smpl_parameters import smpl_parameters


def write_smpl(path: Path, person: ExportedPerson, rate: float, body: BodyModel) -> None:
    """Write one segment of a person.

    Args:
        path: The file.
        person: The person at an even rate, y up.
        rate: Frames per second.
        body: The body model.

    Raises:
        MissingPart: smplcodec is not installed.
    """
    codec = needed("smplcodec", "smplcodec", ".smpl")
    parameters = smpl_parameters(person, body)
    content = codec.SMPLCodec(
        smpl_version=codec.SMPLVersion.SMPL,
        gender=codec.SMPLGender[parameters.gender.upper()],
        shape_parameters=parameters.betas,
        frame_count=len(person),
        frame_rate=float(rate),
        body_translation=parameters.trans,
        body_pose=parameters.poses,
    )
    content.write(path)
