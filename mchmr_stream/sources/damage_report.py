"""What was broken in an input, counted while reading and told once at the end."""

from __future__ import annotations

from mchmr_stream.sources.timestamps import Window


class Tally:
    """How often one kind of damage was met within a window of time, and where first."""

    def __init__(self, window: Window | None) -> None:
        self.count = 0
        self._window = window
        self._first_s: float | None = None

    def add(self, time_s: float | None, count: int = 1) -> None:
        """`time_s` None: somewhere, nobody knows where."""
        if time_s is not None and self._window is not None and (self._window.is_before(time_s) or self._window.is_after(time_s)):
            return
        if not self.count:
            self._first_s = time_s
        self.count += count

    def text(self, one: str, many: str) -> str:
        where = "" if self._first_s is None else f", {'first ' if self.count > 1 else ''}at {self._first_s:.1f} s"
        return f"{self.count} {one if self.count == 1 else many}{where}"


class Damage:
    """What could not be read; empty for a healthy file. Damage outside the window, where it is wanted, does not count."""

    def __init__(self, window: Window | None = None) -> None:
        self.undecodable = Tally(window)
        """Packets that the decoder refused, or that gave no picture."""
        self.patched = Tally(window)
        """Pictures in which the decoder had to invent parts; they are delivered."""
        self.unreadable = Tally(window)
        """Places where the container itself could not be read."""
        self.suspect = Tally(window)
        """Packets that the container marks as damaged where that may mean nothing; no damage by themselves."""
        self.end_s: float | None = None
        """Where the data ends, when it ends too early."""
        self.declared_s: float | None = None
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
