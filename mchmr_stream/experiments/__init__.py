"""Ablations: trainings of the network with one changed setting each."""
