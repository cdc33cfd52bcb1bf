"""A background writer: a slow or blocked live sink does not delay the rest."""

from __future__ import annotations

import logging

from mchmr_stream.datatypes import Moment
from mchmr_stream.protocols import LiveSink
from mchmr_stream.runtime.concurrency import DroppingWriter

log = logging.getLogger(__name__)


class BackgroundSink:
    """Write to another sink on a separate thread; implements `protocols.LiveSink`.

    The oldest moments are dropped when the queue is full, which is logged once and counted in `dropped`. An exception of the other sink
    ends the run, as if it were called directly.

    Args:
        sink: The sink that is written to.
        name: Its name in the log.
        size: Most moments in the queue.
        patience_s: Longest wait for the other sink on closing, seconds.
    """

    def __init__(self, sink: LiveSink, name: str, *, size: int, patience_s: float = 5.0) -> None:
        self._name, self._patience_s = name, patience_s
        self._waiting = DroppingWriter(sink.write, sink.close, size, name=f"write {name}")
        self._warned = self._closed = False

    @property
    def dropped(self) -> int:
        """Number of dropped moments so far."""
        return self._waiting.dropped

    def write(self, moment: Moment) -> None:
        self._waiting.put(moment)
        if self._waiting.dropped and not self._warned:
            self._warned = True
            log.warning("%s does not keep up: it gets the newest results, some are left out", self._name)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        ended = self._waiting.close(self._patience_s)
        if not ended:
            log.warning("%s did not end within %.0f s; the last results may not have arrived there", self._name, self._patience_s)
        if self._warned:
            log.warning("%s: %d results were left out", self._name, self._waiting.dropped)
