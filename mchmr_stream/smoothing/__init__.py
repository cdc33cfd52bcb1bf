"""Jitter removal per person.

All constants are in seconds, so the same motion at 12, 30 or 60 frames per second gives the same result.
"""

from mchmr_stream.smoothing.kalman import KalmanSmoother
from mchmr_stream.smoothing.measurement_noise import MeasurementNoise
from mchmr_stream.smoothing.no_smoothing import NoSmoother

__all__ = ["KalmanSmoother", "MeasurementNoise", "NoSmoother"]
