"""Comparison of the same people in full and cut off below the hips.

The network must not squeeze a person into the visible part of the body. The rendered picture is cut just below the hips and passes
through the pipeline's detector, cropper and encoder again; the joints that stay visible are compared between the two.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mchmr_stream.errors import InputError
from mchmr_stream.evaluation.results import Results, Row
from mchmr_stream.evaluation.synthetic_people import STORED_VIEWS, Labelled, labelled_people, make_observer
from mchmr_stream.evaluation.synthetic_predictions import KNOWN, SyntheticPredictions, predict
from mchmr_stream.metrics.joint_errors import LEFT_HIP, LIMBS_IN_SMPL, RIGHT_HIP, centred_on_hips, per_joint_mm, similarity_aligned
from mchmr_stream.network.weights import LoadedNetwork
from mchmr_stream.synthesis.samples import SyntheticScene
from mchmr_stream.training.observations.observed_people import Observer

_UNDER_THE_HIPS = 0.1
"""Distance of the cut below the lower hip, in apparent lengths of the trunk."""
_LEGS, _SHOULDERS = [8, 9, 10, 11], [0, 1]
_MIN_VISIBLE = 0.7
_MIN_JOINTS = 6
"""Both shoulders, both hips and two of elbows and wrists: almost any pose can be aligned to fewer points."""


def evaluate(shards: Path, network: LoadedNetwork, *, views: int = STORED_VIEWS, most_people: int = 200) -> Results:
    """Compute the table `upper body`: errors of the joints that stay visible, of people detected in both pictures.

    Args:
        shards: folder of rendered people.
        network: the network to evaluate.
        views: crops per person.
        most_people: limit of people; each is observed twice.

    Raises:
        InputError: no person in the shards is fully inside the picture with their legs below the hips.
    """
    pairs = list(islice(_pairs(shards), most_people))
    if not pairs:
        raise InputError(f"no person in {shards} is fully in the picture with their legs below the hips; render more people")
    observer = make_observer(network.net.config.encoder, views)
    full = _predicted([pair[0] for pair in pairs], observer, network, shards.name)
    cut = _predicted([pair[1] for pair in pairs], observer, network, shards.name)
    return Results("upper body", cut.about | {"people": len(pairs)}, {"upper body (known focal)": compare(full, cut)})


def compare(full: SyntheticPredictions, cut: SyntheticPredictions) -> dict[str, Row]:
    """Compute rows for the same people in full and cut, and the ratio of the two. `inside` of `cut` marks the joints that count."""
    visible = cut.truth["inside"] > 0
    found = {"whole": full.truth["found"] > 0, "cut under the hips": cut.truth["found"] > 0}
    both = np.logical_and.reduce(list(found.values()))
    rows: dict[str, Row] = {}
    for name, people in (("whole", full), ("cut under the hips", cut)):
        seen, hidden = _errors(people, visible, both)
        rows[name] = {
            "people": float(both.sum()),
            "found %": float(found[name].mean()) * 100,
            "PA-MPJPE mm, joints in view": float(np.mean(seen[:, 1])) if len(seen) else np.nan,
            "MPJPE mm, joints in view": float(np.mean(seen[:, 0])) if len(seen) else np.nan,
            "MPJPE mm, joints cut off": float(np.mean(hidden)) if len(hidden) else np.nan,
        }
    errors = [name for name in rows["whole"] if "MPJPE" in name]
    rows["ratio"] = {name: rows["cut under the hips"][name] / rows["whole"][name] for name in errors}
    return rows


def _errors(people: SyntheticPredictions, visible: NDArray[np.bool_], counted: NDArray[np.bool_]) -> tuple[NDArray, NDArray]:
    """MPJPE and PA-MPJPE of the visible joints (n, 2), and MPJPE of the others (n,), of counted people. mm, aligned at the hips."""
    limbs = list(LIMBS_IN_SMPL)
    predicted = people.predicted[KNOWN]["joints_m"][:, limbs].astype(np.float64)
    target = people.truth["joints_m"][:, limbs].astype(np.float64)
    distance = per_joint_mm(centred_on_hips(predicted), centred_on_hips(target))
    seen, hidden = [], []
    for person in np.flatnonzero(counted):
        joints = np.flatnonzero(visible[person])
        aligned = similarity_aligned(predicted[person : person + 1, joints], target[person : person + 1, joints])
        pa = per_joint_mm(aligned, target[person : person + 1, joints]).mean()
        seen.append((distance[person, joints].mean(), pa))
        hidden.append(distance[person, ~visible[person]].mean())
    return np.array(seen).reshape(-1, 2), np.array(hidden)


def _predicted(people: Sequence[Labelled], observer: Observer, network: LoadedNetwork, data: str) -> SyntheticPredictions:
    return predict(observer.observe([one.scene for one in people]), network, labels=people, data=data)


def _pairs(shards: Path) -> Iterator[tuple[Labelled, Labelled]]:
    """Pairs (full, cut) of all people who can be cut, each alone in their scene's labels."""
    for labelled in labelled_people(shards):
        row = cut_row(labelled)
        if row is not None:
            scene = dataclasses.replace(labelled.scene, people=(labelled.person,))
            cut = cut_below(scene, row)
            yield Labelled(scene, labelled.person), Labelled(cut, cut.people[0])


def cut_row(labelled: Labelled) -> int | None:
    """First row to remove, just below the hips; None unless the person is fully inside, hardly occluded, upright, legs below the cut."""
    person, scene = labelled.person, labelled.scene
    limbs = person.joints_px[list(LIMBS_IN_SMPL)]
    inside = ((limbs > 0) & (limbs < [scene.width, scene.height])).all()
    if not inside or person.truncated_fraction > 0.01 or person.visible_fraction < _MIN_VISIBLE:
        return None
    hips, shoulders = limbs[[LEFT_HIP, RIGHT_HIP], 1], limbs[_SHOULDERS, 1]
    trunk = hips.mean() - shoulders.mean()
    row = round(float(hips.max() + _UNDER_THE_HIPS * trunk))
    upright = trunk > 0 and shoulders.max() < hips.min()
    if not upright or limbs[_LEGS, 1].min() <= row or (limbs[:, 1] < row).sum() < _MIN_JOINTS:
        return None
    return row


def cut_below(scene: SyntheticScene, row: int) -> SyntheticScene:
    """Remove the rows from `row` on. Pixel positions, focal length, principal point and true bodies do not change."""
    buffer = io.BytesIO()
    # PNG, because a second JPEG compression would be a second change.
    Image.fromarray(scene.rgb()[:row]).save(buffer, "PNG")
    people = []
    for person in scene.people:
        keypoints = person.keypoints_px.copy()
        keypoints[keypoints[:, 1] >= row, 2] = 0
        box = np.minimum(person.box_xyxy_px, np.array([np.inf, row, np.inf, row], np.float32))
        people.append(dataclasses.replace(person, keypoints_px=keypoints, box_xyxy_px=box))
    return dataclasses.replace(scene, jpeg=buffer.getvalue(), height=row, people=tuple(people))
