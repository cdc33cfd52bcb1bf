"""Tracking, keypoints and crops: from the detections of a frame to the crops that the network gets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mchmr_stream.config import Settings
from mchmr_stream.datatypes import CropBatch, Float, Frame, Tracks
from mchmr_stream.detection.keyframes import DetectedFrame
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.pipeline.factory import Components, build_cropper, build_tracker
from mchmr_stream.pipeline.feedback import Feedback
from mchmr_stream.pipeline.live_settings import AdjustableSettings
from mchmr_stream.runtime.concurrency import Stopwatch

Confirmation = tuple[Float, Float]
"""Landmarks (n, 17, 3) in picture pixels and presence (n,): the arguments of `Tracker.confirm`."""


class FoundFrame(NamedTuple):
    """The people of a frame on their way to the network."""

    frame: Frame
    tracks: Tracks
    batch: CropBatch
    number: int
    """The frame's number in `Feedback`."""


class PeopleFinder:
    """Tracks and crops the people of one run. All of its state is that of the run."""

    def __init__(
        self,
        settings: Settings,
        components: Components,
        intrinsics: Intrinsics,
        feedback: Feedback[Confirmation],
        adjust: AdjustableSettings,
        watch: Stopwatch,
    ) -> None:
        self._tracker = build_tracker(settings)
        self._with_appearance = settings.tracker.appearance
        self._cropper, self._keypoints = components.cropper, components.keypoints
        self._intrinsics, self._feedback, self._adjust, self._watch = intrinsics, feedback, adjust, watch

    def find(self, detected: Iterator[DetectedFrame]) -> Iterator[FoundFrame | None]:
        """Track and crop each frame.

        Yields:
            The frames in order. None where the next frame needs the network's result for the last one, or has another number of views:
            the frames before must go to the network before the next one is taken.
        """
        last: FoundFrame | None = None
        for frame, detections, is_new_scene in detected:
            if self._adjust.now.crops.views != self._cropper.layout.count:
                yield None
                self._cropper = build_cropper(self._adjust.now)
            if is_new_scene:
                self._tracker.end_scene()
            if last is not None and self._tracker.needs_confirmation(detections):
                yield None
                self._tracker.confirm(last.tracks.track_id, *self._feedback.wait())
            rgb = frame.rgb if self._with_appearance else None
            tracks = self._watch.call("track", self._tracker.update, detections, frame.time_s, rgb)
            if self._keypoints is not None:
                tracks = self._tracker.believed(self._watch.call("keypoints", self._keypoints.refine, frame, tracks, self._intrinsics))
            batch = self._watch.call("crop", self._cropper.crop, frame, tracks, self._intrinsics)
            last = FoundFrame(frame, tracks, batch, self._feedback.expect())
            yield last
