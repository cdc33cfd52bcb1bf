"""Damage of an input, counted while reading and reported once at the end."""

from __future__ import annotations

from mchmr_stream.sources.timestamps import TimeWindow


class Tally:
    """Number of occurrences of one kind of damage within a time window, and the time of the first one."""

    def __init__(self, window: TimeWindow | None) -> None:
        self.count = 0
        self._window = window
        self._first_s: float | None = None

    def add(self, time_s: float | None, count: int = 1) -> None:
        """Count damage at `time_s`; None: the time is unknown."""
        if time_s is not None and self._window is not None and (self._window.is_before(time_s) or self._window.is_after(time_s)):
            return
        if not self.count:
            self._first_s = time_s
        self.count += count

    def text(self, one: str, many: str) -> str:
        where = "" if self._first_s is None else f", {'first ' if self.count > 1 else ''}at {self._first_s:.1f} s"
        return f"{self.count} {one if self.count == 1 else many}{where}"


class Damage:
    """Unreadable parts of an input; empty for an intact file. Damage outside the given window does not count."""

    def __init__(self, window: TimeWindow | None = None) -> None:
        self.undecodable = Tally(window)
        """Packets that the decoder rejected, or that yielded no picture."""
        self.patched = Tally(window)
        """Pictures that the decoder concealed in part; they are delivered."""
        self.unreadable = Tally(window)
        """Positions at which the container itself could not be read."""
        self.suspect = Tally(window)
        """Packets that the container marks as damaged, possibly without reason; not counted as damage."""
        self.end_s: float | None = None
        """Time at which the data ends, if that is too early."""
        self.declared_s: float | None = None
        """Time at which the data should end according to the container."""

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
