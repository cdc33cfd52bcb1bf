"""No smoothing: bodies as the network estimates them."""

from __future__ import annotations

from mchmr_stream.datatypes import Bodies


class NoSmoother:
    """Return each frame unchanged and at once; implements `protocols.Smoother`."""

    def push(self, bodies: Bodies) -> list[Bodies]:
        return [bodies]

    def flush(self) -> list[Bodies]:
        return []
