"""Load shedding: less work per frame while results are too old, and full work again when there is time."""

from __future__ import annotations

import logging

from mchmr_stream.pipeline.live_settings import AdjustableSettings

log = logging.getLogger(__name__)

_SHARE_OF_NEWEST = 0.2
"""weight of a new age in the running mean"""
_STEP_S = 0.5
"""Least time between two steps of relief: a step needs this long to take effect."""
_CALM = 0.7
"""Share of the target below which a step back is tried."""
_SHORTEST_TRY_S, _LONGEST_TRY_S = 3.0, 60.0
"""The age must have been below it for this long. The time doubles each time a step back had to be reverted."""


class LoadShedding:
    """Keep the age of results at a target by `AdjustableSettings.relieve`. `note` is called for each result, by one thread at a time.

    Args:
        adjust: The settings that are changed.
        target_s: Target age, seconds.
    """

    def __init__(self, adjust: AdjustableSettings, target_s: float) -> None:
        self._adjust, self._target_s = adjust, target_s
        self._mean_s: float | None = None
        self._changed_s = float("-inf")
        self._eased_s: float | None = None
        """time of the last step back, while it may still be reverted"""
        self._try_s = _SHORTEST_TRY_S

    def note(self, age_s: float, now_s: float) -> None:
        """Record a result, and change the load if necessary.

        Args:
            age_s: Age of the result.
            now_s: Time at which it was finished, any clock in seconds.
        """
        self._mean_s = age_s if self._mean_s is None else self._mean_s + _SHARE_OF_NEWEST * (age_s - self._mean_s)
        since_s = now_s - self._changed_s
        if self._mean_s > self._target_s and since_s >= _STEP_S:
            if self._eased_s is not None and now_s - self._eased_s < self._try_s:
                self._try_s = min(2 * self._try_s, _LONGEST_TRY_S)
            self._step(+1, now_s)
            self._eased_s = None
        elif self._mean_s < _CALM * self._target_s and self._adjust.relief > 0 and since_s >= self._try_s:
            self._step(-1, now_s)
            self._eased_s = now_s

    def _step(self, by: int, now_s: float) -> None:
        if not self._adjust.relieve(self._adjust.relief + by):
            return
        self._changed_s = now_s
        now = self._adjust.now
        log.info(
            "results are %.0f ms old, the target is %.0f ms: now %d views, the detector on each frame of %d",
            1000 * (self._mean_s or 0), 1000 * self._target_s, now.crops.views, now.detector.interval,
        )  # fmt: skip
