"""What was broken in an input, counted while reading and told once at the end."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class _Kind:
    count: int = 0
    first_s: float | None = None

    def add(self, time_s: float | None, count: int = 1) -> None:
        if not self.count:
            self.first_s = time_s
        self.count += count

    def text(self, one: str, many: str) -> str:
        where = "" if self.first_s is None else f", {'first ' if self.count > 1 else ''}at {self.first_s:.1f} s"
        return f"{self.count} {one if self.count == 1 else many}{where}"


@dataclass
class Damage:
    """Counts of what could not be read; empty for a healthy file."""

    undecodable: _Kind = field(default_factory=_Kind)
    """Packets that the decoder refused, or that gave no picture."""
    patched: _Kind = field(default_factory=_Kind)
    """Pictures in which the decoder had to invent parts; they are delivered."""
    unreadable: _Kind = field(default_factory=_Kind)
    """Places where the container itself could not be read."""
    suspect: _Kind = field(default_factory=_Kind)
    """Packets that the container marks as damaged where that may mean nothing; no damage by themselves."""
    end_s: float | None = None
    """Where the data ends, when it ends too early."""
    declared_s: float | None = None
    """Where the container says that the data ends."""

    def __bool__(self) -> bool:
        return bool(self.undecodable.count or self.patched.count or self.unreadable.count or self.end_s is not None)

    def text(self) -> str:
        parts = []
        if self.end_s is not None and self.declared_s is not None:
            parts.append(f"the data ends at {self.end_s:.1f} s, {self.declared_s:.1f} s were expected")
        elif self.end_s is not None:
            parts.append(f"the data breaks off at {self.end_s:.1f} s")
        if self.undecodable.count:
            parts.append(self.undecodable.text("packet could not be decoded", "packets could not be decoded"))
        if self.patched.count:
            parts.append(self.patched.text("frame was partly unreadable", "frames were partly unreadable"))
        if self.unreadable.count and self.end_s is None:
            parts.append(self.unreadable.text("place in the file could not be read", "places in the file could not be read"))
        return "; ".join(parts)
