"""Fit bodies to keypoints: from the network's bodies to the most probable ones with their uncertainty.

For each person and frame the maximum of the posterior is computed (`objective.py`), several frames and people at once. The shape
converges over a track (`track_shapes.py`). The result has the posterior standard deviations of each joint's rotation, which is the
smoother's measurement noise, and of each joint's position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.body.kinematics import rest_joints
from mchmr_stream.body.model import BodyModel
from mchmr_stream.datatypes import EXTREMITY_NAMES, JOINT_NAMES, KEYPOINT_NAMES, Bodies, Float
from mchmr_stream.fitting.body_points import CARRIERS, nominal_points
from mchmr_stream.fitting.evidence import Evidence
from mchmr_stream.fitting.joint_limits import JointLimits
from mchmr_stream.fitting.levenberg_marquardt import minimise
from mchmr_stream.fitting.noise_constants import BONE_KEYPOINTS, SEEN_SCORE, FitCalibration
from mchmr_stream.fitting.objective import Objective, Prior
from mchmr_stream.fitting.point_kinematics import (
    FREE_JOINTS,
    JOINTS,
    SIZE,
    Kinematics,
    State,
    global_from_relative,
    relative_from_global,
)
from mchmr_stream.fitting.track_shapes import Shapes, TrackShapes
from mchmr_stream.geometry.camera import Intrinsics, roll_matrix

Array = NDArray[np.float64]

_LEAST_SCORE = 0.08
"""Keypoints below this score are ignored."""
_UNKNOWN_SPREAD = 0.02
"""Standard deviation of a keypoint of unknown covariance, as a share of the base box's side."""
_LEGS = tuple(JOINT_NAMES.index(f"{side}_{name}") for side in ("left", "right") for name in ("hip", "knee"))
_LEG_DOUBT_RAD = np.deg2rad(10.0)
"""Additional uncertainty of the network's legs: filmed people stand with straight legs far more often than rendered ones, whose poses are
chosen for variety, and the network bends them.
"""
ENDS = [KEYPOINT_NAMES.index(JOINT_NAMES[CARRIERS[name]]) for name in EXTREMITY_NAMES]
"""The keypoint, a wrist or an ankle, that each point of a hand or foot belongs to."""
_HELD = 1e6
"""Precision of betas that are fixed."""
_PLAIN_SCORE = 0.4
"""From this score on a keypoint determines a limb by itself."""
_VISIBLE = 0.5
_ENOUGH_SEEN, _OTHER_PERSON, _OTHER_TRUST = 1.0, 0.08, 0.3
"""With landmarks of this summed weight at this mean distance from the keypoints (in base boxes), the network's standard deviations are
divided by the last value.
"""
_SAME_WRIST = 0.05
"""Wrists of two networks that are farther apart than this share of the base box belong to different hands."""
_CONFIDENT_M = 0.15
"""Standard deviation of a joint at which its confidence is 1 / e."""


@dataclass(frozen=True, eq=False)
class Measured:
    """The network's bodies of one frame and the measurement noise of their keypoints."""

    bodies: Bodies
    keypoint_covariance_px2: Float
    """(n, 17, 2, 2) of `bodies.keypoints_px`; NaN where unknown"""
    landmarks_px: Float
    """(n, 27, 3) of the network: picture pixels and visibility; hands and feet are taken from them"""
    base_px: Float
    """(n, 3) base boxes, whose side is the unit of noise"""
    roll_rad: Float
    """(n,) roll of the crops"""
    picture_wh: tuple[int, int]
    up_rad: float = 0.0
    """direction of up in the picture, as in `datatypes.Tracks`"""


class BodyFitter:
    """Fit the bodies of one run; the shape of each track is estimated along the way."""

    def __init__(
        self,
        body: BodyModel,
        intrinsics: Intrinsics,
        calibration: FitCalibration,
        *,
        iterations: int = 6,
        freedom: float = 5.0,
        prior_strength: float = 2.0,
        holds_shape: bool = False,
        shapes: Shapes | None = None,
    ) -> None:
        """Set up the fit.

        Args:
            body: Body model that is fitted.
            intrinsics: Camera of the picture.
            calibration: Measurement noise of keypoints and prior of the network.
            iterations: Most linearisations.
            freedom: Degrees of freedom of the keypoints' t distribution.
            prior_strength: Information of the given bodies relative to the network's on rendered people; networks are more accurate on
                filmed people.
            holds_shape: The given bodies have final shapes and legs: betas are fixed, and no shape is estimated over the track.
            shapes: Known shapes of the tracks; None: they are estimated along the way.
        """
        self._body, self.intrinsics = body, intrinsics
        self._kinematics = Kinematics(body, nominal_points(body).moved(calibration.point_offsets_m))
        self._calibration = calibration
        doubt = np.zeros((SIZE, SIZE)) if holds_shape else _leg_doubt()
        self._information = np.linalg.inv(calibration.prior_covariance / prior_strength + doubt)
        self._holds_shape = holds_shape
        self._iterations, self._freedom = iterations, freedom
        self._shapes: Shapes = shapes or TrackShapes()

    def fit(self, frames: Sequence[Measured]) -> list[Bodies]:
        """Fit all people in consecutive frames.

        Args:
            frames: Measurements in order of frames.

        Returns:
            The bodies of each frame with fitted rotations, betas and translation, `joint_sd_rad`, `joint_sd_m` and confidence. Rows
            with values that are not finite stay as they are.
        """
        fitted: list[Bodies] = []
        for _, block in groupby(frames, lambda frame: TrackShapes.block_of(frame.bodies.frame)):
            fitted += self._fit(list(block))
        return fitted

    def _fit(self, frames: Sequence[Measured]) -> list[Bodies]:
        """Fit the frames of one block."""
        rows = [np.flatnonzero(frame.bodies.usable()) for frame in frames]
        if not any(len(one) for one in rows):
            return [frame.bodies for frame in frames]
        gather = lambda value: np.concatenate([value(frame)[one] for frame, one in zip(frames, rows, strict=True)])
        scores = gather(self._seen_scores)
        evidence = self._evidence(gather, scores)
        start = self._shifted_to(evidence, self._state(gather))
        track_id = gather(lambda frame: frame.bodies.track_id)
        numbers = gather(lambda frame: np.full(len(frame.bodies), frame.bodies.frame))
        if self._holds_shape:
            shape = [(betas, _HELD) for betas in start.betas]
        else:
            shape = [self._shapes.known(int(one), int(number)) for one, number in zip(track_id, numbers, strict=True)]
        prior = Prior(
            start,
            self._information_of(scores, self._is_of_somebody_else(gather, scores)),
            gather(lambda frame: roll_matrix(-frame.roll_rad.astype(np.float64))),
            np.stack([betas for betas, _ in shape]),
            np.array([precision for _, precision in shape]),
        )
        angle = gather(lambda frame: np.full(len(frame.bodies), frame.up_rad))
        up = np.stack([np.sin(angle), -np.cos(angle), np.zeros_like(angle)], -1)
        limits = JointLimits(self._body, up=up, unseen=_unseen(scores))
        objective = Objective(self._kinematics, evidence, prior, limits, self._freedom)
        found = minimise(objective, start, self._iterations)
        covariance = np.asarray(np.linalg.inv(found.hessian), np.float64)
        joint_sd_rad, joint_sd_m = self._deviations(found.state, covariance)
        times = gather(lambda frame: np.full(len(frame.bodies), frame.bodies.time_s))
        learned = [] if self._holds_shape else zip(track_id, numbers, times, found.state.betas, scores, strict=True)
        for track, number, time_s, betas, score in learned:
            self._shapes.add(int(track), int(number), float(time_s), betas, float(np.clip(score[5:].mean() / SEEN_SCORE, 0, 1)))
        ends = np.cumsum([len(one) for one in rows])[:-1]
        apart = lambda values: np.split(values, ends)
        relative = relative_from_global(found.state.rotations)
        transl = found.state.pelvis - rest_joints(self._body, found.state.betas)[:, 0]
        confidence = np.exp(-joint_sd_m[:, 1:] / _CONFIDENT_M).mean(-1)
        columns = (relative, found.state.betas, transl, joint_sd_rad, joint_sd_m, confidence)
        parts = zip(*(apart(column) for column in columns), strict=True)
        return [_with_fit(frame.bodies, one, *part) for frame, one, part in zip(frames, rows, parts, strict=True)]

    def _state(self, gather) -> State:  # type: ignore[no-untyped-def]
        root = gather(lambda frame: frame.bodies.global_orient).astype(np.float64)
        pose = gather(lambda frame: frame.bodies.body_pose).astype(np.float64)
        betas = gather(lambda frame: frame.bodies.betas).astype(np.float64)
        transl = gather(lambda frame: frame.bodies.transl).astype(np.float64)
        rotations = global_from_relative(np.concatenate([root[:, None], pose], 1))
        return State(rotations, betas, transl + rest_joints(self._body, betas)[:, 0])

    def _seen_scores(self, frame: Measured) -> Array:
        """(n, 17): 0 for keypoints that are unknown or outside of the picture, where a detector only guesses."""
        keypoints = frame.bodies.keypoints_px.astype(np.float64)
        known = np.isfinite(keypoints).all(-1)
        inside = ((keypoints[..., :2] >= 0) & (keypoints[..., :2] <= np.array(frame.picture_wh) - 1)).all(-1)
        return np.where(known & inside, keypoints[..., 2], 0)

    def _evidence(self, gather, scores: Array) -> Evidence:  # type: ignore[no-untyped-def]
        keypoints = gather(lambda frame: frame.bodies.keypoints_px).astype(np.float64)
        side = gather(lambda frame: frame.base_px[:, 2]).astype(np.float64)[:, None, None, None]
        covariance = gather(lambda frame: frame.keypoint_covariance_px2).astype(np.float64)
        known = np.isfinite(covariance).all((-1, -2), keepdims=True)
        covariance = np.where(known, covariance, (_UNKNOWN_SPREAD * side) ** 2 * np.eye(2))
        chosen = self._calibration
        gain = np.exp(np.interp(scores, chosen.noise_scores, np.log(chosen.noise_gain)))
        covariance = covariance * (gain**2)[..., None, None] + (chosen.noise_floor * side) ** 2 * np.eye(2)
        seen = scores > _LEAST_SCORE
        precision = np.linalg.inv(covariance) * seen[..., None, None]
        hands_and_feet, their_precision = self._extremities(gather, keypoints, covariance, scores, side)
        camera, n = self.intrinsics, len(keypoints)
        return Evidence(
            np.concatenate([np.where(seen[..., None], keypoints[..., :2], 0), hands_and_feet], 1),
            np.concatenate([precision, their_precision], 1),
            np.broadcast_to([camera.fx, camera.fy], (n, 2)),
            np.broadcast_to([camera.cx, camera.cy], (n, 2)),
        )

    def _extremities(self, gather, keypoints: Array, covariance: Array, scores: Array, side: Array) -> tuple[Array, Array]:  # type: ignore[no-untyped-def]
        """Points of hands and feet (n, 10, 2) with precision (n, 10, 2, 2): keypoints plus the network's offsets from wrists and ankles.

        The network's errors of a hand and its wrist are correlated; the difference shows how the hand is turned.
        """
        landmarks = gather(lambda frame: frame.landmarks_px).astype(np.float64)
        size = gather(lambda frame: np.tile(frame.picture_wh, (len(frame.bodies), 1))).astype(np.float64)[:, None]
        wrists_and_ankles = landmarks[:, ENDS]
        offset = landmarks[:, len(KEYPOINT_NAMES) :, :2] - wrists_and_ankles[..., :2]
        points = keypoints[:, ENDS, :2] + offset
        visible = np.minimum(landmarks[:, len(KEYPOINT_NAMES) :, 2], wrists_and_ankles[..., 2])
        inside = ((points >= 0) & (points <= size - 1)).all(-1)
        apart = np.linalg.norm(wrists_and_ankles[..., :2] - keypoints[:, ENDS, :2], axis=-1)
        used = (visible > _VISIBLE) & (scores[:, ENDS] > _VISIBLE / 2) & inside & (apart < _SAME_WRIST * side[..., 0, 0])
        variance = (self._calibration.extremity_sd * side[:, 0, 0]) ** 2
        spread = np.where(used[..., None, None], covariance[:, ENDS], 0) + variance[:, None, None, :] * np.eye(2)
        return np.where(used[..., None], points, 0), np.linalg.inv(spread) * used[..., None, None]

    def _shifted_to(self, evidence: Evidence, state: State) -> State:
        """Shift the bodies across the line of sight so that their points lie on the keypoints on average.

        The keypoints are more accurate than the network about the position in the picture; and from far off each of them would be an
        outlier.
        """
        points = self._kinematics.place(state)
        weight = np.sqrt(np.maximum(np.trace(evidence.precision, axis1=-2, axis2=-1), 0))
        depth = np.maximum(points[..., 2:], 1e-3)
        seen = (evidence.points_px - evidence.centre_px[:, None]) / evidence.focal_px[:, None] * depth
        known = weight.sum(1) > 0
        shift = ((seen - points[..., :2]) * weight[..., None]).sum(1) / np.where(known, weight.sum(1), 1)[:, None]
        moved = state.pelvis.copy()
        moved[:, :2] += np.where(known[:, None], shift, 0)
        return State(state.rotations, state.betas, moved)

    def _is_of_somebody_else(self, gather, scores: Array) -> NDArray[np.bool_]:  # type: ignore[no-untyped-def]
        """(n,) whether the network's landmarks contradict the keypoints: its body then belongs to another person."""
        keypoints = np.nan_to_num(gather(lambda frame: frame.bodies.keypoints_px[..., :2]).astype(np.float64))
        landmarks = gather(lambda frame: frame.landmarks_px).astype(np.float64)[:, : len(KEYPOINT_NAMES)]
        side = gather(lambda frame: frame.base_px[:, 2]).astype(np.float64)
        weight = scores * np.nan_to_num(landmarks[..., 2])
        off = np.linalg.norm(keypoints - np.nan_to_num(landmarks[..., :2]), axis=-1)
        mean = (off * weight).sum(1) / np.maximum(weight.sum(1), 1e-9)
        return np.asarray((weight.sum(1) > _ENOUGH_SEEN) & (mean > _OTHER_PERSON * side))

    def _information_of(self, scores: Array, other: NDArray[np.bool_]) -> Array:
        """(n, SIZE, SIZE): less where a bone's keypoints are occluded, little where the network's body is another person's (`other`)."""
        shrink = np.ones((len(scores), SIZE))
        for number, joint in enumerate(FREE_JOINTS):
            seen = np.minimum(scores[:, list(BONE_KEYPOINTS[joint])].min(1) / SEEN_SCORE, 1)
            shrink[:, 3 * number : 3 * number + 3] = np.exp(-self._calibration.prior_growth * (1 - seen))[:, None]
        shrink *= np.where(other, _OTHER_TRUST, 1.0)[:, None]
        return np.asarray(self._information * shrink[:, :, None] * shrink[:, None, :])

    def _deviations(self, state: State, covariance: Array) -> tuple[Array, Array]:
        """(n, 24) standard deviations of rotations, radians about one axis, and of joints relative to the pelvis, metres."""
        n = len(covariance)
        variance = np.einsum("nii->ni", covariance)[:, : 3 * len(FREE_JOINTS)].reshape(n, -1, 3).mean(-1)
        turned = np.zeros((n, JOINTS))
        turned[:, FREE_JOINTS] = variance
        for joint in range(JOINTS):
            if joint not in FREE_JOINTS:
                turned[:, joint] = turned[:, self._body.parents[joint]]
        slopes = self._kinematics.joint_slopes(state)  # (n, 24, 3, SIZE)
        spread = np.einsum("njas,nst,njat->nj", slopes, covariance, slopes, optimize=True)
        scale = float(self._calibration.joint_sd_scale)
        return np.sqrt(turned), scale * np.sqrt(np.maximum(spread, 0))


def _unseen(scores: Array) -> Array:
    """(n, 9) in [0, 1]: occlusion of trunk, thighs, shanks, upper arms and forearms, by the keypoints at their lower ends."""
    seen = np.concatenate([scores[:, [11, 12]].min(1)[:, None], scores[:, [13, 14, 15, 16, 7, 8, 9, 10]]], 1)
    return 1 - np.minimum(seen / _PLAIN_SCORE, 1)


def _leg_doubt() -> Array:
    """(SIZE, SIZE) covariance of the network's legs beyond that on rendered people, towards and away from the camera."""
    doubt = np.zeros(SIZE)
    for joint in _LEGS:
        first = 3 * FREE_JOINTS.index(joint)
        doubt[first : first + 2] = _LEG_DOUBT_RAD**2
    return np.diag(doubt)


def _with_fit(
    bodies: Bodies, rows: NDArray[np.int64], relative: Array, betas: Array, transl: Array, sd_rad: Array, sd_m: Array, confidence: Array
) -> Bodies:
    fill = lambda old, new: _filled(old, rows, new)
    return replace(
        bodies,
        global_orient=fill(bodies.global_orient, relative[:, 0]),
        body_pose=fill(bodies.body_pose, relative[:, 1:]),
        betas=fill(bodies.betas, betas),
        betas_frame=fill(bodies.betas_frame, betas),
        transl=fill(bodies.transl, transl),
        joint_sd_rad=fill(bodies.joint_sd_rad, sd_rad),
        joint_sd_m=fill(bodies.joint_sd_m, sd_m),
        confidence=fill(bodies.confidence, confidence),
    )


def _filled(old: Float, rows: NDArray[np.int64], new: Array) -> Float:
    values = old.astype(np.float32)
    values[rows] = new
    return values
