"""Measuring speed: a clip that is the same everywhere, each stage alone, all together, and what machine it was."""
