"""The data sets of the paper and of comparable methods: names, label files and sources.

A data folder holds one folder for each set, by its short name:

    DIR/NAME/labels/*.npz                                labels in any of the layouts
    DIR/3dpw/sequenceFiles/{train,validation,test}/*.pkl   3DPW as distributed
    DIR/NAME/...                                         pictures, at the paths in the labels

Other folders with `labels/` in them are the user's own data sets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class KnownSet:
    """One data set."""

    title: str
    films: bool
    """its pictures are frames of films, so that sequence and frame follow from their names"""
    labels: str
    """usual label files"""
    obtained: str
    """where to obtain it"""


KNOWN: dict[str, KnownSet] = {
    "h36m": KnownSet(
        "Human3.6M", True, "h36m_train.npz, h36m_valid_protocol1.npz, h36m_valid_protocol2.npz (SPIN's preprocessing)",
        "pictures and joints from the Human3.6M project (vision.imar.ro/human3.6m), on registration; the .npz files are made from them "
        "with the preprocessing of SPIN or come with the repositories of SPIN, CLIFF and BEDLAM",
    ),
    "3dhp": KnownSet(
        "MPI-INF-3DHP", True, "mpi_inf_3dhp_train.npz, mpi_inf_3dhp_test.npz (SPIN's preprocessing)",
        "the MPI-INF-3DHP page of Max Planck Institute for Informatics (vcai.mpi-inf.mpg.de/3dhp-dataset); labels as for Human3.6M",
    ),
    "coco": KnownSet(
        "COCO 2014", False, "coco_2014_train.npz (SPIN), or CLIFF's pseudo ground truth",
        "pictures from the COCO project (cocodataset.org), train2014; the pseudo ground truth is named in CLIFF's README",
    ),
    "mpii": KnownSet(
        "MPII Human Pose", False, "mpii_train.npz (SPIN), or CLIFF's pseudo ground truth",
        "pictures from the MPII Human Pose project (human-pose.mpi-inf.mpg.de); the pseudo ground truth is named in CLIFF's README",
    ),
    "3dpw": KnownSet(
        "3D Poses in the Wild", True, "sequenceFiles/{train,validation,test}/*.pkl",
        "imageFiles and sequenceFiles from the 3DPW project (virtualhumans.mpi-inf.mpg.de/3DPW), on accepting its licence",
    ),
    "bedlam": KnownSet(
        "BEDLAM", True, "one .npz a scene (processed labels)",
        "pictures and processed labels from the BEDLAM project (bedlam.is.tue.mpg.de), on registration",
    ),
    "agora": KnownSet(
        "AGORA", False, "agora .npz in BEDLAM's layout",
        "pictures from the AGORA project (agora.is.tue.mpg.de), on registration; labels in BEDLAM's layout from the BEDLAM project",
    ),
}  # fmt: skip

BODIES_OBTAINED = "SMPL's bodies come from the SMPL project (smpl.is.tue.mpg.de), SMPL-X's from smpl-x.is.tue.mpg.de, on registration"
REGRESSOR_OBTAINED = "J_regressor_h36m.npy and J_regressor_extra.npy come with the data of SPIN (github.com/nkolot/SPIN)"

_HELD_OUT = re.compile(r"(^|[_\-.])(test|val|valid|validation)([_\-.\d]|$)|protocol", re.IGNORECASE)


def is_held_out(stem: str) -> bool:
    """Return whether a label file's name marks it as a test or validation set."""
    return _HELD_OUT.search(stem) is not None
