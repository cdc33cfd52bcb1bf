"""Run the pipeline and MediaPipe over real views once and store their output; metrics are computed from that file."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.config import Settings, load_settings
from mchmr_stream.datatypes import Scene
from mchmr_stream.errors import InputError, MissingPart
from mchmr_stream.evaluation.real_clips import RealClip, clip_of, load_clips
from mchmr_stream.evaluation.real_views import RealView
from mchmr_stream.evaluation.seen_people import SeenPeople, seen_by_mediapipe, seen_in_motion, seen_in_scenes, smoothed_alone
from mchmr_stream.files.atomic import atomic_file
from mchmr_stream.files.checksum import sha256_of_file
from mchmr_stream.files.safe_npz import read_npz
from mchmr_stream.jobs.video_job import process_video
from mchmr_stream.metrics.joint_errors import LIMBS_IN_COCO
from mchmr_stream.metrics.matching import match_people
from mchmr_stream.motion.motion import load
from mchmr_stream.network.weights import find_weights
from mchmr_stream.pipeline.pipeline import stream

log = logging.getLogger(__name__)

MEDIAPIPE_SMOOTHING_FRAMES = 3.0
PER_FRAME_ASSUMED, PER_FRAME_KNOWN = "ours, per frame, assumed focal", "ours, per frame, known camera"
SMOOTHED_KNOWN = "ours, smoothed, known camera"
_WHAT = "predictions written by `mchmr evaluate real3d --predictions`"
_COLUMNS: dict[str, tuple[int, ...]] = {
    "frame": (), "limbs_m": (12, 3), "limbs_px": (12, 2), "joints_m": (24, 3), "joints_px": (24, 2), "face_px": (5, 2), "height_px": (),
    "confidence": (), "target_m": (12, 3), "target_px": (12, 2), "target_face_px": (5, 2),
}  # fmt: skip
_NAMES = ("session", "view", "person", "method")


@dataclass(frozen=True, eq=False)
class Predicted:
    """Output of one method for one person in one view over T frames, with the ground truth.

    NaN in frames without a detection, for values that the method does not provide and, in the ground truth, for joints that are not valid.
    """

    session: str
    view: str
    person: str
    """empty where the ground truth has one person only"""
    method: str
    frame: NDArray[np.int64]
    """(T,) numbers of the frames in the video"""
    limbs_m: NDArray[np.float64]
    """(T, 12, 3) COCO's points, as in the ground truth; camera axes for this pipeline, MediaPipe's own axes for MediaPipe"""
    limbs_px: NDArray[np.float64]
    """(T, 12, 2) this pipeline's points projected, or MediaPipe's picture landmarks"""
    joints_m: NDArray[np.float64]
    """(T, 24, 3) SMPL joints in camera axes; NaN for MediaPipe"""
    joints_px: NDArray[np.float64]
    """(T, 24, 2) the same projected"""
    face_px: NDArray[np.float64]
    """(T, 5, 2) nose, eyes, ears"""
    height_px: NDArray[np.float64]
    """(T,) of the person's box; its width where the camera lay on its side"""
    confidence: NDArray[np.float64]
    """(T,), NaN for MediaPipe"""
    target_m: NDArray[np.float64]
    """(T, 12, 3)"""
    target_px: NDArray[np.float64]
    """(T, 12, 2) in the picture that the method processed: lens distortion is undone where the camera was known"""
    target_face_px: NDArray[np.float64]
    """(T, 5, 2) likewise"""

    @property
    def found(self) -> NDArray[np.bool_]:
        """(T,) frames with a detection."""
        return np.asarray(np.isfinite(self.limbs_m).all((1, 2)))

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(T, 12) limbs with ground truth."""
        return np.asarray(np.isfinite(self.target_m).all(-1))

    @property
    def label(self) -> str:
        """Name of the camera, and of the person where there are several."""
        return f"{self.view}, {self.person}" if self.person else self.view


@dataclass(frozen=True, eq=False)
class RealPredictions:
    """Predictions of each method for each person in each view."""

    about: dict[str, Any]
    predicted: tuple[Predicted, ...]

    def methods(self) -> list[str]:
        """Names of the methods, in order of appearance."""
        return list(dict.fromkeys(one.method for one in self.predicted))

    def of(self, method: str) -> list[Predicted]:
        """The clips of one method."""
        return [one for one in self.predicted if one.method == method]

    def save(self, path: Path) -> None:
        """Write an npz file."""
        arrays: dict[str, NDArray] = {
            "kind": np.array("real3d"),
            "about": np.array(json.dumps(self.about)),
            "clips": np.array([[getattr(one, name) for name in _NAMES] for one in self.predicted], np.str_).reshape(-1, len(_NAMES)),
        }
        for number, one in enumerate(self.predicted):
            arrays |= {f"{number}.{column}": getattr(one, column) for column in _COLUMNS}
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as part, part.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)


def load_predictions(path: Path) -> RealPredictions:
    """Read a file of `RealPredictions.save`.

    Raises:
        InputError: the file is something else.
    """
    kind = str(read_npz(path, ["kind"], what=_WHAT)["kind"])
    if kind != "real3d":
        raise InputError(f"{path} holds {kind!r} predictions, expected {_WHAT}")
    head = read_npz(path, ["about", "clips"], what=_WHAT)
    clips = head["clips"]
    if clips.ndim != 2 or clips.shape[1] != len(_NAMES):
        raise InputError(
            f"{path}: clips has shape {clips.shape}, expected (clips, {len(_NAMES)}); files of earlier versions have to be made anew"
        )
    arrays = read_npz(path, [f"{number}.{column}" for number in range(len(clips)) for column in _COLUMNS], what=_WHAT)
    predicted = []
    for number, (session, view, person, method) in enumerate(clips.tolist()):
        columns = {column: arrays[f"{number}.{column}"] for column in _COLUMNS}
        frames = len(columns["confidence"])
        for column, shape in _COLUMNS.items():
            if columns[column].shape != (frames, *shape):
                raise InputError(f"{path}: {view}, {method}: {column} has shape {columns[column].shape}, expected {(frames, *shape)}")
        predicted.append(Predicted(session, view, person, method, **columns))
    try:
        about = dict(json.loads(str(head["about"])))
    except ValueError as error:
        raise InputError(f"{path}: its description is no JSON ({error}); expected {_WHAT}") from error
    return RealPredictions(about, tuple(predicted))


def predict(
    data: Path | Sequence[Path],
    *,
    views: int | None = None,
    device: str = "auto",
    overrides: Sequence[str] = (),
    mediapipe: bool = True,
    mediapipe_model: Path | None = None,
) -> RealPredictions:
    """Run all methods on all clips of the folders.

    This pipeline runs per frame with the assumed focal length, per frame with the known camera, and with two-sided smoothing and the known
    camera. MediaPipe's PoseLandmarker (video mode, world landmarks) runs on the same frames, raw and smoothed; if it is not installed, it
    is left out with a warning.

    Args:
        data: folders of real views or clips.
        views: crops per person; None for the setting's value.
        device: torch device or "auto".
        overrides: settings as for `--set`.
        mediapipe: also run MediaPipe.
        mediapipe_model: MediaPipe's model file; None for the one that ships.
    """
    folders = [data] if isinstance(data, Path) else list(data)
    changes = [f"runtime.device={device}", *([f"crops.views={views}"] if views is not None else []), *overrides]
    settings = load_settings(None, changes)
    about = {
        "weights": Path(settings.network.weights).stem,
        "weights_sha256": sha256_of_file(find_weights(settings.network.weights)),
        "views": settings.crops.views,
        "detector": settings.detector.kind,
        "changed settings": list(overrides),
        "data": ", ".join(folder.resolve().name for folder in folders),
    }
    predicted: list[Predicted] = []
    for clip in load_clips(folders):
        log.info("%s: %s", clip.session, clip.video)
        predicted += [*_ours(clip, changes), *(mediapipe_on(clip, mediapipe_model) if mediapipe else ())]
    return RealPredictions(about, tuple(predicted))


@contextmanager
def known_camera(view: RealView | RealClip) -> Iterator[str]:
    """Yield the setting that gives the view's camera to the pipeline."""
    with tempfile.TemporaryDirectory() as folder:
        camera = Path(folder) / "camera.json"
        camera.write_text(json.dumps({"K": view.K.tolist(), "distortion": view.distortion.tolist()}))
        yield f"camera.intrinsics={camera}"


def _ours(clip: RealClip, changes: list[str]) -> Iterator[Predicted]:
    alone = "smoother.kind=none"
    with known_camera(clip) as known:
        for method, own, undistorted in (
            (PER_FRAME_ASSUMED, [alone], False),
            (PER_FRAME_KNOWN, [alone, known], True),
            (SMOOTHED_KNOWN, [known], True),
        ):
            settings = load_settings(None, ["output.overlay=false", *changes, *own])
            yield from matched_people(clip, method, _seen_in_file(clip.video, settings), undistorted)


def _seen_in_file(video: Path, settings: Settings) -> dict[int, SeenPeople]:
    """People per frame in the file that `mchmr video` writes."""
    with tempfile.TemporaryDirectory() as folder:
        result = process_video(video, folder, settings)
        if result.message is not None:
            log.warning("%s: %s", video, result.message)
        return seen_in_motion(load(result.npz))


def matched_people(clip: RealClip, method: str, seen: Mapping[int, SeenPeople], undistorted: bool) -> list[Predicted]:
    """Pair each person of the ground truth with the row assigned by `matching`, frame by frame.

    Args:
        clip: video and ground truth.
        method: its name in tables.
        seen: people by frame number.
        undistorted: whether the method's pixels are those of the picture with its lens distortion undone.
    """
    target_px = clip.pixels(undistorted=undistorted)[:, :, list(LIMBS_IN_COCO)]
    rows = np.full(target_px.shape[:2], -1)
    for t, frame in enumerate(clip.frame.tolist()):
        people = seen.get(frame)
        if people is not None and len(people):
            rows[:, t] = match_people(people.matched_px, people.size_wh_px.max(1), target_px[:, t])
    return [_predicted(clip, person, method, seen, rows[person], undistorted) for person in range(len(clip.people))]


def main_person(view: RealView, method: str, settings: Settings, undistorted: bool) -> Predicted:
    """Detect the largest person of each frame with these settings."""
    return largest_person(view, method, stream(view.video, settings), settings.body.model, undistorted)


def largest_person(view: RealView, method: str, scenes: Iterable[Scene], body: str, undistorted: bool) -> Predicted:
    """Select the largest person of each scene of the view; `body` is the body model's name."""
    clip, seen = clip_of(view), seen_in_scenes(scenes, body)
    rows = [int(seen[frame].size_wh_px.prod(1).argmax()) if frame in seen else -1 for frame in clip.frame.tolist()]
    return _predicted(clip, 0, method, seen, rows, undistorted)


def _predicted(
    clip: RealClip, person: int, method: str, seen: Mapping[int, SeenPeople], rows: Iterable[int], undistorted: bool
) -> Predicted:
    """One person of the ground truth with the rows assigned to them; -1 for a frame without a row."""
    empty = lambda *shape: np.full((len(clip.frame), *shape), np.nan)
    own = {name: empty(*_COLUMNS[name]) for name in ("limbs_m", "limbs_px", "joints_m", "joints_px", "face_px", "confidence", "height_px")}
    for t, (frame, row) in enumerate(zip(clip.frame.tolist(), rows, strict=True)):
        if row < 0:
            continue
        people = seen[frame]
        for name in own:
            own[name][t] = people.size_wh_px[row, 0 if clip.turned else 1] if name == "height_px" else getattr(people, name)[row]
    target_px = clip.pixels(undistorted=undistorted)[person]
    name = clip.people[person] if len(clip.people) > 1 else ""
    return Predicted(
        clip.session, clip.name, name, method, clip.frame, target_m=clip.limbs_m[person], target_px=target_px[:, list(LIMBS_IN_COCO)],
        target_face_px=target_px[:, :5], **own,
    )  # fmt: skip


def mediapipe_on(view: RealView | RealClip, model: Path | None) -> Iterator[Predicted]:
    """Run MediaPipe on one view and yield its raw and smoothed output; nothing, with a warning, if it is not installed.

    `model` is the model file; None for the one that ships.
    """
    clip = clip_of(view) if isinstance(view, RealView) else view
    try:
        seen = seen_by_mediapipe(clip.video, model)
    except MissingPart as error:
        log.warning("no comparison with MediaPipe: %s", error)
        return
    for method, people in (("MediaPipe, per frame", seen), ("MediaPipe, smoothed", smoothed_alone(seen, MEDIAPIPE_SMOOTHING_FRAMES))):
        yield from matched_people(clip, method, people, undistorted=False)
