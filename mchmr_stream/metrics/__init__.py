"""Errors of bodies as the field computes them: joints, joint angles, surfaces, and the matching of people."""
