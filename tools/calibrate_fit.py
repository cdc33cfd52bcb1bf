"""Measure the errors of the networks on rendered people, and write mchmr_stream/assets/fit_calibration.safetensors.

    mchmr synth -o runs/calibration -n 1200 --seed 11 --split train --data DATA
    mchmr synth -o runs/calibration_check -n 400 --seed 12 --split test --data DATA
    python tools/calibrate_fit.py runs/calibration --check runs/calibration_check

The pipeline's own detector, keypoint network, cropper and network run on each picture. Measured are: each detector's position of a point
on the body; the covariance of the network's errors for clearly visible people, and its growth as keypoints disappear; a keypoint's error
against its score and the width of its peak; and, on the people of --check, whether the fit's standard deviations of joints match the
errors. docs/method.md explains their use in the fit.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import BodyModel
from mchmr_stream.config import load_settings
from mchmr_stream.datatypes import KEYPOINT_NAMES, LANDMARK_NAMES, Frame
from mchmr_stream.detection.movenet_detector import MoveNetDetector
from mchmr_stream.fitting.body_fitter import ENDS, BodyFitter, Measured
from mchmr_stream.fitting.body_points import nominal_points
from mchmr_stream.fitting.noise_constants import BONE_KEYPOINTS, FILE_NAME, SEEN_SCORE, FitCalibration
from mchmr_stream.fitting.objective import deviation
from mchmr_stream.fitting.point_kinematics import BETAS, FREE_JOINTS, PLACE, ROTATION_SIZE, SIZE, Kinematics, State, global_from_relative
from mchmr_stream.geometry.camera import Intrinsics, roll_matrix
from mchmr_stream.pipeline.factory import build_components, build_cropper
from mchmr_stream.pipeline.full_camera import landmarks_in_image, place_in_image
from mchmr_stream.synthesis.shards import read_shards
from mchmr_stream.training.observations.landmark_offsets import geometric_fit
from mchmr_stream.training.observations.observed_people import Observer, observable

Array = NDArray[np.float64]

_SCORE_EDGES = (0.08, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 1.0)
_COCO = len(KEYPOINT_NAMES)
_FACE = 5
"""The first 5 of COCO's keypoints."""
_MIRROR = np.array([-1.0, 1.0, 1.0])
_KEPT_SHARE = 0.8
"""Share of people, those of the least Mahalanobis distance, used for the covariance: a network that exchanges front and back is wrong by
half a turn, which is no tail of a Gaussian.
"""


@dataclass(frozen=True, eq=False)
class Person:
    """One rendered person: truth, the network's body and the keypoints."""

    measured: Measured
    intrinsics: Intrinsics
    rotations: Array
    betas: Array
    pelvis: Array
    joints_m: Array
    seen: float
    """share of the body that is visible: not occluded, not outside"""


def observe(folder: Path, limit: int | None) -> Iterator[Person]:
    settings = load_settings(None, [])
    components = build_components(settings)
    cropper = build_cropper(settings)
    assert components.keypoints is not None, "the calibration is of the keypoint network: keypoints.kind must name one"
    detector = MoveNetDetector(input_px=settings.detector.input_px)
    observer = Observer(detector, cropper, lambda crops: crops, 0)  # type: ignore[arg-type,return-value]
    for number, scene in enumerate(read_shards(folder)):
        if limit is not None and number >= limit:
            return
        people = [person for person in scene.people if observable(person)]
        if not people:
            continue
        frame = Frame(scene.index, 0.0, np.ascontiguousarray(scene.rgb()))
        tracks = components.keypoints.refine(frame, observer.tracks(detector.detect([frame])[0], people), scene.intrinsics)
        batch = cropper.crop(frame, tracks, scene.intrinsics)
        estimates = components.estimator.estimate(batch)
        bodies = place_in_image(frame, tracks, batch, estimates, components.body)
        landmarks_px = landmarks_in_image(estimates, batch, scene.intrinsics)
        for row, person in enumerate(people):
            if not tracks.observed[row]:
                continue
            one = slice(row, row + 1)
            measured = Measured(
                bodies.rows(np.array([row])), tracks.keypoint_covariance_px2[one], landmarks_px[one], batch.base_px[one],
                batch.roll_rad[one], (scene.width, scene.height),
            )  # fmt: skip
            seen = person.visible_fraction * (1 - person.truncated_fraction)
            yield Person(
                measured, scene.intrinsics, np.asarray(person.rotations, np.float64), np.asarray(person.betas, np.float64),
                np.asarray(person.joints_m[0], np.float64), np.asarray(person.joints_m, np.float64), seen,
            )  # fmt: skip


@dataclass(frozen=True, eq=False)
class People:
    """All people as arrays."""

    people: list[Person]

    def stack(self, value) -> Array:  # type: ignore[no-untyped-def]
        return np.stack([np.asarray(value(one), np.float64) for one in self.people])

    @property
    def truth(self) -> State:
        relative = self.stack(lambda one: one.rotations)
        return State(global_from_relative(relative), self.stack(lambda one: one.betas), self.stack(lambda one: one.pelvis))

    def network(self, body: BodyModel) -> State:
        from mchmr_stream.body.kinematics import rest_joints

        bodies = [one.measured.bodies for one in self.people]
        relative = np.stack([np.concatenate([one.global_orient, one.body_pose[0]]) for one in bodies]).astype(np.float64)
        betas = np.concatenate([one.betas for one in bodies]).astype(np.float64)
        transl = np.concatenate([one.transl for one in bodies]).astype(np.float64)
        return State(global_from_relative(relative), betas, transl + rest_joints(body, betas)[:, 0])

    @property
    def focal(self) -> Array:
        return self.stack(lambda one: (one.intrinsics.fx, one.intrinsics.fy))

    @property
    def centre(self) -> Array:
        return self.stack(lambda one: (one.intrinsics.cx, one.intrinsics.cy))

    @property
    def side(self) -> Array:
        return self.stack(lambda one: one.measured.base_px[0, 2])

    @property
    def keypoints(self) -> Array:
        return self.stack(lambda one: one.measured.bodies.keypoints_px[0])

    @property
    def extremities(self) -> Array:
        """(n, 10, 3) hands and feet as used in the fit: relative to the keypoints' wrists and ankles, with their visibility."""
        landmarks = self.stack(lambda one: one.measured.landmarks_px[0])
        offset = landmarks[:, _COCO:, :2] - landmarks[:, ENDS, :2]
        visible = np.minimum(landmarks[:, _COCO:, 2:], landmarks[:, ENDS, 2:])
        return np.concatenate([self.keypoints[:, ENDS, :2] + offset, visible * (self.scores[:, ENDS, None] > 0.3)], -1)

    @property
    def scores(self) -> Array:
        """(n, 17), 0 outside of the picture."""
        keypoints = self.keypoints
        size = self.stack(lambda one: one.measured.picture_wh)[:, None]
        return keypoints[..., 2] * ((keypoints[..., :2] >= 0) & (keypoints[..., :2] <= size - 1)).all(-1)


def point_offsets(people: People, body: BodyModel) -> Array:
    """(27, 3): geometric median of the residuals on the people with the best fit, left and right mirrored into one."""
    nominal = nominal_points(body)
    truth, focal, centre, side = people.truth, people.focal, people.centre, people.side
    places = Kinematics(body, nominal).place(truth)
    seen = np.concatenate([people.keypoints, people.extremities], 1)
    mirrors = [LANDMARK_NAMES.index(_other_side(name)) for name in LANDMARK_NAMES]
    turned = truth.rotations[:, nominal.bone]
    slopes = np.zeros((*places.shape[:2], 2, 3))
    slopes[..., 0, 0], slopes[..., 1, 1] = focal[:, None, 0] / places[..., 2], focal[:, None, 1] / places[..., 2]
    slopes[..., 2] = -places[..., :2] / places[..., 2:] ** 2 * focal[:, None]
    residuals = seen[..., :2] - (places[..., :2] / places[..., 2:] * focal[:, None] + centre[:, None])
    whole = (people.stack(lambda one: one.seen) > 0.85) & (side > 200)
    good, offsets = whole, np.zeros((len(nominal), 3))
    for _ in range(3):
        for point, mirrored in enumerate(mirrors):
            slope, residual = [], []
            for each, flip in {point: np.ones(3), mirrored: _MIRROR if mirrored != point else np.ones(3)}.items():
                rows = good & (seen[:, each, 2] > 0.4)
                slope.append((slopes[rows, each] @ turned[rows, each]) * flip / side[rows, None, None])
                residual.append(residuals[rows, each] / side[rows, None])
            offset = geometric_fit(torch.from_numpy(np.concatenate(slope)).float(), torch.from_numpy(np.concatenate(residual)).float())
            offsets[point] = offset.numpy() * ([0.0, 1.0, 1.0] if mirrored == point else [1.0, 1.0, 1.0])
        moved = places + (turned @ offsets[..., None])[..., 0]
        off = np.linalg.norm(seen[..., :2] - (moved[..., :2] / moved[..., 2:] * focal[:, None] + centre[:, None]), axis=-1) / side[:, None]
        typical = np.median(off[:, :_COCO], 1)
        good = whole & (typical <= np.median(typical[whole]))
    # The face stays at its vertices: offsets measured on rendered faces tilt filmed heads (docs/method.md).
    offsets[:_FACE] = 0
    return offsets


def prior_covariance(people: People, body: BodyModel) -> tuple[Array, float]:
    """Estimate the covariance for clearly visible people, and the growth of errors with 1 - score / SEEN_SCORE."""
    axes = roll_matrix(-people.stack(lambda one: one.measured.roll_rad[0]))
    off = deviation(people.truth, people.network(body), axes)
    scores = people.scores
    unseen = np.stack([1 - np.minimum(scores[:, list(BONE_KEYPOINTS[joint])].min(1) / SEEN_SCORE, 1) for joint in FREE_JOINTS], 1)
    turns = np.log(np.linalg.norm(off[:, :ROTATION_SIZE].reshape(len(off), -1, 3), axis=-1) + 1e-6)
    # A robust slope of the logarithm, of all bones together, each relative to its own mean.
    x, y = unseen - unseen.mean(0), turns - np.median(turns, 0)
    growth = float((x * y).sum() / (x * x).sum())
    shrink = np.ones_like(off)
    shrink[:, :ROTATION_SIZE] = np.repeat(np.exp(-growth * unseen), 3, 1)
    off = off * shrink
    kept = np.ones(len(off), np.bool_)
    for _ in range(8):
        covariance = off[kept].T @ off[kept] / kept.sum() + 1e-6 * np.eye(SIZE)
        distance = np.einsum("ni,ij,nj->n", off, np.linalg.inv(covariance), off)
        kept = distance <= np.quantile(distance, _KEPT_SHARE)
    # A shrinkage of a tenth towards the diagonal: a few hundred people do not determine 73 x 73 numbers.
    return 0.9 * covariance + 0.1 * np.diag(np.diag(covariance)), growth


def keypoint_noise(people: People, body: BodyModel, offsets: Array) -> tuple[Array, Array, float, float]:
    """Scores, gain of the peak's deviation for them, and floor and deviation of hands and feet as shares of the base box's side."""
    places = Kinematics(body, nominal_points(body).moved(offsets)).place(people.truth)
    true_px = places[..., :2] / places[..., 2:] * people.focal[:, None] + people.centre[:, None]
    error = np.linalg.norm(people.keypoints[..., :2] - true_px[:, :_COCO], axis=-1)
    hands_and_feet = people.extremities
    off = np.linalg.norm(hands_and_feet[..., :2] - true_px[:, _COCO:], axis=-1) / people.side[:, None]
    extremity_sd = float(np.median(off[hands_and_feet[..., 2] > 0.5])) / 1.18
    covariance = people.stack(lambda one: one.measured.keypoint_covariance_px2[0])
    peak = np.sqrt(np.trace(covariance, axis1=-2, axis2=-1) / 2)
    scores, side = people.scores, people.side[:, None]
    known = np.isfinite(peak) & (scores > 0)
    best = known & (scores > SEEN_SCORE)
    # The error at the sharpest peaks with high scores is a difference in definition, not blur.
    sharp = best & (peak / side <= np.quantile((peak / side)[best], 0.1))
    floor = 0.5 * float(np.median((error / side)[sharp])) / 1.18
    middle, gain = [], []
    for low, high in pairwise(_SCORE_EDGES):
        rows = known & (scores >= low) & (scores < high)
        if rows.sum() < 50:
            continue
        middle.append(float(scores[rows].mean()))
        # The median of a distance in the plane is 1.18 standard deviations.
        gain.append(float(np.median((error / peak)[rows])) / 1.18)
    return np.array(middle), np.array(gain), floor, extremity_sd


def coverage(people: list[Person], body: BodyModel, calibration: FitCalibration) -> tuple[Array, Array]:
    """Return (n, 24) errors of fitted joints relative to the pelvis and the fit's standard deviations of them, metres."""
    from mchmr_stream.body.kinematics import posed_joints

    errors, told = [], []
    for one in people:
        fitted = BodyFitter(body, one.intrinsics, calibration).fit([one.measured])[0]
        relative = fitted.rotations
        around = posed_joints(body, relative, fitted.betas)[1][0]
        errors.append(np.linalg.norm(around - (one.joints_m - one.joints_m[:1]), axis=-1))
        told.append(fitted.joint_sd_m[0])
    return np.stack(errors), np.stack(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path, help="rendered people")
    parser.add_argument("--check", type=Path, required=True, help="other rendered people, for the deviations of joints")
    parser.add_argument("--limit", type=int, help="pictures of each at most")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "mchmr_stream" / "assets" / FILE_NAME)
    args = parser.parse_args()
    body = load_body("free")
    people = People(list(observe(args.shards, args.limit)))
    print(f"{len(people.people)} people observed")
    offsets = point_offsets(people, body)
    covariance, growth = prior_covariance(people, body)
    scores, gain, floor, extremity_sd = keypoint_noise(people, body, offsets)
    sd = np.rad2deg(np.sqrt(np.diag(covariance)[:ROTATION_SIZE].reshape(-1, 3)))
    print("deviation of turns, degrees about x, y, z:", dict(zip(FREE_JOINTS, sd.round(0).tolist(), strict=True)))
    print("of betas:", np.sqrt(np.diag(covariance)[BETAS]).round(2), "of the place:", np.sqrt(np.diag(covariance)[PLACE]).round(4))
    print("growth of deviations as keypoints disappear:", round(growth, 2))
    print(
        "keypoint noise, score -> gain:",
        dict(zip(scores.round(2).tolist(), gain.round(2).tolist(), strict=True)),
        "floor",
        round(floor, 4),
        "hands and feet",
        round(extremity_sd, 4),
    )
    about = {"body_sha256": body.sha256, "weights": load_settings(None, []).network.weights, "people": len(people.people)}
    whole = lambda value: np.array(value, np.float64)
    made = FitCalibration(offsets, covariance, whole(growth), scores, gain, whole(floor), whole(extremity_sd), whole(1.0), about)
    check = list(observe(args.check, args.limit))
    errors, told = coverage(check, body, made)
    scale = float(np.quantile(errors[:, 1:] / told[:, 1:], 0.68))
    within = np.mean(errors[:, 1:] < told[:, 1:]) * 100
    print(f"on {len(check)} others: {within:.0f} % of joints within one deviation, scaled by {scale:.2f}: 68 %")
    made = replace(made, joint_sd_scale=whole(scale), about=about | {"check": len(check)})
    made.save(args.out)
    print(f"written to {args.out}")


def _other_side(name: str) -> str:
    return name.replace("left", "*").replace("right", "left").replace("*", "right")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
