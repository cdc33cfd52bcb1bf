"""Errors of bodies as defined in the field: joints, joint angles, surfaces, and the matching of people with the ground truth."""
