"""Smoothing for files: a look-ahead, a robust average against outliers, then a gentle one against jitter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.records import Bodies
from mchmr_stream.smoothing.averaging import mean, mean_rotation, median, median_rotation
from mchmr_stream.smoothing.stretches import MeanShape, Sample, Stretches
from mchmr_stream.smoothing.window import CentredWindow

Array = NDArray[np.float64]

_MEDIAN_HALF_S = 0.117
_SIGMA_S = 0.033
"""Half width of the robust window and standard deviation of the gentle one, for strength 1. Measured on real views at 60 frames
per second, where they are 7 and 2 frames."""
_MEDIAN_SHARE = 0.47
"""The most of the look-ahead that the robust window may take."""
_BEARING_SHARE = 0.6
"""Where the person is in the picture is known well and shows any lag: a narrower window than that of the rotations."""
_DEPTH_SHARE = 2.0
"""How far away the person is, is not, and shows little."""
_SOFTEST_BEARING = 0.002
_SOFTEST_LOG_DEPTH = 0.005
"""Distances below these, radians and fractions of the depth, count alike in the robust average."""


class TwoSidedSmoother:
    """Per person and joint, over time: a weighted geometric median, then a gaussian average; implements `protocols.Smoother`.

    Frames are held back until `lookahead_s` of pictures after them are known; both windows together fit into it.
    `strength` widens them in proportion. Where they would need more than `lookahead_s`, its length is the limit, and strength only
    makes the averages flatter. Position is smoothed as bearing (little) and log depth (more). Betas become the mean of the
    track so far. Weights are confidence times the time a frame stands for. Rows of a track more than 0.3 s apart do not
    touch each other. A time before the last one begins anew.
    """

    def __init__(self, lookahead_s: float = 0.25, strength: float = 1.0) -> None:
        median_half_s = min(_MEDIAN_HALF_S * strength, _MEDIAN_SHARE * lookahead_s)
        mean_half_s = lookahead_s - median_half_s
        self._sigma_s = max(_SIGMA_S * strength, 1e-6)
        self._bearing_half_s = _BEARING_SHARE * median_half_s
        self._robust = CentredWindow(median_half_s, self._robust_average)
        self._gentle = CentredWindow(mean_half_s, self._gentle_average)
        self._stretches = Stretches()
        self._shape = MeanShape()
        self._last_s: float | None = None

    def push(self, bodies: Bodies) -> list[Bodies]:
        """Frames whose look-ahead is covered now, in order; each goes out once."""
        restarted = self._last_s is not None and bodies.time_s < self._last_s
        ready = self.flush() if restarted else []
        self._last_s = bodies.time_s
        sample = self._stretches.sample(bodies)
        self._shape.add(sample)
        return ready + [self._finished(one) for calm in self._robust.push(sample) for one in self._gentle.push(calm)]

    def flush(self) -> list[Bodies]:
        """Everything held back."""
        ready = [one for calm in self._robust.flush() for one in self._gentle.push(calm)] + self._gentle.flush()
        return [self._finished(one) for one in ready]

    def _finished(self, sample: Sample) -> Bodies:
        return sample.to_bodies(self._shape.of(sample.bodies))

    def _robust_average(self, offsets_s: Array, weights: Array, rotations: Array, position: Array) -> tuple[Array, Array]:
        near = weights * (np.abs(offsets_s) <= self._bearing_half_s + 1e-6)
        bearing = median(position[..., :2], near, _SOFTEST_BEARING)
        log_depth = median(position[..., 2:], weights, _SOFTEST_LOG_DEPTH)
        return median_rotation(rotations, weights), np.concatenate([bearing, log_depth], -1)

    def _gentle_average(self, offsets_s: Array, weights: Array, rotations: Array, position: Array) -> tuple[Array, Array]:
        def bell(share: float) -> Array:
            return weights * np.exp(-0.5 * np.square(offsets_s / (share * self._sigma_s)))

        bearing = mean(position[..., :2], bell(_BEARING_SHARE))
        log_depth = mean(position[..., 2:], bell(_DEPTH_SHARE))
        return mean_rotation(rotations, bell(1.0)), np.concatenate([bearing, log_depth], -1)
