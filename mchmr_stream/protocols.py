"""The parts that can be swapped, one verb each. docs/architecture.md says how to add one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.records import Bodies, CropBatch, CropEstimates, Detections, Float, Frame, Int, Moment, Scene, SourceInfo, Tracks


class Source(Protocol):
    """Pictures in order of time."""

    @property
    def info(self) -> SourceInfo: ...

    @property
    def warnings(self) -> list[str]:
        """What was odd about the input so far, one line each; read after the last frame."""
        ...

    def frames(self) -> Iterator[Frame]:
        """Every frame once. Raises TruncatedInput after the last good frame when the end is missing."""
        ...

    def close(self) -> None: ...


class Detector(Protocol):
    """Finds people. Has no memory: frames may come in any order and batch."""

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """One `Detections` per frame."""
        ...

    def close(self) -> None: ...


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
    """Crops in, bodies out."""

    @property
    def name(self) -> str:
        """Of the weights."""
        ...

    @property
    def weights_sha256(self) -> str: ...

    @property
    def crop_size_hw(self) -> tuple[int, int]: ...

    @property
    def fixed_views(self) -> int | None:
        """The only number of views it takes; None: any."""
        ...

    @property
    def body_sha256(self) -> str | None:
        """Of the free body that the weights were trained on, where they say so."""
        ...

    @property
    def trained_on_smpl(self) -> bool:
        """Weights of others: their betas mean nothing on the free body."""
        ...

    @property
    def in_flight(self) -> int:
        """How many batches may be on their way at once; 1 where `submit` computes."""
        ...

    def estimate(self, batch: CropBatch) -> CropEstimates:
        """Of one batch, and wait for it."""
        ...

    def submit(self, batch: CropBatch) -> Future[CropEstimates]:
        """Of one batch, perhaps later. May wait while `in_flight` are on their way; may raise what the future would."""
        ...

    def close(self) -> None: ...


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
    """Takes finished scenes of live sources somewhere, one at a time. What takes long here keeps the pipeline waiting."""

    def write(self, moment: Moment) -> None: ...

    def close(self) -> None: ...
