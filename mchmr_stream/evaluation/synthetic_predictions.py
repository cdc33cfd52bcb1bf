"""Run the network's head over observed rendered people once and store its output with the ground truth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import BodyModel, forward_kinematics
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.evaluation.synthetic_people import Labelled
from mchmr_stream.files.atomic import atomic_file
from mchmr_stream.files.safe_npz import read_npz
from mchmr_stream.geometry.camera import full_from_local
from mchmr_stream.network.weights import LoadedNetwork
from mchmr_stream.training.observations.body_landmarks import SparseBody
from mchmr_stream.training.observations.observed_people import ObservedPeople

KNOWN, ASSUMED = "known focal", "assumed focal"
UNKNOWN_FAMILY = "?"
_BODY_AGREES_M = 0.01
"""Above the millimetres of people with stretched bones, below the centimetres between two body models."""
_WHAT = "predictions written by `mchmr evaluate synthetic --predictions`"
_TRUTH: dict[str, tuple[int, ...]] = {
    "rotations": (24, 3, 3), "betas": (10,), "joints_m": (24, 3), "pelvis_m": (3,), "focal_px": (), "assumed_focal_px": (),
    "base_px": (3,), "inside": (12,), "visible": (), "truncated": (), "female": (), "skin_tone": (), "found": (), "betas_exact": (),
}  # fmt: skip
"""Shape of each column per person; rolled camera, joints relative to the pelvis. `betas_exact` is NaN without labels."""
_BODIES: dict[str, tuple[int | None, ...]] = {
    "rotations": (24, 3, 3), "betas": (10,), "joints_m": (24, 3), "transl_m": (None, 3), "sigma_m": (24,),
}  # fmt: skip
"""Predicted columns; `transl_m` is the pelvis as estimated in each view, `sigma_m` the error that the network predicts for itself."""

Columns = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class SyntheticPredictions:
    """Predictions for N rendered people."""

    about: dict[str, Any]
    truth: Columns
    family: NDArray[np.str_]
    """(N,) pose family; UNKNOWN_FAMILY without labels"""
    predicted: dict[str, Columns]
    """By knowledge of the camera: KNOWN, ASSUMED"""

    def __len__(self) -> int:
        return len(self.family)

    def save(self, path: Path) -> None:
        """Write an npz file."""
        arrays: dict[str, NDArray] = {"kind": np.array("synthetic"), "about": np.array(json.dumps(self.about)), "family": self.family}
        arrays |= {f"truth.{name}": value for name, value in self.truth.items()}
        for kind, bodies in self.predicted.items():
            arrays |= {f"{kind}.{name}": value for name, value in bodies.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as part, part.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)


def load_predictions(path: Path) -> SyntheticPredictions:
    """Read a file of `SyntheticPredictions.save`.

    Raises:
        InputError: the file is something else.
    """
    kind = str(read_npz(path, ["kind"], what=_WHAT)["kind"])
    if kind != "synthetic":
        raise InputError(f"{path} holds {kind!r} predictions, expected {_WHAT}")
    columns: dict[str, tuple[int | None, ...]] = {f"truth.{name}": shape for name, shape in _TRUTH.items()}
    columns |= {f"{focal}.{name}": shape for focal in (KNOWN, ASSUMED) for name, shape in _BODIES.items()}
    arrays = read_npz(path, ["about", "family", *columns], what=_WHAT)
    people = len(arrays["family"])
    for name, shape in columns.items():
        got = arrays[name].shape
        fits = len(got) == 1 + len(shape) and got[0] == people and all(w in (None, g) for g, w in zip(got[1:], shape, strict=True))
        if not fits:
            raise InputError(f"{path}: {name} has shape {got}, expected {(people, *shape)}")
    try:
        about = dict(json.loads(str(arrays["about"])))
    except ValueError as error:
        raise InputError(f"{path}: its description is no JSON ({error}); expected {_WHAT}") from error
    part = lambda prefix, names: {name: arrays[f"{prefix}.{name}"] for name in names}
    return SyntheticPredictions(about, part("truth", _TRUTH), arrays["family"], {focal: part(focal, _BODIES) for focal in (KNOWN, ASSUMED)})


@torch.inference_mode()
def predict(
    people: ObservedPeople, network: LoadedNetwork, *, views: int | None = None, labels: Sequence[Labelled] | None = None, data: str = ""
) -> SyntheticPredictions:
    """Predict bodies and cameras of all people, with the true focal length and with the assumed one.

    Args:
        people: observed people.
        network: the network whose head is used.
        views: use only the first views of the stored ones.
        labels: labels in the people's order, for pose families.
        data: description of the data, stored with the predictions.

    Raises:
        UsageError: `views` is more than the observations hold.
        InputError: the observations do not fit the network or the body.
    """
    head = network.net.head.eval()
    count = people.views.shape[1]
    chosen = count if views is None else views
    if not 1 <= chosen <= count:
        raise UsageError(f"{chosen} views were requested, expected 1 to {count}, which is what was observed")
    if people.features.shape[-1] != head.feature_dim:
        raise InputError(
            f"the people were observed with an encoder of {people.features.shape[-1]} features, {network.name} reads {head.feature_dim}; "
            "observe anew from --shards"
        )
    body = load_body("free")
    _check_body(people, body)
    sparse = SparseBody(body)
    collected: dict[str, list[Columns]] = {KNOWN: [], ASSUMED: []}
    for rows in torch.arange(len(people)).split(256):
        batch = people.batch(rows, sparse).choose_views(range(chosen))
        for kind, focal in ((KNOWN, batch.focal_px), (ASSUMED, batch.assumed_focal_px)):
            observed_batch, focal_px = batch.with_focal(focal)
            out = head(observed_batch.seen)
            joints, _ = forward_kinematics(body, out.rotations, out.betas)
            values = (
                out.rotations,
                out.betas,
                joints - joints[:, :1],
                full_from_local(out.views_cam, observed_batch.views_px, focal_px),
                out.joint_log_sigma.exp(),
            )
            collected[kind].append({name: value.float().numpy() for name, value in zip(_BODIES, values, strict=True)})
    predicted = {kind: {name: np.concatenate([part[name] for part in parts]) for name in _BODIES} for kind, parts in collected.items()}
    family = [label.person.pose_family for label in labels] if labels is not None else [UNKNOWN_FAMILY] * len(people)
    exact = [label.person.betas_exact for label in labels] if labels is not None else [np.nan] * len(people)
    about = {"weights": network.name, "weights_sha256": network.sha256, "views": chosen, "data": data, "people": len(people)}
    return SyntheticPredictions(about, _truth(people, np.array(exact, np.float32)), np.array(family, np.str_), predicted)


def _check_body(people: ObservedPeople, body: BodyModel) -> None:
    """Check that the true betas were made for this body: it must reproduce most people's joints."""
    joints, _ = forward_kinematics(body, people.rotations, people.betas)
    distance = (joints - joints[:, :1] - people.joints_m).norm(dim=-1).mean(1)
    if len(people) and float(distance.median()) > _BODY_AGREES_M:
        raise InputError(
            f"the true joints are {float(distance.median()) * 1e3:.0f} mm (median) from where the body {body.sha256[:12]} puts them; these "
            "people were rendered with another body: render them anew with `mchmr synth`"
        )


def _truth(people: ObservedPeople, betas_exact: NDArray[np.float32]) -> Columns:
    group = people.group.numpy()
    same = ("rotations", "betas", "joints_m", "pelvis_m", "focal_px", "assumed_focal_px", "base_px", "inside")
    truth = {name: getattr(people, name).numpy() for name in same}
    truth |= {name: group[:, column] for column, name in enumerate(("visible", "truncated", "female", "skin_tone"))}
    return truth | {"found": people.found().float().numpy(), "betas_exact": betas_exact}
