"""The people with the largest errors of an evaluation, and their pictures. `figures` draws them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.config import load_settings
from mchmr_stream.evaluation.camera_consistency import averaged
from mchmr_stream.evaluation.real_clips import RealClip
from mchmr_stream.evaluation.real_predictions import Predicted, RealPredictions, known_camera
from mchmr_stream.evaluation.real_views import RealView
from mchmr_stream.evaluation.synthetic_people import Labelled
from mchmr_stream.evaluation.synthetic_predictions import KNOWN, SyntheticPredictions
from mchmr_stream.geometry.camera import project
from mchmr_stream.metrics.joint_errors import LIMBS_IN_SMPL, anchored, centred_on_hips, errors_by_frame
from mchmr_stream.pipeline.factory import open_input

_APART_FRAMES = 10
"""Neighbouring frames fail alike: only one of them is shown."""
_LEAST_DEPTH_M = 0.15


@dataclass(frozen=True, eq=False)
class Case:
    """One person in one picture, predicted and true."""

    title: str
    rgb: NDArray[np.uint8]
    """(H, W, 3) the full picture"""
    predicted_px: NDArray[np.float64]
    """(12, 2) limbs"""
    target_px: NDArray[np.float64]
    """(12, 2) NaN without ground truth; so in `target_m`"""
    predicted_m: NDArray[np.float64]
    """(12, 3) camera axes, relative to the middle of the hips (or of the shoulders where the hips have no ground truth)"""
    target_m: NDArray[np.float64]


def worst_real(predictions: RealPredictions, views: Sequence[RealView | RealClip], method: str, count: int = 6) -> list[Case]:
    """Find the frames with the largest MPJPE of a method with the known camera, at least 10 frames apart; worst first."""
    cases: list[tuple[float, Case]] = []
    by_name = {view.name: view for view in views}
    clips = [one for one in predictions.of(method) if one.view in by_name]
    errors = {id(clip): errors_by_frame(clip.limbs_m, clip.target_m, clip.valid) for clip in clips}
    ranked = sorted(
        ((float(e), t, clip) for clip in clips for t, e in enumerate(errors[id(clip)][0]) if np.isfinite(e)), key=lambda one: -one[0]
    )
    chosen: list[tuple[float, int, Predicted]] = []
    for error, t, clip in ranked:
        if len(chosen) < count and all(clip is not c or abs(clip.frame[t] - clip.frame[o]) >= _APART_FRAMES for _, o, c in chosen):
            chosen.append((error, t, clip))
    for clip in clips:
        by_frame = {int(clip.frame[t]): (error, t) for error, t, c in chosen if c is clip}
        pictures = _undistorted_frames(by_name[clip.view], by_frame) if by_frame else {}
        for frame, rgb in pictures.items():
            error, t = by_frame[frame]
            title = f"{clip.label}, frame {frame}: {error:.0f} / {errors[id(clip)][1][t]:.0f} mm"
            predicted_m, target_m = (anchored(points[t : t + 1], clip.valid[t : t + 1])[0] for points in (clip.limbs_m, clip.target_m))
            cases.append((error, Case(title, rgb, clip.limbs_px[t], clip.target_px[t], predicted_m, target_m)))
    return [case for _, case in sorted(cases, key=lambda pair: -pair[0])]


def worst_synthetic(predictions: SyntheticPredictions, labels: Sequence[Labelled], rows: Sequence[int]) -> list[Case]:
    """Build cases of the people `rows`, with the known focal length, in their rendered pictures."""
    bodies, truth, limbs = predictions.predicted[KNOWN], predictions.truth, list(LIMBS_IN_SMPL)
    cases = []
    for row in rows:
        scene, person = labels[row].scene, labels[row].person
        # Labels are in camera axes, predictions in the person's rolled camera; the root rotation is known in both.
        camera_from_rolled = person.rotations[0] @ truth["rotations"][row, 0].T
        place = averaged(bodies["transl_m"][row : row + 1])[0]
        predicted = (bodies["joints_m"][row, limbs] + place) @ camera_from_rolled.T
        target = person.joints_m[limbs].astype(np.float64)
        pixels = [project(np.maximum(points, [-np.inf, -np.inf, _LEAST_DEPTH_M]), scene.intrinsics) for points in (predicted, target)]
        centred = [centred_on_hips(points[None])[0] for points in (predicted, target)]
        (mpjpe,), (aligned,) = errors_by_frame(predicted[None], target[None])
        cases.append(Case(f"{person.pose_family}, {scene.shot}: {mpjpe:.0f} / {aligned:.0f} mm", scene.rgb(), *pixels, *centred))
    return cases


def worst_rows(predictions: SyntheticPredictions, count: int = 6, among: NDArray[np.bool_] | None = None) -> list[int]:
    """Rank detected people by MPJPE with the known focal length, worst first; `among` (N,) restricts the people."""
    limbs = list(LIMBS_IN_SMPL)
    error, _ = errors_by_frame(
        predictions.predicted[KNOWN]["joints_m"][:, limbs].astype(np.float64), predictions.truth["joints_m"][:, limbs].astype(np.float64)
    )
    allowed = predictions.truth["found"] > 0
    if among is not None:
        allowed = allowed & among
    order = np.argsort(-np.where(allowed, error, -np.inf), kind="stable")
    return order[: min(count, int(allowed.sum()))].tolist()


def _undistorted_frames(view: RealView | RealClip, by_frame: Collection[int]) -> dict[int, NDArray[np.uint8]]:
    with known_camera(view) as camera:
        source, _ = open_input(Path(view.video), load_settings(None, [camera]))
        try:
            return {frame.index: frame.rgb for frame in source.frames() if frame.index in by_frame}
        finally:
            source.close()
