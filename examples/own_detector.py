"""Your own detector: whatever differs from the empty room is a person.

    python examples/own_detector.py clip.mp4

A detector is any object with `detect(frames)` and `close()` (see `mchmr_stream.Detector`). It may find boxes alone, as this one does:
keypoints are found in crops of each person afterwards.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from itertools import islice

import av
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import mchmr_stream

THRESHOLD = 30
"""Grey levels by which a pixel must differ from the background."""


class DifferenceDetector:
    """Boxes around large regions that differ from a background picture (h, w, 3), uint8."""

    def __init__(self, background: NDArray[np.uint8]) -> None:
        self._background = background.astype(np.int16)

    def detect(self, frames: Sequence[mchmr_stream.Frame]) -> list[mchmr_stream.Detections]:
        """One `Detections` per frame. It keeps no memory, so frames may come in any order."""
        return [self._detect(frame) for frame in frames]

    def _detect(self, frame: mchmr_stream.Frame) -> mchmr_stream.Detections:
        different = np.abs(frame.rgb - self._background).max(-1) > THRESHOLD
        regions, _ = ndimage.label(ndimage.binary_closing(different, iterations=3))
        smallest_px = frame.height * frame.width / 200
        boxes = [
            (across.start, down.start, across.stop, down.stop)
            for down, across in ndimage.find_objects(regions)
            if (down.stop - down.start) * (across.stop - across.start) > smallest_px
        ]
        boxes_xyxy_px = np.array(boxes, np.float32).reshape(-1, 4)
        return mchmr_stream.Detections.from_boxes(boxes_xyxy_px, np.full(len(boxes), 0.9, np.float32))

    def close(self) -> None:
        """Nothing is open."""


def background_of(video: str) -> NDArray[np.uint8]:
    """What is there most of the time: the median over some 50 frames, of a camera that stands still and upright."""
    with av.open(video) as container:
        step = max(1, container.streams.video[0].frames // 50)
        frames = islice(container.decode(video=0), 0, None, step)
        return np.median([frame.to_ndarray(format="rgb24") for frame in frames], axis=0).astype(np.uint8)


def main(video: str) -> None:
    # Without keypoints a detector cannot show that the camera lies on its side, so the picture is taken as it is.
    settings = mchmr_stream.load_settings(overrides=["source.rotate=0", "crops.views=1"])
    with closing(mchmr_stream.Pipeline(settings, detector=DifferenceDetector(background_of(video)))) as pipeline:
        for scene in mchmr_stream.stream(video, pipeline=pipeline):
            people = zip(scene.bodies.track_id, scene.bodies.boxes_xyxy_px, strict=True)
            print(f"{scene.frame.time_s:6.2f} s", *(f"person {track_id} in {box.round().astype(int).tolist()}" for track_id, box in people))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
