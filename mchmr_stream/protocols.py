"""The parts that can be swapped, one verb each. docs/architecture.md says how to add one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.datatypes import Bodies, CropBatch, CropEstimates, Detections, Float, Frame, Int, Moment, Scene, SourceInfo, Tracks


class Source(Protocol):
    """Gives the frames of one input in order of time. `Pipeline.scenes` takes one of your own, too."""

    @property
    def info(self) -> SourceInfo:
        """What is known before the first frame."""
        ...

    @property
    def warnings(self) -> list[str]:
        """What was odd about the input so far, one line each; read after the last frame."""
        ...

    def frames(self) -> Iterator[Frame]:
        """Decode the input. Called once.

        Yields:
            Every frame once, upright, with square pixels. Later stages assume that there is no lens distortion.

        Raises:
            TruncatedInput: After the last good frame: the end is missing.
        """
        ...

    def close(self) -> None:
        """Release the input. A live source may be closed from any thread, which ends `frames`."""
        ...


class Detector(Protocol):
    """Finds people in pictures. It has no memory: frames may come in any order and in batches of any size.

    With `source.rotate=auto` it also gets pictures rotated by 90, 180 and 270 degrees; a detector without keypoints, which cannot show
    the rotation, is best run with `source.rotate=0`.
    """

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Find everyone.

        Args:
            frames: Pictures of one source.

        Returns:
            One `Detections` per frame, in the order of `frames`.
        """
        ...

    def close(self) -> None:
        """Release what is held. Called once, by `Pipeline.close`."""
        ...


class Tracker(Protocol):
    """Gives people identities over time. All its state belongs to one run."""

    def update(self, detections: Detections | None, time_s: float, rgb: NDArray[np.uint8] | None = None) -> Tracks:
        """The people of this frame. None: the detector was not asked, carry everyone.

        `rgb` is the picture, for what people look like. Rows with identity 0 may be nobody: `believed` has to be called.
        """
        ...

    def believed(self, tracks: Tracks) -> Tracks:
        """The rows of the last update, now with the keypoints of their crops, that are people."""
        ...

    def needs_confirmation(self, detections: Detections | None) -> bool:
        """Whether an update with these detections may have to carry somebody: then `confirm` must come first."""
        ...

    def end_scene(self) -> None:
        """The next frame is of another shot: forget everyone; no identity is given again."""
        ...

    def confirm(self, track_id: Int, landmarks_px: Float, presence: Float) -> None:
        """What the network saw in the crops of the last update: it carries people whom the detector loses.

        `landmarks_px` (n, 17, 3) in picture pixels, `presence` (n,) in [0, 1].
        """
        ...


class MeshEstimator(Protocol):
    """Estimates one body per person from crops. `SynchronousEstimator` is a base class that leaves only `estimate` to write."""

    @property
    def name(self) -> str:
        """Name of the weights, as files and messages give it."""
        ...

    @property
    def weights_sha256(self) -> str:
        """Hash of the weights, as files give it."""
        ...

    @property
    def crop_size_hw(self) -> tuple[int, int]:
        """Height and width of the crops it takes, pixels; `crops.layout` must cut crops of this size."""
        ...

    @property
    def fixed_views(self) -> int | None:
        """The only number of views it takes; None: any."""
        ...

    @property
    def body_sha256(self) -> str | None:
        """Hash of the free body that the weights were trained on; None: unknown."""
        ...

    @property
    def trained_on_smpl(self) -> bool:
        """Whether betas are those of SMPL, which mean nothing on the free body."""
        ...

    @property
    def in_flight(self) -> int:
        """Maximum number of concurrent batches; 1 if `submit` blocks until the result is ready."""
        ...

    def estimate(self, batch: CropBatch) -> CropEstimates:
        """Estimate a batch and wait for the result.

        Args:
            batch: Crops of n people, perhaps of several frames; n may be 0.

        Returns:
            n bodies, in the order of the batch.
        """
        ...

    def submit(self, batch: CropBatch) -> Future[CropEstimates]:
        """Submit a batch. May block while `in_flight` batches are running, and may raise what the future would raise.

        Args:
            batch: As for `estimate`.

        Returns:
            A future that resolves to the estimates.
        """
        ...

    def close(self) -> None:
        """Release what is held. Called once, by `Pipeline.close`."""
        ...


class Smoother(Protocol):
    """Removes jitter per track. May hold frames back; gives them out in order, each once."""

    def push(self, bodies: Bodies) -> list[Bodies]: ...

    def flush(self) -> list[Bodies]:
        """What was held back, at the end."""
        ...


class Sink(Protocol):
    """Takes finished scenes somewhere."""

    def write(self, scene: Scene) -> None: ...

    def close(self) -> None:
        """Publish what was written, also after an early stop; a file appears only now, whole."""
        ...


class LiveSink(Protocol):
    """Takes finished scenes of live sources. The pipeline waits while `write` runs, so slow work belongs on a thread of its own."""

    def write(self, moment: Moment) -> None:
        """Take one result. Called for one result at a time, in the order in which they are finished.

        Args:
            moment: The scene, its source and its age.
        """
        ...

    def close(self) -> None:
        """Called once, at the end of the run."""
        ...
