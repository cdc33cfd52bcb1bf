"""A live sink that may be slow or stuck, kept from holding anybody up."""

from __future__ import annotations

import logging

from mchmr_stream.datatypes import Moment
from mchmr_stream.protocols import LiveSink
from mchmr_stream.runtime.concurrency import DroppingWriter

log = logging.getLogger(__name__)


class BackgroundSink:
    """Writes to another sink on a thread of its own; implements `protocols.LiveSink`.

    At most `size` moments wait; when more come the oldest give way, which is said once and counted in `dropped`. Closing waits at most
    `patience_s` for the other one. What that one raises ends the run, as if it were written to directly.
    """

    def __init__(self, sink: LiveSink, name: str, *, size: int, patience_s: float = 5.0) -> None:
        self._name, self._patience_s = name, patience_s
        self._waiting = DroppingWriter(sink.write, sink.close, size, name=f"write {name}")
        self._said = self._closed = False

    @property
    def dropped(self) -> int:
        """How many moments were left out so far."""
        return self._waiting.dropped

    def write(self, moment: Moment) -> None:
        self._waiting.put(moment)
        if self._waiting.dropped and not self._said:
            self._said = True
            log.warning("%s does not keep up: it gets the newest results, some are left out", self._name)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        ended = self._waiting.close(self._patience_s)
        if not ended:
            log.warning("%s did not end within %.0f s; the last results may not have arrived there", self._name, self._patience_s)
        if self._said:
            log.warning("%s: %d results were left out", self._name, self._waiting.dropped)
