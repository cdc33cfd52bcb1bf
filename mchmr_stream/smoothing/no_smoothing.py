"""Bodies as the network gave them."""

from __future__ import annotations

from mchmr_stream.datatypes import Bodies


class NoSmoother:
    """Hands everything on at once; implements `protocols.Smoother`."""

    def push(self, bodies: Bodies) -> list[Bodies]:
        return [bodies]

    def flush(self) -> list[Bodies]:
        return []
