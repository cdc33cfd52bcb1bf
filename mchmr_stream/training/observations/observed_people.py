"""Rendered people as observed by the pipeline: detector, cropper and encoder run once, and the result is stored.

The encoder is frozen, so each rendered person is encoded once and then used in all steps. The same observations minus the truth are the
residuals that samples without pictures use (`landmark_samples`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mchmr_stream.cropping.cropper import Cropper
from mchmr_stream.datatypes import Detections, Frame, Tracks
from mchmr_stream.files.atomic import atomic_file
from mchmr_stream.files.safe_npz import read_npz
from mchmr_stream.geometry.camera import roll_matrix
from mchmr_stream.metrics.joint_errors import LIMBS_IN_SMPL
from mchmr_stream.network.encoders import CropFeatures
from mchmr_stream.network.mesh_network import observe
from mchmr_stream.network.observations import Observations
from mchmr_stream.training.observations.batches import TrainingBatch
from mchmr_stream.training.observations.body_landmarks import SparseBody
from mchmr_stream.training.observations.landmark_offsets import LandmarkPlaces, Sightings, measure
from mchmr_stream.training.observations.landmark_samples import Residuals

if TYPE_CHECKING:  # not imported in a packed training run, which has torch and numpy only
    from mchmr_stream.detection.movenet_detector import MoveNetDetector
    from mchmr_stream.keypoints.crop_keypoints import CropKeypoints
    from mchmr_stream.synthesis.samples import PersonLabel, SyntheticScene

_MATCH_WITHIN = 0.15
"""Largest mean keypoint distance over box size at which a detection is assigned to a labelled person."""
_MIN_VISIBLE, _MAX_TRUNCATED = 0.35, 0.75
"""Least visible share and largest truncated share of a training sample."""
_WHOLE = 0.9
"""Visible share from which a person counts as fully visible; landmarks that are not visible are estimated too near the body's middle."""


@dataclass(frozen=True, eq=False)
class ObservedPeople:
    """Observations and truth of N rendered people, in each person's rolled camera; tensors."""

    features: Tensor
    """(N, V, C) float16"""
    landmarks: Tensor
    """(N, V, 33, 3)"""
    world: Tensor
    """(N, V, 33, 3)"""
    keypoints: Tensor
    """(N, 17, 3)"""
    views: Tensor
    views_px: Tensor
    base_px: Tensor
    base_info: Tensor
    focal_px: Tensor
    assumed_focal_px: Tensor
    rotations: Tensor
    betas: Tensor
    joints_m: Tensor
    """(N, 24, 3) relative to the pelvis"""
    pelvis_m: Tensor
    inside: Tensor
    """(N, 12) limb joints inside the picture"""
    group: Tensor
    """(N, 4): visible fraction, truncated fraction, sex (1 female), skin tone"""

    def __len__(self) -> int:
        return len(self.base_px)

    def save(self, path: Path) -> None:
        """Write an npz file."""
        with atomic_file(path) as part, part.open("wb") as file:
            np.savez(file, **{field.name: getattr(self, field.name).numpy() for field in fields(self)})

    @staticmethod
    def load(path: Path) -> ObservedPeople:
        """Read a file of `save`.

        Raises:
            InputError: the file is something else.
        """
        names = [field.name for field in fields(ObservedPeople)]
        arrays = read_npz(path, names, what="observations written by training")
        return ObservedPeople(**{name: torch.from_numpy(arrays[name]) for name in names})

    def to(self, device: torch.device) -> ObservedPeople:
        """Copy to another device."""
        return ObservedPeople(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def batch(self, rows: Tensor, body: SparseBody) -> TrainingBatch:
        """Select people as a training batch."""
        # Where bones were stretched the vertices of the betas fit only approximately; the joints are the true ones.
        _, _, vertices = body.pose(self.rotations[rows], self.betas[rows])
        seen = Observations(
            features=self.features[rows].float(),
            landmarks=self.landmarks[rows],
            world=self.world[rows],
            keypoints=self.keypoints[rows],
            views=self.views[rows],
            base_info=self.base_info[rows],
            has_image=torch.ones(len(rows), device=self.base_px.device),
        )
        return TrainingBatch(
            seen, self.views_px[rows], self.base_px[rows], self.focal_px[rows], self.assumed_focal_px[rows], self.rotations[rows],
            self.betas[rows], self.joints_m[rows], vertices, self.pelvis_m[rows],
        )  # fmt: skip

    def found(self) -> Tensor:
        """(N,) bool: people with a detection."""
        return (self.keypoints[..., 2] > 0).any(1)

    def places(self, body: SparseBody) -> LandmarkPlaces:
        """Measure the detectors' landmark offsets on the people that are fully visible."""
        rows = torch.nonzero(self.found() & (self.group[:, 0] > _WHOLE) & (self.group[:, 1] < 1 - _WHOLE))[:, 0]
        nominal = body.pose(self.rotations[rows], self.betas[rows])[1] + self.pelvis_m[rows][:, None]
        base = self.base_px[rows]
        in_plane = lambda points: torch.cat([points[..., :2] * base[:, None, 2:] + base[:, None, :2], points[..., 2:]], -1)
        landmarks, keypoints = in_plane(self.landmarks[rows].mean(1)), in_plane(self.keypoints[rows])
        return measure(Sightings(self.rotations[rows], nominal, self.focal_px[rows], base[:, 2], landmarks, keypoints), body)

    def residuals(self, body: SparseBody, places: LandmarkPlaces) -> Residuals:
        """Compute the residuals, observations minus truth, of the people with a detection."""
        rows = torch.nonzero(self.found())[:, 0]
        base = self.base_px[rows]

        def in_base(points_m: Tensor) -> Tensor:
            points = points_m + self.pelvis_m[rows][:, None]
            plane = points[..., :2] / points[..., 2:].clamp(min=0.15) * self.focal_px[rows][:, None, None]
            return (plane - base[:, None, :2]) / base[:, None, 2:]

        landmarks, keypoints = places.place(body.pose(self.rotations[rows], self.betas[rows])[1], self.rotations[rows], body)
        return Residuals(
            joints_m=self.joints_m[rows],
            inside=self.inside[rows],
            landmark_error=self.landmarks[rows][..., :2] - in_base(landmarks)[:, None],
            visibility=self.landmarks[rows][..., 2],
            keypoint_error=self.keypoints[rows][..., :2] - in_base(keypoints),
            keypoint_score=self.keypoints[rows][..., 2],
            views=self.views[rows],
        )


def observable(person: PersonLabel) -> bool:
    """Return whether enough of a labelled person is visible for an observation."""
    return person.visible_fraction >= _MIN_VISIBLE and person.truncated_fraction <= _MAX_TRUNCATED


class Observer:
    """Runs the pipeline's detector, cropper and encoder on labelled scenes."""

    def __init__(
        self,
        detector: MoveNetDetector,
        cropper: Cropper,
        encoder: Callable[[Tensor], CropFeatures],
        seed: int,
        keypoints: CropKeypoints | None = None,
    ) -> None:
        """`keypoints` refines each person's keypoints in a crop, as in the pipeline; None uses the detector's."""
        self._detector, self._cropper, self._encoder, self._keypoints = detector, cropper, encoder, keypoints
        self._rng = np.random.default_rng(seed)

    @torch.inference_mode()
    def observe(self, scenes: Iterable[SyntheticScene], progress: Callable[[int], None] | None = None) -> ObservedPeople:
        """Observe all visible people of the scenes, one scene at a time, as in a video."""
        columns: dict[str, list[Tensor]] = {field.name: [] for field in fields(ObservedPeople)}
        done = 0
        for scene in scenes:
            people = [person for person in scene.people if observable(person)]
            if people:
                for name, value in self._scene(scene, people).items():
                    columns[name].append(value)
            done += len(people)
            if progress is not None:
                progress(done)
        return ObservedPeople(**{name: torch.cat(values) for name, values in columns.items()})

    def _scene(self, scene: SyntheticScene, people: list[PersonLabel]) -> dict[str, Tensor]:
        frame = Frame(scene.index, 0.0, np.ascontiguousarray(scene.rgb()))
        tracks = self.tracks(self._detector.detect([frame])[0], people)
        if self._keypoints is not None:
            tracks = self._keypoints.refine(frame, tracks, scene.intrinsics)
        batch = self._cropper.crop(frame, tracks, scene.intrinsics)
        n, count = batch.crops.shape[:2]
        tensor = lambda array: torch.as_tensor(np.asarray(array), dtype=torch.float32)
        views_px, base_px, focal_px = tensor(batch.views_px), tensor(batch.base_px), tensor(batch.focal_px)
        encoded = self._encoder(batch.crops.flatten(0, 1).float() / 255)
        seen = observe(encoded, n, count, views_px, base_px, focal_px, tensor(batch.keypoints_px))

        rolled_from_camera = roll_matrix(-batch.roll_rad)
        stack = lambda name: np.stack([getattr(person, name) for person in people])
        rotations, joints = stack("rotations").copy(), stack("joints_m")
        rotations[:, 0] = rolled_from_camera @ rotations[:, 0]
        joints = np.einsum("nij,nkj->nki", rolled_from_camera, joints)
        limbs_px = stack("joints_px")[:, list(LIMBS_IN_SMPL)]
        inside = ((limbs_px > 0) & (limbs_px < [scene.width, scene.height])).all(-1)
        group = [[p.visible_fraction, p.truncated_fraction, float(p.sex == "female"), p.skin_tone] for p in people]
        return {
            "features": seen.features.half(), "landmarks": seen.landmarks, "world": seen.world,
            # A person without a detection has no keypoints here, although a crop at the guessed place may show some.
            "keypoints": seen.keypoints * tensor(tracks.observed)[:, None, None],
            "views": seen.views, "views_px": views_px, "base_px": base_px, "base_info": seen.base_info, "focal_px": focal_px,
            "assumed_focal_px": torch.full((n,), float(np.hypot(scene.width, scene.height))),
            "rotations": tensor(rotations), "betas": tensor(stack("betas")), "joints_m": tensor(joints - joints[:, :1]),
            "pelvis_m": tensor(joints[:, 0]), "inside": tensor(inside), "group": tensor(group),
        }  # fmt: skip

    def tracks(self, detections: Detections, people: list[PersonLabel]) -> Tracks:
        """Assign detections to labelled people; a person without one is placed like a carried track."""
        n = len(people)
        boxes = np.stack([person.box_xyxy_px for person in people]).astype(np.float32)
        keypoints = np.full((n, 17, 3), np.nan, np.float32)
        keypoints[..., 2] = 0
        landmarks = np.stack([person.keypoints_px for person in people]).astype(np.float32)
        size = np.maximum(boxes[:, 2:] - boxes[:, :2], 1).max(1)
        landmarks[..., :2] += self._rng.normal(0, 0.015, (n, 17, 2)) * size[:, None, None]
        landmarks[..., 2] = 0.3 + 0.6 * landmarks[..., 2]
        limbs = slice(5, 17)
        for person, label in enumerate(people):
            distance = np.linalg.norm(detections.keypoints_px[:, limbs, :2] - label.keypoints_px[limbs, :2], axis=-1)
            counted = detections.keypoints_px[:, limbs, 2] > 0.2
            mean = np.where(counted.any(1), (distance * counted).sum(1) / np.maximum(counted.sum(1), 1), np.inf) / size[person]
            if len(mean) and mean.min() < _MATCH_WITHIN:
                best = int(mean.argmin())
                boxes[person] = detections.boxes_xyxy_px[best]
                keypoints[person] = landmarks[person] = detections.keypoints_px[best]
        observed = np.asarray(keypoints[..., 2].any(1))
        return Tracks(
            track_id=np.arange(n),
            boxes_xyxy_px=boxes,
            scores=np.ones(n, np.float32),
            keypoints_px=keypoints,
            observed=observed,
            landmarks_px=landmarks,
        )
