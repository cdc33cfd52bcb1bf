"""Published evaluation protocols of the public data sets: their labels, ground truth and joints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mchmr_stream.body.model import BodyModel
from mchmr_stream.datasets.known import KNOWN
from mchmr_stream.datasets.opening import Split, label_files
from mchmr_stream.datasets.points import ANNOTATED_NAMES, ANNOTATED_POINTS, LabelledPoints
from mchmr_stream.errors import InputError, UsageError

Truth = Literal["body", "points", "either"]

JOINTS_14 = (*ANNOTATED_NAMES[:13], "head")
"""Ankles to neck, and Human3.6M's head: the joints of published errors on Human3.6M and 3DPW"""
JOINTS_17 = (*JOINTS_14, "pelvis", "spine", "jaw")
"""The same with the trunk: MPI-INF-3DHP"""
H36M_ORDER = (
    "pelvis", "left_hip", "left_knee", "left_ankle", "right_hip", "right_knee", "right_ankle", "spine", "neck", "jaw", "head",
    "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
)  # fmt: skip
"""Rows of J_regressor_h36m."""


@dataclass(frozen=True)
class Protocol:
    """An evaluation protocol of one data set."""

    folder: str
    """name of the data set in the data folder"""
    truth: Truth
    """body: joints and vertices of the labelled bodies, each of its gender; points: labelled 3D points; either: bodies where there are"""
    joints: tuple[str, ...] = JOINTS_14
    split: Split = "test"
    words: str = ""
    """Text that the names of its label files contain"""
    pck: bool = False
    """also compute the share of joints within 150 mm, and the area under that curve"""


PROTOCOLS: dict[str, Protocol] = {
    "3dpw": Protocol("3dpw", "body"),
    "h36m-p1": Protocol("h36m", "points", words="protocol1"),
    "h36m-p2": Protocol("h36m", "points", words="protocol2"),
    "3dhp": Protocol("3dhp", "points", joints=JOINTS_17, pck=True),
    "agora": Protocol("agora", "body", split="validation"),
    "bedlam": Protocol("bedlam", "body", split="validation"),
}
"""By names of `mchmr evaluate --dataset`."""


def protocol_of(name: str) -> Protocol:
    """Return the protocol of a data set; an unknown data set gets one with all its labels, bodies where it has them, else points.

    Raises:
        UsageError: no folder has this name.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    variants = [known for known in PROTOCOLS if PROTOCOLS[known].folder == name]
    if variants:
        raise UsageError(f"data set {name} has several protocols: say --dataset {' or '.join(variants)}")
    if not name or "/" in name or "\\" in name or name.startswith("."):
        raise UsageError(f"data set is {name!r}, expected {', '.join(PROTOCOLS)}, or the name of a folder in the data folder")
    return Protocol(name, "either", split="all")


def protocol_files(root: Path, protocol: Protocol) -> list[Path]:
    """List the label files of a protocol.

    Raises:
        UsageError: there are none.
    """
    files = [file for file in label_files(root / protocol.folder, protocol.split) if protocol.words in file.stem]
    if not files:
        selection = f"whose name says {protocol.words}" if protocol.words else f"of the split {protocol.split}"
        known = KNOWN.get(protocol.folder)
        obtained = f"; {known.title}: {known.labels}; {known.obtained}" if known else ""
        raise UsageError(f"{root / protocol.folder} has no label file {selection}{obtained} (or name one with --labels)")
    return files


class EvaluatedJoints:
    """The joints of which errors are computed, and the pelvis at which they are aligned, on bodies of one model."""

    def __init__(self, body: BodyModel, names: Sequence[str], regressor: NDArray[np.float64] | None) -> None:
        """`regressor`: J_regressor_h36m (17, vertices); None uses the annotated points of `datasets.points.BodyPoints`."""
        if regressor is not None and regressor.shape[1] != body.vertex_count:
            raise InputError(
                f"the regressor is for {regressor.shape[1]} vertices, body {body.name} has {body.vertex_count}; leave --regressor out"
            )
        self._regressor = None if regressor is None else torch.from_numpy(regressor).to(body.dtype)
        self._points = LabelledPoints.of(body) if regressor is None else None
        order: Sequence[str] = ANNOTATED_NAMES if regressor is None else H36M_ORDER
        self._chosen = [order.index(name) for name in names]
        self._pelvis = order.index("pelvis")

    def of(self, joints_m: Tensor, vertices_m: Tensor) -> tuple[Tensor, Tensor]:
        """Select the evaluated joints: SMPL joints (n, 24, 3) and vertices (n, V, 3) -> joints (n, J, 3) and pelvis (n, 1, 3)."""
        if self._points is not None:
            everything = self._points.place(joints_m, vertices_m)[:, ANNOTATED_POINTS]
        else:
            everything = torch.einsum("jv,nvc->njc", self._regressor, vertices_m)
        return everything[:, self._chosen], everything[:, self._pelvis, None]
