"""Real views as inputs of the head: detector, tracker, cropper and encoder run once, then any number of heads is measured.

The pipeline runs with the true camera, without fit and smoothing; of each frame the largest person is kept. Which boxes the tracker
keeps does not depend on the head, so the errors of a head equal those of `real3d`'s "per frame, known camera" with that head and
`fit.kind=none`, with one exception: with fewer views the tracker would get landmarks averaged over fewer crops.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mchmr_stream.body.coco_points import coco_points
from mchmr_stream.config import load_settings
from mchmr_stream.datatypes import LANDMARK_NAMES, CropBatch, CropEstimates, EstimatorInfo
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.estimators.base import SynchronousEstimator
from mchmr_stream.evaluation.real_predictions import known_camera
from mchmr_stream.evaluation.real_views import RealView, load_views
from mchmr_stream.files.atomic import atomic_file
from mchmr_stream.files.safe_npz import read_npz
from mchmr_stream.geometry.camera import roll_matrix
from mchmr_stream.metrics.joint_errors import LIMBS_IN_SMPL, pose_errors
from mchmr_stream.network.encoders import optimise_for_inference
from mchmr_stream.network.mesh_network import HeadOutput, MultiCropHead, finish, observe
from mchmr_stream.network.observations import Observations
from mchmr_stream.network.weights import load_network
from mchmr_stream.pipeline.factory import open_input
from mchmr_stream.pipeline.pipeline import Pipeline
from mchmr_stream.training.observations.body_landmarks import SparseBody

_WHAT = "observations of real views"


@dataclass(frozen=True, eq=False)
class ObservedView:
    """The largest person in each of the n frames, of a camera's T, with a detection."""

    frame: Tensor
    """(n,) int64 frame numbers"""
    roll_rad: Tensor
    """(n,) roll of the rolled camera in which the head predicts"""
    seen: Observations
    target_m: Tensor
    """(T, 12, 3) true limbs, camera axes"""


def observe_real(
    folder: Path, weights: str = "default", views: int = 5, device: str = "auto", overrides: Sequence[str] = ()
) -> list[ObservedView]:
    """Run the encoder of a network over every view of a folder.

    Args:
        folder: real views, in a layout of docs/evaluation.md.
        weights: the network whose encoder is used.
        views: crops per person.
        device: torch device or "auto".
        overrides: further settings as for `--set`.
    """
    alone = ["smoother.kind=none", "fit.kind=none"]
    changes = [*alone, f"crops.views={views}", f"runtime.device={device}", f"network.weights={weights}", *overrides]
    return [_observe_view(view, changes) for view in load_views(folder)]


@torch.inference_mode()
def real_errors(head: MultiCropHead, observed: Sequence[ObservedView], body: SparseBody, views: int) -> dict[str, float]:
    """Compute a head's errors per frame with the known camera, from the first `views` crops; means over the cameras.

    Args:
        head: the head to measure.
        observed: stored observations.
        body: body model for COCO's points.
        views: number of crops to use.

    Raises:
        UsageError: `views` is more than the observations hold.
    """
    head.eval()
    errors = []
    for one in observed:
        if views > one.seen.views.shape[1]:
            raise UsageError(f"{views} views were requested, {one.seen.views.shape[1]} were observed")
        chosen = range(views)
        out = head(one.seen._replace(**{name: getattr(one.seen, name)[:, chosen] for name in ("features", "landmarks", "world", "views")}))
        limbs = np.full(one.target_m.shape, np.nan)
        limbs[one.frame.numpy()] = real_limbs_m(out, one.roll_rad, body)
        errors.append(pose_errors(limbs, one.target_m.numpy()))
    mean = lambda name: float(np.mean([getattr(each, name) for each in errors]))
    return {"MPJPE mm": mean("mpjpe"), "PA-MPJPE mm": mean("pa_mpjpe"), "found %": mean("found") * 100}


def real_limbs_m(out: HeadOutput, roll_rad: Tensor, body: SparseBody) -> NDArray[np.float64]:
    """Convert a head's output to COCO's points around the pelvis, (n, 12, 3) m, camera axes."""
    camera_from_rolled = roll_matrix(roll_rad)
    rotations = torch.cat([(camera_from_rolled @ out.rotations[:, 0])[:, None], out.rotations[:, 1:]], 1)
    joints = body.pose(rotations, out.betas)[0].double().numpy()
    points = coco_points(body.model)
    return joints[:, list(LIMBS_IN_SMPL)] if points is None else points.place(joints, rotations.double().numpy())


def save_observed(path: Path, observed: Sequence[ObservedView]) -> None:
    """Write an npz file."""
    arrays: dict[str, NDArray] = {"count": np.array(len(observed))}
    for number, one in enumerate(observed):
        arrays |= {f"{number}.{name}": getattr(one, name).numpy() for name in ("frame", "roll_rad", "target_m")}
        arrays |= {f"{number}.seen.{name}": value.numpy() for name, value in one.seen._asdict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as part, part.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def load_observed(path: Path) -> list[ObservedView]:
    """Read a file of `save_observed`.

    Raises:
        InputError: the file is something else.
    """
    count = int(read_npz(path, ["count"], what=_WHAT)["count"])
    own = [field.name for field in fields(ObservedView) if field.name != "seen"]
    names = [name for number in range(count) for name in (
        *(f"{number}.{each}" for each in own), *(f"{number}.seen.{each}" for each in Observations._fields))]  # fmt: skip
    tensors = {name: torch.from_numpy(array) for name, array in read_npz(path, names, what=_WHAT).items()}
    observed = []
    for number in range(count):
        seen = Observations(*(tensors[f"{number}.seen.{each}"] for each in Observations._fields))
        one = ObservedView(**{each: tensors[f"{number}.{each}"] for each in own}, seen=seen)
        if any(len(value) != len(one.frame) for value in (one.roll_rad, *seen)) or one.target_m.shape[1:] != (12, 3):
            raise InputError(f"{path}: the arrays of view {number} do not belong together; expected {_WHAT}")
        observed.append(one)
    return observed


class _Recorder(SynchronousEstimator):
    """An estimator that records the inputs of its head."""

    def __init__(self, weights: str, views: int) -> None:
        loaded = load_network(weights)
        self.info = EstimatorInfo(loaded.name, loaded.sha256, loaded.net.encoder.input_hw, fixed_views=loaded.net.config.fixed_views)
        self._head = loaded.net.head
        self._encoder = optimise_for_inference(loaded.net.encoder, torch.device("cpu"), "auto", crops_at_once=views)
        self.kept: deque[tuple[Observations, CropBatch] | None] = deque()
        """one entry a frame, None for a frame without a person"""

    @torch.inference_mode()
    def estimate(self, batch: CropBatch) -> CropEstimates:
        n, count = batch.crops.shape[:2]
        if n == 0:
            self.kept.append(None)
            zero = lambda *shape: np.zeros(shape, np.float32)
            return CropEstimates(zero(0, 24, 3, 3), zero(0, 10), zero(0, count, 3), zero(0), zero(0), zero(0, len(LANDMARK_NAMES), 3))
        tensor = lambda array: torch.as_tensor(array, dtype=torch.float32)
        views_px, base_px, focal_px = tensor(batch.views_px), tensor(batch.base_px), tensor(batch.focal_px)
        encoded = self._encoder(batch.crops.cpu().flatten(0, 1).float() / 255)
        seen = observe(encoded, n, count, views_px, base_px, focal_px, tensor(batch.keypoints_px))
        self.kept.append((seen, batch))
        out = finish(self._head(seen), seen, encoded.presence.reshape(n, count), views_px, base_px, focal_px)
        return CropEstimates(*(value.float().numpy() for value in out))


def _observe_view(view: RealView, changes: Sequence[str]) -> ObservedView:
    with known_camera(view) as camera:
        settings = load_settings(None, [*changes, camera])
        source, intrinsics = open_input(view.video, settings)
    recorder = _Recorder(settings.network.weights, settings.crops.views)
    pipeline = Pipeline(settings, estimator=recorder)
    frames, rolls, seen = [], [], []
    try:
        for scene in pipeline.scenes(source, intrinsics):
            kept = recorder.kept.popleft()
            if kept is None or scene.frame.index >= len(view.limbs_m):
                continue
            boxes = scene.bodies.boxes_xyxy_px
            largest = int(np.argmax((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])))
            frames.append(scene.frame.index)
            rolls.append(float(kept[1].roll_rad[largest]))
            seen.append(Observations(*(value[largest] for value in kept[0])))
    finally:
        source.close()
        pipeline.close()
    if not frames:
        raise InputError(f"no person was found in {view.video}")
    # Clones are made outside of inference mode, so that autograd accepts them.
    columns = Observations(*(torch.stack([getattr(one, name) for one in seen]).clone() for name in Observations._fields))
    return ObservedView(torch.tensor(frames), torch.tensor(rolls), columns, torch.from_numpy(view.limbs_m))
