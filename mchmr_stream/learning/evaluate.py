"""Measure against real views with known 3D joints, beside MediaPipe on the same frames in the same run.

The folder holds `gt_CAM..._*.npz` with `CAM_joints_cam_m` (T, J >= 17, 3) in camera axes (COCO's 17 first), `CAM_K` and
`CAM_dist_k1k2p1p2`, and `CAM.mp4` for each camera. Nothing in such a folder may be trained on.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from mchmr_stream.config import Settings, SourceSettings, load_settings
from mchmr_stream.detection.mediapipe import MediaPipeReference
from mchmr_stream.errors import InputError, MissingPart
from mchmr_stream.learning.metrics import LIMBS_IN_BLAZEPOSE, LIMBS_IN_COCO, LIMBS_IN_SMPL, PoseErrors, pose_errors
from mchmr_stream.motion import load
from mchmr_stream.pipeline import stream
from mchmr_stream.sources import open_source

log = logging.getLogger(__name__)

MEDIAPIPE_SMOOTHING_FRAMES = 3.0


@dataclass(frozen=True, eq=False)
class RealView:
    """One filmed camera and its truth."""

    name: str
    video: Path
    limbs_m: NDArray[np.float64]
    """(T, 12, 3)"""
    K: NDArray[np.float64]
    distortion: NDArray[np.float64]


def load_views(folder: Path) -> list[RealView]:
    """Every camera of the folder. Raises InputError when there is none or a video is missing."""
    truths = sorted(folder.glob("gt_*.npz"))
    if not truths:
        raise InputError(f"no gt_*.npz in {folder}; expected a folder of real views as described in docs/evaluation.md")
    views = []
    with np.load(truths[0], allow_pickle=False) as data:
        for key in sorted(name for name in data.files if name.endswith("_joints_cam_m")):
            name = key.removesuffix("_joints_cam_m")
            video = folder / f"{name}.mp4"
            if not video.is_file():
                raise InputError(f"{truths[0].name} speaks of {name}, but {video} is not there")
            limbs = data[key][:, list(LIMBS_IN_COCO)].astype(np.float64)
            views.append(RealView(name, video, limbs, data[f"{name}_K"], data[f"{name}_dist_k1k2p1p2"]))
    return views


def real3d(
    folder: Path, *, views: int | None = None, device: str = "auto", overrides: Sequence[str] = (), mediapipe_model: Path | None = None
) -> dict[str, dict[str, float]]:
    """Errors in mm, a row per method and camera and a mean over the cameras.

    Ours: each frame on its own with the assumed focal length, the same with the known camera, and smoothed to both
    sides with the known camera. MediaPipe's PoseLandmarker (video mode, world landmarks) on the same frames, as it
    comes and smoothed; left out with a warning where mediapipe is not installed.
    """
    changes = [f"runtime.device={device}", *([f"crops.views={views}"] if views is not None else []), *overrides]
    by_method: dict[str, list[PoseErrors]] = {}
    rows: dict[str, dict[str, float]] = {}
    for view in load_views(folder):
        for method, limbs in [*_ours(view, changes), *_mediapipe(view, mediapipe_model)]:
            errors = pose_errors(limbs, view.limbs_m)
            by_method.setdefault(method, []).append(errors)
            rows[f"{view.name}: {method}"] = _row([errors])
    return rows | {f"mean: {method}": _row(errors) for method, errors in by_method.items()}


def reprojection(file: Path, min_score: float = 0.3) -> dict[str, float]:
    """How far projected limb joints are from the detector's confident keypoints, in percent of the box height."""
    motion = load(file)
    distances = []
    for track in motion.tracks.values():
        keypoints = track.keypoints_px[:, list(LIMBS_IN_COCO)]
        joints = track.joints_px[:, list(LIMBS_IN_SMPL)]
        height = (track.box_xyxy_px[:, 3] - track.box_xyxy_px[:, 1])[:, None]
        distance = np.linalg.norm(joints - keypoints[..., :2], axis=-1) / height * 100
        distances.append(distance[keypoints[..., 2] >= min_score])
    everything = np.concatenate(distances) if distances else np.zeros(0)
    if not len(everything):
        return {"keypoints": 0.0}
    return {
        "mean %": float(everything.mean()),
        "median %": float(np.median(everything)),
        "p90 %": float(np.percentile(everything, 90)),
        "keypoints": float(len(everything)),
    }


def _row(errors: list[PoseErrors]) -> dict[str, float]:
    mean = lambda name: float(np.mean([getattr(one, name) for one in errors]))
    return {
        "found %": mean("found") * 100,
        "MPJPE mm": mean("mpjpe"),
        "PA-MPJPE mm": mean("pa_mpjpe"),
        "accel mm/frame^2": mean("acceleration"),
    }


def _ours(view: RealView, changes: list[str]) -> Iterator[tuple[str, NDArray[np.float64]]]:
    with tempfile.TemporaryDirectory() as folder:
        camera = Path(folder) / "camera.json"
        camera.write_text(json.dumps({"K": view.K.tolist(), "distortion": view.distortion.tolist()}))
        known, alone = f"camera.intrinsics={camera}", "smoother.kind=none"
        for method, own in (
            ("ours, per frame, assumed focal", [alone]),
            ("ours, per frame, known camera", [alone, known]),
            ("ours, smoothed, known camera", [known]),
        ):
            yield method, _main_person(view, load_settings(None, [*changes, *own]))


def _main_person(view: RealView, settings: Settings) -> NDArray[np.float64]:
    """(T, 12, 3) limbs of the largest person of each frame; NaN where nobody was found."""
    limbs = np.full_like(view.limbs_m, np.nan)
    for scene in stream(view.video, settings):
        if not len(scene) or scene.frame.index >= len(limbs):
            continue
        boxes = scene.bodies.boxes_xyxy_px
        largest = int(np.argmax((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])))
        limbs[scene.frame.index] = scene.joints_m[largest, list(LIMBS_IN_SMPL)]
    return limbs


def _mediapipe(view: RealView, model: Path | None) -> Iterator[tuple[str, NDArray[np.float64]]]:
    limbs = np.full_like(view.limbs_m, np.nan)
    try:
        reference = MediaPipeReference(model)
    except MissingPart as error:
        log.warning("no comparison with MediaPipe: %s", error)
        return
    source = open_source(view.video, SourceSettings())
    try:
        for frame in source.frames():
            found = reference.landmarks(frame.rgb, frame.time_s)
            if found is not None and frame.index < len(limbs):
                limbs[frame.index] = found[0][list(LIMBS_IN_BLAZEPOSE)]
    finally:
        source.close()
        reference.close()
    yield "MediaPipe, per frame", limbs
    yield "MediaPipe, smoothed", _gaussian(limbs)


def _gaussian(limbs: NDArray[np.float64]) -> NDArray[np.float64]:
    ok = np.isfinite(limbs).all((1, 2))
    smooth = limbs.copy()
    smooth[ok] = gaussian_filter1d(limbs[ok], MEDIAPIPE_SMOOTHING_FRAMES, axis=0, mode="nearest")
    return smooth
