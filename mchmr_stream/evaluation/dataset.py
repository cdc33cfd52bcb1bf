"""Metrics of stored predictions on a public data set. No network runs here.

Published protocol: joints are regressed from the vertices of the predicted body and, on data sets with labelled bodies, from those of
the true body of its gender. Both are aligned at the pelvis (MPJPE; PVE with the same shift) or with a similarity (PA-MPJPE).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from mchmr_stream.body.model import skin
from mchmr_stream.datasets.known import BODIES_OBTAINED, REGRESSOR_OBTAINED
from mchmr_stream.datasets.labelled_bodies import LabelledBodies
from mchmr_stream.datasets.points import ANNOTATED_NAMES, ANNOTATED_POINTS
from mchmr_stream.errors import InputError
from mchmr_stream.evaluation.dataset_predictions import Columns, DatasetPredictions
from mchmr_stream.evaluation.dataset_protocols import EvaluatedJoints, Protocol
from mchmr_stream.evaluation.results import Results, Row, Table
from mchmr_stream.metrics.joint_errors import per_joint_mm, similarity_aligned

log = logging.getLogger(__name__)

Array = NDArray[np.float64]

PCK_MM = 150.0
AUC_MM = np.arange(0, 151, 5)
_AT_ONCE = 64
_MOST_SEQUENCES = 100


def evaluate(predictions: DatasetPredictions, protocol: Protocol, bodies: LabelledBodies, regressor: NDArray[np.float64] | None) -> Results:
    """Compute the tables `errors`, `per joint, mm` and, for several sequences, `by sequence`.

    Args:
        predictions: stored predictions with their labels.
        protocol: labels, truth and joints of the data set.
        bodies: the labelled bodies' models by gender.
        regressor: J_regressor_h36m (17, vertices), or None for the annotated points of the body.

    Raises:
        InputError: no person has the truth that the protocol needs.
        MissingPart: a body file is missing.
    """
    of_body = predictions.truth["has_body"] > 0
    indices = [ANNOTATED_NAMES.index(name) for name in (*protocol.joints, "pelvis")]
    of_points = (predictions.truth["points_m"][:, ANNOTATED_POINTS][:, indices, 3] > 0).all(1)
    use_body = protocol.truth == "body" or (protocol.truth == "either" and bool(of_body.any()))
    rows = np.flatnonzero(of_body if use_body else of_points)
    if not len(rows):
        needed = "labelled bodies" if use_body else f"3D points with the {len(protocol.joints)} joints and the pelvis"
        raise InputError(f"none of {len(predictions)} people has {needed}, which this protocol needs")
    if bodies.stand_in and (predictions.truth["body"][rows] != "free").any():
        log.warning(
            "no --bodies: the free body stands in for SMPL on both sides; errors are not those of the published protocol. %s",
            BODIES_OBTAINED,
        )
    if regressor is None:
        log.warning("no --regressor: joints near the regressed ones are compared, not the published ones. %s", REGRESSOR_OBTAINED)
    elif use_body and (predictions.truth["body"][rows] == "smplx").any():
        log.warning("the labels are of SMPL-X, which J_regressor_h36m does not know: stand-ins are compared, and there is no PVE")
        regressor = None
    joints, target, vertices_mm = compared_joints(predictions, rows, protocol, bodies, regressor, use_body)
    distances = per_joint_mm(joints, target)
    aligned = per_joint_mm(similarity_aligned(joints, target), target)
    values: dict[str, Array] = {"MPJPE mm": distances.mean(1), "PA-MPJPE mm": aligned.mean(1)}
    if use_body:
        values["PVE mm"] = vertices_mm
    if protocol.pck:
        values["PCK@150mm %"] = (distances < PCK_MM).mean(1) * 100
        values["AUC %"] = (distances[..., None] < AUC_MM).mean((1, 2)) * 100
    tables: dict[str, Table] = {"errors": {"all": _row(values, np.ones(len(rows), np.bool_))}}
    tables["per joint, mm"] = {
        name: {"MPJPE mm": float(distances[:, joint].mean()), "PA-MPJPE mm": float(aligned[:, joint].mean())}
        for joint, name in enumerate(protocol.joints)
    }
    sequence = predictions.sequence[rows]
    names = sorted(set(sequence.tolist()) - {""})
    if 1 < len(names) <= _MOST_SEQUENCES:
        tables["by sequence"] = {name: _row(values, sequence == name) for name in names}
    about = predictions.about | {
        "truth": "labelled bodies of each gender" if use_body else "labelled 3D points",
        "joints": f"{len(protocol.joints)}, " + ("the regressor's" if regressor is not None else "stand-ins"),
        "bodies": "the free body" if bodies.stand_in else "SMPL's",
        "compared": len(rows),
    }
    return Results("dataset", about, tables)


def compared_joints(
    predictions: DatasetPredictions,
    rows: NDArray[np.int64],
    protocol: Protocol,
    bodies: LabelledBodies,
    regressor: NDArray[np.float64] | None,
    use_body: bool,
) -> tuple[Array, Array, Array]:
    """Predicted and true joints (n, J, 3) m relative to their pelvis, and the mean vertex distance (n,) mm."""
    joints = np.zeros((len(rows), len(protocol.joints), 3))
    target = np.zeros_like(joints)
    vertices_mm = np.full(len(rows), np.nan)
    if not use_body:
        points = predictions.truth["points_m"][rows][:, ANNOTATED_POINTS, :3].astype(np.float64)
        chosen = [ANNOTATED_NAMES.index(name) for name in protocol.joints]
        target = points[:, chosen] - points[:, [ANNOTATED_NAMES.index("pelvis")]]
    predicted = predictions.predicted
    for some in _alike(predicted, predictions.truth if use_body else None, rows):
        own, own_vertices = _posed(predicted, rows[some], protocol, bodies, regressor)
        joints[some] = own
        if use_body:
            true, true_vertices = _posed(predictions.truth, rows[some], protocol, bodies, regressor)
            target[some] = true
            if own_vertices.shape == true_vertices.shape:
                vertices_mm[some] = np.linalg.norm(own_vertices - true_vertices, axis=-1).mean(1) * 1e3
    return joints, target, vertices_mm


def _alike(predicted: Columns, truth: Columns | None, rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Indices among `rows` of people who share their body files, in small groups."""
    keys = [predicted["body"], predicted["gender"], *([truth["body"], truth["gender"]] if truth is not None else [])]
    kind = np.unique(np.stack([key[rows] for key in keys], 1), axis=0, return_inverse=True)[1].reshape(-1)
    for which in range(int(kind.max()) + 1):
        places = np.flatnonzero(kind == which)
        for start in range(0, len(places), _AT_ONCE):
            yield places[start : start + _AT_ONCE]


def _posed(
    side: Columns, rows: NDArray[np.int64], protocol: Protocol, bodies: LabelledBodies, regressor: NDArray[np.float64] | None
) -> tuple[Array, Array]:
    """Joints (n, J, 3) and vertices (n, V, 3) relative to the pelvis of people who share one body file."""
    body = bodies.of(str(side["body"][rows[0]]), str(side["gender"][rows[0]]))  # type: ignore[arg-type]
    evaluated = EvaluatedJoints(body, protocol.joints, regressor)
    vertices, skeleton = skin(body, *(torch.from_numpy(side[name][rows]) for name in ("rotations", "betas")))
    joints, pelvis = evaluated.of(skeleton, vertices)
    return (joints - pelvis).double().numpy(), (vertices - pelvis).double().numpy()


def _row(values: dict[str, Array], mask: NDArray[np.bool_]) -> Row:
    row: Row = {"people": float(mask.sum())}
    for name, value in values.items():
        chosen = value[mask & np.isfinite(value)]
        row[name] = float(chosen.mean()) if len(chosen) else float("nan")
    return row
