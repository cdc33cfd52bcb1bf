"""Whole jobs on files: one input to its outputs, a finished file smoothed again, a killed run recovered."""
