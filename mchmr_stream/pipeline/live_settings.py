"""Settings that may change during a run, from any thread. The next frame uses the new values."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from mchmr_stream.config import Settings, apply_override, settings_from
from mchmr_stream.datatypes import Bodies
from mchmr_stream.errors import UsageError
from mchmr_stream.protocols import Smoother

ADJUSTABLE = ("crops.views", "detector.interval", "smoother.strength")
"""Settings that a run reads for each frame. All others are read once, when it begins."""
_LONGEST_INTERVAL = 4
"""Frames. New people are then detected up to a quarter of a second late at 15 frames per second."""


class AdjustableSettings:
    """The settings of a run, of which those in `ADJUSTABLE` may be changed. Thread-safe.

    Args:
        settings: The initial settings.
        fixed_views: The only number of views that the weights support; None: any.
    """

    def __init__(self, settings: Settings, *, fixed_views: int | None = None) -> None:
        self._chosen = self._now = settings
        self._relief = 0
        self._fixed_views = fixed_views
        self._lock = threading.Lock()

    @property
    def now(self) -> Settings:
        """The settings in force."""
        return self._now

    @property
    def chosen(self) -> Settings:
        """The chosen settings; in force while the load is not reduced."""
        return self._chosen

    @property
    def relief(self) -> int:
        """Steps by which the load is reduced."""
        return self._relief

    def relieve(self, steps: int) -> bool:
        """Set the load reduction. Each step removes one view and doubles the detection interval, up to every fourth frame.

        Returns:
            False, without a change, if a further step would not reduce the load.
        """
        with self._lock:
            eased = self._eased(self._chosen, steps)
            if steps > self._relief and eased == self._now:
                return False
            self._relief, self._now = steps, eased
            return True

    def change(self, name: str, value: Any) -> Settings:
        """Change one setting.

        Args:
            name: Its name, such as "crops.views".
            value: The new value.

        Returns:
            The settings in force.

        Raises:
            UsageError: The setting cannot change during a run, or the value is out of range. Nothing is changed then.
        """
        if name not in ADJUSTABLE:
            raise UsageError(f"{name} cannot change while a run goes on, expected one of {', '.join(ADJUSTABLE)}")
        with self._lock:
            data = self._chosen.model_dump()
            apply_override(data, f"{name}={value}")
            changed = settings_from(data)
            if self._fixed_views is not None and changed.crops.views != self._fixed_views:
                raise UsageError(f"these weights were made for {self._fixed_views} views, got {changed.crops.views}")
            if changed.crops.custom is not None and changed.crops.views > len(changed.crops.custom):
                raise UsageError(f"crops.custom names {len(changed.crops.custom)} views, got crops.views {changed.crops.views}")
            self._chosen, self._now = changed, self._eased(changed, self._relief)
            return self._now

    def _eased(self, settings: Settings, steps: int) -> Settings:
        if steps <= 0:
            return settings
        views = settings.crops.views if self._fixed_views is not None else max(1, settings.crops.views - steps)
        interval = max(settings.detector.interval, min(_LONGEST_INTERVAL, settings.detector.interval * 2**steps))
        crops, detector = settings.crops.model_copy(update={"views": views}), settings.detector.model_copy(update={"interval": interval})
        return settings.model_copy(update={"crops": crops, "detector": detector})


class AdjustedSmoother:
    """Build a new smoother when its settings change; frames held back are returned first. Implements `protocols.Smoother`."""

    def __init__(self, settings: AdjustableSettings, build: Callable[[Settings], Smoother]) -> None:
        self._settings, self._build = settings, build
        self._made_for = settings.now
        self._smoother = build(self._made_for)

    def push(self, bodies: Bodies) -> list[Bodies]:
        """Take the bodies of the next frame and return those of the frames that are now final."""
        """Take the bodies of the next frame and return those of the frames that are now final."""
        now = self._settings.now
        if now.smoother == self._made_for.smoother:
            return self._smoother.push(bodies)
        ready = self._smoother.flush()
        self._made_for, self._smoother = now, self._build(now)
        return ready + self._smoother.push(bodies)

    def flush(self) -> list[Bodies]:
        """Return the frames that are still held back."""
        return self._smoother.flush()
