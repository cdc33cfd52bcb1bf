"""Build the components that settings name. Only this module maps names to classes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mchmr_stream.camera_files import load_camera
from mchmr_stream.config import Settings
from mchmr_stream.errors import UsageError
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.protocols import Detector, MeshEstimator, Smoother, Source, Tracker
from mchmr_stream.runtime.threads import frames_together, plan_threads

if TYPE_CHECKING:
    import torch

    from mchmr_stream.body.model import BodyModel
    from mchmr_stream.cropping.cropper import Cropper
    from mchmr_stream.fitting.alignment import KeypointAlignment
    from mchmr_stream.fitting.body_fitter import BodyFitter
    from mchmr_stream.fitting.track_shapes import Shapes
    from mchmr_stream.keypoints.crop_keypoints import CropKeypoints
    from mchmr_stream.tracking.scene_cuts import SceneCuts

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Components:
    """Loaded networks and body model of a pipeline: built once, used for any number of inputs, shared by any number of pipelines."""

    detector: Detector
    """Finds people."""
    cropper: Cropper
    """Cuts V crops of each person."""
    estimator: MeshEstimator
    """Estimates a body from the crops."""
    body: BodyModel
    """The body model that is posed."""
    keypoints: CropKeypoints | None = None
    """Finds the keypoints of each tracked person in crops; None: the detector's keypoints are used."""
    batches_at_once: int = 1
    """How many batches of a file are estimated concurrently, each on a thread of its own."""
    frames_together: int = 1
    """How many frames of a file make a batch."""
    device: str = "cpu"
    """What computes, in words."""

    def replaced(self, **changed: Any) -> Components:
        """A copy with other fields. Another estimator gets one frame at a time, on one thread, unless `changed` sets that too.

        Args:
            changed: Fields by name, such as `detector`.
        """
        if "estimator" in changed:
            changed = {"batches_at_once": 1, "frames_together": 1, **changed}
        return replace(self, **changed)


def _device_in_words(device: torch.device, settings: Settings) -> str:
    import torch

    card = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    elsewhere = f", network on Triton at {', '.join(settings.triton.servers)}" if settings.triton.servers else ""
    return f"{device}{card}{elsewhere}"


def _log_components(settings: Settings, components: Components, threads: int) -> None:
    import torch

    detector, estimator, body = components.detector, components.estimator, components.body
    at_once = components.batches_at_once
    log.info("device %s: torch %s, %d threads a batch, %d batches at once", components.device, torch.__version__, threads, at_once)
    crop_h, crop_w = estimator.info.crop_size_hw
    log.info(
        "detector %s; keypoints %s; network %s %s, %d views of %dx%d px; fit %s; smoother %s; body %s, %d vertices",
        type(detector).__name__, settings.keypoints.kind, estimator.info.name,
        f"on {', '.join(settings.triton.servers)}" if settings.triton.servers else "in process",
        settings.crops.views, crop_w, crop_h, settings.fit.kind, settings.smoother.kind, body.name, len(body.v_template),
    )  # fmt: skip


def build_components(settings: Settings, *, detector: Detector | None = None, estimator: MeshEstimator | None = None) -> Components:
    """Load the networks and the body. A detector or estimator that is given is used, and the one in the settings is not loaded.

    A given estimator gets one frame at a time, on one thread (see `Components.replaced`).

    Raises:
        MissingPart: A file or an optional package is missing.
        UsageError: Settings that do not go together.
    """
    import torch

    from mchmr_stream.body.builds import with_build
    from mchmr_stream.body.files import load_body
    from mchmr_stream.network.weights import pick_device

    device = pick_device(settings.runtime.device)
    local = estimator is None and not settings.triton.servers
    threads, at_once = plan_threads(settings.runtime.threads, os.cpu_count() or 1, side_by_side=local and device.type == "cpu")
    torch.set_num_threads(threads)
    cropper = build_cropper(settings)
    with ThreadPoolExecutor(1) as pool:
        # Preparing the network takes a second of arithmetic; the rest is mostly imports.
        preparing = pool.submit(lambda: estimator or _estimator(settings, device))
        detector = detector or _detector(settings, device)
        build_tracker(settings)
        keypoints = _crop_keypoints(settings, device)
        body = with_build(load_body(settings.body.model), settings.body.build)
        estimator = preparing.result()
    if cropper.layout.crop_hw != estimator.info.crop_size_hw:
        raise UsageError(
            f"crops.layout {cropper.layout.name} cuts crops of {cropper.layout.crop_hw}, the network {estimator.info.name} takes "
            f"{estimator.info.crop_size_hw}; choose the layout that the weights were trained with"
        )
    if estimator.info.trained_on_smpl and settings.body.model == "free":
        log.warning(
            "the weights %s speak of SMPL: on the free body shapes and statures are off; set body.model to your SMPL file",
            estimator.info.name,
        )
    free = body if settings.body.model == "free" else load_body("free")
    if estimator.info.body_sha256 not in (None, free.sha256):
        log.warning(
            "the weights %s were trained with another version of the free body: shapes and statures will be off", estimator.info.name
        )
    # A Triton server builds its own batches.
    together = frames_together(at_once) if local else 1
    in_words = _device_in_words(device, settings)
    components = Components(detector, cropper, estimator, body, keypoints, at_once, together, in_words)
    _log_components(settings, components, threads)
    return components


def _estimator(settings: Settings, device: torch.device) -> MeshEstimator:
    weights, chosen = settings.network.weights, settings.triton
    if not chosen.servers:
        from mchmr_stream.estimators.local import LocalEstimator

        return LocalEstimator(weights, device, settings.network.precision, settings.crops.views)
    from mchmr_stream.files.checksum import sha256_of_file
    from mchmr_stream.network.weights import find_weights
    from mchmr_stream.triton.connection import ServerAccess
    from mchmr_stream.triton.triton_estimator import Patience, TritonEstimator

    headers = {name: value.get_secret_value() for name, value in chosen.headers.items()}
    return TritonEstimator(
        chosen.servers,
        chosen.model,
        expected_sha256=None if chosen.any_weights else sha256_of_file(find_weights(weights)),
        views=settings.crops.views,
        in_flight=chosen.in_flight,
        patience=Patience(chosen.deadline_s, chosen.budget_s),
        shm=chosen.shm,
        access=ServerAccess(chosen.tls, chosen.ca_file, chosen.cert_file, chosen.key_file, headers),
    )


def build_cropper(settings: Settings) -> Cropper:
    """Build the cropper of the settings."""
    from mchmr_stream.cropping.crop_layouts import layout
    from mchmr_stream.cropping.cropper import Cropper
    from mchmr_stream.network.weights import pick_device

    crop_layout = layout(settings.crops.layout, settings.crops.views, settings.crops.custom)
    return Cropper(crop_layout, upright=settings.crops.upright, device=pick_device(settings.runtime.device))


def _detector(settings: Settings, device: torch.device) -> Detector:
    chosen = settings.detector
    if chosen.kind == "mediapipe":
        from mchmr_stream.detection.mediapipe_detector import MediaPipeDetector

        return MediaPipeDetector(chosen.model, min_score=chosen.min_score)
    if chosen.kind == "boxes":
        from mchmr_stream.detection.given_boxes import BoxesDetector

        if chosen.file is None:
            raise UsageError("detector.kind is boxes but no detector.file was given; add --set detector.file=YOUR_BOXES.txt (MOT) or .json")
        return BoxesDetector(chosen.file, min_score=chosen.min_score)
    from mchmr_stream.detection.movenet_detector import MoveNetDetector

    return MoveNetDetector(
        input_px=chosen.input_px, min_score=chosen.min_score, device=device, precision=settings.network.precision, batch=chosen.batch
    )


def build_upright_detector(settings: Settings, detector: Detector, say: Callable[[str], None]) -> Detector:
    """Wrap a detector for one run, so that it detects people with any rotation of the camera. Closing the wrapper leaves `detector` open.

    Args:
        settings: With `source.rotate`.
        detector: Detects upright people.
        say: Called with a warning when detected people show that the camera is not upright.
    """
    from mchmr_stream.detection.auto_rotate import AutoRotateDetector
    from mchmr_stream.detection.rotated_detector import FixedUpDetector, RotatedDetector

    rotate, boxes = settings.source.rotate, settings.detector.kind == "boxes"
    if rotate == "auto" and not boxes:
        return AutoRotateDetector(detector, say)
    quarters = 0 if rotate == "auto" else rotate // 90
    # Given boxes do not depend on the picture.
    return FixedUpDetector(detector, quarters) if boxes else RotatedDetector(detector, quarters)


def _crop_keypoints(settings: Settings, device: torch.device) -> CropKeypoints | None:
    chosen = settings.keypoints
    if chosen.kind == "detector":
        return None
    from mchmr_stream.keypoints.crop_keypoints import CropKeypoints
    from mchmr_stream.keypoints.thunder_keypoints import ThunderPoints

    return CropKeypoints(
        ThunderPoints(device, settings.network.precision),
        looks=chosen.looks,
        mirror=chosen.mirror,
        upright=settings.crops.upright,
        detector_px=settings.detector.input_px,
        device=device,
    )


def build_fitter(settings: Settings, body: BodyModel, intrinsics: Intrinsics, shapes: Shapes | None = None) -> BodyFitter | None:
    """Build the fit of one run; None with `fit.kind=none`. Without `shapes` it estimates the shapes of tracks while it runs."""
    if settings.fit.kind == "none":
        return None
    from mchmr_stream.fitting.body_fitter import BodyFitter
    from mchmr_stream.fitting.noise_constants import load_calibration

    return BodyFitter(body, intrinsics, load_calibration(), iterations=settings.fit.iterations, shapes=shapes)


def build_alignment(settings: Settings, body: BodyModel, intrinsics: Intrinsics) -> KeypointAlignment | None:
    """Build the keypoint alignment of one run; None if nothing is fitted or smoothed."""
    if settings.fit.kind == "none" or settings.smoother.kind == "none":
        return None
    from mchmr_stream.fitting.alignment import KeypointAlignment
    from mchmr_stream.fitting.noise_constants import load_calibration

    return KeypointAlignment(body, intrinsics, load_calibration())


def build_tracker(settings: Settings) -> Tracker:
    """Build the tracker of one run, without tracks."""
    from mchmr_stream.tracking.tracker import PeopleTracker

    chosen = settings.tracker.model_dump(exclude={"scene_cuts", "appearance"})
    if settings.detector.kind == "boxes" or settings.keypoints.kind == "detector":
        # Given boxes are of people; and the detector's keypoints do not tell small people from furniture.
        chosen["min_keypoint_score"] = 0.0
    return PeopleTracker(**chosen)


def build_scene_cuts(settings: Settings) -> SceneCuts | None:
    """Build the scene cut detection of one run; None with `tracker.scene_cuts=false`."""
    from mchmr_stream.tracking.scene_cuts import SceneCuts

    return SceneCuts() if settings.tracker.scene_cuts else None


def build_smoother(settings: Settings, picture_wh: tuple[int, int] | None = None, body: BodyModel | None = None) -> Smoother:
    """Build the smoother of one run.

    Args:
        settings: With `smoother` and `crops`.
        picture_wh: Size of the picture; with it, people at its border get more measurement noise.
        body: With it, a changed shape changes the translation to that of a look-alike.
    """
    from mchmr_stream.cropping.crop_layouts import layout
    from mchmr_stream.smoothing import KalmanSmoother, MeasurementNoise, NoSmoother

    chosen, crops = settings.smoother, settings.crops
    if chosen.kind == "none":
        return NoSmoother()
    lookahead_s = 0.0 if chosen.kind == "causal" else chosen.lookahead_s
    trust = MeasurementNoise(layout(crops.layout, crops.views, crops.custom).views[:, 2].tolist(), picture_wh)
    return KalmanSmoother(lookahead_s, chosen.strength, chosen.fill_gap_s, trust, body)


def open_input(path: str | Path, settings: Settings) -> tuple[Source, Intrinsics]:
    """Open a file and determine its camera. The source removes lens distortion, so that all later stages have a pinhole camera."""
    from mchmr_stream.sources import open_source

    source = open_source(path, settings.source)
    try:
        return with_camera(source, settings)
    except BaseException:
        source.close()
        raise


def with_camera(source: Source, settings: Settings) -> tuple[Source, Intrinsics]:
    """Determine the camera of an open source. With lens distortion, the returned source undistorts its pictures."""
    width, height, camera = source.info.width, source.info.height, settings.camera
    if camera.focal_px is not None:
        return source, Intrinsics.from_focal(width, height, camera.focal_px)
    if camera.fov_deg is not None:
        return source, Intrinsics.from_fov(width, height, camera.fov_deg)
    if camera.intrinsics is None:
        return source, Intrinsics.assumed(width, height)
    calibration = load_camera(camera.intrinsics, camera.name)
    intrinsics, odd = calibration.for_picture(width, height)
    for text in odd:
        log.warning("%s: %s", source.info.name, text)
    if not calibration.distortion.any():
        return source, intrinsics
    from mchmr_stream.sources.undistort import undistort

    return undistort(source, intrinsics, calibration.distortion), intrinsics
