"""Weights, the free body and calibrations that ship."""
