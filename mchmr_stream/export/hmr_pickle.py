"""The results file of 4D-Humans and PHALP (.pkl), for scripts that read it: a dict by picture, with a list per person.

It has only fields with a counterpart here, under their names: `time`, `shot`, `frame_path`, `tid`, `bbox` (left, top, width, height),
`tracked_ids`, `tracked_bbox`, `tracked_time`, `conf`, `center`, `scale`, `size`, `smpl` and `camera`; not their appearance features,
masks or 45 joints.

`camera` follows their convention: the translation of the SMPL body in front of a camera whose focal length is 5000 for a picture of 256
pixels, looking at the middle of the picture made square. That gives the right pixel and size of the pelvis, but a large distance. The
true metric values are `transl_m` (for the same bodies) and `K`. The file is a plain pickle; joblib.load and pickle.load read it.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mchmr_stream.body.model import BodyModel
from mchmr_stream.export.person_motion import ExportedPerson
from mchmr_stream.export.smpl_parameters import smpl_parameters
from mchmr_stream.motion.motion import Motion, Track

_FOCAL_PX, _FOCAL_FOR_PX = 5000.0, 256.0
_LISTS = ("tid", "bbox", "tracked_ids", "tracked_bbox", "tracked_time", "conf", "center", "scale", "size", "smpl", "camera", "transl_m")


def write_pkl(path: Path, stem: str, motion: Motion, people: Sequence[tuple[Track, ExportedPerson]], body: BodyModel) -> None:
    """Write all pictures.

    Args:
        path: The file.
        stem: Beginning of the pictures' names.
        motion: The motion.
        people: Tracks and the same people in camera axes.
        body: The body model.
    """
    pictures: dict[str, dict[str, Any]] = {}
    name_of: dict[int, str] = {}
    for count, frame in enumerate(motion.frames.tolist()):
        name = name_of[frame] = f"{stem}/img/{frame + 1:06d}.jpg"
        pictures[name] = {"time": count, "shot": 0, "frame_path": name, "K": motion.K, **{key: [] for key in _LISTS}}
    for track, person in people:
        for frame, row in _rows(motion, track, person, body):
            picture = pictures[name_of[frame]]
            for key in _LISTS:
                picture[key].append(row[key])
    with path.open("wb") as file:
        pickle.dump(pictures, file, protocol=4)


def _rows(motion: Motion, track: Track, person: ExportedPerson, body: BodyModel) -> list[tuple[int, Mapping[str, Any]]]:
    parameters = smpl_parameters(person, body)
    side = max(motion.width, motion.height)
    focal = _FOCAL_PX * side / _FOCAL_FOR_PX
    away = focal * person.pelvis_m[:, 2] / motion.K[0, 0]
    middle = np.array([motion.width - 1, motion.height - 1]) / 2
    seen = (person.pelvis_m @ motion.K.T)[:, :2] / person.pelvis_m[:, 2:]
    pelvis = np.concatenate([(seen - middle) * (away / focal)[:, None], away[:, None]], 1)
    camera = pelvis - (person.pelvis_m - parameters.trans)
    boxes = track.box_xyxy_px.astype(np.float64)
    betas = parameters.betas.astype(np.float32)
    found: list[tuple[int, Mapping[str, Any]]] = []
    for row, frame in enumerate(track.frame.tolist()):
        left, top, right, bottom = boxes[row]
        box = np.array([left, top, right - left, bottom - top])
        smpl = {
            "global_orient": track.global_orient[row][None],
            "body_pose": track.body_pose[row],
            "betas": betas,
        }
        found.append(
            (
                frame,
                {
                    "tid": track.track_id,
                    "bbox": box,
                    "tracked_ids": track.track_id,
                    "tracked_bbox": box,
                    "tracked_time": 0,
                    "conf": float(track.score[row]),
                    "center": np.array([(left + right) / 2, (top + bottom) / 2]),
                    "scale": box[2:],
                    "size": [motion.height, motion.width],
                    "smpl": smpl,
                    "camera": camera[row].astype(np.float32),
                    "transl_m": parameters.trans[row].astype(np.float32),
                },
            )
        )
    return found
