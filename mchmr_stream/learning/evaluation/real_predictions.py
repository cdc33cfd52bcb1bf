"""Run the pipeline and MediaPipe over real views once, and keep what they said: the file that metrics are computed from."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from mchmr_stream.body.coco_points import coco_points
from mchmr_stream.body.files import load_body
from mchmr_stream.checked_npz import read_npz
from mchmr_stream.config import Settings, SourceSettings, load_settings
from mchmr_stream.detection.mediapipe import MediaPipeReference
from mchmr_stream.errors import InputError, MissingPart
from mchmr_stream.geometry.camera import project
from mchmr_stream.learning.evaluation.real_views import RealView, load_views
from mchmr_stream.learning.metrics import LIMBS_IN_BLAZEPOSE, LIMBS_IN_SMPL
from mchmr_stream.network.weights import find_weights, sha256_of
from mchmr_stream.pipeline import stream
from mchmr_stream.records import Scene
from mchmr_stream.sources import open_source

log = logging.getLogger(__name__)

MEDIAPIPE_SMOOTHING_FRAMES = 3.0
PER_FRAME_ASSUMED, PER_FRAME_KNOWN = "ours, per frame, assumed focal", "ours, per frame, known camera"
SMOOTHED_KNOWN = "ours, smoothed, known camera"
_WHAT = "predictions written by `mchmr evaluate real3d --predictions`"
_COLUMNS = {"limbs_m": (12, 3), "limbs_px": (12, 2), "joints_m": (24, 3), "confidence": (), "target_m": (12, 3), "target_px": (12, 2)}


@dataclass(frozen=True, eq=False)
class Predicted:
    """What one method said of one view, T frames, beside the truth. NaN where nobody was found."""

    view: str
    method: str
    limbs_m: NDArray[np.float64]
    """(T, 12, 3) COCO's points, as the truth has them; camera axes for ours, MediaPipe's own for its"""
    limbs_px: NDArray[np.float64]
    """(T, 12, 2): ours projected, MediaPipe's picture landmarks"""
    joints_m: NDArray[np.float64]
    """(T, 24, 3) SMPL joints in camera axes; NaN for MediaPipe"""
    confidence: NDArray[np.float64]
    """(T,), NaN for MediaPipe"""
    target_m: NDArray[np.float64]
    """(T, 12, 3)"""
    target_px: NDArray[np.float64]
    """(T, 12, 2) in the picture that the method saw: lens distortion undone where the camera was known"""

    @property
    def found(self) -> NDArray[np.bool_]:
        """(T,)"""
        return np.asarray(np.isfinite(self.limbs_m).all((1, 2)))


@dataclass(frozen=True, eq=False)
class RealPredictions:
    """Every method on every view."""

    about: dict[str, Any]
    predicted: tuple[Predicted, ...]

    def methods(self) -> list[str]:
        """In order of appearance."""
        return list(dict.fromkeys(one.method for one in self.predicted))

    def of(self, method: str) -> list[Predicted]:
        """A method's clips."""
        return [one for one in self.predicted if one.method == method]

    def save(self, path: Path) -> None:
        """As npz."""
        arrays: dict[str, NDArray] = {
            "kind": np.array("real3d"),
            "about": np.array(json.dumps(self.about)),
            "clips": np.array([(one.view, one.method) for one in self.predicted], np.str_).reshape(-1, 2),
        }
        for number, one in enumerate(self.predicted):
            arrays |= {f"{number}.{column}": getattr(one, column) for column in _COLUMNS}
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)


def load_predictions(path: Path) -> RealPredictions:
    """What `RealPredictions.save` wrote. Raises InputError for anything else."""
    kind = str(read_npz(path, ["kind"], what=_WHAT)["kind"])
    if kind != "real3d":
        raise InputError(f"{path} holds {kind!r} predictions, expected {_WHAT}")
    head = read_npz(path, ["about", "clips"], what=_WHAT)
    clips = head["clips"]
    if clips.ndim != 2 or clips.shape[1] != 2:
        raise InputError(f"{path}: clips has shape {clips.shape}, expected (clips, 2)")
    arrays = read_npz(path, [f"{number}.{column}" for number in range(len(clips)) for column in _COLUMNS], what=_WHAT)
    predicted = []
    for number, (view, method) in enumerate(clips.tolist()):
        columns = {column: arrays[f"{number}.{column}"] for column in _COLUMNS}
        frames = len(columns["confidence"])
        for column, shape in _COLUMNS.items():
            if columns[column].shape != (frames, *shape):
                raise InputError(f"{path}: {view}, {method}: {column} has shape {columns[column].shape}, expected {(frames, *shape)}")
        predicted.append(Predicted(view, method, **columns))
    try:
        about = dict(json.loads(str(head["about"])))
    except ValueError as error:
        raise InputError(f"{path}: what it says about itself is no JSON ({error}); expected {_WHAT}") from error
    return RealPredictions(about, tuple(predicted))


def predict(
    folder: Path,
    *,
    views: int | None = None,
    device: str = "auto",
    overrides: Sequence[str] = (),
    mediapipe: bool = True,
    mediapipe_model: Path | None = None,
) -> RealPredictions:
    """Run everything over every view of the folder.

    Ours: each frame on its own with the assumed focal length, the same with the known camera, and smoothed to both
    sides with the known camera. MediaPipe's PoseLandmarker (video mode, world landmarks) on the same frames, as it
    comes and smoothed; left out where `mediapipe` is False, and with a warning where it is not installed.
    """
    changes = [f"runtime.device={device}", *([f"crops.views={views}"] if views is not None else []), *overrides]
    settings = load_settings(None, changes)
    about = {
        "weights": Path(settings.network.weights).stem,
        "weights_sha256": sha256_of(find_weights(settings.network.weights)),
        "views": settings.crops.views,
        "detector": settings.detector.kind,
        "changed settings": list(overrides),
        "data": folder.name,
    }
    predicted: list[Predicted] = []
    for view in load_views(folder):
        predicted += [*_ours(view, changes), *(mediapipe_on(view, mediapipe_model) if mediapipe else ())]
    return RealPredictions(about, tuple(predicted))


@contextmanager
def known_camera(view: RealView) -> Iterator[str]:
    """The setting that tells the pipeline the view's camera."""
    with tempfile.TemporaryDirectory() as folder:
        camera = Path(folder) / "camera.json"
        camera.write_text(json.dumps({"K": view.K.tolist(), "distortion": view.distortion.tolist()}))
        yield f"camera.intrinsics={camera}"


def _ours(view: RealView, changes: list[str]) -> Iterator[Predicted]:
    alone = "smoother.kind=none"
    with known_camera(view) as known:
        for method, own, undistorted in (
            (PER_FRAME_ASSUMED, [alone], False),
            (PER_FRAME_KNOWN, [alone, known], True),
            (SMOOTHED_KNOWN, [known], True),
        ):
            yield main_person(view, method, load_settings(None, [*changes, *own]), undistorted)


def main_person(view: RealView, method: str, settings: Settings, undistorted: bool) -> Predicted:
    """The largest person of each frame, seen with these settings."""
    return largest_person(view, method, stream(view.video, settings), settings.body.model, undistorted)


def largest_person(view: RealView, method: str, scenes: Iterable[Scene], body: str, undistorted: bool) -> Predicted:
    """The largest person of each scene of the view; `body`: the body model's name."""
    frames = len(view.limbs_m)
    empty = lambda *shape: np.full((frames, *shape), np.nan)
    joints_m, limbs_m, limbs_px, confidence = empty(24, 3), empty(12, 3), empty(12, 2), empty()
    points = coco_points(load_body(body))
    for scene in scenes:
        if not len(scene) or scene.frame.index >= frames:
            continue
        boxes = scene.bodies.boxes_xyxy_px
        largest = int(np.argmax((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])))
        joints_m[scene.frame.index] = joints = scene.joints_m[largest]
        rotations = np.concatenate([scene.bodies.global_orient[largest][None], scene.bodies.body_pose[largest]])
        limbs = joints[list(LIMBS_IN_SMPL)] if points is None else points.place(joints[None], rotations[None])[0]
        limbs_m[scene.frame.index], limbs_px[scene.frame.index] = limbs, project(limbs, scene.intrinsics)
        confidence[scene.frame.index] = scene.bodies.confidence[largest]
    target_px = view.limbs_px(undistorted=undistorted)
    return Predicted(view.name, method, limbs_m, limbs_px, joints_m, confidence, view.limbs_m, target_px)


def mediapipe_on(view: RealView, model: Path | None) -> Iterator[Predicted]:
    """MediaPipe on one view, as it comes and smoothed; nothing, with a warning, where it is not installed. `model`: None for what ships."""
    frames = len(view.limbs_m)
    limbs_m, limbs_px = np.full((frames, 12, 3), np.nan), np.full((frames, 12, 2), np.nan)
    try:
        reference = MediaPipeReference(model)
    except MissingPart as error:
        log.warning("no comparison with MediaPipe: %s", error)
        return
    source = open_source(view.video, SourceSettings())
    try:
        for frame in source.frames():
            found = reference.landmarks(frame.rgb, frame.time_s)
            if found is not None and frame.index < frames:
                limbs_m[frame.index] = found[0][list(LIMBS_IN_BLAZEPOSE)]
                limbs_px[frame.index] = found[1][list(LIMBS_IN_BLAZEPOSE), :2]
    finally:
        source.close()
        reference.close()
    target_px = view.limbs_px(undistorted=False)
    unknown = np.full((frames, 24, 3), np.nan), np.full(frames, np.nan)
    for method, change in (("MediaPipe, per frame", np.copy), ("MediaPipe, smoothed", _gaussian)):
        yield Predicted(view.name, method, change(limbs_m), change(limbs_px), *unknown, view.limbs_m, target_px)


def _gaussian(points: NDArray[np.float64]) -> NDArray[np.float64]:
    ok = np.isfinite(points).all((1, 2))
    smooth = points.copy()
    smooth[ok] = gaussian_filter1d(points[ok], MEDIAPIPE_SMOOTHING_FRAMES, axis=0, mode="nearest")
    return smooth
