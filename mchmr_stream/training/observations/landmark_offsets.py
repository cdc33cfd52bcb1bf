"""Offsets of the detectors' landmarks on the body: each is an offset from the nominal place that moves with a bone.

A detector's hip or shoulder is one to four centimetres off the joint, always to the same side. That is a definition and not a random
error, and a network must learn it at full strength, however much the random errors are weakened (`SamplerSettings.strength`). So it is
measured on rendered people and subtracted from the residuals.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import torch
from torch import Tensor

from mchmr_stream.body.model import PARENTS
from mchmr_stream.datatypes import JOINT_NAMES
from mchmr_stream.network.landmarks import BLAZEPOSE_MIRROR, BLAZEPOSE_NAMES, COCO_FROM_BLAZEPOSE, COCO_MIRROR
from mchmr_stream.training.observations.body_landmarks import SparseBody

log = logging.getLogger(__name__)

MIN_SCORE, MIN_BASE_PX = 0.4, 250
"""Least score of points and least base side of people that count: clearly visible, and large enough for half a pixel not to matter."""
_MIN_POINTS = 30
"""A point with fewer observations keeps its nominal place."""
_ROUNDS = 3
_KEPT_SHARE = 0.5
"""Share of people, those whose landmarks fit best, of the final estimate: an uncertain detector draws limbs towards the middle of the
body, which must not be measured as an offset.
"""
_MIRROR = torch.tensor([-1.0, 1.0, 1.0])


def _bone_of(name: str) -> int:
    """The joint whose rotation moves a landmark: for limb joints the parent, so that a bent elbow does not move its own point."""
    if name in JOINT_NAMES:
        return PARENTS[JOINT_NAMES.index(name)]
    side = "left" if "left" in name else "right"
    if any(word in name for word in ("thumb", "index", "pinky")) and "foot" not in name:
        return JOINT_NAMES.index(f"{side}_wrist")
    if "heel" in name or "foot" in name:
        return JOINT_NAMES.index(f"{side}_ankle")
    return JOINT_NAMES.index("head")


_BONES = [_bone_of(name) for name in BLAZEPOSE_NAMES]


class LandmarkPlaces(NamedTuple):
    """Offsets in the body's rest axes, metres."""

    landmarks_m: Tensor
    """(33, 3) of BlazePose's landmarks"""
    keypoints_m: Tensor
    """(17, 3) of MoveNet's keypoints"""

    @staticmethod
    def nominal() -> LandmarkPlaces:
        """Zero offsets: all points at the places of `SparseBody`."""
        return LandmarkPlaces(torch.zeros(len(BLAZEPOSE_NAMES), 3), torch.zeros(len(COCO_FROM_BLAZEPOSE), 3))

    def to(self, device: torch.device) -> LandmarkPlaces:
        """Copy to another device."""
        return LandmarkPlaces(self.landmarks_m.to(device), self.keypoints_m.to(device))

    def place(self, landmarks_m: Tensor, rotations: Tensor, body: SparseBody) -> tuple[Tensor, Tensor]:
        """Apply the offsets.

        Args:
            landmarks_m: (n, 33, 3) nominal landmarks.
            rotations: (n, 24, 3, 3) of the bodies.
            body: the body.

        Returns:
            Landmarks (n, 33, 3) and keypoints (n, 17, 3).
        """
        turned = outer_rotations(rotations)[:, _BONES]
        landmarks = landmarks_m + (turned @ self.landmarks_m[..., None])[..., 0]
        keypoints = body.keypoints(landmarks_m) + (body.keypoints(turned) @ self.keypoints_m[..., None])[..., 0]
        return landmarks, keypoints


class Sightings(NamedTuple):
    """Points that detectors found on people with known bodies."""

    rotations: Tensor
    """(n, 24, 3, 3) camera axes"""
    landmarks_m: Tensor
    """(n, 33, 3) nominal, camera coordinates"""
    focal_px: Tensor
    """(n,)"""
    side_px: Tensor
    """(n,) of the base box"""
    landmarks_px: Tensor
    """(n, 33, 3): plane and visibility"""
    keypoints_px: Tensor
    """(n, 17, 3): plane and score"""


def measure(seen: Sightings, body: SparseBody) -> LandmarkPlaces:
    """Estimate the offsets with the least reprojection residuals on the people with the best fit.

    The estimate is the geometric median of the 2D residuals, with left and right mirrored into one. With too few people the nominal places
    are returned, with a warning.
    """
    if len(seen.rotations) < _MIN_POINTS:
        log.warning("%d people are seen whole, too few to measure where detectors put landmarks: nominal places", len(seen.rotations))
        return LandmarkPlaces.nominal().to(seen.rotations.device)
    turned = outer_rotations(seen.rotations)[:, _BONES]
    places = _measure(seen, turned, body)
    for _ in range(_ROUNDS - 1):
        landmarks, _ = places.place(seen.landmarks_m, seen.rotations, body)
        plane = landmarks[..., :2] / landmarks[..., 2:].clamp(min=0.15) * seen.focal_px[:, None, None]
        error = ((plane - seen.landmarks_px[..., :2]).norm(dim=-1) / seen.side_px[:, None]).median(1).values
        best = error <= error.quantile(_KEPT_SHARE)
        places = _measure(Sightings(*(values[best] for values in seen)), turned[best], body)
    return places


def _measure(seen: Sightings, turned: Tensor, body: SparseBody) -> LandmarkPlaces:
    nominal = seen.landmarks_m
    return LandmarkPlaces(
        _offsets(nominal, turned, seen, seen.landmarks_px, BLAZEPOSE_MIRROR),
        _offsets(body.keypoints(nominal), body.keypoints(turned), seen, seen.keypoints_px, COCO_MIRROR),
    )


def _offsets(nominal_m: Tensor, turned: Tensor, seen: Sightings, points_px: Tensor, mirrors: tuple[int, ...]) -> Tensor:
    offsets = torch.zeros(len(mirrors), 3, device=nominal_m.device)
    for point, mirrored in enumerate(mirrors):
        if point > mirrored:
            continue
        slopes, residuals = [], []
        for each, flip in {point: torch.ones(3), mirrored: _MIRROR}.items():
            rows = (points_px[:, each, 2] > MIN_SCORE) & (seen.side_px > MIN_BASE_PX)
            place = nominal_m[rows, each]
            depth = place[:, 2:].clamp(min=0.15)
            per_metre = seen.focal_px[rows] / depth[:, 0] / seen.side_px[rows]
            residual_m = points_px[rows, each, :2] / seen.focal_px[rows, None] * depth - place[:, :2]
            residuals.append(residual_m * per_metre[:, None])
            # d(x/z) along the bone's axes, with the small change of z.
            eye = torch.eye(2, device=place.device).expand(len(place), 2, 2)
            towards = torch.cat([eye, -(place[:, :2] / depth)[..., None]], -1)
            slopes.append(towards @ turned[rows, each] * flip.to(place.device) * per_metre[:, None, None])
        slope, residual = torch.cat(slopes), torch.cat(residuals)
        if len(slope) < _MIN_POINTS:
            continue
        offset = geometric_fit(slope, residual)
        if point == mirrored:
            offset = offset * torch.tensor([0.0, 1.0, 1.0], device=offset.device)
        offsets[point], offsets[mirrored] = offset, offset * (_MIRROR.to(offset.device) if mirrored != point else 1)
    return offsets


def geometric_fit(slope: Tensor, residual: Tensor, rounds: int = 20, soften: float = 0.005) -> Tensor:
    """Minimise sum |residual - slope x| over x (3,), for (n, 2, 3) slopes and (n, 2) residuals (Weiszfeld's iteration)."""
    offset = torch.zeros(3, device=slope.device)
    for _ in range(rounds):
        weight = 1 / ((residual - slope @ offset).norm(dim=-1) + soften)
        weighted = slope * weight[:, None, None]
        normal = torch.einsum("nij,nik->jk", weighted, slope)
        offset = torch.linalg.solve(normal, torch.einsum("nij,ni->j", weighted, residual))
    return offset


def outer_rotations(rotations: Tensor) -> Tensor:
    """Convert relative rotations (n, 24, 3, 3), the root first, to rotations of all joints in the root's axes."""
    turned = [rotations[:, 0]]
    for joint in range(1, rotations.shape[1]):
        turned.append(turned[PARENTS[joint]] @ rotations[:, joint])
    return torch.stack(turned, 1)
