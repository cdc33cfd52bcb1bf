"""Jitter removal per person, in seconds: the same motion at 12, 30 or 60 frames per second comes out the same."""

from mchmr_stream.smoothing.kalman import KalmanSmoother
from mchmr_stream.smoothing.measurement_noise import MeasurementNoise
from mchmr_stream.smoothing.no_smoothing import NoSmoother

__all__ = ["KalmanSmoother", "MeasurementNoise", "NoSmoother"]
