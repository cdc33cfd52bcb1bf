"""Samples without pictures: random poses, bodies and cameras, with measured residuals of the detectors.

A detector's error depends on the pose, on occlusion and on truncation, and no formula describes it. So measured errors are reused:
`ResidualBank` holds the output of MoveNet and the encoder on rendered people minus the true points, and a random body gets the residuals
of one of the rendered people whose pose in camera axes is nearest. Millions of bodies can be sampled this way for the cost of a few
thousand renders.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mchmr_stream.cropping.crop_layouts import Layout
from mchmr_stream.datatypes import KEYPOINT_NAMES
from mchmr_stream.geometry.camera import box_info, roll_matrix, turn
from mchmr_stream.geometry.rotation import matrix_from_axis_angle
from mchmr_stream.metrics.joint_errors import LIMBS_IN_SMPL
from mchmr_stream.network.landmarks import BLAZEPOSE_NAMES
from mchmr_stream.network.observations import Observations
from mchmr_stream.training.observations.batches import TrainingBatch
from mchmr_stream.training.observations.body_landmarks import SparseBody
from mchmr_stream.training.observations.keypoint_boxes import base_of_keypoints
from mchmr_stream.training.observations.landmark_offsets import LandmarkPlaces

PICTURE_SIZES = ((1920, 1080), (1280, 720), (1440, 1080), (1080, 1920), (1000, 1000), (720, 1280), (640, 480))
_OPENCV_FROM_UP = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
"""Bodies stand with y up and face +z; the camera looks along +z with y down."""
_MIN_LIMBS_INSIDE = 4
"""A person with fewer limb joints in the picture is placed farther away."""


def _parts_of(names: tuple[str, ...]) -> Tensor:
    """Index into _PARTS of the limb of each landmark."""
    leg = ("hip", "knee", "ankle", "heel", "foot")
    head = ("nose", "eye", "ear", "mouth")

    def part(name: str) -> str:
        if any(word in name for word in head):
            return "head"
        return f"{name.split('_')[0]} {'leg' if any(word in name for word in leg) else 'arm'}"

    return torch.tensor([_PARTS.index(part(name)) for name in names])


_EXCHANGED_TOGETHER = ((3, 6, 9), (12, 15), (13, 16, 18, 20), (14, 17, 19, 21), (1, 4, 7, 10), (2, 5, 8, 11))
"""Joints of SMPL: trunk, head, left arm, right arm, left leg, right leg."""
_HINGES = (4, 5, 18, 19)
"""Knees and elbows bend about one axis."""
_PARTS = ("head", "left arm", "right arm", "left leg", "right leg")
_PART_OF_LANDMARK, _PART_OF_KEYPOINT = _parts_of(BLAZEPOSE_NAMES), _parts_of(KEYPOINT_NAMES)


@dataclass(frozen=True)
class SamplerSettings:
    """Settings of the sampled bodies and cameras."""

    beta_sd: float = 1.3
    limbs_exchanged: float = 0.0
    """probability for each limb, the trunk and the head to be taken from another pose, so that rare combinations are also trained"""
    pose_noise_rad: tuple[float, ...] = (0.0,)
    """standard deviations of noise on each joint's axis-angle, one of them sampled per person"""
    truncated_share: float = 0.25
    neighbours: int = 20
    keypoints_dropped: float = 0.1
    """share of people without detector keypoints, as for carried tracks and frames between keyframes"""
    mixed_share: float = 0.7
    """share of people whose limbs get their residuals from different rendered people"""
    visibility_noise: float = 0.7
    """standard deviation on the logit of visibility, once per person and once per landmark"""
    point_noise: float = 0.004
    """standard deviation on every point, in base sides"""
    strength: tuple[float, float] = (0.4, 1.1)
    """residuals are scaled by a factor sampled from this range: errors on rendered people are larger than on filmed ones, whose median
    landmark error on our validation views is two thirds as large
    """
    strength_power: float = 1.0
    """over 1, most people have small residuals and few large ones: low + (high - low) u^power"""
    failures_kept: float = 0.25
    """share of complete failures (median error over `failure_error`) that stays in the bank"""
    failure_error: float = 0.1
    """base sides"""


class Residuals(NamedTuple):
    """Output of the detectors on rendered people minus the truth at `LandmarkPlaces`; base coordinates, rolled plane. A row per person."""

    joints_m: Tensor
    """(n, 24, 3) rolled camera, pelvis at 0"""
    inside: Tensor
    """(n, 12) limb joints inside the picture, 0 or 1"""
    landmark_error: Tensor
    """(n, V, 33, 2)"""
    visibility: Tensor
    """(n, V, 33)"""
    keypoint_error: Tensor
    """(n, 17, 2)"""
    keypoint_score: Tensor
    """(n, 17)"""
    views: Tensor
    """(n, V, 3)"""


class ResidualBank:
    """Residuals indexed by pose in camera axes and by which joints are outside of the picture."""

    def __init__(self, residuals: Residuals, settings: SamplerSettings, seed: int) -> None:
        limbs = slice(5, 17)
        landmark = residuals.landmark_error.norm(dim=-1).flatten(1).median(1).values
        keypoint = residuals.keypoint_error[:, limbs].norm(dim=-1).median(1).values
        failed = torch.maximum(landmark, keypoint) > settings.failure_error
        spared = torch.rand(len(failed), generator=torch.Generator().manual_seed(seed)) < settings.failures_kept
        keep = ~failed | spared.to(failed.device)
        self.residuals = residuals = Residuals(*(values[keep] for values in residuals))
        self._key = self._keys(residuals.joints_m, residuals.inside)
        device = self._key.device
        self._part_of_landmark, self._part_of_keypoint = _PART_OF_LANDMARK.to(device), _PART_OF_KEYPOINT.to(device)

    @staticmethod
    def _keys(joints_m: Tensor, inside: Tensor) -> Tensor:
        cut_off_counts_as_m = 0.5
        return torch.cat([joints_m.flatten(1), inside * cut_off_counts_as_m], 1)

    def borrow(self, joints_m: Tensor, inside: Tensor, neighbours: int, mixed_share: float, generator: torch.Generator) -> Residuals:
        """Return, for each of n people, the residuals of one of the nearest rendered people.

        A share `mixed_share` of the people gets the residuals of a different rendered person for each limb: a few thousand complete
        patterns would be memorised together with the poses they belong to.

        Args:
            joints_m: (n, 24, 3) joints in the rolled camera, pelvis at 0.
            inside: (n, 12) limb joints inside the picture, 0 or 1.
            neighbours: number of nearest rendered people to sample from.
            mixed_share: see above.
            generator: random numbers.
        """
        n = len(joints_m)
        near = torch.cdist(self._keys(joints_m, inside), self._key).topk(min(neighbours, len(self._key)), largest=False).indices
        device = near.device
        pick = torch.randint(0, near.shape[1], (n, len(_PARTS)), generator=generator, device=device)
        one_source = torch.rand(n, 1, generator=generator, device=device) >= mixed_share
        rows = near.gather(1, torch.where(one_source, pick[:, :1], pick))
        of_landmark, of_keypoint = rows[:, self._part_of_landmark], rows[:, self._part_of_keypoint]
        source = self.residuals
        landmarks, keypoints = (torch.arange(of.shape[1], device=device) for of in (of_landmark, of_keypoint))
        return Residuals(
            joints_m=source.joints_m[rows[:, 0]],
            inside=source.inside[rows[:, 0]],
            landmark_error=source.landmark_error.transpose(1, 2)[of_landmark, landmarks].transpose(1, 2),
            visibility=source.visibility.transpose(1, 2)[of_landmark, landmarks].transpose(1, 2),
            keypoint_error=source.keypoint_error[of_keypoint, keypoints],
            keypoint_score=source.keypoint_score[of_keypoint, keypoints],
            views=source.views[rows[:, 0]],
        )


class LandmarkSampler:
    """Sampler of `TrainingBatch`es.

    `poses` (N, 24, 3) are axis-angle with the root in a world whose y is up; all tensors stay on the device of bank and body.
    """

    def __init__(
        self,
        poses: Tensor,
        bank: ResidualBank,
        places: LandmarkPlaces,
        body: SparseBody,
        layout: Layout,
        settings: SamplerSettings,
        seed: int,
    ) -> None:
        self.poses, self.bank, self.places, self.body, self.layout, self.settings = poses, bank, places, body, layout, settings
        self.device = poses.device
        self.generator = torch.Generator(self.device).manual_seed(seed)

    def batch(self, n: int) -> TrainingBatch:
        """Sample n people."""
        rotations, betas = self._bodies(n)
        joints, landmarks, vertices = self.body.pose(rotations, betas)
        size, focal, pelvis = self._cameras(joints)

        landmarks, keypoints_m = self.places.place(landmarks, rotations, self.body)
        plane = _project(landmarks + pelvis[:, None], focal)
        coco = _project(keypoints_m + pelvis[:, None], focal)
        inside = lambda points: points.abs().lt(size[:, None] / 2).all(-1).float()
        limbs = _project(joints[:, list(LIMBS_IN_SMPL)] + pelvis[:, None], focal)
        # Residuals are relative to the box and roll of their person; the true points give the corresponding box here.
        base, roll = base_of_keypoints(coco, inside(coco), self.layout)
        back = roll_matrix(-roll)
        borrowed = self._blurred(
            self.bank.borrow(_turned(back, joints), inside(limbs), self.settings.neighbours, self.settings.mixed_share, self.generator)
        )

        low, high = self.settings.strength
        strength = low + (high - low) * self._rand(n, 1, 1) ** self.settings.strength_power
        errors = turn(borrowed.keypoint_error, roll[:, None]) * base[:, 2, None, None] * strength
        score = borrowed.keypoint_score * (self._rand(n, 1) >= self.settings.keypoints_dropped)
        keypoints = coco + errors
        landmark_errors = turn(borrowed.landmark_error, roll[:, None, None]) * (base[:, 2, None, None] * strength)[:, None]
        seen_landmarks = plane[:, None] + landmark_errors

        # As in the pipeline: the box of the detected keypoints, or of the landmarks of the previous frame.
        guess = torch.where((score > 0).any(1)[:, None, None], keypoints, self.body.keypoints(seen_landmarks[:, 0]))
        guess_score = torch.where((score > 0).any(1)[:, None], score, self.body.keypoints(borrowed.visibility[:, 0, :, None])[..., 0])
        jitter = self._randn(n, 1, 2) * 0.01 * base[:, 2, None, None]
        base, roll = base_of_keypoints(guess + jitter, guess_score, self.layout, inside(guess))
        base = torch.cat([base[:, :2], base[:, 2:] * torch.exp(0.04 * self._randn(n, 1))], 1)

        back = roll_matrix(-roll)
        side = base[:, 2, None, None]
        in_base = lambda points: (turn(points, -roll[:, None]) - base[:, None, :2]) / side
        landmarks_base = in_base(seen_landmarks.flatten(1, 2)).unflatten(1, seen_landmarks.shape[1:3])
        keypoints_base = in_base(keypoints) * (score > 0)[..., None]
        views = borrowed.views
        return TrainingBatch(
            seen=Observations(
                features=torch.zeros(n, views.shape[1], 1, device=self.device),
                landmarks=torch.cat([landmarks_base, borrowed.visibility[..., None]], -1),
                world=torch.zeros(n, views.shape[1], landmarks.shape[1], 3, device=self.device),
                keypoints=torch.cat([keypoints_base, score[..., None]], -1),
                views=views,
                base_info=box_info(base[:, None], focal)[:, 0],
                has_image=torch.zeros(n, device=self.device),
            ),
            views_px=torch.cat([base[:, None, :2] + views[..., :2] * side, views[..., 2:] * side], -1),
            base_px=base,
            focal_px=focal,
            assumed_focal_px=size.norm(dim=1),
            rotations=torch.cat([(back @ rotations[:, 0])[:, None], rotations[:, 1:]], 1),
            betas=betas,
            joints_m=_turned(back, joints),
            vertices_m=_turned(back, vertices),
            pelvis_m=_turned(back, pelvis[:, None])[:, 0],
        )

    def _blurred(self, borrowed: Residuals) -> Residuals:
        """Add independent noise to all residuals."""
        n, views, count = borrowed.visibility.shape
        logit = torch.logit(borrowed.visibility, eps=1e-4)
        logit = logit + self.settings.visibility_noise * (self._randn(n, 1, 1) + self._randn(n, 1, count))
        once, each = self._randn(n, 1, count, 2), self._randn(n, views, count, 2)
        return borrowed._replace(
            visibility=logit.sigmoid(),
            landmark_error=borrowed.landmark_error + self.settings.point_noise * (once + each),
            keypoint_error=borrowed.keypoint_error + self.settings.point_noise * self._randn(*borrowed.keypoint_error.shape),
        )

    def _bodies(self, n: int) -> tuple[Tensor, Tensor]:
        """Rotations in camera axes and betas."""
        local = matrix_from_axis_angle(self._poses(n))
        pitch = torch.where(self._rand(n) < 0.85, self._uniform(n, -0.2, 0.5), self._uniform(n, -0.6, 1.0))
        tilt = torch.where(self._rand(n) < 0.6, self._randn(n) * 0.05, self._uniform(n, -0.5, 0.5))
        camera = roll_matrix(tilt) @ _about_x(pitch) @ _OPENCV_FROM_UP.to(self.device) @ _about_y(self._uniform(n, 0, 2 * torch.pi))
        return torch.cat([(camera @ local[:, 0])[:, None], local[:, 1:]], 1), self._randn(n, 10) * self.settings.beta_sd

    def _poses(self, n: int) -> Tensor:
        """(n, 24, 3) axis-angle."""
        picked = self.poses[self._randint(len(self.poses), n)]
        for joints in _EXCHANGED_TOGETHER:
            others = self.poses[self._randint(len(self.poses), n)]
            moved = self._rand(n) < self.settings.limbs_exchanged
            picked[:, joints] = torch.where(moved[:, None, None], others[:, joints], picked[:, joints])
        levels = torch.tensor(self.settings.pose_noise_rad, device=self.device)
        noise = levels[self._randint(len(levels), n)][:, None, None] * self._randn(*picked.shape)
        noise[:, _HINGES] *= 0.5
        noise[:, 22:] = 0
        return picked + noise

    def _cameras(self, joints: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Picture size (n, 2), focal length (n,) and pelvis position (n, 3); some people are partly outside of the picture."""
        n = len(joints)
        sizes = torch.tensor(PICTURE_SIZES, dtype=torch.float32, device=self.device)
        size = sizes[self._randint(len(sizes), n)]
        fov_deg = torch.where(self._rand(n) < 0.85, self._uniform(n, 35, 75), self._uniform(n, 75, 100))
        focal = size.max(1).values / 2 / torch.tan(torch.deg2rad(fov_deg) / 2)
        low, high = joints[..., :2].amin(1), joints[..., :2].amax(1)
        extent = (high - low).amax(1) * 1.15
        cut = self._rand(n) < self.settings.truncated_share
        share = torch.where(cut, self._uniform(n, 0.8, 2.2), self._uniform(n, 0.2, 1.0))
        depth = torch.maximum(focal * extent / (share * size.min(1).values), 0.8 + extent * 0.3)
        half_px = (focal * extent / depth / 2)[:, None]
        room = torch.where(cut[:, None], size / 2, (size / 2 - half_px).clamp(min=0))
        centre_px = (self._rand(n, 2) * 2 - 1) * room
        pelvis = torch.cat([centre_px / focal[:, None] * depth[:, None] - (low + high) / 2, depth[:, None]], 1)
        limbs = _project(joints[:, list(LIMBS_IN_SMPL)] + pelvis[:, None], focal)
        hardly_seen = limbs.abs().lt(size[:, None] / 2).all(-1).sum(1) < _MIN_LIMBS_INSIDE
        step_back = torch.cat([-(low + high) / 2, focal[:, None] * extent[:, None] / (0.7 * size.amin(1)[:, None]) + 1], 1)
        return size, focal, torch.where(hardly_seen[:, None], step_back, pelvis)

    def _rand(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator, device=self.device)

    def _randn(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.device)

    def _randint(self, high: int, n: int) -> Tensor:
        return torch.randint(0, high, (n,), generator=self.generator, device=self.device)

    def _uniform(self, n: int, low: float, high: float) -> Tensor:
        return low + (high - low) * self._rand(n)


def _project(points_m: Tensor, focal_px: Tensor) -> Tensor:
    """(n, k, 3) -> (n, k, 2) plane. Points beside or behind the camera are projected far outside on their own side."""
    return points_m[..., :2] / points_m[..., 2:].clamp(min=0.15) * focal_px[:, None, None]


def _turned(rotation: Tensor, points: Tensor) -> Tensor:
    return (rotation[:, None] @ points[..., None])[..., 0]


def _about_x(angle: Tensor) -> Tensor:
    c, s = torch.cos(angle), torch.sin(angle)
    zero, one = torch.zeros_like(c), torch.ones_like(c)
    return torch.stack([one, zero, zero, zero, c, -s, zero, s, c], -1).reshape(-1, 3, 3)


def _about_y(angle: Tensor) -> Tensor:
    c, s = torch.cos(angle), torch.sin(angle)
    zero, one = torch.zeros_like(c), torch.ones_like(c)
    return torch.stack([c, zero, s, zero, one, zero, -s, zero, c], -1).reshape(-1, 3, 3)
