"""Jitter removal per person, in seconds: the same motion at 12, 30 or 60 frames per second comes out the same."""

from mchmr_stream.smoothing.kalman import KalmanSmoother
from mchmr_stream.smoothing.none import NoSmoother
from mchmr_stream.smoothing.trust import Trust

__all__ = ["KalmanSmoother", "NoSmoother", "Trust"]
