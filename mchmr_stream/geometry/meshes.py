"""Triangle meshes: numpy functions that need no renderer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def vertex_normals(vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> NDArray[np.floating]:
    """Smooth normals: for each vertex the area-weighted mean of its triangles' normals.

    Args:
        vertices: (V, 3).
        faces: (F, 3) vertex indices, counter-clockwise from outside.

    Returns:
        (V, 3) unit vectors of the vertices' type; zero for a vertex without a triangle.
    """
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], across)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    return normals / np.where(length > 0, length, 1)
