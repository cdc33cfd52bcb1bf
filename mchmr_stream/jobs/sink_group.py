"""Several output files of one run as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from mchmr_stream.datatypes import Scene
from mchmr_stream.errors import EncodingError
from mchmr_stream.motion.motion import Motion
from mchmr_stream.protocols import ExpendableSink, FileSink
from mchmr_stream.runtime.concurrency import Stopwatch


class SinkGroup:
    """Passes each call to all of its sinks. An `ExpendableSink` whose pictures cannot be encoded leaves the group; the others continue."""

    def __init__(self, sinks: Sequence[FileSink], watch: Stopwatch, warn: Callable[[str], None]) -> None:
        """Take open sinks.

        Args:
            sinks: In the order in which they get each scene. They are closed in reverse order.
            watch: Measures each sink's `write`.
            warn: Called with the reason when a sink leaves the group.
        """
        self._sinks, self._watch, self._warn = list(sinks), watch, warn

    def extend(self, motion: Motion) -> None:
        """Continue after an earlier run. If one sink cannot, all are discarded and the error is raised."""
        try:
            for sink in self._sinks:
                sink.extend(motion)
        except BaseException:
            self.discard()
            raise

    def write(self, scene: Scene) -> None:
        """Write one scene to each sink."""
        for sink in list(self._sinks):
            with self._expendable(sink):
                self._watch.call(f"write {type(sink).__name__}", sink.write, scene)

    def close(self) -> None:
        """Publish every file, also if another one fails. The last failure is raised, with those before as its context."""
        with ExitStack() as at_end:
            for sink in self._sinks:
                at_end.callback(self._close, sink)

    def discard(self) -> None:
        """Publish nothing and leave nothing behind."""
        for sink in self._sinks:
            sink.discard()

    def _close(self, sink: FileSink) -> None:
        with self._expendable(sink):
            sink.close()

    @contextmanager
    def _expendable(self, sink: FileSink) -> Iterator[None]:
        """Give the sink up on an EncodingError if it is expendable."""
        try:
            yield
        except EncodingError as error:
            if not isinstance(sink, ExpendableSink):
                raise
            self._warn(str(error))
            self._sinks.remove(sink)
            sink.give_up()
