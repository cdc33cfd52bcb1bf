"""Crops of several frames to the network in one batch, and its result split into frames again."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple

from mchmr_stream.datatypes import KEYPOINT_NAMES, CropBatch, CropEstimates, Float
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.pipeline.feedback import Feedback
from mchmr_stream.pipeline.full_camera import landmarks_in_image
from mchmr_stream.pipeline.people_finder import Confirmation, FoundFrame
from mchmr_stream.protocols import MeshEstimator
from mchmr_stream.runtime.concurrency import Stopwatch


class EstimatedFrame(NamedTuple):
    """The people of a frame with what the network returned for them."""

    found: FoundFrame
    estimates: CropEstimates
    landmarks_px: Float
    """(n, 27, 3): x, y in picture pixels, and visibility."""


def send(
    groups: Iterator[list[FoundFrame]],
    estimator: MeshEstimator,
    feedback: Feedback[Confirmation],
    intrinsics: Intrinsics,
    watch: Stopwatch,
) -> Iterator[Future[list[EstimatedFrame]]]:
    """Submit each group of frames to the network as one batch.

    Args:
        groups: Frames with equally many views each.
        estimator: The network.
        feedback: Gets the result of each frame as soon as it has arrived.
        intrinsics: Camera of the pictures.
        watch: Measures `submit`.

    Yields:
        A future for each group, which resolves to its frames.
    """
    for group in groups:
        estimated: Future[list[EstimatedFrame]] = Future()
        estimates = watch.call("network", estimator.submit, CropBatch.concat([item.batch for item in group]))
        estimates.add_done_callback(partial(_split, estimated, group, feedback, intrinsics))
        yield estimated


def _split(
    estimated: Future[list[EstimatedFrame]],
    group: list[FoundFrame],
    feedback: Feedback[Confirmation],
    intrinsics: Intrinsics,
    done: Future[CropEstimates],
) -> None:
    """Split a batch's result, resolve the feedback and then the future. Runs on the thread that finishes the batch."""
    try:
        parts = done.result().split([len(item.batch) for item in group])
        pairs = zip(group, parts, strict=True)
        frames = [EstimatedFrame(item, own, landmarks_in_image(own, item.batch, intrinsics)) for item, own in pairs]
    except BaseException as error:  # noqa: BLE001 - raised where the result is taken
        estimated.set_exception(error)
        return
    for item, own, landmarks_px in frames:
        feedback.resolve(item.number, (landmarks_px[:, : len(KEYPOINT_NAMES)], own.presence))
    estimated.set_result(frames)
