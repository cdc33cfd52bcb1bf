"""Run the network over a labelled data set once and store its output with the labels; metrics are computed from that file."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mchmr_stream.body.model import forward_kinematics
from mchmr_stream.config import Settings, load_settings
from mchmr_stream.datasets.labels import LabelledPerson, LabelReader
from mchmr_stream.datatypes import Bodies, CropBatch, CropEstimates, Detections, Frame, Tracks
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.files.atomic import atomic_file
from mchmr_stream.files.checksum import sha256_of_file
from mchmr_stream.files.safe_npz import read_npz
from mchmr_stream.fitting.body_fitter import Measured
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.geometry.rotation import exp_so3
from mchmr_stream.network.weights import find_weights
from mchmr_stream.pipeline.factory import Components, build_components, build_fitter
from mchmr_stream.pipeline.full_camera import landmarks_in_image, place_in_image

log = logging.getLogger(__name__)

_WHAT = "predictions written by `mchmr evaluate --dataset --predictions`"
_BODY: dict[str, tuple[int, ...]] = {"rotations": (24, 3, 3), "betas": (10,), "pelvis_m": (3,)}
_TRUTH: dict[str, tuple[int, ...]] = {"rotations": (24, 3, 3), "betas": (10,), "has_body": (), "points_m": (48, 4)}
_TEXTS = ("image", "sequence", "truth.gender", "truth.body", "predicted.gender", "predicted.body")
_BOX_FACTOR = 1.2
_AT_ONCE = 16
_SAME_PERSON = 0.3
"""Least intersection over union of a detection and the labelled box for its keypoints to be used for that person."""

Columns = dict[str, NDArray]


@dataclass(frozen=True, eq=False)
class DatasetPredictions:
    """N people, in the order of the labels."""

    about: dict[str, Any]
    """protocol, weights, data; JSON values"""
    image: NDArray[np.str_]
    sequence: NDArray[np.str_]
    truth: Columns
    """rotations (N, 24, 3, 3) root in camera axes, betas (N, 10), has_body (N,), points_m (N, 48, 4), gender and body (N,) text"""
    predicted: Columns
    """rotations, betas, pelvis_m (N, 3) in the camera, NaN where it is not known, gender and body (N,)"""

    def __len__(self) -> int:
        return len(self.image)

    def save(self, path: Path) -> None:
        """Write an npz file."""
        arrays: dict[str, NDArray] = {
            "kind": np.array("dataset"),
            "about": np.array(json.dumps(self.about)),
            "image": self.image,
            "sequence": self.sequence,
        }
        for side in ("truth", "predicted"):
            arrays |= {f"{side}.{name}": values for name, values in getattr(self, side).items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as part, part.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)


def load_predictions(path: Path) -> DatasetPredictions:
    """Read a file of `DatasetPredictions.save`.

    Raises:
        InputError: the file is something else.
    """
    kind = str(read_npz(path, ["kind"], what=_WHAT)["kind"])
    if kind != "dataset":
        raise InputError(f"{path} holds {kind!r} predictions, expected {_WHAT}")
    shapes = {f"truth.{name}": shape for name, shape in _TRUTH.items()} | {f"predicted.{name}": shape for name, shape in _BODY.items()}
    arrays = read_npz(path, ["about", *_TEXTS, *shapes], what=_WHAT)
    people = arrays["image"].size
    for name, shape in {**shapes, **dict.fromkeys(_TEXTS, ())}.items():
        if arrays[name].shape != (people, *shape):
            raise InputError(f"{path}: {name} has shape {arrays[name].shape}, expected {(people, *shape)}")
    try:
        about = dict(json.loads(str(arrays["about"])))
    except ValueError as error:
        raise InputError(f"{path}: its description is no JSON ({error}); expected {_WHAT}") from error
    side = lambda name: {key.partition(".")[2]: values for key, values in arrays.items() if key.startswith(name)}
    return DatasetPredictions(about, arrays["image"], arrays["sequence"], side("truth."), side("predicted."))


def feed_truth(reader: LabelReader, about: dict[str, Any], limit: int | None = None) -> DatasetPredictions:
    """Use the labelled bodies as predictions: any error above 0 shows that labels and body models do not fit.

    Args:
        reader: the labels.
        about: JSON values to store with the predictions.
        limit: use only the first people.

    Raises:
        UsageError: the labels contain no bodies.
    """
    labels = [reader.label(index) for index in range(len(reader) if limit is None else min(limit, len(reader)))]
    kept = [label for label in labels if label.has_pose and label.has_betas]
    if not kept:
        raise UsageError(f"the labels of {reader.name} have no bodies that could be fed back, only points")
    if len(kept) < len(labels):
        log.warning("%d of %d people have no labelled body and cannot be fed back", len(labels) - len(kept), len(labels))
    truth = _truth(kept)
    predicted = {name: truth[name] for name in ("rotations", "betas", "gender", "body")}
    return _predictions(about | {"weights": "the labels themselves"}, kept, predicted | {"pelvis_m": np.full((len(kept), 3), np.nan)})


def predict(
    reader: LabelReader,
    about: dict[str, Any],
    *,
    overrides: Sequence[str] = (),
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> DatasetPredictions:
    """Predict the body of each labelled person, in the label's box and with the label's camera where that is known.

    Crop layouts that need keypoints use those of the detection whose box overlaps the labelled one. Keypoints are then refined in crops and
    the body is fitted, as in a video, each picture by itself. Layouts that need boxes only (the paper's) return the network's body as it
    is. Unreadable pictures are skipped, counted and named.

    Args:
        reader: the labels.
        about: JSON values to store with the predictions.
        overrides: settings as for `--set`.
        limit: use only the first people.
        progress: called with the number of people finished.
        stopped: when it returns True, the predictions made so far are returned.

    Raises:
        InputError: no person could be predicted.
    """
    settings = load_settings(None, list(overrides))
    components = build_components(settings)
    labels = [reader.label(index) for index in range(len(reader) if limit is None else min(limit, len(reader)))]
    people = _People(components, settings)
    unreadable: list[str] = []
    try:
        for _, group in groupby(range(len(labels)), key=lambda index: labels[index].image):
            if stopped():
                break
            indices = list(group)
            try:
                rgb = reader.image(indices[0])
            except InputError as error:
                unreadable.append(str(error))
                continue
            people.add(rgb, {index: labels[index] for index in indices})
            if progress is not None:
                progress(indices[-1] + 1)
        people.estimate()
    finally:
        components.detector.close()
        components.estimator.close()
    done = sorted(people.estimated)
    if unreadable:
        log.warning("%d pictures could not be read and are left out: %s", len(unreadable), "; ".join(unreadable[:3]))
    if not done:
        raise InputError(f"none of {len(labels)} people was predicted: no picture could be read, or the run was stopped at once")
    predicted = {name: np.stack([people.estimated[index][name] for index in done]) for name in _BODY}
    constant = lambda text: np.array([text] * len(done), np.str_)
    predicted |= {"gender": constant("neutral"), "body": constant("free" if components.body.name == "free" else "smpl")}
    about = about | {
        "weights": Path(settings.network.weights).stem,
        "weights_sha256": sha256_of_file(find_weights(settings.network.weights)),
        "views": settings.crops.views,
        "crop layout": settings.crops.layout,
        "fit": settings.fit.kind if people.by_keypoints else "none",
        "predicted body": settings.body.model if settings.body.model == "free" else Path(settings.body.model).name,
        "changed settings": list(overrides),
        "pictures that could not be read": len(unreadable),
        "asked for": len(labels),
    }
    return _predictions(about, [labels[index] for index in done], predicted)


class _People:
    """A queue of labelled people from several pictures: a GPU would idle with batches of one person."""

    def __init__(self, components: Components, settings: Settings) -> None:
        self._components, self._settings = components, settings
        self.by_keypoints = components.cropper.layout.base == "keypoints"
        self._waiting: list[tuple[list[int], Frame, Intrinsics, Tracks, CropBatch]] = []
        self.estimated: dict[int, Columns] = {}
        """by the people's indices"""

    def add(self, rgb: NDArray[np.uint8], labels: Mapping[int, LabelledPerson]) -> None:
        """Add all labelled people of one picture; those with the same camera are cropped together."""
        components, frame = self._components, Frame(0, 0.0, rgb)
        boxes = {index: np.array([_tight_box(label)], np.float32) for index, label in labels.items()}
        found = components.detector.detect([frame])[0] if self.by_keypoints else Detections.empty()
        camera_of = {index: label.camera(frame.width, frame.height) for index, label in labels.items()}
        for camera in dict.fromkeys(camera_of.values()):
            indices = [index for index in labels if camera_of[index] == camera]
            box = np.concatenate([boxes[index] for index in indices])
            keypoints, n = _keypoints_of(box, found), len(indices)
            tracks = Tracks(
                track_id=np.arange(1, n + 1),
                boxes_xyxy_px=box,
                scores=np.ones(n, np.float32),
                keypoints_px=keypoints,
                observed=np.ones(n, np.bool_),
                landmarks_px=keypoints,
            )
            if self.by_keypoints and components.keypoints is not None:
                tracks = components.keypoints.refine(frame, tracks, camera)
            self._waiting.append((indices, frame, camera, tracks, components.cropper.crop(frame, tracks, camera)))
        if sum(len(batch) for *_, batch in self._waiting) >= _AT_ONCE:
            self.estimate()

    def estimate(self) -> None:
        """Run the network on all queued people."""
        if not self._waiting:
            return
        batches = [batch for *_, batch in self._waiting]
        estimates = self._components.estimator.estimate(CropBatch.concat(batches))
        first = 0
        for indices, frame, camera, tracks, batch in self._waiting:
            rows = slice(first, first + len(batch))
            own = CropEstimates(*(getattr(estimates, field.name)[rows] for field in fields(CropEstimates)))
            bodies = place_in_image(frame, tracks, batch, own, self._components.body)
            fitter = build_fitter(self._settings, self._components.body, camera) if self.by_keypoints else None
            if fitter is not None:
                landmarks_px, size = landmarks_in_image(own, batch, camera), (frame.width, frame.height)
                measured = Measured(bodies, tracks.keypoint_covariance_px2, landmarks_px, batch.base_px, batch.roll_rad, size)
                (bodies,) = fitter.fit([measured])
            self._place(indices, bodies)
            first += len(batch)
        self._waiting = []

    def _place(self, indices: Sequence[int], bodies: Bodies) -> None:
        rotations = bodies.rotations
        posed = (torch.from_numpy(value) for value in (rotations, bodies.betas, bodies.transl))
        joints = forward_kinematics(self._components.body, *posed)[0].numpy()
        for row, index in enumerate(indices):
            self.estimated[index] = {"rotations": rotations[row], "betas": bodies.betas[row], "pelvis_m": joints[row, 0]}


def _tight_box(label: LabelledPerson) -> tuple[float, float, float, float]:
    """Box of aspect 3:4 from which the paper's rule (`cropping.base_box`) recovers the label's base box."""
    height = label.side_px / _BOX_FACTOR
    (x, y), half_width = label.centre_px.tolist(), height * 3 / 8
    return x - half_width, y - height / 2, x + half_width, y + height / 2


def _keypoints_of(boxes: NDArray[np.float32], found: Detections) -> NDArray[np.float32]:
    """Keypoints, for each labelled box, of the detection that overlaps it most; NaN with score 0 without one."""
    none = np.full((len(boxes), 17, 3), np.nan, np.float32)
    none[..., 2] = 0
    if not len(found):
        return none
    theirs = found.boxes_xyxy_px
    low, high = np.maximum(boxes[:, None, :2], theirs[None, :, :2]), np.minimum(boxes[:, None, 2:], theirs[None, :, 2:])
    common = (high - low).clip(0).prod(-1)
    area = lambda box: (box[..., 2:] - box[..., :2]).prod(-1)
    overlap = common / (area(boxes)[:, None] + area(theirs)[None] - common).clip(1e-6)
    best = overlap.argmax(1)
    same = overlap[np.arange(len(boxes)), best] >= _SAME_PERSON
    return np.where(same[:, None, None], found.keypoints_px[best], none).astype(np.float32)


def _predictions(about: dict[str, Any], labels: Sequence[LabelledPerson], predicted: Columns) -> DatasetPredictions:
    about = about | {"people": len(labels)}
    image, sequence = (np.array([getattr(label, name) for label in labels], np.str_) for name in ("image", "sequence"))
    return DatasetPredictions(about, image, sequence, _truth(labels), predicted)


def _truth(labels: Sequence[LabelledPerson]) -> Columns:
    return {
        "rotations": np.stack([exp_so3(label.pose.astype(np.float64)) for label in labels]).astype(np.float32),
        "betas": np.stack([label.betas for label in labels]),
        "has_body": np.array([label.has_pose and label.has_betas for label in labels], np.float32),
        "points_m": np.stack([label.points_m for label in labels]),
        "gender": np.array([label.gender for label in labels], np.str_),
        "body": np.array([label.body for label in labels], np.str_),
    }
