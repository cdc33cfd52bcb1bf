"""Ablations: the network trained with one thing changed at a time."""
