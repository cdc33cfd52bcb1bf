"""Generator stages that keep the order of frames: grouping, smoothing, keypoint alignment, stopping."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import TypeVar

from mchmr_stream.datatypes import Bodies, Frame
from mchmr_stream.fitting.alignment import KeypointAlignment
from mchmr_stream.protocols import Smoother
from mchmr_stream.runtime.concurrency import Stopwatch

T = TypeVar("T")


def grouped(items: Iterator[T | None], size: int) -> Iterator[list[T]]:
    """Collect items in groups.

    Args:
        items: None ends a group early. An error of the iterator is raised after the group that came before it.
        size: Length of a full group.

    Yields:
        Groups of 1 to `size` items.
    """
    group: list[T] = []
    try:
        for item in items:
            if item is not None:
                group.append(item)
            if group and (item is None or len(group) >= size):
                yield group
                group = []
    except Exception:
        if group:
            yield group
        raise
    if group:
        yield group


def smoothed(bodies: Iterator[tuple[Frame, Bodies]], smoother: Smoother, watch: Stopwatch) -> Iterator[tuple[Frame, Bodies]]:
    """Join the smoother's output, which may come later, to the frames it belongs to."""
    waiting: deque[Frame] = deque()

    def held_back() -> Iterator[tuple[Frame, Bodies]]:
        for ready in smoother.flush():
            yield waiting.popleft(), ready

    try:
        for frame, raw in bodies:
            waiting.append(frame)
            for ready in watch.call("smooth", smoother.push, raw):
                yield waiting.popleft(), ready
    except Exception:
        yield from held_back()  # the frames before the error
        raise
    yield from held_back()


def aligned(
    bodies: Iterator[tuple[Frame, Bodies]], alignment: KeypointAlignment | None, size: int, watch: Stopwatch
) -> Iterator[tuple[Frame, Bodies]]:
    """Align smoothed bodies with their keypoints, `size` frames at a time. Without an alignment they pass unchanged."""
    if alignment is None:
        yield from bodies
        return
    for group in grouped(bodies, size):
        done = watch.call("align", alignment.align, [smooth for _, smooth in group])
        yield from zip([frame for frame, _ in group], done, strict=True)


def until(stop: threading.Event | None, frames: Iterator[Frame]) -> Iterator[Frame]:
    """Pass frames on until `stop` is set."""
    for frame in frames:
        if stop is not None and stop.is_set():
            return
        yield frame
