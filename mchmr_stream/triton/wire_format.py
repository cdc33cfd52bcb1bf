"""The network's seam as Triton tensors: what a client sends, what a server answers, what a server says of its weights.

Client and server import this file, so that the two cannot drift. Rows are people; a request holds the crops of one or more
people with the same number of views. Crops travel as uint8 and are cast on the server: a quarter of the bytes of float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datatypes import LANDMARK_NAMES, CropBatch, CropEstimates
from mchmr_stream.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

MODEL = "mchmr"
MOST_VIEWS = 9
DTYPES: dict[str, type[np.generic]] = {"UINT8": np.uint8, "FP32": np.float32}
VIEWS = -1
"""in `TensorSpec.dims`: as many as the client has views"""


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a request or an answer; `dims` are those of one person."""

    name: str
    datatype: str
    dims: tuple[int, ...]

    def fits(self, dims: Sequence[int]) -> bool:
        """Whether a model's tensor of these sizes may be it; `VIEWS` stands for any."""
        return len(dims) == len(self.dims) and all(VIEWS in pair or len(set(pair)) == 1 for pair in zip(dims, self.dims, strict=True))


def input_specs(crop_size_hw: tuple[int, int]) -> tuple[TensorSpec, ...]:
    """What a request holds, in the order in which the network takes it."""
    return (
        TensorSpec("CROPS", "UINT8", (VIEWS, 3, *crop_size_hw)),
        TensorSpec("VIEWS_PX", "FP32", (VIEWS, 3)),
        TensorSpec("BASE_PX", "FP32", (3,)),
        TensorSpec("FOCAL_PX", "FP32", (1,)),
        TensorSpec("KEYPOINTS_PX", "FP32", (17, 3)),
    )


OUTPUT_SPECS: tuple[TensorSpec, ...] = (
    TensorSpec("ROTATIONS", "FP32", (24, 3, 3)),
    TensorSpec("BETAS", "FP32", (10,)),
    TensorSpec("VIEWS_CAM", "FP32", (VIEWS, 3)),
    TensorSpec("CONFIDENCE", "FP32", (1,)),
    TensorSpec("PRESENCE", "FP32", (1,)),
    TensorSpec("LANDMARKS_PX", "FP32", (len(LANDMARK_NAMES), 3)),
)
"""What an answer holds: `CropEstimates`, in the order of its fields."""


def request_arrays(batch: CropBatch, people: slice = slice(None), *, with_crops: bool = True) -> dict[str, NDArray]:
    """A batch, or some of its people, as contiguous arrays; the roll stays here, the network does not need it."""
    arrays = {
        "VIEWS_PX": batch.views_px[people],
        "BASE_PX": batch.base_px[people],
        "FOCAL_PX": batch.focal_px[people, None],
        "KEYPOINTS_PX": batch.keypoints_px[people],
    }
    if with_crops:
        arrays["CROPS"] = batch.crops[people].cpu().numpy()
    datatypes = {spec.name: spec.datatype for spec in input_specs((0, 0))}
    return {name: np.ascontiguousarray(array, DTYPES[datatypes[name]]) for name, array in arrays.items()}


def batch_from_request(tensors: Mapping[str, Tensor]) -> CropBatch:
    """The server's side of `request_arrays`. Raises ValueError where shapes do not fit together."""
    crops = tensors["CROPS"]
    if crops.ndim != 5 or not 1 <= crops.shape[1] <= MOST_VIEWS:
        raise ValueError(f"CROPS has shape {tuple(crops.shape)}, expected (people, views, 3, height, width) with 1 to {MOST_VIEWS} views")
    numbers = {name: tensor.cpu().numpy() for name, tensor in tensors.items() if name != "CROPS"}
    return CropBatch(
        crops=crops,
        views_px=numbers["VIEWS_PX"],
        base_px=numbers["BASE_PX"],
        keypoints_px=numbers["KEYPOINTS_PX"],
        focal_px=numbers["FOCAL_PX"][:, 0],
        roll_rad=np.zeros(len(crops), np.float32),
    )


def answer_arrays(estimates: CropEstimates) -> dict[str, NDArray]:
    """Estimates as contiguous arrays, one name each of `OUTPUT_SPECS`."""
    arrays = {
        "ROTATIONS": estimates.rotations,
        "BETAS": estimates.betas,
        "VIEWS_CAM": estimates.views_cam,
        "CONFIDENCE": estimates.confidence[:, None],
        "PRESENCE": estimates.presence[:, None],
        "LANDMARKS_PX": estimates.landmarks_px,
    }
    return {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}


def estimates_from_answer(arrays: Mapping[str, NDArray]) -> CropEstimates:
    """The client's side of `answer_arrays`. Raises KeyError and ValueError where the answer is something else."""
    return CropEstimates(
        rotations=arrays["ROTATIONS"],
        betas=arrays["BETAS"],
        views_cam=arrays["VIEWS_CAM"],
        confidence=arrays["CONFIDENCE"][:, 0],
        presence=arrays["PRESENCE"][:, 0],
        landmarks_px=arrays["LANDMARKS_PX"],
    )


def empty_estimates(views: int) -> CropEstimates:
    """Of nobody."""
    dims = {spec.name: [views if size == VIEWS else size for size in spec.dims] for spec in OUTPUT_SPECS}
    return estimates_from_answer({name: np.zeros((0, *sizes), np.float32) for name, sizes in dims.items()})


def probe_batch(crop_size_hw: tuple[int, int], views: int) -> CropBatch:
    """One person of plain grey: enough to see whether a server really computes."""
    import torch

    rows = np.ones((1, views, 1), np.float32)
    return CropBatch(
        crops=torch.full((1, views, 3, *crop_size_hw), 128, dtype=torch.uint8),
        views_px=rows * np.array([320, 240, 200], np.float32),
        base_px=np.array([[320, 240, 200]], np.float32),
        keypoints_px=np.zeros((1, 17, 3), np.float32),
        focal_px=np.array([800], np.float32),
        roll_rad=np.zeros(1, np.float32),
    )


@dataclass(frozen=True)
class About:
    """What a server says of the model it serves: parameters in the model's configuration, readable by any Triton client."""

    weights: str
    weights_sha256: str
    crop_size_hw: tuple[int, int]
    fixed_views: int | None
    """the only number of views that the weights take; None: any from 1 to `MOST_VIEWS`"""
    body_sha256: str | None
    trained_on_smpl: bool
    version: str
    """of mchmr-stream that wrote the configuration"""

    def to_parameters(self) -> dict[str, str]:
        """As strings, which is what Triton keeps."""
        return {
            "weights": self.weights,
            "weights_sha256": self.weights_sha256,
            "crop_size_hw": "x".join(map(str, self.crop_size_hw)),
            "views": f"1-{MOST_VIEWS}" if self.fixed_views is None else str(self.fixed_views),
            "body_sha256": self.body_sha256 or "",
            "trained_on_smpl": str(self.trained_on_smpl).lower(),
            "mchmr_version": self.version,
        }

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, str], where: str) -> About:
        """Raises InputError where `parameters` are not those of this project's model; `where` names the server in it."""
        try:
            height, width = (int(size) for size in parameters["crop_size_hw"].split("x"))
            return cls(
                weights=parameters["weights"],
                weights_sha256=parameters["weights_sha256"],
                crop_size_hw=(height, width),
                fixed_views=None if "-" in parameters["views"] else int(parameters["views"]),
                body_sha256=parameters["body_sha256"] or None,
                trained_on_smpl=parameters["trained_on_smpl"] == "true",
                version=parameters["mchmr_version"],
            )
        except (KeyError, ValueError) as error:
            raise InputError(
                f"{where} is not a model of mchmr-stream (its configuration lacks {error}); "
                "serve one with `mchmr serve` or `mchmr export-model`"
            ) from error
