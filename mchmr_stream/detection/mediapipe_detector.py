"""Google's MediaPipe as a detector of the main person of a picture, and as a 3D reference for comparisons.

MediaPipe is an optional package, imported when the first of these objects is constructed.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datatypes import Detections, Float, Frame
from mchmr_stream.errors import InputError, MissingPart, UsageError
from mchmr_stream.network.landmarks import BLAZEPOSE_NAMES, COCO_FROM_BLAZEPOSE

_BOX_MARGIN = 0.1
"""Added on each side of the landmarks' box, as a share of its longer side: landmarks lie inside the body."""


_CONFIDENCE = 0.5
"""MediaPipe's own threshold: below it the skeleton lies beside the person as often as on them, at high visibility."""


class MediaPipeDetector:
    """Detects the most prominent person of each frame: a box around BlazePose's 33 landmarks, 17 of them as COCO keypoints.

    A keypoint's score is MediaPipe's visibility, and a person's score their mean, since MediaPipe gives no other. It processes single
    images: unlike MediaPipe's video mode it is stateless, like all detectors here.
    """

    def __init__(self, model_path: str | Path | None = None, min_score: float = 0.15) -> None:
        """Load the model.

        Args:
            model_path: A .task bundle; None for the one that ships.
            min_score: People with a lower mean visibility are left out, in [0, 1].

        Raises:
            MissingPart: The mediapipe package or the bundle is missing.
            InputError: The file is not a pose landmarker bundle.
            UsageError: `min_score` is out of range.
        """
        if not 0 <= min_score <= 1:
            raise UsageError(f"the detector's least score is {min_score}, expected 0 to 1")
        self._min_score = min_score
        self._landmarker = _Landmarker(model_path, video=False)

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return one `Detections` of at most one person per frame."""
        return [self._detect(frame) for frame in frames]

    def close(self) -> None:
        self._landmarker.close()

    def _detect(self, frame: Frame) -> Detections:
        found = self._landmarker.run(frame.rgb, None)
        if found is None:
            return Detections.empty()
        image = found[1]
        keypoints = np.concatenate([image[:, :2], image[:, 3:]], -1)[list(COCO_FROM_BLAZEPOSE)]
        score = keypoints[:, 2].mean()
        box = _box_around(image[:, :2], frame.width, frame.height)
        if score < self._min_score or (box[2:] - box[:2] < 1).any():
            return Detections.empty()
        return Detections(box[None], score[None], keypoints[None])


class MediaPipeReference:
    """Runs MediaPipe as its users do, for comparisons: the person's landmarks in metres, frame after frame."""

    def __init__(self, model_path: str | Path | None = None, running_mode: Literal["video", "image"] = "video") -> None:
        """Load the model.

        Args:
            model_path: A .task bundle; None for the one that ships.
            running_mode: "video" tracks the person from frame to frame, "image" processes each frame separately. Thresholds are MediaPipe's
                own.

        Raises:
            MissingPart: The mediapipe package or the bundle is missing.
            InputError: The file is not a pose landmarker bundle.
            UsageError: The running mode is unknown.
        """
        if running_mode not in ("video", "image"):
            raise UsageError(f"MediaPipe's running mode is {running_mode!r}, expected video or image")
        self._video = running_mode == "video"
        self._landmarker = _Landmarker(model_path, video=self._video)

    def landmarks(self, frame_rgb: NDArray[np.uint8], time_s: float) -> tuple[Float, Float] | None:
        """Estimate the landmarks of one frame.

        Args:
            frame_rgb: (H, W, 3) RGB.
            time_s: Time of the frame in seconds. In video mode it must grow by at least a millisecond.

        Returns:
            (33, 3) metres: x right, y down, z away from the camera, from the midpoint of the hips; and (33, 4) in the picture: x, y in
            pixels, z in about the same unit, visibility in [0, 1]. None if no person is found.

        Raises:
            UsageError: The time did not grow, in video mode.
        """
        return self._landmarker.run(frame_rgb, time_s if self._video else None)

    def close(self) -> None:
        self._landmarker.close()


class _Landmarker:
    """PoseLandmarker of the tasks API, with arrays as input and output."""

    def __init__(self, model_path: str | Path | None, *, video: bool) -> None:
        mediapipe = _import_mediapipe()
        path = (
            Path(model_path) if model_path is not None else Path(str(resources.files("mchmr_stream.assets"))) / "pose_landmarker_full.task"
        )
        if not path.is_file():
            raise MissingPart(f"no MediaPipe model at {path}; make one with tools/make_mediapipe_bundle.py (its docstring says how)")
        vision = mediapipe.tasks.vision
        options = vision.PoseLandmarkerOptions(
            base_options=mediapipe.tasks.BaseOptions(model_asset_path=str(path)),
            running_mode=vision.RunningMode.VIDEO if video else vision.RunningMode.IMAGE,
            num_poses=1,
            min_pose_detection_confidence=_CONFIDENCE,
            min_pose_presence_confidence=_CONFIDENCE,
            min_tracking_confidence=_CONFIDENCE,
        )
        try:
            self._landmarker = vision.PoseLandmarker.create_from_options(options)
        except OSError as error:
            raise _library_missing(error) from error
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"MediaPipe cannot use the model {path}: {reason}; expected a pose landmarker .task bundle") from error
        self._mediapipe = mediapipe
        self._last_ms: int | None = None

    def run(self, rgb: NDArray[np.uint8], time_s: float | None) -> tuple[Float, Float] | None:
        """World and picture landmarks as `MediaPipeReference.landmarks`; a time selects video mode."""
        image = self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(rgb))
        if time_s is None:
            result = self._landmarker.detect(image)
        else:
            result = self._landmarker.detect_for_video(image, self._next_ms(time_s))
        if not result.pose_landmarks:
            return None
        world = np.array([(point.x, point.y, point.z) for point in result.pose_world_landmarks[0]], np.float32)
        picture = np.array([(point.x, point.y, point.z, point.visibility) for point in result.pose_landmarks[0]], np.float32)
        height, width = rgb.shape[:2]
        picture[:, :3] *= (width, height, width)
        picture[:, :2] -= 0.5  # MediaPipe's 0..1 runs from border to border
        if len(picture) != len(BLAZEPOSE_NAMES):
            raise InputError(f"the MediaPipe model gives {len(picture)} landmarks, expected BlazePose's {len(BLAZEPOSE_NAMES)}")
        return world, picture

    def close(self) -> None:
        self._landmarker.close()

    def _next_ms(self, time_s: float) -> int:
        now_ms = round(time_s * 1000)
        if self._last_ms is not None and now_ms <= self._last_ms:
            raise UsageError(f"MediaPipe got a frame of {now_ms} ms after one of {self._last_ms} ms, expected times that grow")
        self._last_ms = now_ms
        return now_ms


def _import_mediapipe() -> Any:
    try:
        import mediapipe
    except ModuleNotFoundError as error:
        raise MissingPart(
            "the mediapipe detector needs MediaPipe: python -m pip install mediapipe (or use detector.kind=movenet)"
        ) from error
    except (ImportError, OSError) as error:
        raise _library_missing(error) from error
    return mediapipe


def _library_missing(error: Exception) -> MissingPart:
    """MediaPipe contains an OpenCV that depends on desktop libraries."""
    reason = " ".join(str(error).split())
    return MissingPart(
        f"MediaPipe cannot load a system library: {reason}; on Debian: apt install libgl1 libglib2.0-0 libegl1 libgles2 "
        "(the movenet detector needs none)"
    )


def _box_around(points_px: Float, width: int, height: int) -> Float:
    """(33, 2) -> (4,) x0, y0, x1, y1 with a margin, inside the picture."""
    low, high = points_px.min(0), points_px.max(0)
    margin = _BOX_MARGIN * (high - low).max()
    limit = np.array([width - 1, height - 1], np.float32)
    return np.concatenate([(low - margin).clip(0, limit), (high + margin).clip(0, limit)]).astype(np.float32)
