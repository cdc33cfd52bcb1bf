"""Jitter removal per person, in seconds: the same motion at 12, 30 or 60 frames per second comes out the same."""

from mchmr_stream.smoothing.causal import CausalSmoother
from mchmr_stream.smoothing.none import NoSmoother
from mchmr_stream.smoothing.two_sided import TwoSidedSmoother

__all__ = ["CausalSmoother", "NoSmoother", "TwoSidedSmoother"]
