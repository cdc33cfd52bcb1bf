"""Interfaces of the exchangeable parts. docs/architecture.md describes how to add one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datatypes import (
    Bodies,
    CropBatch,
    CropEstimates,
    Detections,
    EstimatorInfo,
    Float,
    Frame,
    Int,
    Moment,
    Scene,
    SourceInfo,
    Tracks,
)
from mchmr_stream.motion.motion import Motion


class Source(Protocol):
    """Yields the frames of one input in temporal order. `Pipeline.scenes` accepts any implementation."""

    @property
    def info(self) -> SourceInfo:
        """Properties that are known before the first frame."""
        ...

    @property
    def warnings(self) -> list[str]:
        """Irregularities of the input found so far, one line each. Read after the last frame."""
        ...

    def frames(self) -> Iterator[Frame]:
        """Decode the input. Called once.

        Yields:
            Each frame once, upright, with square pixels. Later stages assume a picture without lens distortion.

        Raises:
            TruncatedInput: After the last good frame, if the end of the input is missing.
        """
        ...

    def close(self) -> None:
        """Release the input. A live source may be closed from any thread, which ends `frames`."""
        ...


class Detector(Protocol):
    """Detects people in pictures. It is stateless: frames may arrive in any order and in batches of any size.

    With `source.rotate=auto` it also receives pictures rotated by 90, 180 and 270 degrees. A detector without keypoints cannot show the
    rotation and is best run with `source.rotate=0`.
    """

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Detect all people.

        Args:
            frames: Pictures of one source.

        Returns:
            One `Detections` per frame, in the order of `frames`.
        """
        ...

    def close(self) -> None:
        """Release resources. Called once, by `Pipeline.close`."""
        ...


class Tracker(Protocol):
    """Assigns identities to people over time. All its state belongs to one run."""

    def update(self, detections: Detections | None, time_s: float, rgb: NDArray[np.uint8] | None = None) -> Tracks:
        """Advance to the next frame.

        Args:
            detections: Detections of this frame; None if the detector did not run on it, which carries all tracks by prediction.
            time_s: Time of the frame in seconds.
            rgb: The picture (H, W, 3), for appearance; None leaves appearance out.

        Returns:
            The people of this frame. Rows with identity 0 are not confirmed as people yet: `believed` has to be called on them.
        """
        ...

    def believed(self, tracks: Tracks) -> Tracks:
        """Filter the rows of the last update by their keypoints.

        Args:
            tracks: Rows of the last update, with the keypoints of their crops.

        Returns:
            The rows that are people, all with an identity.
        """
        ...

    def needs_confirmation(self, detections: Detections | None) -> bool:
        """Return whether an update with these detections may carry a track, so that `confirm` has to be called before it.

        Args:
            detections: Detections of the next frame; None if the detector does not run on it.
        """
        ...

    def end_scene(self) -> None:
        """End all tracks because the next frame belongs to another shot. No identity is used again."""
        ...

    def confirm(self, track_id: Int, landmarks_px: Float, presence: Float) -> None:
        """Take the network's results for the crops of the last update. They carry people whom the detector misses.

        Args:
            track_id: (n,) identities.
            landmarks_px: (n, 17, 3) x, y in pixels of the picture and visibility.
            presence: (n,) probability in [0, 1] that the crop shows a person.
        """
        ...


class MeshEstimator(Protocol):
    """Estimates one body per person from crops. `SynchronousEstimator` is a base class that leaves only `estimate` to implement."""

    @property
    def info(self) -> EstimatorInfo:
        """Its weights, its crops, and how many batches it takes at once."""
        ...

    def estimate(self, batch: CropBatch) -> CropEstimates:
        """Estimate a batch and wait for the result.

        Args:
            batch: Crops of n people, possibly of several frames; n may be 0.

        Returns:
            n bodies, in the order of the batch.
        """
        ...

    def submit(self, batch: CropBatch) -> Future[CropEstimates]:
        """Submit a batch. May block while `info.in_flight` batches are running, and may raise what the future would raise.

        Args:
            batch: As for `estimate`.

        Returns:
            A future that resolves to the estimates.
        """
        ...

    def close(self) -> None:
        """Release resources. Called once, by `Pipeline.close`."""
        ...


class Smoother(Protocol):
    """Removes jitter per track. It may hold frames back; it returns them in order, each once."""

    def push(self, bodies: Bodies) -> list[Bodies]:
        """Take the bodies of the next frame and return those of the frames that are now final."""
        ...

    def flush(self) -> list[Bodies]:
        """Return the frames that are still held back, at the end."""
        ...


class FileSink(Protocol):
    """An output file of one run. It grows hidden beside its name; `close` publishes it under its name, whole."""

    @property
    def path(self) -> Path:
        """Name of the published file."""
        ...

    def extend(self, motion: Motion) -> None:
        """Continue after an earlier run, whose frames come first. Called before the first `write`, or not at all.

        Raises:
            InputError, UsageError: What the earlier run left cannot be continued.
        """
        ...

    def write(self, scene: Scene) -> None:
        """Add one scene.

        Args:
            scene: The next one, in order of time.

        Raises:
            MchmrError: The disk refuses.
        """
        ...

    def close(self) -> None:
        """Publish what was written, also after an early stop."""
        ...

    def discard(self) -> None:
        """Publish nothing and leave nothing behind."""
        ...


@runtime_checkable
class ExpendableSink(FileSink, Protocol):
    """A file sink whose loss leaves the other files of the run valid. An EncodingError of `write` or `close` ends it, not the run."""

    def give_up(self) -> None:
        """Publish what came before the error; if that is nothing, remove the file that was to be replaced."""
        ...


class LiveSink(Protocol):
    """Consumes finished scenes of live sources. The pipeline waits while `write` runs, so slow work belongs on a separate thread."""

    def write(self, moment: Moment) -> None:
        """Take one result. Called for one result at a time, in the order in which they are finished.

        Args:
            moment: The scene, its source and its age.
        """
        ...

    def close(self) -> None:
        """Release resources. Called once, at the end of the run."""
        ...
