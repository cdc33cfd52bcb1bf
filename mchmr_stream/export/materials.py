"""Appearance of bodies in other programs: the person's colour, as in the overlay, and smooth normals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.export.person_motion import Array
from mchmr_stream.geometry.meshes import vertex_normals
from mchmr_stream.rendering.colours import identity_colour


def linear_colour(track_id: int) -> NDArray[np.float64]:
    """(3,) linear RGB, as materials need it: the inverse of sRGB's curve."""
    colour = identity_colour(track_id).astype(np.float64)
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def mesh_normals(vertices_m: Array, faces: NDArray[np.int64]) -> NDArray[np.float32]:
    """Compute smooth normals. Formats accept no zero vectors: a vertex without a triangle gets the y axis.

    Args:
        vertices_m: (V, 3).
        faces: (F, 3).

    Returns:
        (V, 3) of unit length.
    """
    normals = vertex_normals(vertices_m, faces)
    return np.where(normals.any(1, keepdims=True), normals, [0.0, 1.0, 0.0]).astype(np.float32)
